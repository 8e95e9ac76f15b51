"""Scenes: a few lines of a tiny language in, what the job says and journals out. It runs the same parts as the storms.

A scene is a text file of blocks: commands, a line `----`, and what came of them. The language:

    job NAME=VALUE ...                 begin, with these settings of the core (lease_s is 3 unless given)
    join W ...                         start workers; each registers and asks for its generation
    adopt W ...                        ask for the present generation
    writer S ...                       start storage writers
    dataset NAME TOTAL SHARD_SIZE      register a dataset, through the first worker
    arrive W ... NAME STEP [expected=N] [timeout=SECONDS] [reform] [OP:NAME=VALUE ...]
    commit W [DATASET SHARD START-STOP ...] [step=N]
    finish W ...                       finish the epoch
    save W ... STEP                    begin the checkpoint of STEP
    durable W ...                      say that this rank's bytes of the checkpoint are durable
    restore W CHECKPOINT               take history back
    leave W ...                        deregister
    command NAME W ...                 have a supervisor send a command (no worker: all)
    report W                           have a supervisor report its death
    twin W                             start another process of that name; the first one is W~LIFE from then on
    kill W|coordinator [WHERE]         end a process; the coordinator also "before the journal" and so on
    start W|S|coordinator              begin another life
    stop W|coordinator, continue ...   SIGSTOP, SIGCONT
    cut W up|down|both, mend           break and mend its connection; what was held arrives
    reset W                            kill its connection
    lose COUNT broadcasts W            drop the next broadcasts to it
    twice on|off                       the network duplicates everything
    view W                             what a follower of the broadcasts has made of them
    wait SECONDS                       let time pass
    mute KIND ..., hear KIND ...       leave lines of these messages out, or in again
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec

from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.coordinator.core.records import Record
from strata_zmq.coordinator.core.world import CoreConfig
from strata_zmq.coordinator.flight.words import say
from strata_zmq.domain.manifest_format import decode_manifest
from strata_zmq.errors import StrataError
from strata_zmq.protocol import messages as wire
from strata_zmq.workers.operations import Ask

from .coordinator import Coordinator
from .disk import Disk
from .network import Conditions, Network
from .plan import Dataset
from .process import Process, Program
from .samples import Samples
from .storage import MemoryStorage, drive, finished
from .timeline import Timeline
from .transcript import Transcript
from .watch import Watch
from .writer import Writer

__all__ = ["play"]

_TOKEN = "supervisor"  # noqa: S105 - a simulated one's
_MOMENT_S = 0.5
_INSTANT_S = 0.02
_NOISE = frozenset({"heartbeat_ack", "tick", "shards", "dataset_registered"})


def play(text: str) -> str:
    """Return a scene with the outputs that its commands give now."""
    scene, blocks = _Scene(), []
    for block in text.strip("\n").split("\n\n"):
        commands = block.split("\n----")[0]
        lines = [line for line in commands.split("\n") if line and not line.startswith("#")]
        if not lines:
            blocks.append(commands)
            continue
        for line in lines:
            scene.do(line)
        said = scene.take()
        blocks.append("\n".join([commands, "----", *said]))
    return "\n\n".join(blocks) + "\n"


class _Listening(Watch):
    """The promises of the storms hold in scenes, too; here they are also heard."""

    def __init__(self, name_of: Callable[[bytes], str], tell: Callable[[str, Any], None]) -> None:
        super().__init__(name_of, one_program=False)
        self._tell = tell

    def journaled(self, written: list[Record]) -> None:
        """Records are durable."""
        super().journaled(written)
        for record in written:
            self._tell("journal", record)

    def announced(self, broadcast: wire.Broadcast) -> None:
        """A broadcast leaves."""
        super().announced(broadcast)
        self._tell("broadcast", broadcast)


class _Player:
    """A worker that does what a scene says."""

    def __init__(self, name: str, life: int) -> None:
        self.name, self.worker_id, self.life = name, name, life
        self.incarnation = f"{name}.{life}"
        self.generation = 0
        self.commits = 0
        self.epoch = 0
        self.opened: wire.CheckpointOpened | None = None
        self.process: Process

    def registration(self) -> wire.RegisterWorker:
        return wire.RegisterWorker(worker_id=self.worker_id, incarnation=self.incarnation, pid=self.life)

    def heartbeat(self) -> wire.Heartbeat:
        return wire.Heartbeat(generation=self.generation)


class _Scene:
    """The job of one scene."""

    def __init__(self) -> None:
        self._timeline = Timeline()
        self._rng = random.Random(1)
        self._transcript = Transcript()
        self._network = Network(self._timeline, self._rng, self._transcript)
        self._network.conditions = Conditions(delay_s=0.001, spread_s=0.0)
        self._storage = MemoryStorage(self._rng, 0.001)
        self._watch = _Listening(self._network.name_of, self._hear)
        self._storage.on_replace = self._watch.swapped
        self._disk = Disk(10_000)
        self._coordinator: Coordinator
        self._players: dict[str, _Player] = {}
        self._writers: dict[str, Writer] = {}
        self._supervisor: Process | None = None
        self._datasets: list[Dataset] = []
        self._lives = 0
        self._said: list[tuple[str, str]] = []
        self._muted = set(_NOISE)

    def do(self, line: str) -> None:
        """Carry out one command, and let its consequences come."""
        verb, *words = line.split()
        getattr(self, f"_do_{verb}")(*words)
        if verb != "wait":
            slow = verb in {"job", "join", "start", "twin", "writer"}
            self._timeline.run(self._timeline.now + (_MOMENT_S if slow else _INSTANT_S))

    def take(self) -> list[str]:
        """Return what was said since the last time; neighbours who hear the same share a line."""
        lines: list[tuple[str, str]] = []
        for who, what in self._said:
            if lines and lines[-1][1] == what:
                lines[-1] = (f"{lines[-1][0]} {who}", what)
            else:
                lines.append((who, what))
        self._said = []
        return [f"{who}: {what}" for who, what in lines]

    # ---- hearing

    def _hear(self, who: str, message: msgspec.Struct) -> None:
        if str(message.__struct_config__.tag) not in self._muted:
            self._said.append((who, _short(message)))

    def _fails(self, who: str, error: StrataError) -> None:
        told = [error.code]
        for name in ("missing", "joined", "left"):
            names = getattr(error, name, ())
            if names:
                told.append(f"{name}=[{', '.join(names)}]")
        self._said.append((who, " ".join(told)))

    def _ask(self, player: _Player, message: Any, then: Callable[[Any], None] = lambda reply: None) -> None:
        def program() -> Program:
            try:
                reply = yield Ask(message, getattr(message, "timeout_s", 30.0))
            except StrataError as error:
                self._fails(player.name, error)
            else:
                then(reply)
                self._hear(player.name, reply)

        player.process.spawn(program())

    # ---- the cast

    def _do_job(self, *settings: str) -> None:
        given = {name: msgspec.json.decode(value) for name, _, value in (one.partition("=") for one in settings)}
        config = {"lease_s": 3.0, "heartbeat_s": 0.9, "commit_retry_s": 1.0, **given}
        self._coordinator = Coordinator(
            CoreConfig(job="job", supervisor_token=_TOKEN, broadcast_endpoint="ipc:///broadcast", **config),
            self._timeline,
            self._network,
            self._rng,
            self._transcript,
            self._watch,
            self._disk,
        )
        self._coordinator.start()

    def _do_join(self, *names: str) -> None:
        for name in names:
            self._begin(name)
            self._do_adopt(name)

    def _begin(self, name: str) -> None:
        self._lives += 1
        player = _Player(name, self._lives)
        player.process = Process(
            name,
            wire.Hello(role="worker"),
            self._timeline,
            self._network,
            self._rng,
            self._transcript,
            introduce=player.registration,
            heartbeat=player.heartbeat,
            on_command=lambda command: self._said.append((player.name, f"is told to {command}")),
        )
        player.process.conversation.following = True
        player.process.on_exit = lambda: self._fails(player.name, player.process.failure or StrataError("ended"))
        self._players[name] = player

    def _do_adopt(self, *names: str) -> None:
        for name in names:
            player = self._players[name]

            def adopted(reply: wire.Membership, player: _Player = player) -> None:
                player.generation, player.commits, player.epoch = reply.generation, reply.commit_index, reply.epoch

            self._ask(player, wire.AwaitGeneration(after=player.generation, timeout_s=60.0), adopted)

    def _do_writer(self, *names: str) -> None:
        for name in names:
            self._lives += 1
            self._writers[name] = Writer(
                name, self._lives, self._storage, self._timeline, self._network, self._rng, self._transcript
            )

    def _do_dataset(self, name: str, total: str, shard_size: str) -> None:
        self._datasets.append(
            Dataset(dataset_id=name, total=int(total), shard_size=int(shard_size), shuffle=True, seed=1)
        )
        player = next(iter(self._players.values()))
        self._ask(
            player, wire.RegisterDataset(dataset_id=name, total_samples=int(total), shard_size=int(shard_size), seed=1)
        )

    # ---- what workers do

    def _do_arrive(self, *words: str) -> None:
        workers = [word for word in words if word in self._players]
        name, step, *options = words[len(workers) :]
        fields: dict[str, Any] = {"name": name, "step": int(step), "timeout_s": 60.0}
        values = []
        for option in options:
            key, _, value = option.partition("=")
            op, _, named = key.partition(":")
            if named:
                values.append(wire.Value(named, op, float(value)))  # type: ignore[arg-type]
            elif option == "reform":
                fields["on_change"] = "reform"
            else:
                fields["expected" if key == "expected" else "timeout_s"] = msgspec.json.decode(value)
        for worker in workers:
            player = self._players[worker]
            request = wire.Arrive(generation=player.generation, values=values, **fields)
            self._watch.issues(player.incarnation, request)
            self._ask(player, request)

    def _do_commit(self, worker: str, *words: str) -> None:
        player = self._players[worker]
        step = player.commits + 1
        if words and words[-1].startswith("step="):
            *words, given = words  # type: ignore[assignment]
            step = int(given.removeprefix("step="))
        samples = Samples(tuple(self._datasets))
        ranges = []
        for dataset, shard, span in zip(words[::3], words[1::3], words[2::3], strict=True):
            start, _, stop = span.partition("-")
            ranges.append(samples.seen(dataset, player.epoch, int(shard), int(start), int(stop)))
        request = wire.Arrive(
            name="commit", step=step, commit=True, ranges=ranges, timeout_s=60.0, generation=player.generation
        )
        self._watch.issues(player.incarnation, request)

        def committed(reply: wire.Released) -> None:
            player.commits = reply.commit_index

        self._ask(player, request, committed)

    def _do_finish(self, *names: str) -> None:
        for name in names:
            player = self._players[name]

            def advanced(reply: wire.EpochAdvanced, player: _Player = player) -> None:
                player.epoch = reply.epoch

            request = wire.AdvanceEpoch(epoch=player.epoch, timeout_s=60.0, generation=player.generation)
            self._ask(player, request, advanced)

    def _do_save(self, *words: str) -> None:
        *names, step = words
        for name in names:
            player = self._players[name]

            def opened(reply: wire.CheckpointOpened, player: _Player = player) -> None:
                player.opened = reply

            self._ask(
                player,
                wire.CheckpointBegin(step=int(step), commit_index=player.commits, generation=player.generation),
                opened,
            )

    def _do_durable(self, *names: str) -> None:
        for name in names:
            player = self._players[name]
            assert player.opened is not None
            opened = player.opened
            key = f"ckpt/{opened.checkpoint_id}/rank-{opened.rank:05d}/index"
            drive(self._storage.put(key, b"bytes"), self._timeline, lambda: True, lambda nothing, error: None)
            self._timeline.run(self._timeline.now + 0.01)
            arrival = wire.CheckpointArrive(
                checkpoint_id=opened.checkpoint_id, index_key=key, digest="0" * 64, size_bytes=8
            )
            self._ask(player, arrival)

    def _do_restore(self, name: str, checkpoint_id: str) -> None:
        ledger = b'{"epoch": 0, "commit_index": 0, "datasets": {}}'
        if checkpoint_id != "beginning":
            entry = finished(CheckpointStore(self._storage).find(checkpoint_id))
            manifest = decode_manifest(self._storage.objects[entry.manifest_key], entry.manifest_key)
            ledger = json.dumps(manifest.ledger).encode()
        self._ask(self._players[name], wire.Restore(checkpoint_id=checkpoint_id, ledger=ledger))

    def _do_leave(self, *names: str) -> None:
        for name in names:
            self._ask(self._players[name], wire.Deregister())

    # ---- what a supervisor does

    def _do_report(self, name: str) -> None:
        self._as_supervisor(wire.ReportLost(worker_id=name, pid=self._players[name].life))

    def _do_command(self, name: str, *workers: str) -> None:
        self._as_supervisor(wire.SendCommand(command=name, workers=list(workers)))  # type: ignore[arg-type]

    def _as_supervisor(self, request: Any) -> None:
        if self._supervisor is None:
            hello = wire.Hello(role="supervisor", token=_TOKEN)
            self._supervisor = Process("supervisor", hello, self._timeline, self._network, self._rng, self._transcript)
        player = _Player("supervisor", 0)
        player.process = self._supervisor
        self._ask(player, request)
        self._timeline.run(self._timeline.now + _MOMENT_S)

    # ---- what happens to processes and connections

    def _do_kill(self, name: str, *where: str) -> None:
        if name != "coordinator":
            process = self._players[name].process if name in self._players else self._writers[name].process
            process.kill()
        elif where:
            self._coordinator.crash_at = " ".join(where)
        else:
            self._coordinator.kill("by the scene")

    def _do_start(self, name: str) -> None:
        if name == "coordinator":
            self._coordinator.start()
        elif name in self._writers:
            self._do_writer(name)
        else:
            self._do_join(name)

    def _do_twin(self, name: str) -> None:
        first = self._players.pop(name)
        alias = f"{name}~{first.life}"
        self._players[alias] = first
        first.name = alias
        self._network.rename(first.process.link, alias)
        self._do_join(name)

    def _do_stop(self, name: str) -> None:
        if name == "coordinator":
            self._coordinator.pause()
        else:
            self._players[name].process.pause()

    def _do_continue(self, name: str) -> None:
        if name == "coordinator":
            self._coordinator.resume()
        else:
            self._players[name].process.resume()

    def _do_cut(self, *words: str) -> None:
        *names, way = words
        self._network.cut(names, up=way != "down", down=way != "up")

    def _do_mend(self) -> None:
        self._network.mend(patience=1.0)

    def _do_reset(self, name: str) -> None:
        self._network.reset(self._network.links[name])

    def _do_lose(self, count: str, what: str, name: str) -> None:
        assert what == "broadcasts"
        self._network.links[name].deaf_to = int(count)

    def _do_twice(self, switch: str) -> None:
        self._network.conditions.duplicate = 1.0 if switch == "on" else 0.0

    def _do_wait(self, seconds: str) -> None:
        self._timeline.run(self._timeline.now + float(seconds.removesuffix("s")))

    def _do_view(self, name: str) -> None:
        view = self._players[name].process.conversation.view
        cluster = view.cluster
        state = (
            f"generation={cluster.generation} epoch={cluster.epoch} members=[{', '.join(cluster.members)}]"
            if cluster is not None
            else "nothing yet"
        )
        self._said.append((name, f"sees {state} gaps={view.gaps}{' (asks)' if view.needs_snapshot else ''}"))

    def _do_mute(self, *kinds: str) -> None:
        self._muted.update(kinds)

    def _do_hear(self, *kinds: str) -> None:
        self._muted.difference_update(kinds)


def _short(message: msgspec.Struct) -> str:
    """Return the message in words, without what differs from run to run."""
    hidden = {
        "seq",
        "digest",
        "lag",
        "slowest",
        "moved",
        "lower_bound",
        "server_time",
        "created_at",
        "at",
        "ledger",
        "ledgers",
    }
    return say(message, hidden)
