"""What must always hold, looked at in every stage of every step: each method is one promise, or one stage.

It reads records, replies and what workers say that they did; of the core it knows the history, and compares.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.core.connections import child_connection
from strata_zmq.coordinator.core.effects import Effects
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.core.records import Record
from strata_zmq.coordinator.core.world import Received
from strata_zmq.domain.manifest import Head, save_order
from strata_zmq.domain.manifest_format import decode_head
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_downward, encode
from strata_zmq.workers.view import ClusterView

from .faulty import require
from .plan import LEASE_S
from .truth import Truth

__all__ = ["Watch"]

_LATE_S = max(LEASE_S / 3, 0.5)
_ROUNDING_S = 1e-6


class Watch:
    """Everything that is known from outside, and what it says about the next thing that happens."""

    def __init__(self, name_of: Callable[[bytes], str], *, one_program: bool = True, hang_s: float = 0.0) -> None:
        self._hang_s = hang_s
        self._one_program = one_program
        """Whether all ranks run the same training program, and finish what they begin."""
        self.decided = Truth()
        """What the core has decided, journaled or not."""
        self.durable = Truth()
        """What the journal has."""
        self.head = Head()
        self.committed_ids: set[str] = set()
        """Checkpoints that HEAD has ever reached."""
        self.counts: Counter[str] = Counter()
        self._name_of = name_of
        self._durable_records: list[Record] = []
        self._issued: dict[tuple[int, str, int], dict[str, wire.Arrive]] = {}
        self._reforming: dict[tuple[str, int], dict[str, wire.Arrive]] = {}
        self._owner: dict[bytes, str] = {}
        self._registering: dict[str, int] = {}
        """The process that asks for each name in this step; a report of its death may come in the same one."""
        self._session: dict[bytes, int] = {}
        """The session in which each connection's owner registered."""
        self._heard: dict[str, float] = {}
        self._running_s = 0.0
        self._stepped_at = 0.0
        self._gone: set[str] = set()
        self._pids: dict[str, int] = {}
        self._moved: dict[str, tuple[float, int]] = {}
        """By worker when its progress rose last, and to what."""
        self._finished: dict[str, int] = {}
        self._shadow = History()
        self._commanded: dict[str, list[str]] = {}
        """By process life the commands that the journal has."""
        self._asked: dict[str, str] = {}
        """By worker the life that was asked last."""
        self._forgotten: set[str] = set()
        """Lives that were lost when others were commanded: what they had not taken, nobody asks for any more."""
        self._broadcast_seq = 0
        self._chains: dict[int, bytes] = {}
        """By lineage the chain of commit points that it stands for."""

    # ---- what workers say

    def issues(self, incarnation: str, request: wire.Arrive) -> None:
        """A process wants to arrive at a barrier: only now may it be counted there."""
        if request.on_change == "reform":
            self._reforming.setdefault((request.name, request.step), {})[incarnation] = request
        else:
            self._issued.setdefault((request.generation, request.name, request.step), {})[incarnation] = request

    # ---- the coordinator's stages

    def replayed(self, history: History) -> None:
        """What a snapshot and the records after it give is what all records give, byte for byte."""
        require(history.to_snapshot() == self._shadow.to_snapshot(), "the replay is not where the journal stood")

    def began(self, history: History, effects: Effects, clock: float) -> None:
        """A life begins with what the journal has, and everybody has a full lease."""
        self.decided = Truth()
        for record in self._durable_records:
            self.decided.read(record)
        self._owner.clear()
        self._pids = {member.worker_id: member.pid for member in history.members}
        self._heard = dict.fromkeys(self.decided.members, self._running_s)
        self._stepped_at = clock
        self._broadcast_seq = 0
        for record in effects.records:
            self.decided.read(record)
        self.the_core_stands_where_its_records_say(history)

    def stepped(self, history: History, batch: list[Received], effects: Effects, clock: float) -> None:
        """A step was taken."""
        gap, self._stepped_at = clock - self._stepped_at, clock
        if gap <= _LATE_S:
            self._running_s += gap
        self._registering.clear()
        for event in batch:
            self._hear(event)
        registering = {
            event.connection: event.message for event in batch if isinstance(event.message, wire.RegisterWorker)
        }
        for connection, reply in effects.sends:
            if type(reply) is wire.Registered:
                self._heard[reply.worker_id] = self._running_s
                pid = registering[connection].pid if connection in registering else 0
                if self._pids.get(reply.worker_id) != pid:
                    self._moved.pop(reply.worker_id, None)
                    # Another process of that name is nobody from now on.
                    self._owner = {old: name for old, name in self._owner.items() if name != reply.worker_id}
                self._owner[connection], self._pids[reply.worker_id] = reply.worker_id, pid
                self._session[connection] = reply.session
        for record in effects.records:
            self.nobody_is_lost_who_was_heard(record)
            self.a_barrier_is_not_early(record)
            self.an_epoch_is_finished_by_all(record)
            self.nobody_who_remembers_is_overruled(record)
            self.decided.read(record)
            self.counts[type(record).__name__] += 1
            if isinstance(record, records.RankArrived) and record.arrival.drained:
                self.counts["RankDrained"] += 1
        self._gone.clear()
        self.ranks_that_run_one_program_are_not_given_up(effects)
        if effects.records:
            self.the_core_stands_where_its_records_say(history)

    def _hear(self, event: Received) -> None:
        """Note what a request that was taken tells of its sender."""
        owner = self._owner.get(event.connection)
        if type(event.message) is not wire.Hello and event.message.session != self._session.get(event.connection):
            owner = None  # a late copy from an earlier session tells nothing of now
        if owner is not None:
            self._heard[owner] = self._running_s
        match event.message:
            case wire.Deregister() if owner is not None:
                self._gone.add(owner)
            case wire.RegisterWorker(worker_id=name, pid=pid):
                self._registering[name] = pid
            case wire.ReportLost(worker_id=name, pid=pid) if pid in {self._pids.get(name), self._registering.get(name)}:
                self._gone.add(name)
            case wire.Heartbeat(progress=progress) if owner is not None:
                if progress > self._moved.get(owner, (0.0, -1))[1]:
                    self._moved[owner] = (self._running_s, progress)
            case wire.AdvanceEpoch(epoch=epoch) if owner is not None:
                self._finished[owner] = epoch

    def journaled(self, written: list[Record]) -> None:
        """Records are durable."""
        for record in written:
            self.durable.read(record)
            self._durable_records.append(record)
            self._shadow.apply(record)
            if isinstance(record, records.CommandIssued):
                self._forgotten.update(self._asked[name] for name in record.gone)
                for name, incarnation, _ in record.workers:
                    self._asked[name] = incarnation
                    self._commanded.setdefault(incarnation, []).append(record.command)

    def sent(self, connection: bytes, reply: wire.Reply) -> None:
        """A reply leaves: all that it tells of is durable."""
        durable = self.durable
        require(reply.term == durable.term, f"a reply of term {reply.term} leaves in term {durable.term}: {reply}")
        require(reply.generation <= durable.generation, f"generation {reply.generation} is not journaled: {reply}")
        check = _ACKNOWLEDGED.get(type(reply))
        if check is not None:
            check(self, connection, reply)

    def folded(self, told: list[tuple[bytes, wire.Reply]], frames: list[tuple[bytes, bytes]]) -> None:
        """What children of agents are to hear is in the frames to their agents, once and as it was said."""
        heard: Counter[tuple[bytes, bytes]] = Counter()
        for agent, frame in frames:
            message = decode_downward(frame)
            assert isinstance(message, wire.Folded)
            heard.update((child_connection(agent, part.child), part.body) for part in message.parts)
            for one in message.shared:
                for whom in one.addressees:
                    body = b"".join((one.head, encode(whom.session), encode(whom.seq), one.tail))
                    heard[child_connection(agent, whom.child), body] += 1
        self.counts["Folded"] += len(frames)
        said = Counter((connection, encode(reply)) for connection, reply in told)
        require(heard == said, f"the frames to agents do not hold what was said to their children: {told}")

    def announced(self, broadcast: wire.Broadcast) -> None:
        """A broadcast leaves: in sequence, and about what is durable."""
        durable = self.durable
        require(broadcast.term == durable.term, f"a broadcast of term {broadcast.term} in term {durable.term}")
        require(broadcast.generation <= durable.generation, f"not journaled: {broadcast}")
        quiet = isinstance(broadcast, wire.Tick)
        expected = self._broadcast_seq + (0 if quiet else 1)
        require(broadcast.seq == expected, f"broadcast {broadcast.seq} follows {self._broadcast_seq}")
        self._broadcast_seq = broadcast.seq
        if isinstance(broadcast, wire.Tick):
            self.a_tick_tells_the_state(broadcast)

    def swapped(self, data: bytes) -> None:
        """HEAD has advanced: one step, under no lower fence, to a checkpoint whose every rank is durable.

        Or it tells of its own: what may be deleted, or which checkpoint was read whole.
        """
        before, self.head = self.head, decode_head(data, "HEAD")
        require(self.head.version == before.version + 1, f"HEAD goes from {before.version} to {self.head.version}")
        require(self.head.fence >= before.fence, f"HEAD's fence falls from {before.fence} to {self.head.fence}")
        newest = self.head.retained[-1].checkpoint_id
        order, order_before = save_order(newest), save_order(before.latest.checkpoint_id) if before.latest else None
        require(order is not None, f"HEAD reaches {newest}, which no coordinator has named")
        if before.latest is not None and newest == before.latest.checkpoint_id:
            kept = all(entry in before.retained for entry in self.head.retained)
            require(kept, f"HEAD changes behind its newest, {newest}")
        elif order is not None and order_before is not None:
            require(order > order_before, f"HEAD goes back from {before.latest} to {newest}")
        require(newest in self.durable.saved, f"HEAD reaches {newest}, which the journal has never heard of")
        arrived = self.durable.arrived.get(newest, set())
        missing = [name for name in self.durable.saved[newest].workers if name not in arrived]
        require(not missing, f"HEAD reaches {newest} without {missing}")
        self.committed_ids.add(newest)

    # ---- promises

    def the_core_stands_where_its_records_say(self, history: History) -> None:
        """Nothing changes without a record."""
        decided = self.decided
        stands = (history.term, history.generation, history.epoch, history.commit_index, history.formed)
        says = (decided.term, decided.generation, decided.epoch, decided.commits, decided.formed)
        require(stands == says, f"(term, generation, epoch, commits, formed) is {stands}, the records say {says}")
        require(list(history.member_ids) == decided.members, f"members {history.member_ids}, not {decided.members}")
        for name, dataset in history.datasets.items():
            committed = decided.committed(name)
            require(
                dataset.ledger.committed == committed,
                f"{dataset.ledger.committed} samples of {name} are committed, the records say {committed}",
            )
        self.a_lineage_is_of_one_past(history)

    def a_lineage_is_of_one_past(self, history: History) -> None:
        """Whoever compares lineages compares all commit points before, and a restore brings the checkpoint's back."""
        chain = self._chains.setdefault(history.lineage, self.decided.chain)
        require(chain == self.decided.chain, f"lineage {history.lineage:x} stands for two pasts")

    def ranks_that_run_one_program_are_not_given_up(self, effects: Effects) -> None:
        """Only ranks that take different ways wait for each other in different places, and those of a storm do not."""
        for note in effects.notes:
            require(not note.startswith("deadlock") or not self._one_program, note)

    def nobody_is_lost_who_was_heard(self, record: Record) -> None:
        """Who leaves a generation has left, was reported dead, or was not heard for a lease while the core ran.

        Where who hangs is evicted, it has not moved for that long.
        """
        if not isinstance(record, records.GenerationChanged | records.GenerationBroken):
            return
        for name in record.left:
            silent_s = self._running_s - self._heard.get(name, float("-inf"))
            still_s = self._running_s - self._moved.get(name, (0.0, 0))[0]
            hangs = 0.0 < self._hang_s <= still_s + _ROUNDING_S
            require(
                name in self._gone or hangs or silent_s >= LEASE_S - _ROUNDING_S,
                f"{name} was declared lost after {silent_s:.2f} s of silence, its lease is {LEASE_S} s",
            )

    def a_barrier_is_not_early(self, record: Record) -> None:
        """Everybody who counts has arrived: this process, in this generation, at this barrier; and all have.

        A barrier that re-forms takes who has arrived at it in an earlier generation, and is a member now.
        """
        if not isinstance(record, records.BarrierReleased):
            return
        key = (record.generation, record.name, record.step)
        lives = self.decided.lives
        strict = self._issued.get(key, {})
        issued = strict or self._reforming.get((record.name, record.step), {})
        for name in record.participants:
            require(name in lives, f"barrier {key} counts {name}, who is no member")
            require(lives[name] in issued, f"barrier {key} counts {lives[name]}, which has not arrived")
        require(not record.asked or issued is not strict, f"barrier {key} breaks with its generation")
        requests = [issued[lives[name]] for name in record.participants]
        expected = requests[0].expected or len(self.decided.members)
        require(
            len(record.participants) == expected,
            f"barrier {key} is released with {record.participants}, {expected} are expected",
        )
        for place, value in enumerate(requests[0].values):
            reduced = _REDUCTIONS[value.op]([request.values[place].value for request in requests])
            require(record.reduced[value.name] == reduced, f"barrier {key} gives {record.reduced}, {reduced} is right")

    def an_epoch_is_finished_by_all(self, record: Record) -> None:
        """An epoch ends when every member has said so, and every sample of it was seen exactly once."""
        if not isinstance(record, records.EpochBegan):
            return
        ended, decided = record.epoch - 1, self.decided
        missing = [name for name in decided.members if self._finished.get(name) != ended]
        require(not missing, f"epoch {ended} ends without {missing}")
        for name, (total, _) in decided.sizes.items():
            committed = decided.committed(name)
            require(
                committed == total or not self._one_program,
                f"epoch {ended} ends with {committed} of {total} of {name}",
            )

    def nobody_who_remembers_is_overruled(self, record: Record) -> None:
        """History goes back only while no member has been through what is given up."""
        if isinstance(record, records.HistoryRestored):
            for name, life in self.decided.lives.items():
                been = self.decided.been_at.get(life, 0)
                require(
                    been <= record.commit_index,
                    f"history goes back to commit point {record.commit_index}, and {name} remembers {been}",
                )

    def a_tick_tells_the_state(self, tick: wire.Tick) -> None:
        """Followers compare digests: the one in a tick is that of the durable state."""
        require(tick.digest == digest_of(self.durable), "a tick's digest is not that of the state")

    def sees(self, view: ClusterView) -> bool:
        """Say whether a follower of the broadcasts sees the job as it is."""
        durable, cluster = self.durable, view.cluster
        return cluster is not None and (cluster.term, cluster.generation, cluster.epoch, list(cluster.members)) == (
            durable.term,
            durable.generation,
            durable.epoch,
            durable.members,
        )

    def a_command_is_taken_once(self, incarnation: str, taken: list[str]) -> bool:
        """Say whether a process has taken all that it was commanded; it takes nothing twice, and in order."""
        issued = self._commanded.get(incarnation, [])
        rest = iter(issued)
        require(all(one in rest for one in taken), f"{incarnation} took {taken}, commanded were {issued}")
        return len(taken) == len(issued) or incarnation in self._forgotten

    def released_is_journaled(self, connection: bytes, reply: wire.Released) -> None:
        """A release is acknowledged only when the journal has it."""
        outcome = (reply.name, reply.step, tuple(reply.participants))
        require(outcome in self.durable.outcomes, f"a release that is not journaled: {reply}")

    def membership_is_journaled(self, connection: bytes, reply: wire.Membership) -> None:
        """All members of a generation hear of the same members, in the same order, and of their own rank."""
        members = self.durable.memberships.get(reply.generation)
        require(members == reply.members, f"generation {reply.generation} is {members}, {reply.members} leaves")
        owner = self._owner.get(connection)
        require(reply.members[reply.rank] == owner, f"{owner} is told rank {reply.rank} of {reply.members}")

    def epoch_is_journaled(self, connection: bytes, reply: wire.EpochAdvanced) -> None:
        """An epoch that has begun has begun for ever, but for a restore."""
        require(reply.epoch <= self.durable.epoch, f"epoch {reply.epoch} is not journaled")

    def dataset_is_journaled(self, connection: bytes, reply: wire.DatasetRegistered) -> None:
        """A dataset that is registered stays so."""
        require(reply.dataset_id in self.durable.sizes, f"dataset {reply.dataset_id} is not journaled")

    def opening_is_journaled(self, connection: bytes, reply: wire.CheckpointOpened) -> None:
        """Who writes bytes for a checkpoint writes them for one that a restart knows."""
        saved = self.durable.saved.get(reply.checkpoint_id)
        require(saved is not None, f"checkpoint {reply.checkpoint_id} is not journaled")
        assert saved is not None
        owner = self._owner.get(connection)
        require(saved.workers[reply.rank] == owner, f"{owner} is told rank {reply.rank} of {saved.workers}")

    def durable_is_in_the_store(self, connection: bytes, reply: wire.CheckpointDurable) -> None:
        """Durable is what HEAD reaches, or has reached."""
        require(reply.checkpoint_id in self.committed_ids, f"{reply.checkpoint_id} is in no HEAD")
        require(reply.checkpoint_id in self.durable.taken, f"{reply.checkpoint_id} is not journaled as taken")


_ACKNOWLEDGED: dict[type, Callable[[Watch, bytes, object], None]] = {
    wire.Released: Watch.released_is_journaled,  # type: ignore[dict-item]
    wire.Membership: Watch.membership_is_journaled,  # type: ignore[dict-item]
    wire.EpochAdvanced: Watch.epoch_is_journaled,  # type: ignore[dict-item]
    wire.DatasetRegistered: Watch.dataset_is_journaled,  # type: ignore[dict-item]
    wire.CheckpointOpened: Watch.opening_is_journaled,  # type: ignore[dict-item]
    wire.CheckpointDurable: Watch.durable_is_in_the_store,  # type: ignore[dict-item]
}


_REDUCTIONS: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "any": lambda values: float(any(values)),
    "all": lambda values: float(all(values)),
}


def digest_of(truth: Truth) -> int:
    """Return the digest of a state, from its description in PROTOCOL.md."""
    text = f"{truth.generation}|{truth.epoch}|{int(truth.formed)}|{','.join(truth.members)}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 2
