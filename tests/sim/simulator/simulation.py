"""One run: a coordinator, workers, writers and a supervisor under a storm of faults, and the calm after it.

Everything that happens follows from the seed. A broken promise ends the run with the seed, the time and the last lines.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.coordinator.core.world import CoreConfig
from strata_zmq.domain.manifest_format import decode_manifest
from strata_zmq.errors import StrataError
from strata_zmq.protocol import messages as wire
from strata_zmq.workers.operations import Ask

from .agent import Agent
from .coordinator import Coordinator
from .disk import Disk
from .faulty import InvariantError, require
from .network import Network
from .plan import HEARTBEAT_S, LEASE_S, Plan
from .process import Process, Program
from .samples import Samples
from .storage import MemoryStorage, drive, finished
from .storm import Storm
from .timeline import Timeline
from .training import Model, Trainer, Will
from .transcript import Transcript
from .watch import Watch
from .writer import Writer

__all__ = ["Outcome", "Simulation", "simulate"]

TOKEN = "supervisor"  # noqa: S105 - a simulated one's
PROGRESS_WITHIN_S = 10.0
_PROGRESS = 2
_LOOK_S = 0.05
"""Commit points and epochs that have to follow the storm."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went: its digest, and what it got to see."""

    seed: int
    digest: str
    simulated_s: float
    counts: dict[str, int]


class Simulation:
    """The world of one seed. It is what training processes have besides the coordinator (`training.Outside`)."""

    def __init__(self, seed: int, *, plan: Plan | None = None, whole: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.plan = plan or Plan.draw(self.rng)
        self.timeline = Timeline()
        self.transcript = Transcript(whole=whole)
        self.network = Network(self.timeline, self.rng, self.transcript)
        self.network.conditions = self.plan.conditions
        self.watch = Watch(self.network.name_of, hang_s=self.plan.hang_s if self.plan.evict_hung else 0.0)
        self.samples = Samples(self.plan.datasets)
        self.storage = MemoryStorage(self.rng, self.plan.storage_s)
        self.storage.on_replace = self._swapped
        self.disk = Disk(self.plan.snapshot_every)
        self.coordinator = Coordinator(
            CoreConfig(
                job="job",
                initial_workers=self.plan.initial_workers,
                min_workers=self.plan.min_workers,
                lease_s=LEASE_S,
                heartbeat_s=HEARTBEAT_S,
                retention=wire.RetentionRule(keep_count=self.plan.keep_count),
                supervisor_token=TOKEN,
                broadcast_endpoint="ipc:///broadcast",
                commit_retry_s=1.0,
                checkpoint_timeout_s=20.0,
                join_window_s=self.plan.join_window_s,
                hang_s=self.plan.hang_s,
                evict_hung=self.plan.evict_hung,
            ),
            self.timeline,
            self.network,
            self.rng,
            self.transcript,
            self.watch,
            self.disk,
        )
        self.coordinator.folded_bytes_max = self.plan.folded_bytes_max
        self.agents: dict[str, Agent] = {}
        self.trainers: dict[str, Trainer] = {}
        self.workers: dict[str, Process] = {}
        self.writers: dict[str, Writer] = {}
        self.twins: list[Process] = []
        """Processes whose place another one has taken while they were out of sight."""
        self.supervisor: Process | None = None
        self._lives = 0
        self._posted: dict[int, dict[str, Model | None]] = {}

    # ---- a run

    def run(self) -> Outcome:
        """Run to the end; InvariantError, with the story, if a promise was broken."""
        plan = self.plan
        try:
            self.coordinator.start()
            for number in range(plan.hosts):
                self.start_agent(f"h{number}")
            for number in range(plan.workers):
                self.timeline.after(self.rng.random() * 2.0, self.start_worker, f"w{number}")
            for number in range(plan.writers):
                self.timeline.after(self.rng.random() * 2.0, self.start_writer, f"s{number}")
            if plan.supervised:
                self.supervisor = self.process("supervisor", wire.Hello(role="supervisor", token=TOKEN))
            storm = Storm(self)
            storm.begin()
            self.timeline.run(plan.storm_s)
            storm.end()
            self.timeline.run(storm.passed_at)
            self._calm()
        except InvariantError as error:
            raise InvariantError(self._story(str(error))) from None
        except Exception as error:
            raise InvariantError(self._story(f"{type(error).__name__}: {error}")) from error
        return Outcome(self.seed, self.transcript.digest, self.timeline.now, dict(sorted(self.watch.counts.items())))

    def _calm(self) -> None:
        """Faults are over: the job goes on within 10 s, with everybody in it."""
        watch = self.watch
        before = watch.durable.progress

        def going() -> bool:
            durable = watch.durable
            return (
                durable.progress >= before + _PROGRESS
                and len(durable.members) == self.plan.workers
                and not self._behind()
            )

        self.timeline.run(self.timeline.now + PROGRESS_WITHIN_S, going)
        require(
            going(),
            f"no progress within {PROGRESS_WITHIN_S:g} s of the storm's end: {watch.durable.progress - before} commit "
            f"points and epochs, members {watch.durable.members}; behind are {self._behind()}",
        )

    def _behind(self) -> list[str]:
        """Return the workers that do not see the job as it is, or have not taken what they were commanded, and the
        agents that have not sent again what was refused as a whole.
        """
        watch = self.watch
        return [
            name
            for name, process in self.workers.items()
            if not watch.sees(process.conversation.view)
            or not watch.a_command_is_taken_once(self.trainers[name].incarnation, self.trainers[name].commanded)
        ] + [name for name, agent in self.agents.items() if agent.owes]

    def _story(self, what: str) -> str:
        lines = "\n".join(self.transcript.lines())
        return f"seed {self.seed}, {self.timeline.now:.4f} s: {what}\n{self.plan}\n{lines}"

    # ---- processes

    def process(self, name: str, hello: wire.Hello, **callbacks: Any) -> Process:
        """Start a process that talks to the coordinator."""
        return Process(name, hello, self.timeline, self.network, self.rng, self.transcript, **callbacks)

    def start_worker(self, name: str) -> None:
        """Start another life of a worker, unless one is running."""
        old = self.workers.get(name)
        if old is not None and not old.dead:
            return
        self._lives += 1
        trainer = Trainer(name, self._lives, self.plan, self.rng, self)
        self.transcript.tell(self.timeline.now, name, f"life {trainer.incarnation} begins")
        process = self.process(
            name,
            wire.Hello(role="worker"),
            introduce=trainer.registration,
            heartbeat=trainer.report,
            on_command=trainer.take,
            host=self._host_of(name),
        )
        process.conversation.following = True
        process.on_ask = lambda request: self._asks(trainer, request)
        trainer.clock = lambda: process.now
        trainer.commit_deadline = lambda: process.conversation.commit_deadline
        process.on_exit = lambda: self.timeline.after(0.5 + self.rng.random(), self.start_worker, name)
        self.trainers[name], self.workers[name] = trainer, process
        process.spawn(self._life(process, trainer))

    def _asks(self, trainer: Trainer, request: wire.Request) -> None:
        if isinstance(request, wire.Arrive):
            self.watch.issues(trainer.incarnation, request)

    def _life(self, process: Process, trainer: Trainer) -> Program:
        try:
            yield from trainer.run(process.spawn)
        except InvariantError:
            raise
        except StrataError as error:
            self.transcript.tell(self.timeline.now, process.name, f"fails: {error.code}: {error}")
        if process.dead:
            return
        process.kill()
        self.transcript.tell(self.timeline.now, process.name, "ends")
        if process not in self.twins:
            self.timeline.after(0.5 + self.rng.random(), self.start_worker, process.name)

    def _host_of(self, worker: str) -> Callable[[], Agent | None] | None:
        hosts = self.plan.hosts
        if not hosts:
            return None
        name = f"h{int(worker[1:]) % hosts}"
        return lambda: self.agents.get(name)

    def start_agent(self, name: str) -> None:
        """Start another life of a host's agent, unless one is running."""
        old = self.agents.get(name)
        if old is not None and not old.dead:
            return
        self.transcript.tell(self.timeline.now, name, "an agent begins")
        self.agents[name] = Agent(name, self.timeline, self.network, self.rng, self.transcript)

    def crash_agent(self, name: str, *, back_s: float) -> None:
        """Kill a host's agent; its workers live, and it is started again."""
        agent = self.agents.get(name)
        if agent is None or agent.dead:
            return
        self.transcript.tell(self.timeline.now, name, "killed")
        agent.kill()
        self.timeline.after(back_s, self.start_agent, name)

    def crash_worker(self, name: str, *, back_s: float) -> None:
        """Kill a worker; it is started again, and a supervisor, if there is one, may report its death."""
        process = self.workers.get(name)
        if process is None or process.dead:
            return
        self.transcript.tell(self.timeline.now, name, "killed")
        process.kill()
        self.timeline.after(back_s, self.start_worker, name)
        if self.supervisor is not None and self.rng.random() < 0.8:
            report = wire.ReportLost(worker_id=name, pid=self.trainers[name].life, reason="killed")
            self.timeline.after(self.rng.choice((0.1, 4.0)) * self.rng.random(), self.tell_supervisor, report)

    def replace_worker(self, name: str, *, back_s: float) -> None:
        """Stop a worker, and start another life under its name as if it were dead; later it runs on."""
        process = self.workers.get(name)
        if process is None or process.dead or process.paused:
            return
        self.transcript.tell(self.timeline.now, name, "stopped, and taken for dead")
        process.pause()
        process.on_exit = None
        self.network.rename(process.link, f"{name}~{self.trainers[name].life}")
        self.twins.append(process)
        self.timeline.after(back_s, process.resume)
        del self.workers[name]
        self.start_worker(name)

    def tell_supervisor(self, request: wire.Request) -> None:
        """Have the supervisor, if there is one, ask for something."""

        def program() -> Program:
            try:
                yield Ask(request, 30.0)
            except StrataError:
                return

        if self.supervisor is not None:
            self.supervisor.spawn(program())

    def start_writer(self, name: str) -> None:
        """Start another life of a storage writer, unless one is running."""
        old = self.writers.get(name)
        if old is not None and not old.process.dead:
            return
        self._lives += 1
        self.transcript.tell(self.timeline.now, name, "begins")
        self.writers[name] = Writer(
            name,
            self._lives,
            self.storage,
            self.timeline,
            self.network,
            self.rng,
            self.transcript,
        )

    def crash_writer(self, name: str, *, back_s: float) -> None:
        """Kill a storage writer; it is started again."""
        writer = self.writers.get(name)
        if writer is None or writer.process.dead:
            return
        self.transcript.tell(self.timeline.now, name, "killed")
        writer.process.kill()
        self.timeline.after(back_s, self.start_writer, name)

    # ---- what training processes have besides the coordinator

    def post(self, generation: int, name: str, model: Model | None) -> None:
        """Offer a model to the peers."""
        self._posted.setdefault(generation, {})[name] = model

    def posted(self, generation: int) -> dict[str, Model | None]:
        """Return what the peers offer."""
        return self._posted[generation]

    def put_bytes(self, key: str, model: Model, done: Callable[[], None]) -> None:
        """Store a rank's share of a checkpoint."""
        data = json.dumps([model.chain.hex(), model.commits]).encode()
        drive(self.storage.put(key, data), self.timeline, lambda: True, lambda nothing, error: done())

    def leave_will(self, trainer: Trainer, opened: wire.CheckpointOpened, model: Model) -> Will | None:
        """Leave a model with the first writer there is; it looks after its worker from then on."""
        name = opened.writers[0].writer_id
        process, writer = self.workers.get(trainer.name), self.writers.get(name)
        if process is None or self.trainers[trainer.name] is not trainer or writer is None or writer.process.dead:
            return None
        will = Will(opened.checkpoint_id, opened.rank, trainer.name, name, model)

        def look() -> None:
            if process.dead and will.open:
                writer.drain(will)
            elif will.open and not writer.process.dead:
                self.timeline.after(_LOOK_S, look)

        self.timeline.after(_LOOK_S, look)
        return will

    def _swapped(self, data: bytes) -> None:
        """HEAD has advanced: what it reaches is all there."""
        self.watch.swapped(data)
        for entry in self.watch.head.retained:
            manifest = decode_manifest(self.storage.objects[entry.manifest_key], entry.manifest_key)
            missing = [rank.index_key for rank in manifest.ranks if rank.index_key not in self.storage.objects]
            require(not missing, f"HEAD reaches {entry.checkpoint_id} without {missing}")

    def latest(self) -> tuple[str, bytes, Model] | None:
        """Return the newest checkpoint in the store; its model and its ledger are one history, on every rank."""
        head = finished(CheckpointStore(self.storage).head())
        entry = head.latest
        if entry is None:
            return None
        manifest = decode_manifest(self.storage.objects[entry.manifest_key], entry.manifest_key)
        models = {self.storage.objects[rank.index_key] for rank in manifest.ranks}
        require(len(models) == 1, f"the ranks of {entry.checkpoint_id} saved different models")
        packed, commits = json.loads(models.pop())
        model = Model(bytes.fromhex(packed), commits)
        saved = self.watch.durable.saved[entry.checkpoint_id]
        require(model == Model(saved.chain, saved.commits), f"{entry.checkpoint_id} holds a model of another history")
        assert manifest.ledger is not None
        require(manifest.ledger["commit_index"] == commits, f"{entry.checkpoint_id}: ledger and model differ")
        return entry.checkpoint_id, json.dumps(manifest.ledger).encode(), model

    def committed(
        self, trainer: Trainer, generation: int, released: wire.Released, ranges: list[wire.SeenRange]
    ) -> None:
        """A worker has heard of a commit point: the journal tells the same."""
        durable = self.watch.durable
        key = (generation, released.step)
        assert trainer.model is not None
        require(released.participants.count(trainer.name) == 1, f"{trainer.name} is released from {key} without it")
        require(durable.chains.get(key) == trainer.model.chain, f"{trainer.name}'s model is not history's at {key}")
        require(durable.ranges[key].get(trainer.name, []) == ranges, f"{trainer.name} brought something else to {key}")

    def resumes(self, trainer: Trainer, resume: wire.Resume) -> None:
        """A worker was told where to go on: at a checkpoint that is committed."""
        if resume.checkpoint is not None:
            name = resume.checkpoint.checkpoint_id
            require(name in self.watch.committed_ids, f"{trainer.name} is to go on at {name}, which is in no HEAD")

    def agreed(self, trainer: Trainer) -> None:
        """A worker is in line with its generation: what it has is what history says."""
        durable = self.watch.durable
        assert trainer.model is not None
        if trainer.generation == durable.generation and trainer.model.commits == durable.commits:
            require(
                trainer.model.chain == durable.chain,
                f"{trainer.name}'s model is of another history than the data position of generation "
                f"{trainer.generation}",
            )


def simulate(seed: int) -> Outcome:
    """Run one seed; InvariantError, with the story, if a promise was broken."""
    return Simulation(seed).run()
