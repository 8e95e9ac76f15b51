"""Records come back as they were written; anything else is a named error, never a wrong record."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.manifest import (
    ChunkRecord,
    Head,
    HeadEntry,
    Manifest,
    RankEntry,
    RankIndex,
    Span,
    TensorRecord,
    decode_head,
    decode_manifest,
    decode_rank_index,
    encode_head,
    encode_manifest,
    encode_rank_index,
)
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError

DIGEST = "ab" * 32
counts = st.integers(0, 2**62)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
moments = st.floats(0, 2**40)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
ledgers = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x), max_leaves=5
)
manifests = st.builds(
    Manifest,
    checkpoint_id=names,
    step=counts,
    epoch=counts,
    term=counts,
    generation=counts,
    created_at=moments,
    ranks=st.integers(1, 4).map(lambda n: tuple(RankEntry(i, f"w{i}", f"k/{i}", DIGEST, i * 7) for i in range(n))),
    kind=st.sampled_from(["FULL", "INCREMENTAL", "OPTIMIZER_ONLY", "MODEL_ONLY"]),
    metadata=st.dictionaries(texts, texts, max_size=4),
    ledger=ledgers,
)
entries = st.builds(
    HeadEntry,
    checkpoint_id=names,
    manifest_key=st.just("k"),
    digest=st.just(DIGEST),
    step=counts,
    epoch=counts,
    generation=counts,
    world_size=st.integers(1, 1000),
    size_bytes=counts,
    created_at=moments,
)
heads = st.builds(
    Head,
    term=counts,
    generation=counts,
    step=counts,
    version=counts,
    retained=st.lists(entries, max_size=4, unique_by=lambda entry: entry.checkpoint_id).map(tuple),
)
INDEX = RankIndex(
    rank=3,
    skeleton=["d", [["w", ["a", 0]], [7, None]]],
    tensors=(TensorRecord("data['w']", "<f4", (2, 3), "numpy", (Span(0, 8, 16), Span(1, 0, 8))),),
    chunks=(ChunkRecord("k/0", DIGEST, 24), ChunkRecord("k/1", DIGEST, 8)),
)


@given(manifests)
def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest), "m") == manifest


@given(heads)
def test_a_head_comes_back_as_it_was_written(head: Head) -> None:
    assert decode_head(encode_head(head), "HEAD") == head


def test_a_rank_index_comes_back_as_it_was_written() -> None:
    assert decode_rank_index(encode_rank_index(INDEX), "i") == INDEX


@given(st.data())
def test_any_damage_is_noticed_and_names_the_object(data: st.DataObject) -> None:
    """One bit flipped anywhere, or any truncation, is a CheckpointCorruptError."""
    decode, good = data.draw(
        st.sampled_from(
            [
                (decode_rank_index, encode_rank_index(INDEX)),
                (decode_head, encode_head(Head(term=3, version=9))),
            ]
        )
    )
    if data.draw(st.booleans()):
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        position = data.draw(st.integers(0, len(good) - 1))
        bad = good[:position] + bytes([good[position] ^ (1 << data.draw(st.integers(0, 7)))]) + good[position + 1 :]
    with pytest.raises(CheckpointCorruptError, match="the/object"):
        decode(bad, "the/object")


@given(st.binary(max_size=200))
def test_noise_is_no_record(noise: bytes) -> None:
    for decode in (decode_head, decode_manifest, decode_rank_index):
        with pytest.raises(CheckpointCorruptError):
            decode(noise, "x")


def test_a_record_of_another_kind_or_release_is_told_apart() -> None:
    head = encode_head(Head())
    with pytest.raises(CheckpointCorruptError, match="is a 'head', not a manifest"):
        decode_manifest(head, "x")
    with pytest.raises(CheckpointCorruptError, match="format 2, this release reads 1"):
        decode_head(head.replace(b'"format":1', b'"format":2'), "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(surprise=1),
        lambda body: body.pop("step"),
        lambda body: body.update(step="5"),
        lambda body: body.update(step=True),
        lambda body: body.update(step=-1),
        lambda body: body.update(ranks=[]),
        lambda body: body.update(ranks={"rank": 0}),
        lambda body: body["ranks"][0].update(rank=1),
        lambda body: body["ranks"][0].update(digest="zz" * 32),
        lambda body: body.update(kind="HALF"),
        lambda body: body.update(metadata={"k": 1}),
        lambda body: body.update(created_at="now"),
        lambda body: body.update(checkpoint_id="../x"),
    ],
)
def test_a_sealed_manifest_that_breaks_the_rules_is_refused(change: object) -> None:
    """The digest proves that it was written so; the rules are checked all the same."""
    import hashlib

    good = encode_manifest(
        Manifest("c", 1, 0, 0, 0, 5.0, (RankEntry(0, "w", "k", DIGEST, 1),), metadata={}, ledger=None)
    )
    body = json.loads(good.split(b"\n")[1])
    change(body)  # type: ignore[operator]
    text = json.dumps(body).encode()
    header = {"kind": "manifest", "format": 1, "digest": hashlib.blake2b(text, digest_size=32).hexdigest()}
    with pytest.raises(CheckpointCorruptError, match="no valid manifest"):
        decode_manifest(json.dumps(header).encode() + b"\n" + text + b"\n", "x")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("shape", (3, 3), "needs 36 bytes, its spans hold 24"),
        ("shape", (-2, 3), "shape"),
        ("dtype", "|O", "not stored"),
        ("dtype", "f4", "not stored"),
        ("dtype", "nonsense", "unknown dtype"),
        ("spans", (Span(2, 0, 24),), "refers to chunk 2 of 2"),
        ("spans", (Span(0, 1, 24),), "beyond the end of chunk 0"),
    ],
)
def test_an_index_that_contradicts_itself_cannot_be_made(field: str, value: object, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        replace(INDEX, tensors=(replace(INDEX.tensors[0], **{field: value}),))


@pytest.mark.parametrize("value", ["", "a/b", "..", ".a", "a" * 129, "ä", None, 3])
def test_a_checkpoint_id_outside_its_limits_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match="checkpoint_id"):
        Manifest(value, 1, 0, 0, 0, 5.0, (RankEntry(0, "w", "k", DIGEST, 1),))  # type: ignore[arg-type]


def test_a_ledger_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be written as JSON"):
        encode_manifest(Manifest("c", 1, 0, 0, 0, 5.0, (RankEntry(0, "w", "k", DIGEST, 1),), ledger=float("nan")))
