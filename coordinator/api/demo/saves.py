"""The simulated checkpoints: staged, drained, durable or given up, and what the store would say of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Literal

import msgspec

from strata_zmq.coordinator.api.state.ports import VaultRow
from strata_zmq.errors import AlreadyExistsError, NotFoundError
from strata_zmq.protocol.sight_rows import CheckpointSight

__all__ = ["Saves", "SimulatedVault", "Turn"]

_KEPT = 40
_BYTES_A_WORKER = 96_000_000
_STAGED_S, _DRAINED_S, _DURABLE_S = 1, 3, 4
_NEAR = 4
_VERIFY_S = 1.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of a checkpoint; `dropped` are those that are retained no longer."""

    kind: Literal["began", "went on", "durable", "aborted"]
    row: CheckpointSight
    dropped: tuple[str, ...] = ()


class Saves:
    """The checkpoint that is being written, and the durable ones, oldest first."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._age = 0
        self._failing = False
        self.writing: CheckpointSight | None = None
        self.durable: dict[str, CheckpointSight] = {}
        self.written_bytes = 0

    def begin(
        self, at: float, step: int, epoch: int, ranks: Sequence[str], *, loss: float, failing: bool
    ) -> Turn | None:
        """Begin one, unless the step has been saved."""
        checkpoint_id = f"step-{step:08d}"
        if checkpoint_id in self.durable:
            return None
        self._age, self._failing = 0, failing
        self.writing = CheckpointSight(
            checkpoint_id=checkpoint_id,
            step=step,
            epoch=epoch,
            kind="FULL" if len(self.durable) % 4 == 0 else "INCREMENTAL",
            status="writing",
            world_size=len(ranks),
            arrived=0,
            staged=0,
            size_bytes=_BYTES_A_WORKER * len(ranks),
            written_bytes=None,
            created_at=at,
            began_at=at,
            missing=list(ranks[:20]),
            metrics={"loss": round(loss, 4)},
            worker_id=ranks[0],
        )
        return Turn("began", self.writing)

    def second(self, at: float, ranks: Sequence[str]) -> Turn | None:
        """Go on by a second."""
        row = self.writing
        if row is None:
            return None
        self._age += 1
        if self._failing and self._age >= _DRAINED_S:
            return self.abort("writer-0 has not made 3 chunks durable within 2 s, and no other writer takes them")
        if self._age >= _DURABLE_S:
            return self._commit(at, row)
        arrived = len(ranks) * self._age // _DURABLE_S
        staged_at = at - self._random.uniform(0.6, 0.8) if row.staged_at is None else row.staged_at
        self.writing = msgspec.structs.replace(
            row, arrived=arrived, staged=len(ranks), staged_at=staged_at, missing=list(ranks[arrived : arrived + 20])
        )
        return Turn("went on", self.writing)

    def abort(self, reason: str) -> Turn | None:
        """Give up the one that is being written."""
        if self.writing is None:
            return None
        row = msgspec.structs.replace(self.writing, status="aborted", reason=reason)
        self.writing = None
        return Turn("aborted", row)

    def _commit(self, at: float, row: CheckpointSight) -> Turn:
        share = 1.0 if row.kind == "FULL" else self._random.uniform(0.18, 0.34)
        written = int(row.size_bytes * share)
        began = row.created_at
        staged = began + self._random.uniform(0.18, 0.32)
        arrived = staged + share * self._random.uniform(2.2, 2.8)
        done = msgspec.structs.replace(
            row,
            status="durable",
            arrived=row.world_size,
            staged=row.world_size,
            missing=[],
            written_bytes=written,
            staged_at=staged,
            arrived_at=arrived,
            durable_at=min(at, arrived + self._random.uniform(0.01, 0.05)),
        )
        self.written_bytes += written
        self.writing = None
        self.durable[done.checkpoint_id] = done
        dropped = tuple(self.durable)[: max(0, len(self.durable) - _KEPT)]
        for one in dropped:
            del self.durable[one]
        return Turn("durable", done, dropped)


class SimulatedVault:
    """The store under the simulated checkpoints: the newest lie near, one in three was read again."""

    def __init__(self, saves: Saves, clock: Callable[[], float]) -> None:
        self._saves = saves
        self._clock = clock
        self._verified: dict[str, float] = {}
        self._verifying = ""
        self._asked = 0

    @property
    def version(self) -> int:
        """A number that rises when `rows` would answer otherwise than before."""
        saves = self._saves
        return self._asked + 2 * sum(row.step for row in saves.durable.values())

    def rows(self) -> Mapping[str, VaultRow]:
        """Return what is known, by checkpoint id."""
        rows = {}
        ids = list(self._saves.durable)
        for place, (name, row) in enumerate(self._saves.durable.items()):
            age = len(ids) - 1 - place
            at = self._verified.get(name)
            if at is None and age > 1 and row.step // 30 % 3 == 0 and row.durable_at is not None:
                at = row.durable_at + 45.0
            rows[name] = VaultRow(
                path=f"s3://checkpoints/demo/ckpt/{name}",
                kind=row.kind,
                tier="near" if age < _NEAR else "far",
                verified=None if at is None else True,
                verified_at=at,
                pinned=False,
            )
        return rows

    async def verify(self, checkpoint_id: str) -> None:
        """Seem to read a checkpoint again."""
        if checkpoint_id not in self._saves.durable:
            raise NotFoundError(f"{checkpoint_id} is not durable: only what HEAD reaches can be read again")
        if self._verifying:
            raise AlreadyExistsError(f"{self._verifying} is being read: one at a time, try again when it has ended")
        self._verifying = checkpoint_id
        try:
            await asyncio.sleep(_VERIFY_S)
        finally:
            self._verifying = ""
        self._verified[checkpoint_id] = self._clock()
        self._asked += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do nothing: there is no store."""
        yield
