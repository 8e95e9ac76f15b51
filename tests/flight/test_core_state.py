"""A core that is put down at any step and taken up by a new one goes on as if nothing had been."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import simulator.coordinator
from simulator import simulate

from strata_zmq.coordinator.core import state
from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.core.state import dump, load
from strata_zmq.coordinator.core.world import CoreConfig, Effects, Received, Session
from strata_zmq.errors import InvalidArgumentError, StrataError
from strata_zmq.protocol import messages as wire

SEEDS = 16
ONLOOKER = b"onlooker"


class Shadowed(Core):
    """A core that hands its state to a new one, now and then; that one is told the same, and has to answer the same."""

    chance = random.Random(0)
    taken_up = compared = 0
    shadows: ClassVar[dict[int, Core]] = {}
    configs: ClassVar[dict[int, CoreConfig]] = {}

    def __init__(self, config: CoreConfig, history: History | None = None) -> None:
        super().__init__(config, history)
        Shadowed.shadows.clear()
        Shadowed.configs = {id(self): config}

    def step(self, batch: Sequence[Received], now: float, *, backlog: bool = False) -> Effects:
        shadow = Shadowed.shadows.get(id(self))
        effects = super().step(batch, now, backlog=backlog)
        if shadow is not None:
            assert shadow.step(batch, now, backlog=backlog) == effects
            if Shadowed.chance.random() < 0.1:
                assert self.look(now, backlog) == Shadowed.look(shadow, now, backlog)
            Shadowed.compared += 1
        if Shadowed.chance.random() < (0.02 if shadow else 0.2):
            held = dump(self)
            if shadow is not None:
                assert dump(shadow) == held
            taken = Core(Shadowed.configs[id(self)])
            load(taken, held)
            assert dump(taken) == held
            Shadowed.shadows[id(self)] = taken
            Shadowed.taken_up += 1
        return effects

    def look(self: Core, now: float, backlog: bool) -> Effects:
        """Have somebody look on, who is nobody to the job."""
        world = self._world
        world.sessions[ONLOOKER] = Session(ONLOOKER, 1, "client", False, now)
        asked = Received(ONLOOKER, wire.GetSight(session=1, seq=1))
        effects = Core.step(self, [asked], now, backlog=backlog)
        assert (effects.records, effects.broadcasts) == ([], []), "it changes nothing"
        del world.sessions[ONLOOKER]
        return effects

    def admit(self, connection: bytes, fold: wire.Fold) -> wire.ErrorReply | None:
        with self.apart():
            told = super().admit(connection, fold)
        self.both("admit", connection, fold)
        return told

    def reject(self, connection: bytes, error: StrataError, seq: int = 0, claimed: int = 0) -> wire.ErrorReply:
        self.both("reject", connection, error, seq, claimed)
        return super().reject(connection, error, seq, claimed)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Let this core do something alone: the other one is told of the whole of it."""
        shadow = Shadowed.shadows.pop(id(self), None)
        yield
        if shadow is not None:
            Shadowed.shadows[id(self)] = shadow

    def both(self, name: str, *arguments: Any) -> None:
        shadow = Shadowed.shadows.get(id(self))
        if shadow is not None:
            getattr(shadow, name)(*arguments)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of simulated mishaps would fill the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_a_core_taken_up_at_any_step_decides_the_same_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through storms of faults, with barriers, checkpoints, commands, agents and hangs open at the moment it is put
    down, and somebody looking on; and what is put down again is the same, byte for byte.
    """
    Shadowed.taken_up = Shadowed.compared = 0
    monkeypatch.setattr(simulator.coordinator, "Core", Shadowed)
    for seed in range(SEEDS):
        Shadowed.chance = random.Random(seed)
        simulate(seed)
    assert Shadowed.taken_up > 10 * SEEDS
    assert Shadowed.compared > 300 * SEEDS


def test_the_state_of_another_release_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="another release"):
        load(Core(CoreConfig()), dump(Core(CoreConfig())).replace(b"_ticked_at", b"_tocked_at"))


def test_bytes_that_are_no_state_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="not readable"):
        load(Core(CoreConfig()), b"\xc1")


def test_no_two_types_of_the_state_have_one_name() -> None:
    kinds, names = state._KINDS, state._BY_NAME
    assert len(kinds) == len(names) > 100
