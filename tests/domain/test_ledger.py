"""An epoch is complete exactly when every sample was committed once, and a refused range leaves no trace."""

from __future__ import annotations

import json

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from strata_zmq.domain.checksum import checksum, dataset_checksum
from strata_zmq.domain.ledger import EpochLedger, Share
from strata_zmq.domain.shuffle import sample_ids
from strata_zmq.errors import InvalidArgumentError, StaleGenerationError

WORKERS = st.sampled_from(["worker-0", "worker-1", "worker-2"])


class EpochInAnyOrder(RuleBasedStateMachine):
    """Workers commit ranges of shards in any interleaving, right and wrong, against a plain set of samples."""

    @initialize(total=st.integers(1, 60), shard_size=st.integers(1, 70), seed=st.integers(0, 1000))
    def begin(self, total: int, shard_size: int, seed: int) -> None:
        self.total, self.shard_size, self.seed = total, shard_size, seed
        self.ledger = EpochLedger(total, shard_size)
        self.seen: list[int] = []

    def ids(self, shard: int, start: int, stop: int) -> np.ndarray:
        offset = shard * self.shard_size
        return sample_ids(offset + start, offset + stop, self.total, shuffle=True, seed=self.seed, epoch=0)

    def rest_of(self, shard: int) -> tuple[int, int]:
        """Where the shard's samples that are left begin and end, as offsets."""
        return self.ledger.cursor(shard), min(self.shard_size, self.total - shard * self.shard_size)

    @precondition(lambda self: not self.ledger.complete)
    @rule(data=st.data(), worker=WORKERS)
    def commit_what_is_next(self, data: st.DataObject, worker: str) -> None:
        shard = data.draw(st.sampled_from(np.flatnonzero(self.ledger.open_shards).tolist()))
        start, end = self.rest_of(shard)
        stop = data.draw(st.integers(start + 1, end))
        ids = self.ids(shard, start, stop)
        self.ledger.check(shard, start, stop, checksum(ids), worker)
        self.ledger.advance(shard, start, stop, checksum(ids), worker)
        self.seen.extend(ids.tolist())

    @rule(
        shard=st.integers(-1, 61),
        start=st.integers(-1, 71),
        stop=st.integers(-1, 72),
        total=st.integers(-1, 2**64),
        worker=WORKERS,
    )
    def refuse_what_is_not_next(self, shard: int, start: int, stop: int, total: int, worker: str) -> None:
        if 0 <= shard < self.ledger.num_shards and 0 <= total < 2**64:
            cursor, end = self.rest_of(shard)
            if start == cursor < stop <= end:
                return
        before = self.ledger.to_state()
        for attempt in (self.ledger.check, self.ledger.advance):
            with pytest.raises((InvalidArgumentError, StaleGenerationError)):
                attempt(shard, start, stop, total, worker)
        assert self.ledger.to_state() == before

    @rule()
    def restart(self) -> None:
        self.ledger = EpochLedger.from_state(json.loads(json.dumps(self.ledger.to_state())))

    @invariant()
    def agrees_with_what_was_seen(self) -> None:
        assert len(set(self.seen)) == len(self.seen) == self.ledger.committed
        assert self.ledger.complete == (sorted(self.seen) == list(range(self.total)))
        assert self.ledger.complete == (not self.ledger.open_shards.any())
        assert int(self.ledger.remaining().sum()) == self.total - len(self.seen)
        certificate = self.ledger.certificate()
        assert certificate.checksum == checksum(np.array(self.seen, dtype=np.int64))
        proven = (certificate.samples, certificate.checksum) == (self.total, dataset_checksum(self.total))
        assert proven == self.ledger.complete
        assert sum(share.samples for share in certificate.by_worker.values()) == certificate.samples


TestEpochInAnyOrder = EpochInAnyOrder.TestCase


def test_a_range_that_is_committed_already_is_stale_and_one_that_skips_is_invalid() -> None:
    ledger = EpochLedger(25, 10)
    ledger.advance(0, 0, 4, 7, "worker-0")
    with pytest.raises(StaleGenerationError, match=r"'worker-1' sent samples \[0, 4\) of shard 0, committed up to 4"):
        ledger.advance(0, 0, 4, 7, "worker-1")
    with pytest.raises(StaleGenerationError):
        ledger.advance(0, 3, 6, 7, "worker-1")
    with pytest.raises(InvalidArgumentError, match="nothing may be skipped, start at 4"):
        ledger.advance(0, 5, 6, 7, "worker-1")


def test_the_last_shard_is_as_short_as_the_dataset_makes_it() -> None:
    ledger = EpochLedger(25, 10)
    assert ledger.remaining().tolist() == [10, 10, 5]
    with pytest.raises(InvalidArgumentError, match="which has 5"):
        ledger.advance(2, 0, 6, 0, "worker-0")


def test_a_certificate_adds_up_every_workers_checksums_modulo_2_to_the_64() -> None:
    ledger = EpochLedger(20, 10)
    ledger.advance(0, 0, 3, 1, "a")
    ledger.advance(0, 3, 10, 2**64 - 1, "b")
    ledger.advance(1, 0, 2, 2**64 - 3, "b")
    certificate = ledger.certificate()
    assert (certificate.samples, certificate.checksum) == (12, 2**64 - 3)
    assert certificate.by_worker == {"a": Share(3, 1), "b": Share(9, 2**64 - 4)}


@pytest.mark.parametrize("total", [-1, 2**64])
def test_a_checksum_that_is_no_unsigned_64_bit_integer_is_refused(total: int) -> None:
    with pytest.raises(InvalidArgumentError, match="checksum"):
        EpochLedger(10, 10).advance(0, 0, 10, total, "a")


def test_an_epoch_of_the_wrong_samples_is_complete_and_its_certificate_shows_it() -> None:
    ledger = EpochLedger(10, 10)
    ledger.advance(0, 0, 10, checksum(np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 8])), "a")
    assert ledger.complete
    assert ledger.certificate().checksum != dataset_checksum(10)


@given(data=st.data())
def test_a_ledger_survives_json_and_messagepack(data: st.DataObject) -> None:
    ledger = EpochLedger(95, 10)
    for shard in range(10):
        stop = data.draw(st.integers(0, min(10, 95 - 10 * shard)))
        if stop:
            ledger.advance(shard, 0, stop, data.draw(st.integers(0, 2**64 - 1)), data.draw(WORKERS))
    for state in (json.loads(json.dumps(ledger.to_state())), msgpack.unpackb(msgpack.packb(ledger.to_state()))):
        again = EpochLedger.from_state(state)
        assert again.to_state() == ledger.to_state()
        assert again.certificate() == ledger.certificate()


def test_the_state_of_ten_thousand_shards_is_kilobytes() -> None:
    ledger = EpochLedger(100_000_000, 10_000)
    rng = np.random.default_rng(1)
    for shard in np.flatnonzero(rng.random(10_000) < 0.5).tolist():
        ledger.advance(shard, 0, 10_000, 1, f"worker-{shard % 100}")
    for shard in np.flatnonzero(ledger.open_shards)[:100].tolist():
        ledger.advance(shard, 0, 1 + shard % 9_999, 1, f"worker-{shard % 100}")
    assert len(msgpack.packb(ledger.to_state())) < 24_000


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cursors": [3, 0]}, "runs over 2 shards"),
        ({"cursors": [2]}, "runs over 2 shards"),
        ({"cursors": [2, -1]}, "runs over 2 shards"),
        ({"cursors": [-1, 0, 3, 0]}, "runs over 2 shards"),
        ({"cursors": [2, "4"]}, "runs over 2 shards"),
        ({"cursors": [2, 11]}, "beyond their shards"),
        ({"cursors": [1, 5, 1, 0]}, "add up to 5 samples and its workers' shares to 4"),
        ({"workers": {"a": [4, 2**64]}}, "checksum of worker 'a'"),
        ({"workers": {"a": [-4, 0]}}, "samples of worker 'a'"),
        ({"total_samples": 0}, "total_samples"),
        ({"shard_size": 1.5}, "shard_size"),
    ],
)
def test_a_damaged_state_is_refused(change: dict[str, object], complaint: str) -> None:
    ledger = EpochLedger(20, 10)
    ledger.advance(0, 0, 4, 9, "a")
    with pytest.raises(InvalidArgumentError, match=complaint):
        EpochLedger.from_state({**ledger.to_state(), **change})


def test_a_state_without_a_part_is_refused_by_the_name_of_the_part() -> None:
    with pytest.raises(InvalidArgumentError, match="lacks cursors, workers"):
        EpochLedger.from_state({"total_samples": 3, "shard_size": 2})
