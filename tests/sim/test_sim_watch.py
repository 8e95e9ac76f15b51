"""The watcher knows what a coordinator can know: what one decided and did not write down is gone with its life."""

from __future__ import annotations

from typing import Any

from simulator.watch import Watch

from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.core.world import CoreConfig, Received
from strata_zmq.protocol import messages as wire

CONFIG = CoreConfig(job="job", supervisor_token="token", lease_s=3.0)  # noqa: S106 - a test's


class Life:
    """One life of a coordinator under the watcher's eyes, from what the journal has."""

    def __init__(self, watch: Watch, written: list[Any]) -> None:
        history = History()
        for record in written:
            history.apply(record)
        self.watch, self.written, self.core = watch, written, Core(CONFIG, history)
        effects = self.core.start(100.0)
        watch.began(self.core.history, effects, 100.0)
        self._keep(effects.records)

    def step(self, *said: tuple[bytes, Any], journaled: bool = True) -> list[Any]:
        batch = [Received(connection, message) for connection, message in said]
        effects = self.core.step(batch, 100.0)
        self.watch.stepped(self.core.history, batch, effects, 100.0)
        if journaled:
            self._keep(effects.records)
        return [reply for _, reply in effects.sends]

    def hello(self, connection: bytes, role: wire.Role) -> dict[str, int]:
        (welcome,) = self.step((connection, wire.Hello(role=role, token="token", seq=1)))  # noqa: S106
        return {"session": welcome.session, "term": welcome.term}

    def _keep(self, records: list[Any]) -> None:
        self.written.extend(records)
        self.watch.journaled(records)


def test_a_death_is_that_of_the_process_that_the_journal_knows() -> None:
    """A successor that registered in a step that was never written is nobody: its forerunner is the one reported."""
    watch, written = Watch(lambda _: ""), []
    life = Life(watch, written)
    first, supervisor = life.hello(b"w", "worker"), life.hello(b"s", "supervisor")
    life.step((b"w", wire.RegisterWorker(worker_id="w0", incarnation="w0.1", pid=1, seq=2, **first)))
    second = life.hello(b"x", "worker")
    died = wire.ReportLost(worker_id="w0", pid=1, seq=2, **supervisor)
    successor = wire.RegisterWorker(worker_id="w0", incarnation="w0.2", pid=2, seq=2, **second)
    life.step((b"s", died), (b"x", successor), journaled=False)

    life = Life(watch, written)
    supervisor = life.hello(b"s", "supervisor")
    (done,) = life.step((b"s", wire.ReportLost(worker_id="w0", pid=1, seq=3, **supervisor)))
    assert isinstance(done, wire.Done)
    assert life.core.history.member_ids == ()
