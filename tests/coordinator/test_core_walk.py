"""Any interleaving of joins, losses, commits, epochs, checkpoints, restores and restarts keeps history true.

The driver replays the records after every step; here an independent model of plain sets reads the same records.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.core.entries import DatasetHistory
from strata_zmq.coordinator.core.history import History
from strata_zmq.domain.checksum import checksum
from strata_zmq.domain.ledger import EpochLedger
from strata_zmq.domain.sharding import Assignment
from strata_zmq.domain.shuffle import sample_ids
from strata_zmq.protocol import messages as wire

DATASETS = {"a": (37, 5), "b": (20, 20)}
NAMES = ["w0", "w1", "w2", "w3"]
WRITERS = ["s0", "s1"]


def picture(history: History) -> dict[str, Any]:
    """Everything in a history, as values that can be compared."""
    return {name: plain(value) for name, value in vars(history).items() if name != "_appliers"}


def plain(value: Any) -> Any:
    if isinstance(value, DatasetHistory):
        return {name: plain(part) for name, part in vars(value).items()}
    if isinstance(value, Assignment):
        return (value.workers, value.owners.tolist())
    if isinstance(value, EpochLedger):
        return value.to_state()
    if isinstance(value, dict):
        return [(key, plain(part)) for key, part in value.items()]
    return value


class Model:
    """What the records say, read by somebody who knows only sets: the samples committed in the present epoch."""

    def __init__(self) -> None:
        self.members: list[str] = []
        self.formed = False
        self.generation = self.epoch = self.commits = self.term = 0
        self.seen: dict[str, set[tuple[int, int]]] = {}
        self.sums: Counter[str] = Counter()
        self.released: set[tuple[int, str, int]] = set()
        self.certified: list[tuple[str, int, int]] = []

    def read(self, record: Any) -> None:
        getattr(self, f"_{type(record).__name__}", lambda _: None)(record)

    def _TermStarted(self, record: records.TermStarted) -> None:  # noqa: N802 - named like the record
        assert record.term == self.term + 1
        self.term = record.term

    def _GenerationChanged(self, record: records.GenerationChanged) -> None:  # noqa: N802
        assert record.generation == self.generation + 1
        assert set(record.left) <= set(self.members)
        survivors = [name for name in self.members if name not in record.left]
        assert {member.worker_id for member in record.updated} <= set(survivors)
        names = survivors + [member.worker_id for member in record.joined]
        assert len(set(names)) == len(names)
        self.generation, self.members, self.formed = record.generation, names, True

    def _GenerationBroken(self, record: records.GenerationBroken) -> None:  # noqa: N802
        self.members = [name for name in self.members if name not in record.left]
        self.formed = False

    def _DatasetAdded(self, record: records.DatasetAdded) -> None:  # noqa: N802
        assert record.dataset_id not in self.seen
        self.seen[record.dataset_id] = set()

    def _BarrierReleased(self, record: records.BarrierReleased) -> None:  # noqa: N802
        assert self.formed
        assert record.generation == self.generation
        key = (record.generation, record.name, record.step)
        assert key not in self.released, "a barrier is released once"
        self.released.add(key)
        assert len(set(record.participants)) == len(record.participants)
        assert set(record.participants) <= set(self.members)
        if record.commit:
            assert set(record.participants) == set(self.members), "never early"
            self.commits += 1
            assert record.step == self.commits
        else:
            assert not record.ranges
        for ranges in record.ranges.values():
            for one in ranges:
                samples = {(one.shard, offset) for offset in range(one.start, one.stop)}
                assert one.epoch == self.epoch
                assert not samples & self.seen[one.dataset_id], "no sample counts twice"
                self.seen[one.dataset_id] |= samples
                self.sums[one.dataset_id] += int.from_bytes(one.checksum, "little")

    def _EpochBegan(self, record: records.EpochBegan) -> None:  # noqa: N802
        assert record.epoch == self.epoch + 1
        self.certified += [(name, self.epoch, len(samples)) for name, samples in self.seen.items()]
        self.seen = {name: set() for name in self.seen}
        self.sums.clear()
        self.epoch = record.epoch

    def _HistoryRestored(self, record: records.HistoryRestored) -> None:  # noqa: N802
        assert record.generation == self.generation + 1
        self.generation, self.epoch, self.commits = record.generation, record.epoch, record.commit_index
        self.certified = [entry for entry in self.certified if entry[1] < record.epoch]
        self.sums.clear()
        for name in self.seen:
            ledger = record.ledgers.get(name)
            runs = ledger["cursors"] if ledger else []
            cursors = [cursor for count, cursor in zip(runs[::2], runs[1::2], strict=True) for _ in range(count)]
            self.seen[name] = {(shard, offset) for shard, cursor in enumerate(cursors) for offset in range(cursor)}
            self.sums[name] = sum(share[1] for share in ledger["workers"].values()) if ledger else 0


class Walk(RuleBasedStateMachine):
    """A job in which anything may happen to anybody at any time."""

    def __init__(self, make_job: Any) -> None:
        super().__init__()
        self.make_job = make_job

    @initialize(initial=st.integers(1, 3), least=st.integers(1, 2))
    def begin(self, initial: int, least: int) -> None:
        self.job = self.make_job(
            initial_workers=initial, min_workers=least, commit_retry_s=1.0, checkpoint_timeout_s=20.0
        )
        self.model, self.read = Model(), 0
        self.workers: dict[str, Any] = {}
        self.writers: dict[str, Any] = {}
        self.asked: list[tuple[Any, Any]] = []
        self.ledgers: list[bytes] = []
        self.store: list[wire.CheckpointSummary] = []
        self.ever_stored: set[str] = set()
        for name, (total, shard_size) in DATASETS.items():
            self.job.dataset(total=total, shard_size=shard_size, dataset_id=name)
        for name in NAMES[:initial]:
            self.come(name)
        self.a_writer_comes(WRITERS[0])
        self.everybody_adopts()

    # ---- who is there

    @rule(name=st.sampled_from(NAMES))
    def come(self, name: str) -> None:
        if name in self.workers:
            return
        client = self.job.client("worker")
        client.name, client.incarnation = name, f"life-{next(self.job.numbers)}"
        answer = client.register().replies[0]
        if type(answer) is wire.Registered:
            self.workers[name] = client
            self.everybody_adopts()
        else:
            assert answer.code in {"already_exists", "unavailable"}

    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["leaves", "is lost", "falls silent"]))
    def go(self, name: str, how: str) -> None:
        worker = self.workers.pop(name, None)
        if worker is None:
            return
        if how == "leaves":
            worker.ask(wire.Deregister())
        elif how == "is lost":
            self.job.supervisor().ask(wire.ReportLost(worker_id=name, pid=1000))

    @rule()
    def everybody_adopts(self) -> None:
        for worker in self.workers.values():
            worker.ask(wire.AwaitGeneration(after=0, timeout_s=2.0))

    def everybody_beats(self) -> None:
        for client in (*self.workers.values(), *self.writers.values()):
            client.heartbeat()

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 12.0, 24.0]), stalled=st.booleans())
    def time_passes(self, seconds: float, stalled: bool) -> None:
        if stalled:
            self.job.stall(seconds)
            self.job.step()
        for _ in range(int(seconds // 4)):
            self.job.wait(4.0)
            self.everybody_beats()
        self.job.wait(seconds % 4)

    @rule()
    def the_coordinator_is_killed(self) -> None:
        self.job.restart()
        for client in (*self.workers.values(), *self.writers.values()):
            client.hello()
        for worker in self.workers.values():
            worker.register()
        for writer in self.writers.values():
            writer.inbox.clear()
            writer.offer(*self.store)

    # ---- what they do

    @rule(name=st.sampled_from(NAMES), step=st.integers(1, 3), expected=st.integers(0, 2))
    def arrive(self, name: str, step: int, expected: int) -> None:
        if name in self.workers:
            self.ask(self.workers[name], wire.Arrive(name="b", step=step, expected=expected, timeout_s=3.0))

    @rule(name=st.sampled_from(NAMES), dataset=st.sampled_from(sorted(DATASETS)), size=st.integers(1, 7))
    def commit(self, name: str, dataset: str, size: int) -> None:
        if name in self.workers:
            self.commit_of(name, dataset, size)

    @rule(dataset=st.sampled_from(sorted(DATASETS)), size=st.integers(0, 20))
    def everybody_commits(self, dataset: str, size: int) -> None:
        self.everybody_adopts()
        for name in list(self.workers):
            self.commit_of(name, dataset, size)

    def commit_of(self, name: str, dataset: str, size: int) -> None:
        worker = self.workers[name]
        answer = worker.ask(wire.GetShards(dataset_id=dataset)).replies[0]
        ranges = []
        if type(answer) is wire.Shards:
            total, shard_size = DATASETS[dataset]
            for shard, cursor in zip(answer.shards, answer.cursors, strict=True):
                stop = min(cursor + size, shard_size, total - shard * shard_size)
                if cursor < stop:
                    ranges.append(self.job.seen(shard, cursor, stop, dataset))
        due = self.job.history.commit_index + 1
        self.ask(worker, wire.Arrive(name="commit", step=due, commit=True, ranges=ranges, timeout_s=3.0))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        worker, request = data.draw(st.sampled_from(self.asked[-8:]))
        if worker in self.workers.values():
            worker.ask(msgspec.structs.replace(request, session=0, seq=0, term=0))

    @rule(name=st.sampled_from(NAMES))
    def finish_the_epoch(self, name: str) -> None:
        if name in self.workers:
            self.workers[name].advance(timeout_s=3.0)

    @rule()
    def everybody_finishes_the_epoch(self) -> None:
        epoch = self.job.history.epoch
        for worker in self.workers.values():
            worker.advance(epoch, timeout_s=3.0)

    # ---- checkpoints

    @rule(name=st.sampled_from(WRITERS))
    def a_writer_comes(self, name: str) -> None:
        self.writers[name] = self.job.writer(name, *self.store)

    @rule(name=st.sampled_from(WRITERS))
    def a_writer_falls_silent(self, name: str) -> None:
        self.writers.pop(name, None)

    @rule(step=st.integers(1, 5), fails=st.booleans())
    def everybody_saves(self, step: int, fails: bool) -> None:
        self.everybody_adopts()
        for worker in list(self.workers.values()):
            answer = worker.begin(step).replies[0]
            if type(answer) is wire.CheckpointOpened:
                if fails:
                    failure = wire.CheckpointFailed(checkpoint_id=answer.checkpoint_id, code="storage", message="full")
                    worker.ask(failure)
                    return
                self.asked.append((worker, worker.durable(answer.checkpoint_id).request))

    @rule(name=st.sampled_from(WRITERS))
    def a_writer_commits(self, name: str) -> None:
        writer = self.writers.get(name)
        if writer is None:
            return
        while type(order := writer.asked_to_commit()) is wire.CommitCheckpoint:
            self.ledgers.append(order.ledger)
            summary = wire.CheckpointSummary(order.checkpoint_id, order.step, order.epoch, 1, order.created_at)
            if summary.checkpoint_id not in {one.checkpoint_id for one in self.store}:
                self.store = [*self.store, summary][-2:]
                self.ever_stored.add(summary.checkpoint_id)
            writer.confirm(summary, *[one.checkpoint_id for one in self.store])

    @precondition(lambda self: self.ledgers)
    @rule(name=st.sampled_from(NAMES), data=st.data(), new_world=st.booleans())
    def restore(self, name: str, data: st.DataObject, new_world: bool) -> None:
        if new_world:
            for lost in list(self.workers):
                self.go(lost, "is lost")
            for newcomer in NAMES:
                self.come(newcomer)
        if name in self.workers:
            ledger = data.draw(st.sampled_from(self.ledgers))
            self.workers[name].ask(wire.Restore(checkpoint_id="any", ledger=ledger))

    def ask(self, worker: Any, request: Any) -> None:
        self.asked.append((worker, worker.ask(request).request))

    # ---- what always holds

    @invariant()
    def the_records_tell_one_true_story(self) -> None:
        for record in self.job.records[self.read :]:
            note(str(record))
            self.model.read(record)
        self.read = len(self.job.records)
        history, model = self.job.history, self.model
        assert (history.term, history.generation, history.epoch) == (model.term, model.generation, model.epoch)
        assert (list(history.member_ids), history.formed) == (model.members, model.formed)
        assert history.commit_index == model.commits
        for name, dataset in history.datasets.items():
            assert dataset.ledger.committed == len(model.seen[name]) == dataset.added.total_samples - dataset.remaining
            assert dataset.ledger.certificate().checksum == model.sums[name] % 2**64 == self.sum_of(name)
        certified = [(one.dataset_id, one.epoch, one.samples) for one in history.certificates]
        assert certified == model.certified

    def sum_of(self, name: str) -> int:
        """The sum that reading exactly the samples in the model gives."""
        total, shard_size = DATASETS[name]
        seed = self.job.history.datasets[name].added.seed
        order = sample_ids(0, total, total, shuffle=True, seed=seed, epoch=self.model.epoch)
        return checksum(order[sorted(shard * shard_size + offset for shard, offset in self.model.seen[name])])

    @invariant()
    def a_snapshot_is_the_replay(self) -> None:
        again = History.from_snapshot(self.job.history.to_snapshot())
        assert picture(again) == picture(self.job.history)
        assert again.ledger_state() == self.job.history.ledger_state()

    @invariant()
    def every_open_shard_has_one_owner_among_the_members(self) -> None:
        history = self.job.history
        if not history.formed:
            return
        for dataset in history.datasets.values():
            open_shards = dataset.ledger.open_shards.nonzero()[0].tolist()
            owners = [dataset.current.owner_of(shard) for shard in open_shards]
            assert set(owners) <= set(history.member_ids)
            assert dataset.home.counts().max() - dataset.home.counts().min() <= 1

    @invariant()
    def nobody_was_told_durable_of_what_was_not(self) -> None:
        for client in self.workers.values():
            for call in client.calls.values():
                for reply in call.replies:
                    if type(reply) is wire.CheckpointDurable:
                        assert reply.checkpoint_id in self.ever_stored

    @invariant()
    def nobody_is_answered_twice(self) -> None:
        for client in self.workers.values():
            for call in client.calls.values():
                assert len(call.replies) <= 1


@pytest.mark.timeout(600)  # a failure is made small before it is shown
def test_any_interleaving_keeps_history_true(make_job) -> None:
    run_state_machine_as_test(
        lambda: Walk(make_job),
        settings=settings(
            max_examples=60, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow], print_blob=True
        ),
    )
