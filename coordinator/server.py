"""The coordinator's shell: poll, drain, step, journal, send, in that order. It decides nothing.

One single-threaded loop owns both sockets and the journal; no reply leaves before what it says is on disk.
"""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import zmq

from strata_zmq.errors import StrataError
from strata_zmq.failpoints import failpoint
from strata_zmq.protocol.codec import encode
from strata_zmq.protocol.messages import Broadcast
from strata_zmq.protocol.sight import SIGHT_TOPIC
from strata_zmq.transport.curve import CurveKeys, accept_job_key_only
from strata_zmq.transport.endpoints import ipc_path
from strata_zmq.transport.sockets import CONTROL, bind, open_socket, raise_file_limit

from .config import CoordinatorConfig
from .core import records
from .core.core import Core
from .core.world import CoreConfig, Effects
from .flight.hook import Flight
from .folding import Folding
from .journal import Journal
from .router import Router
from .shown_settings import shown_settings
from .sight_meter import Meter, deals_shards

__all__ = ["Server", "serve"]

log = logging.getLogger("strata.coordinator")

POLL_MS = 50
PULSE_S = 1.0
GARBAGE_MIN = 50_000
"""New objects that a step may leave behind before the garbage collector looks for cycles among them."""
TOPICS = {"epoch": b"epoch", "rebalance": b"rebalance", "checkpoint": b"checkpoint", "tick": b"tick"}


class Server:
    """One coordinator: bound sockets, an open journal, and the loop over them."""

    def __init__(self, config: CoordinatorConfig) -> None:
        self.config = config
        raise_file_limit(4096)
        keys = CurveKeys.load(config.curve_keys) if config.curve_keys else None
        self._journal = Journal(config.journal)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate = accept_job_key_only(self._context, keys) if keys else None
        self._stopping = False
        try:
            self._router = open_socket(self._context, zmq.ROUTER, CONTROL, keys=keys, server=True)
            self.control_endpoint = bind(self._router, config.control, field="control")
            self._publisher = open_socket(self._context, zmq.PUB, CONTROL, keys=keys, server=True)
            self.broadcast_endpoint = bind(self._publisher, config.broadcast, field="broadcast")
            core_config = self._core_config()
            self._core = Core(core_config, self._journal.replay())
            folding = Folding(self._core.admit, self._core.reject)
            self._messages = Router(self._router, self._core.reject, folding)
            self._flight = Flight(config, self._core, core_config, self._messages)
            self._meter = Meter()
        except BaseException:
            self._close()
            raise

    def serve(self) -> None:
        """Serve until `stop`; raises StorageError if the journal cannot be written."""
        core = self._core
        pulse_at = 0.0
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        try:
            self._perform(core.start(time.monotonic()))
            self._journal.reserve()
            self._flight.begin(time.monotonic())
            self._tell_log()
            # What a start leaves lives as long as the process, and a step's messages go by their reference counts: the
            # collector would look at all of it for nothing, in the middle of a step.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE_MIN)
            while not self._stopping:
                arrived = poller.poll(0 if core.postponed else POLL_MS)
                began = time.monotonic()
                batch = self._messages.drain() if arrived else []
                now = time.monotonic()
                backlog = bool(batch) and self._messages.backlog
                self._flight.take(now, backlog=backlog)
                effects = core.step(batch, now, backlog=backlog)
                self._flight.decided(effects, now)
                self._perform(effects)
                if batch:
                    read = batch if core.watched else ()
                    self._meter.note(read, time.monotonic() - began, assigned=deals_shards(effects.records))
                self._show(effects)
                if now >= pulse_at:
                    pulse_at = now + PULSE_S
                    self._publish(core.pulse())
                    core.measured(self._meter.rows())
        finally:
            self._close()

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stopping = True

    def _tell_log(self) -> None:
        history = self._core.history
        log.info("journal %s: %s", self._journal.path, self._journal.story)
        log.info(
            "serving job %s, term %d, generation %d, epoch %d, %d datasets, %d checkpoints, on %s",
            self.config.job,
            history.term,
            history.generation,
            history.epoch,
            len(history.datasets),
            len(history.checkpoints),
            self.control_endpoint,
        )

    def _perform(self, effects: Effects) -> None:
        if effects.records:
            self._journal.append(effects.records, self._core.history)
            _pass_places(effects.records)
        for note in effects.notes:
            log.warning("%s", note)
        self._messages.send_all(effects.outbox)
        for broadcast in effects.broadcasts:
            self._publish(broadcast)
        if any(type(record) is records.RankArrived for record in effects.records):
            failpoint("coordinator.told")

    def _show(self, effects: Effects) -> None:
        if effects.shown is not None:
            self._publisher.send(SIGHT_TOPIC, zmq.SNDMORE)
            self._publisher.send(encode(effects.shown))

    def _publish(self, broadcast: Broadcast) -> None:
        tag = broadcast.__struct_config__.tag
        self._publisher.send(TOPICS[str(tag)], zmq.SNDMORE)
        self._publisher.send(encode(broadcast))

    def _core_config(self) -> CoreConfig:
        config = self.config
        base = CoreConfig(wall_offset_s=time.time() - time.monotonic())
        return replace(
            base,
            job=config.job,
            initial_workers=config.initial_workers,
            min_workers=config.min_workers,
            max_workers=config.max_workers,
            lease_s=config.lease_s,
            heartbeat_s=config.heartbeat_s,
            join_window_s=config.join_window_s,
            hang_s=config.hang_s,
            evict_hung=config.evict_hung,
            retention=config.retention,
            supervisor_token=config.supervisor_token,
            broadcast_endpoint=self.broadcast_endpoint,
            server_version=version("strata-zmq"),
            life=str(time.time_ns()),
            settings=shown_settings(config),
        )

    def _close(self) -> None:
        for endpoint in (getattr(self, "control_endpoint", ""), getattr(self, "broadcast_endpoint", "")):
            path = ipc_path(endpoint)
            if path is not None:
                Path(path).unlink(missing_ok=True)
        if self._gate is not None:
            self._gate.stop()
        self._context.destroy(linger=100)
        self._journal.close()
        if hasattr(self, "_flight"):
            self._flight.close()


def _pass_places(decided: list[records.Record]) -> None:
    """Come by the places between a decision's being on disk and its being told."""
    kinds = {type(record) for record in decided}
    if records.CheckpointBegan in kinds:
        failpoint("coordinator.begun")
    if records.RankStaged in kinds:
        failpoint("coordinator.staged")
    if records.RankArrived in kinds:
        failpoint("coordinator.arrived")
    if records.CheckpointTaken in kinds:
        failpoint("coordinator.taken")


def serve(config: CoordinatorConfig, *, on_ready: Callable[[Server], None] | None = None) -> int:
    """Run a coordinator until SIGINT or SIGTERM; returns the exit status. `on_ready(server)` runs once it is bound."""
    try:
        server = Server(config)
    except StrataError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is the whole story
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    if on_ready is not None:
        on_ready(server)
    try:
        server.serve()
    except StrataError as error:
        log.error("stopping: %s", error)  # noqa: TRY400
        return 1
    return 0
