"""Records come back as they were written; anything else is a named error, never a wrong record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

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
    check_metrics,
)
from strata_zmq.domain.manifest_format import (
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
metrics = st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
refs = st.lists(names, max_size=3, unique=True).map(tuple)
ranks = st.builds(
    RankEntry,
    rank=st.just(0),
    worker_id=texts,
    index_key=texts,
    digest=st.just(DIGEST),
    size_bytes=counts,
    refs=refs,
    written_bytes=st.integers(-1, 2**62),
    drained=st.booleans(),
)
manifests = st.builds(
    Manifest,
    checkpoint_id=names,
    step=counts,
    epoch=counts,
    term=counts,
    generation=counts,
    created_at=moments,
    ranks=st.lists(ranks, min_size=1, max_size=4).map(
        lambda those: tuple(replace(one, rank=i) for i, one in enumerate(those))
    ),
    kind=st.sampled_from(["FULL", "INCREMENTAL", "OPTIMIZER_ONLY", "MODEL_ONLY"]),
    metadata=st.dictionaries(texts, texts, max_size=4),
    ledger=ledgers,
    metrics=metrics,
    parent=st.just("") | names,
    lineage=counts,
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
    kind=st.sampled_from(["FULL", "MODEL_ONLY"]),
    metrics=metrics,
    refs=refs,
)
heads = st.builds(
    Head,
    term=counts,
    generation=counts,
    step=counts,
    version=counts,
    retained=st.lists(entries, max_size=4, unique_by=lambda entry: entry.checkpoint_id).map(tuple),
    nonce=texts,
    pins=refs,
    verified=st.just("") | names,
    kept=refs,
)
INDEX = RankIndex(
    rank=3,
    skeleton=["d", [["w", ["a", 0]], [7, None]]],
    tensors=(TensorRecord("data['w']", "<f4", (2, 3), "numpy", (Span(0, 8, 16), Span(1, 0, 8)), (4, 3), (2, 0)),),
    chunks=(ChunkRecord("k/0", DIGEST, 24, 4096, "zstd", 20), ChunkRecord("k/1", DIGEST, 8)),
    rng=["d", [["python", ["b", "AAA="]]]],
)


OLD_INDEX = {
    "rank": 0,
    "skeleton": ["a", 0],
    "tensors": [{"path": "w", "dtype": "<f4", "shape": [6], "tag": "numpy", "spans": [[0, 0, 24]]}],
    "chunks": [["k/0", DIGEST, 24]],
}
OLD_MANIFEST = {
    "checkpoint_id": "c",
    "step": 1,
    "epoch": 0,
    "term": 0,
    "generation": 0,
    "created_at": 1.5,
    "kind": "FULL",
    "ranks": [{"rank": 0, "worker_id": "w", "index_key": "k/i", "digest": DIGEST, "size_bytes": 24}],
    "metadata": {},
    "ledger": None,
}
OLD_HEAD = {
    "term": 1,
    "generation": 2,
    "step": 3,
    "version": 4,
    "retained": [
        {
            "checkpoint_id": "c",
            "manifest_key": "k/m",
            "digest": DIGEST,
            "step": 1,
            "epoch": 0,
            "generation": 2,
            "world_size": 1,
            "size_bytes": 24,
            "created_at": 1.5,
        }
    ],
}


@pytest.fixture
def record_of_format_1() -> Callable[..., Any]:
    """`record(decode, kind, body)`: what `decode` makes of a record that the first release would have written."""

    def record(decode: Callable[[bytes, str], Any], kind: str, body: object) -> Any:
        text = json.dumps(body, separators=(",", ":")).encode()
        header = {"kind": kind, "format": 1, "digest": hashlib.blake2b(text, digest_size=32).hexdigest()}
        return decode(json.dumps(header).encode() + b"\n" + text + b"\n", "old")

    return record


@given(manifests)
def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest), "m") == manifest


def test_records_of_the_first_format_are_read(record_of_format_1) -> None:
    """What a release before wrote is a checkpoint still: what its records lack has the meaning that it had."""
    index = record_of_format_1(decode_rank_index, "rank-index", OLD_INDEX)
    assert index.chunks == (ChunkRecord("k/0", DIGEST, 24),)
    assert (index.rng, index.tensors[0].global_shape, index.chunks[0].stored_bytes) == (None, None, 24)
    manifest = record_of_format_1(decode_manifest, "manifest", OLD_MANIFEST)
    assert (manifest.metrics, manifest.parent, manifest.refs, manifest.ranks[0].written_bytes) == ({}, "", (), -1)
    head = record_of_format_1(decode_head, "head", OLD_HEAD)
    assert (head.latest.kind, head.latest.refs, head.pins, head.verified, head.kept) == ("FULL", (), (), "", ())


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
    with pytest.raises(CheckpointCorruptError, match="format 3, this release reads 1 and 2"):
        decode_head(head.replace(b'"format":2', b'"format":3'), "x")


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


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (lambda: ChunkRecord("k", DIGEST, 8, codec="lz4"), "this release knows zstd"),
        (lambda: ChunkRecord("k", DIGEST, 8, stored=4), "is not compressed"),
        (lambda: ChunkRecord("k", DIGEST, 8, codec="zstd"), "does not say to how many"),
        (lambda: TensorRecord("w", "<f4", (2,), "numpy", (Span(0, 0, 8),), (3,), (2,)), "reaches beyond"),
        (lambda: TensorRecord("w", "<f4", (2,), "numpy", (Span(0, 0, 8),), (3, 3), (0, 0)), "as long as its shape"),
        (lambda: RankEntry(0, "w", "k", DIGEST, 1, refs=("a", "a")), "twice"),
        (lambda: Head(pins=("../x",)), "checkpoint_id"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(record: Callable[[], object], told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):
        record()


@pytest.mark.parametrize(
    "metrics", [{"loss": float("nan")}, {"loss": "1"}, {"a b": 1.0}, {f"m{i}": 0 for i in range(65)}]
)
def test_metrics_are_few_finite_numbers(metrics: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="metrics"):
        check_metrics(metrics)
