"""The dispatcher's shell: poll, drain, step, persist, send, in that order. It decides nothing.

One single-threaded loop owns the socket, the records and, in mode `local`, the children. Nobody is told what is not
durable yet, where durability was asked for.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import zmq

from strata_zmq.errors import StrataError
from strata_zmq.failpoints import failpoint
from strata_zmq.functions.dispatch.config import CoreConfig
from strata_zmq.functions.dispatch.core import Core
from strata_zmq.functions.dispatch.effects import Effects
from strata_zmq.functions.dispatch.records import Accepted, Ended
from strata_zmq.protocol.functions import FromClient, FromWorker, encode_function
from strata_zmq.protocol.sight import SIGHT_TOPIC, SightDelta
from strata_zmq.transport.curve import CurveKeys, accept_job_key_only
from strata_zmq.transport.endpoints import ipc_path
from strata_zmq.transport.sockets import CONTROL, FUNCTIONS, bind, open_socket, raise_file_limit

from .agenda import Agenda
from .blobs import Blobs
from .clients import Clients
from .config import DispatcherConfig
from .intake import Intake
from .mailbox import Mailbox
from .rows import Rows
from .sessions import Sessions
from .sight import Sight
from .stores import open_store

if TYPE_CHECKING:
    from .local_pool import LocalPool

__all__ = ["Dispatcher", "serve"]

log = logging.getLogger("strata.dispatcher")

_TICK_S = 0.5
GARBAGE_MIN = 50_000
"""New objects that a step may leave behind before the garbage collector looks for cycles among them."""


class Dispatcher:
    """One dispatcher: a bound socket, an open store, and the loop over them."""

    def __init__(self, config: DispatcherConfig) -> None:
        self.config = config
        raise_file_limit(4096)
        keys = CurveKeys.load(config.curve_keys) if config.curve_keys else None
        self._store = open_store(config.store)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate = accept_job_key_only(self._context, keys) if keys else None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._asked_to_end = 0
        self._retiring_until = math.inf
        self._local: LocalPool | None = None
        self._shown_own = False
        try:
            self._socket = open_socket(self._context, zmq.ROUTER, FUNCTIONS, keys=keys, server=True)
            self.endpoint = bind(self._socket, config.endpoint)
            self._publisher = open_socket(self._context, zmq.PUB, CONTROL, keys=keys, server=True)
            self.sight_endpoint = bind(self._publisher, _beside(self.endpoint), field="sight")
            self._build()
        except BaseException:
            self._close()
            raise

    def serve(self) -> None:
        """Serve until `stop`; raises StorageError if a record cannot be written.

        In mode `local` the calls that run are waited for, as long as `grace_s` allows; what they were is written down.
        """
        try:
            self._serve()
            self._part()
        finally:
            self._close()

    def stop(self) -> None:
        """Ask the loop to end; asked again, it ends at once. Safe in a signal handler, and from another thread."""
        os.eventfd_write(self._wake, 1)
        self._asked_to_end += 1

    def _build(self) -> None:
        config = self.config
        offset = time.time() - time.monotonic()
        recovered = self._store.load()
        self.incarnation = uuid.uuid4().hex
        self._core = Core(
            CoreConfig(
                lease_s=config.lease_s,
                client_lease_s=config.client_lease_s,
                queue_tasks_max=config.queue_tasks_max,
                queue_bytes_max=config.queue_bytes_max,
                results_bytes_max=config.results_bytes_max,
                wall_offset_s=offset,
            ),
            recovered,
        )
        self._agenda = Agenda()
        self._mailbox = Mailbox(self._socket)
        self._blobs = Blobs(self._store, recovered.functions, config.blob_bytes_max)
        intake = Intake(self._blobs, attempt_s=config.task_deadline_s, durable=config.store != "none")
        parts = (self._mailbox, self._core, self._agenda, self._blobs)
        self._clients = Clients(*parts, intake, Rows(self._store, offset), lease_s=config.client_lease_s)
        self._sessions = Sessions(*parts, lease_s=config.lease_s, heartbeat_s=config.heartbeat_s)
        self._tick_s = min(_TICK_S, config.lease_s / 4, config.client_lease_s / 4)
        if config.mode == "local":
            from .local_pool import LocalPool

            self._local = LocalPool(config, self._sessions.new_number(), self.incarnation, self._blobs)
        self._sight = Sight(
            self._core,
            config,
            self._publish,
            endpoint=self.sight_endpoint,
            incarnation=self.incarnation,
            own_session=self._local.session if self._local is not None else 0,
            now=time.monotonic(),
            offset=offset,
        )
        self._clients.shows = self._sight.answer
        log.info(
            "serving in mode %s on %s, store %s: %d tasks and %d functions were kept",
            *(config.mode, self.endpoint, config.store, len(recovered.tasks), len(recovered.functions)),
        )

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        if self._local is not None:
            self._agenda.events.append(self._local.start())
            poller.register(self._local.fileno(), zmq.POLLIN)
        # What a start leaves lives as long as the process, and a step's messages go by their reference counts: the
        # collector would look at all of it for nothing, in the middle of a step.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_MIN)
        tick_at = time.monotonic()
        wait_s = 0.0
        while not self._has_ended():
            poller.poll(math.ceil(wait_s * 1000))
            now = time.monotonic()
            if now >= tick_at:
                if now - tick_at > self.config.client_lease_s / 2:
                    self._clients.forgive(now)
                tick_at = now + self._tick_s
                self._look_after(now)
            self._pass(now)
            wait_s = self._wait_s(tick_at)

    def _pass(self, now: float) -> None:
        agenda = self._agenda
        clients, sessions = self._clients, self._sessions
        for connection, message, frames in self._mailbox.drain():
            if clients.handles(message):
                clients.take(connection, cast("FromClient", message), frames, now)
            else:
                sessions.take(connection, cast("FromWorker", message), frames, now)
        if self._local is not None:
            self._local.turn(now, agenda.events.append)
        self._step(now)

    def _step(self, now: float) -> None:
        effects = self._core.step(self._agenda.events, now)
        if effects.records:
            self._persist(effects)
        self._tell(effects, now)
        self._sight.note(effects, self._came(), now)
        self._sight.flush()
        self._agenda.turn_over()

    def _has_ended(self) -> bool:
        """Go on, let running children finish, or end."""
        local = self._local
        if not self._asked_to_end or local is None or self._asked_to_end > 1:
            return self._asked_to_end > 0
        now = time.monotonic()
        if self._retiring_until == math.inf:
            os.eventfd_read(self._wake)
            self._retiring_until = now + self.config.grace_s
            self._agenda.events += local.retire()
        return not local.busy or now >= self._retiring_until

    def _part(self) -> None:
        """End the children; what they still had is lost with them, or waits for the next life."""
        local, self._local = self._local, None
        if local is not None:
            self._agenda.events.append(local.close())
            self._step(time.monotonic())

    def _persist(self, effects: Effects) -> None:
        self._blobs.make_durable(self._agenda.digests)
        self._store.append(effects.records)
        kinds = {type(record) for record in effects.records}
        if Accepted in kinds:
            failpoint("dispatcher.submit.durable")
        if Ended in kinds:
            failpoint("dispatcher.outcome.durable")

    def _tell(self, effects: Effects, now: float) -> None:
        clients, sessions = self._clients, self._sessions
        for note in effects.notes:
            log.warning("%s", note)
        if self._agenda.attached:
            clients.welcome(self.incarnation, sessions.pythons)
        for verdict in effects.verdicts:
            clients.tell_verdict(verdict)
        sessions.end(effects.lost)
        sessions.welcome(self.incarnation)
        self._hand_out(effects, now)
        for client_id, tasks in effects.results.items():
            clients.deliver(client_id, tasks)
        clients.answer(now)
        sessions.settle()
        gone = [task.task_id for task in effects.forgotten if task.limits.durability == "commit"]
        if gone:
            self._store.forget(gone)

    def _hand_out(self, effects: Effects, now: float) -> None:
        local = self._local
        if local is not None:
            granted = effects.may_begin.pop(local.session, None)
            if granted:
                local.grant(granted)
            mine = effects.assigned.pop(local.session, None)
            if mine:
                local.assign(mine, now)
            count = effects.recalled.pop(local.session, 0)
            if count:
                self._agenda.next_events.append(local.recall(count))
            stopped = effects.stopped.pop(local.session, None)
            if stopped:
                local.stop(stopped)
        for session, tasks in effects.assigned.items():
            self._sessions.assign(session, tasks, now)
        self._sessions.let_begin(effects.may_begin)
        self._sessions.recall(effects.recalled)
        self._sessions.stop(effects.stopped)

    def _came(self) -> list[int]:
        """Return the sessions that began in this pass."""
        enlisted = [number for number, _ in self._agenda.enlisted]
        if self._local is not None and not self._shown_own:
            self._shown_own = True
            enlisted.append(self._local.session)
        return enlisted

    def _publish(self, delta: SightDelta) -> None:
        self._publisher.send(SIGHT_TOPIC, zmq.SNDMORE)
        self._publisher.send(encode_function(delta))

    def _look_after(self, now: float) -> None:
        self._clients.look_after(now)
        if self._local is not None:
            self._agenda.events.append(self._local.alive())

    def _wait_s(self, tick_at: float) -> float:
        local = self._local
        if self._mailbox.backlog or self._agenda.events or (local is not None and local.offered):
            return 0.0
        due = min(tick_at, self._retiring_until, self._sight.next_wakeup())
        for at in (self._core.next_wakeup(), local.next_wakeup() if local is not None else None):
            if at is not None and at < due:
                due = at
        return max(0.0, due - time.monotonic())

    def _close(self) -> None:
        if self._local is not None:
            self._local.close()
        for endpoint in (getattr(self, "endpoint", ""), getattr(self, "sight_endpoint", "")):
            path = ipc_path(endpoint)
            if path is not None:
                Path(path).unlink(missing_ok=True)
        if self._gate is not None:
            self._gate.stop()
        self._context.destroy(linger=100)
        self._store.close()
        os.close(self._wake)


def _beside(endpoint: str) -> str:
    """Return where deltas are published: a free port of the same host, or a socket file beside the other one."""
    path = ipc_path(endpoint)
    return f"ipc://{path}.sight" if path is not None else f"{endpoint.rpartition(':')[0]}:0"


def serve(config: DispatcherConfig, *, on_ready: Callable[[Dispatcher], None] | None = None) -> int:
    """Run a dispatcher until SIGINT or SIGTERM and return the exit status; `on_ready` is told when it is bound."""
    try:
        dispatcher = Dispatcher(config)
    except StrataError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is the whole story
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: dispatcher.stop())
    if on_ready is not None:
        on_ready(dispatcher)
    try:
        dispatcher.serve()
    except StrataError as error:
        log.error("stopping: %s", error)  # noqa: TRY400
        return 1
    return 0
