"""Whoever looks on sees what there is, whenever it began to look, and changes nothing by it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import simulator.coordinator
from simulator import simulate

from strata_zmq.coordinator.api.state.picture import Gap, Picture
from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.world import Effects, Received, Session
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_reply, encode
from strata_zmq.protocol.sight import decode_delta

SEEDS = 40
ONLOOKER = b"onlooker"
RATED = {"datasets"}
"""Tables that are not looked at each time."""


class LookedAt(Core):
    """A core that onlookers follow from steps that chance picks. Each delta is compared with a new snapshot."""

    seed = 0
    compared = 0
    gaps = 0

    def start(self, now: float) -> Effects:
        self.chance = random.Random(LookedAt.seed)
        self.onlookers: list[Picture] = []
        effects = super().start(now)
        # It has a number that the core gives nobody, so that the sessions of others keep theirs.
        self.session = Session(ONLOOKER, 1, "client", False, now)
        return effects

    def step(self, batch: Sequence[Received], now: float, *, backlog: bool = False) -> Effects:
        effects = super().step(batch, now, backlog=backlog)
        if effects.shown is not None:
            self.take(effects.shown, now, backlog)
        if self.chance.random() < 0.02 or not self.onlookers:
            picture = Picture()
            self.begin(picture, now, backlog)
            self.onlookers = [*self.onlookers[-3:], picture]
        return effects

    def take(self, delta: wire.SightDelta, now: float, backlog: bool) -> None:
        """Have all onlookers follow; one of them may miss it."""
        delta = decode_delta(encode(delta))
        fresh = Picture()
        self.begin(fresh, now, backlog)
        for picture in self.onlookers:
            if self.chance.random() < 0.05:
                continue
            try:
                picture.follow(delta)
            except Gap:
                LookedAt.gaps += 1
                self.begin(picture, now, backlog)
            seen, there = shown(picture, leave_out=RATED), shown(fresh, leave_out=RATED)
            for name, rows in there.items():
                assert seen[name] == rows, f"seed {LookedAt.seed}: {name}"
            LookedAt.compared += 1

    def begin(self, picture: Picture, now: float, backlog: bool) -> None:
        sight = self.look(now, backlog)
        picture.begin(sight.life, sight.number, sight.at, sight.state)

    def look(self, now: float, backlog: bool) -> wire.Sight:
        """Ask for a snapshot in a step that nobody else hears of."""
        world = self._world
        requests, heard = world.counters["requests"], {**world.sessions}
        world.sessions[ONLOOKER] = self.session
        try:
            asked = Received(ONLOOKER, wire.GetSight(session=1, seq=1))
            effects = super().step([asked], now, backlog=backlog)
        finally:
            del world.sessions[ONLOOKER]
            world.counters["requests"] = requests
        assert heard.keys() == world.sessions.keys()
        assert (effects.records, effects.broadcasts, effects.notes) == ([], [], [])
        ((connection, reply),) = effects.sends
        assert connection == ONLOOKER
        again = decode_reply(encode(reply))
        assert type(again) is wire.Sight
        return again


def shown(picture: Picture, leave_out: set[str]) -> dict[str, Any]:
    """Everything that a picture holds, as values."""
    tables = {name: dict(rows) for name, rows in picture.tables.items() if name not in leave_out}
    # Told once, and in no snapshot.
    tables["checkpoints"] = {key: row for key, row in tables["checkpoints"].items() if row.status != "aborted"}
    job = msgspec.structs.replace(picture.job, requests=0)
    return {"job": job, **tables, **{name: list(rows) for name, rows in picture.logs.items()}}


@contextmanager
def looked_at(seed: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        LookedAt.seed = seed
        patch.setattr(simulator.coordinator, "Core", LookedAt)
        yield


def test_who_follows_from_any_number_sees_what_a_new_snapshot_shows_and_changes_nothing() -> None:
    """Through storms of faults; the whole story of each run is the same, byte for byte, as without anybody looking."""
    LookedAt.compared = LookedAt.gaps = 0
    for seed in range(SEEDS):
        alone = simulate(seed)
        with looked_at(seed):
            assert simulate(seed) == alone, f"seed {seed}"
    assert LookedAt.compared > 100 * SEEDS
    assert LookedAt.gaps > SEEDS
