"""Whatever saves, refers, retires, collects and dies, in any order: what HEAD reaches is whole, and the rest goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from stepkit import Actor, Places, StepStorage, damages, finished

from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import ChunkRecord, HeadEntry, Manifest, RankEntry, RankIndex
from strata_zmq.domain.manifest_format import decode_manifest, decode_rank_index
from strata_zmq.domain.retention import Retention, reachable
from strata_zmq.errors import InvalidArgumentError, NotFoundError, StaleGenerationError, StrataError

if TYPE_CHECKING:
    from collections.abc import Sequence


def chunks_of(places: Places, entry: HeadEntry) -> tuple[ChunkRecord, ...]:
    manifest = decode_manifest(places.objects[entry.manifest_key], "")
    return decode_rank_index(places.objects[manifest.ranks[0].index_key], "").chunks


async def save(
    store: CheckpointStore, name: str, referred: Sequence[ChunkRecord] = (), keep: int = 2, step: int = 1
) -> tuple[str, ...]:
    """What a process without a coordinator does: declare, write, index, commit, delete what was retired by it."""
    try:
        await store.declare(name, {"who": name})
        own = await store.write_pack(name, 0, 0, [(blake3(part).hexdigest(), part) for part in (name.encode(), b"2")])
        key, digest = await store.write_rank_index(name, RankIndex(0, None, (), (*referred, *own)))
        refs = tuple(sorted({chunk.key.split("/")[1] for chunk in referred}))
        manifest = Manifest(name, step, 0, 0, 0, 1.0, (RankEntry(0, "w", key, digest, 2, refs=refs),))
        commit = await store.commit(manifest, Retention(keep), fenced=False)
    except StrataError:
        await store.discard(name)
        raise
    for retired in commit.dropped:
        await store.discard(retired)
    return commit.dropped


class AnyOrder(RuleBasedStateMachine):
    """Up to a dozen actors, each a process with a store of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Places()
        self.actors: list[Actor] = []
        self.acknowledged: set[str] = set()
        self.number = 0

    def start(self, name: str, work: object, storage: StepStorage) -> Actor:
        actor = Actor(name, work, storage)  # type: ignore[arg-type]
        self.actors.append(actor)
        return actor

    def pick(self, number: int) -> Actor | None:
        living = [actor for actor in self.actors if not actor.done]
        return living[number % len(living)] if living else None

    @rule(keep=st.integers(1, 3), referring=st.integers(0, 3))
    def begin_a_save(self, keep: int, referring: int) -> None:
        """It may refer to the newest checkpoint that there is at this moment."""
        self.number += 1
        storage = StepStorage(self.places)
        store = CheckpointStore(storage)
        parent = finished(CheckpointStore(StepStorage(self.places)).head()).latest
        referred = chunks_of(self.places, parent)[:referring] if parent else ()
        name = f"s{self.number}"
        self.start(name, save(store, name, referred, keep, self.number), storage)

    @rule(spare=st.booleans())
    def begin_to_collect(self, spare: bool) -> None:
        """A collector that knows what is under way, or one that knows nothing at all."""
        living = [actor.name for actor in self.actors if not actor.done] if spare else []
        storage = StepStorage(self.places)
        self.start("collector", CheckpointStore(storage).collect(living), storage)

    @rule(number=st.integers(1, 12), keep=st.booleans())
    def begin_to_pin(self, number: int, keep: bool) -> None:
        storage = StepStorage(self.places)
        names = [f"s{number}"]
        store = CheckpointStore(storage)
        self.start("pins", store.set_pins(add=names) if keep else store.set_pins(remove=names), storage)

    @rule(number=st.integers(1, 12))
    def begin_to_verify(self, number: int) -> None:
        storage = StepStorage(self.places)
        self.start("verify", CheckpointStore(storage).note_verified(f"s{number}"), storage)

    @rule(number=st.integers(0, 11), steps=st.integers(1, 12))
    def go_on(self, number: int, steps: int) -> None:
        for _ in range(steps):
            actor = self.pick(number)
            if actor is not None:
                actor.step()
                self.heard(actor)
                self.nothing_is_missing()

    @rule(number=st.integers(0, 11))
    def finish_one(self, number: int) -> None:
        actor = self.pick(number)
        while actor is not None and not actor.done:
            actor.step()
            self.heard(actor)
            self.nothing_is_missing()

    @rule(number=st.integers(0, 11))
    def kill(self, number: int) -> None:
        actor = self.pick(number)
        if actor is not None:
            actor.kill()

    @rule(number=st.integers(0, 11), applied=st.booleans())
    def the_next_answer_is_lost(self, number: int, applied: bool) -> None:
        actor = self.pick(number)
        if actor is not None:
            actor.storage.forget, actor.storage.lose = applied, not applied

    @rule(number=st.integers(0, 11))
    def a_late_request_arrives(self, number: int) -> None:
        if self.places.late:
            self.places.deliver(number)

    def heard(self, actor: Actor) -> None:
        if actor.done and actor.error is None and actor.name.startswith("s"):
            self.acknowledged.add(actor.name)

    @invariant()
    def nothing_is_missing(self) -> None:
        assert damages(self.places) == []

    def teardown(self) -> None:
        """When all have ended, one collection leaves exactly what HEAD reaches."""
        for actor in self.actors:
            while not actor.done:
                actor.step()
                self.heard(actor)
                self.nothing_is_missing()
        store = CheckpointStore(StepStorage(self.places))
        finished(store.collect())
        while self.places.late:
            self.places.deliver(0)
        self.nothing_is_missing()
        finished(store.collect())
        head = finished(store.head())
        folders = {key.split("/")[1] for key in self.places.objects if key.startswith("ckpt/")}
        assert folders == set(reachable(head.retained))
        assert {*head.pins, *filter(None, [head.verified])} <= {entry.checkpoint_id for entry in head.retained}
        if self.acknowledged:
            assert head.latest is not None, "an acknowledged checkpoint is gone, and none came after it"


AnyOrder.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
TestWhateverTheOrder = AnyOrder.TestCase


@pytest.fixture
def places() -> Places:
    return Places()


def store_of(places: Places) -> CheckpointStore:
    return CheckpointStore(StepStorage(places))


def newest_chunks(places: Places) -> tuple[ChunkRecord, ...]:
    latest = finished(store_of(places).head()).latest
    assert latest is not None
    return chunks_of(places, latest)


def test_a_folder_outlives_its_checkpoint_as_long_as_another_refers_to_it(places: Places) -> None:
    """And goes with the last one that does."""
    assert finished(save(store_of(places), "a", keep=1)) == ()
    assert finished(save(store_of(places), "b", newest_chunks(places)[:1], keep=1)) == ()
    head = finished(store_of(places).head())
    assert [entry.checkpoint_id for entry in head.retained] == ["b"]
    assert head.kept == ("a",)
    with pytest.raises(InvalidArgumentError, match="or a committed one refers to it"):
        finished(store_of(places).discard("a"))
    assert finished(store_of(places).collect()) == []
    assert damages(places) == []
    assert sorted(finished(save(store_of(places), "c", keep=1))) == ["a", "b"]
    assert {key.split("/")[1] for key in places.objects if key != "HEAD"} == {"c"}


def test_references_are_to_folders_and_never_to_references(places: Places) -> None:
    finished(save(store_of(places), "a", keep=1))
    finished(save(store_of(places), "b", newest_chunks(places)[:1], keep=1))
    finished(save(store_of(places), "c", newest_chunks(places)[:1], keep=1))
    head = finished(store_of(places).head())
    assert head.kept == ("a",), "of b nothing is referred to: the chunk that c took over lies in a"
    assert damages(places) == []


def test_what_refers_to_a_retired_checkpoint_is_to_be_saved_in_full(places: Places) -> None:
    finished(save(store_of(places), "a", keep=1))
    chunks = newest_chunks(places)
    finished(save(store_of(places), "b", keep=1))
    with pytest.raises(NotFoundError, match="refers to chunks of a, which has been retired: save it again in full"):
        finished(save(store_of(places), "c", chunks, keep=1))
    finished(save(store_of(places), "d", keep=1))


def test_a_parent_stays_while_a_save_that_may_refer_to_it_is_open(places: Places) -> None:
    store = store_of(places)
    finished(save(store, "a", keep=1))
    manifest = Manifest("b", 2, 0, 0, 0, 1.0, (RankEntry(0, "w", "ckpt/b/index-0", "0" * 64, 0),))
    finished(store.storage.put("ckpt/b/index-0", b"-"))
    commit = finished(store.commit(manifest, Retention(1), pinned=["a"], fenced=False))
    assert commit.dropped == ()
    assert [entry.checkpoint_id for entry in commit.head.retained] == ["a", "b"]


def test_pinned_and_verified_checkpoints_stay_until_they_are_let_go(places: Places) -> None:
    store = store_of(places)
    finished(save(store, "a", keep=1))
    finished(store.set_pins(add=["a"]))
    finished(save(store, "b", keep=1))
    finished(store.note_verified("b"))
    version = finished(store.head()).version
    assert finished(store.note_verified("b")).version == version, "what is known is not written again"
    assert finished(save(store, "c", keep=1)) == ()
    finished(store.set_pins(remove=["a"]))
    finished(store.note_verified("c"))
    assert sorted(finished(save(store, "d", keep=1))) == ["a", "b"]
    for work in (store.set_pins(add=["a"]), store.note_verified("a")):
        with pytest.raises(NotFoundError, match="checkpoint 'a' is not among the committed"):
            finished(work)


def test_a_save_that_is_collected_while_it_is_being_committed_fails_as_a_whole(places: Places) -> None:
    """A collector which does not know of it comes between its decision and its compare-and-swap."""
    storage = StepStorage(places)
    late = Actor("late", save(CheckpointStore(storage), "late"), storage)
    late.until(lambda: any("manifest-" in key for key in places.objects))
    assert finished(store_of(places).collect()) == ["late"]
    assert isinstance(late.finish().error, StaleGenerationError)
    assert finished(store_of(places).entries()) == []


def test_a_save_that_was_collected_while_it_still_wrote_is_refused(places: Places) -> None:
    """Its first pack is gone, the rest is there: it must not be taken for whole, however long ago that was."""
    storage = StepStorage(places)
    late = Actor("late", save(CheckpointStore(storage), "late"), storage)
    late.until(lambda: any("pack-" in key for key in places.objects))
    assert finished(store_of(places).collect()) == ["late"]
    for number in range(70):
        finished(save(store_of(places), f"s{number}", keep=1))
    assert "late" not in finished(store_of(places).head()).retired
    late.finish()
    assert isinstance(late.error, NotFoundError)
    assert "given up and collected" in str(late.error)


def test_a_request_that_arrives_after_its_sender_gave_up_commits_nothing(places: Places) -> None:
    storage = StepStorage(places)
    late = Actor("late", save(CheckpointStore(storage), "late"), storage)
    late.until(lambda: any("manifest-" in key for key in places.objects))
    storage.lose = True
    late.finish()
    assert late.error is not None
    places.deliver(0)
    assert finished(store_of(places).entries()) == []
    assert not [key for key in places.objects if key != "HEAD"]


def test_an_interrupted_collection_is_finished_by_the_next(places: Places) -> None:
    finished(save(store_of(places), "kept"))
    stores = StepStorage(places)
    aborted = Actor("aborted", save(CheckpointStore(stores), "aborted"), stores)
    aborted.until(lambda: any("aborted/rank-00000/index-" in key for key in places.objects)).kill()
    for steps in range(12):
        storage = StepStorage(places)
        collector = Actor("collector", CheckpointStore(storage).collect(), storage)
        for _ in range(steps):
            if not collector.done:
                collector.step()
        collector.kill()
        assert "ckpt/aborted/intent" in places.objects or not any("aborted" in key for key in places.objects)
    finished(store_of(places).collect())
    assert {key.split("/")[1] for key in places.objects if key != "HEAD"} == {"kept"}


def test_packs_that_a_dead_workers_save_left_unnamed_go_from_its_committed_folder(places: Places) -> None:
    """And only where a writer finished a rank's save: elsewhere nobody looks."""
    store = store_of(places)
    for name, drained in (("whole", False), ("drained", True)):
        chunks = finished(store.write_pack(name, 0, 0, [(blake3(b"1").hexdigest(), b"1")]))
        finished(store.write_pack(name, 0, 1, [(blake3(b"stray").hexdigest(), b"stray")]))
        key, digest = finished(store.write_rank_index(name, RankIndex(0, None, (), tuple(chunks))))
        manifest = Manifest(name, 1, 0, 0, 0, 1.0, (RankEntry(0, "w", key, digest, 1, drained=drained),))
        finished(store.commit(manifest, Retention(5), fenced=False))
    assert finished(store.collect()) == []
    assert damages(places) == []
    assert len([key for key in places.objects if "drained/rank-00000/pack" in key]) == 1
    assert len([key for key in places.objects if "whole/rank-00000/pack" in key]) == 2
