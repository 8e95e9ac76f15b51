"""The storm: which faults happen when, drawn from the plan's rates. It breaks things and, in the end, mends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from strata_zmq.protocol import messages as wire

from .coordinator import CRASH_POINTS
from .network import Conditions
from .plan import LEASE_S

if TYPE_CHECKING:
    from .simulation import Simulation
    from .training import Trainer

__all__ = ["Storm"]

_COMMANDS: tuple[wire.Command, ...] = ("checkpoint", "checkpoint", "drain", "dump_stacks")


class Storm:
    """All faults of one run."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation
        self._over = False

    def begin(self) -> None:
        """Let every kind of fault happen at its rate, each drawing its next time when it happens."""
        plan = self._sim.plan
        kinds: list[tuple[float, Callable[[], None]]] = [
            (plan.kills, self._kill),
            (plan.stops, self._stop),
            (plan.crashes, self._crash),
            (plan.leaves, self._leave),
            (plan.pauses, self._pause),
            (plan.cuts, self._cut),
            (plan.resets, self._reset),
            (plan.slow_disk, self._slow_disk),
            (plan.writer_crashes, self._crash_writer),
            (plan.massacres, self._massacre),
            (plan.twins, self._twin),
            (plan.commands, self._command),
            (plan.hangs, self._hang),
            (plan.looks, self._look),
            (plan.agent_crashes if plan.hosts else 0.0, self._crash_agent),
            (plan.agent_pauses if plan.hosts else 0.0, self._pause_agent),
        ]
        for rate, fault in kinds:
            if rate:
                self._next(rate, fault)

    def end(self) -> None:
        """Mend everything: the network is whole, everybody runs or is started again within a second."""
        sim = self._sim
        self._over = True
        sim.transcript.tell(sim.timeline.now, "storm", "is over")
        sim.network.conditions = Conditions()
        sim.network.mend(patience=0.5)
        sim.coordinator.crash_at = ""
        sim.coordinator.sync_s = 0.002
        sim.storage.delay_s = 0.001
        sim.coordinator.resume()
        if not sim.coordinator.alive:
            sim.coordinator.start()
        for trainer in sim.trainers.values():
            trainer.leaving = trainer.hanging = False
        for twin in sim.twins:
            twin.kill()
        for process in sim.workers.values():
            process.resume()
        for agent in list(sim.agents.values()):
            agent.resume()
        for number in range(sim.plan.hosts):
            sim.timeline.after(sim.rng.random(), sim.start_agent, f"h{number}")
        for number in range(sim.plan.workers):
            sim.timeline.after(sim.rng.random(), sim.start_worker, f"w{number}")
        for number in range(sim.plan.writers):
            sim.timeline.after(sim.rng.random(), sim.start_writer, f"s{number}")

    @property
    def passed_at(self) -> float:
        """When what it had begun is over: an append to a slow disk, and what was slow on its way."""
        sim = self._sim
        return max(sim.timeline.now, sim.coordinator.written_at, sim.network.quiet_at)

    def _next(self, rate: float, fault: Callable[[], None]) -> None:
        self._sim.timeline.after(self._sim.rng.expovariate(rate), self._happen, rate, fault)

    def _happen(self, rate: float, fault: Callable[[], None]) -> None:
        if self._over:
            return
        fault()
        self._next(rate, fault)

    def _some_worker(self) -> str:
        return f"w{self._sim.rng.randrange(self._sim.plan.workers)}"

    # ---- the coordinator

    def _kill(self) -> None:
        sim = self._sim
        if sim.rng.random() < 0.3:
            sim.coordinator.kill("at any time")
        else:
            sim.coordinator.crash_at = sim.rng.choice(CRASH_POINTS)
        sim.timeline.after(sim.rng.choice((0.1, 1.0, LEASE_S * 1.5)) * sim.rng.random() + 0.05, self._start_again)

    def _start_again(self) -> None:
        if not self._sim.coordinator.alive:
            self._sim.coordinator.start()
        elif self._sim.coordinator.crash_at:
            # It has not come to the point yet.
            self._sim.timeline.after(0.5, self._start_again)

    def _stop(self) -> None:
        sim = self._sim
        sim.coordinator.pause()
        sim.timeline.after(sim.rng.random() * 2 * LEASE_S, sim.coordinator.resume)

    def _slow_disk(self) -> None:
        sim = self._sim
        usual = sim.plan.sync_s
        sim.coordinator.sync_s = sim.rng.choice((0.2, 1.0, LEASE_S))

        def over() -> None:
            if not self._over:
                sim.coordinator.sync_s = usual

        sim.timeline.after(sim.rng.random() * 3.0, over)

    # ---- workers and writers

    def _crash(self) -> None:
        sim = self._sim
        sim.crash_worker(self._some_worker(), back_s=sim.rng.choice((0.2, 2.0, 8.0)) * sim.rng.random())

    def _leave(self) -> None:
        trainer = self._sim.trainers.get(self._some_worker())
        if trainer is not None:
            self._sim.transcript.tell(self._sim.timeline.now, trainer.name, "is asked to leave")
            trainer.leaving = True

    def _pause(self) -> None:
        sim = self._sim
        process = sim.workers.get(self._some_worker())
        if process is None or process.dead or process.paused:
            return
        sim.transcript.tell(sim.timeline.now, process.name, "stopped")
        process.pause()
        sim.timeline.after(sim.rng.choice((0.5, 2.0, 6.0)) * sim.rng.random(), process.resume)

    def _massacre(self) -> None:
        """All workers die at once: nobody is left who remembers the model."""
        sim = self._sim
        for number in range(sim.plan.workers):
            sim.crash_worker(f"w{number}", back_s=sim.rng.random() * 3.0)

    def _twin(self) -> None:
        sim = self._sim
        sim.replace_worker(self._some_worker(), back_s=sim.rng.choice((1.0, 6.0)) * sim.rng.random())

    def _command(self) -> None:
        sim = self._sim
        command = sim.rng.choice(_COMMANDS)
        workers = [] if sim.rng.random() < 0.3 and command != "drain" else [self._some_worker()]
        sim.tell_supervisor(wire.SendCommand(command=command, workers=workers))

    def _hang(self) -> None:
        trainer = self._sim.trainers.get(self._some_worker())
        if trainer is not None:
            self._sim.transcript.tell(self._sim.timeline.now, trainer.name, "hangs")
            trainer.hanging = True
            self._sim.timeline.after(self._sim.rng.random() * 12.0, self._moves, trainer)

    def _moves(self, trainer: Trainer) -> None:
        trainer.hanging = False

    def _look(self) -> None:
        self._sim.tell_supervisor(wire.GetStatus())

    def _crash_writer(self) -> None:
        sim = self._sim
        if sim.plan.writers:
            sim.crash_writer(f"s{sim.rng.randrange(sim.plan.writers)}", back_s=sim.rng.random() * 4.0)

    # ---- agents

    def _crash_agent(self) -> None:
        sim = self._sim
        sim.crash_agent(f"h{sim.rng.randrange(sim.plan.hosts)}", back_s=sim.rng.choice((0.3, 3.0)) * sim.rng.random())

    def _pause_agent(self) -> None:
        sim = self._sim
        agent = sim.agents[f"h{sim.rng.randrange(sim.plan.hosts)}"]
        if not agent.dead and not agent.paused:
            sim.transcript.tell(sim.timeline.now, agent.name, "stopped")
            agent.pause()
            sim.timeline.after(sim.rng.choice((0.5, 4.0)) * sim.rng.random(), agent.resume)

    # ---- the network

    def _cut(self) -> None:
        sim = self._sim
        names = [name for name in sim.network.links if sim.rng.random() < 0.4]
        up, down = sim.rng.choice(((True, True), (True, False), (False, True)))
        if not names:
            return
        directions = " and ".join(word for word, on in (("up", up), ("down", down)) if on)
        sim.transcript.tell(sim.timeline.now, "network", f"cut {directions}: {', '.join(names)}")
        sim.network.cut(names, up=up, down=down)
        sim.timeline.after(sim.rng.choice((0.5, 2.0, 6.0)) * sim.rng.random(), self._mend)

    def _mend(self) -> None:
        self._sim.transcript.tell(self._sim.timeline.now, "network", "mended")
        self._sim.network.mend(patience=0.6)

    def _reset(self) -> None:
        sim = self._sim
        if not sim.network.links:
            return
        name = sim.rng.choice(list(sim.network.links))
        sim.transcript.tell(sim.timeline.now, "network", f"connection of {name} reset")
        sim.network.reset(sim.network.links[name])
