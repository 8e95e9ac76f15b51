"""The table of sessions: who said hello, how many may, and who is forgotten. It does not know what a session may do."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from strata_zmq.errors import InvalidArgumentError, ResourceExhaustedError, StrataError
from strata_zmq.protocol.messages import PROTOCOL_VERSION, Hello, Welcome

from .connections import is_child, peer_of
from .world import Session, World

__all__ = ["CHILDREN_MAX", "Sessions"]

CHILDREN_MAX = 4096
"""Sessions of one agent's children; an agent of this library serves no more."""
_KNOWN_LEASES = 20
"""For how long a silent session is kept of which a worker or a writer has registered: it may still have to be told that
it is fenced.
"""
_STRANGER_LEASES = 2
"""For how long one is kept that only said hello."""
_SILENT_HEARTBEATS = 2
"""After this silence a session may be forgotten to make room, unless its worker or writer is alive."""
_LOOKED_AT_MAX = 64
"""How many sessions are looked at for room, oldest first; those that have to stay move to the end."""
_SWEEP_S = 1.0


class Sessions:
    """Opens sessions and forgets them. One of a live worker or writer is never forgotten."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._touched = world.touched
        self._numbers = 0
        self._children: dict[bytes, OrderedDict[bytes, None]] = {}
        """By agent, the connections of its children."""
        self._swept_at = float("-inf")

    def hello(self, connection: bytes, message: Hello) -> None:
        """Open a session, or say why not. The same role again on one connection is the same session."""
        world, config = self._world, self._world.config
        session = Session(connection, 0, message.role, False, world.now)
        try:
            self._check(session, message)
            known = world.sessions.get(connection)
            if known is None:
                self._make_room(connection)
        except StrataError as error:
            world.fail(session, message.seq, error)
            return
        if known is not None and known.role == message.role:
            session = known
            self.renew(session)
        else:
            self._numbers += 1
            session.number = (world.history.term << 32) | self._numbers
            world.sessions[connection] = session
            if is_child(connection):
                self._children.setdefault(peer_of(connection), OrderedDict())[connection] = None
        world.reply(
            session,
            message.seq,
            Welcome,
            proto=PROTOCOL_VERSION,
            broadcast_endpoint=config.broadcast_endpoint,
            broadcast_seq=world.broadcast_seq,
            lease_s=config.lease_s,
            heartbeat_s=config.heartbeat_s,
            server_version=config.server_version,
        )

    def renew(self, session: Session) -> None:
        """Any traffic renews: who talks is alive."""
        world = self._world
        session.heard_at = world.now
        worker = session.worker
        if worker is not None:
            worker.heard_at, worker.expires_at = world.now, world.lease_end
            self._touched[worker.worker_id] = worker
        elif session.writer is not None:
            session.writer.expires_at = world.lease_end

    def tick(self) -> None:
        """Now and then, forget who was silent for long."""
        world = self._world
        if world.now < self._swept_at + _SWEEP_S:
            return
        self._swept_at = world.now
        known_since = world.now - _KNOWN_LEASES * world.config.lease_s
        stranger_since = world.now - _STRANGER_LEASES * world.config.lease_s
        for session in list(world.sessions.values()):
            if session.heard_at >= stranger_since:
                continue
            stranger = session.worker is None and session.writer is None
            if (stranger or session.heard_at < known_since) and not self._lives(session):
                self._forget(session.connection)

    def _check(self, session: Session, message: Hello) -> None:
        """Refuse who cannot take part."""
        config = self._world.config
        if not message.proto_min <= PROTOCOL_VERSION <= message.proto_max:
            raise InvalidArgumentError(
                f"protocol versions {message.proto_min} to {message.proto_max} are offered, this coordinator speaks "
                f"{PROTOCOL_VERSION}: install the same release of strata-zmq on both sides"
            )
        if message.job and message.job != config.job:
            raise InvalidArgumentError(
                f"job {message.job!r} is not served here: this is the coordinator of {config.job!r}"
            )
        if message.role == "supervisor":
            session.trusted = bool(config.supervisor_token) and message.token == config.supervisor_token
            if not session.trusted:
                raise InvalidArgumentError("token: it is not this coordinator's supervisor token")

    def _make_room(self, connection: bytes) -> None:
        """See to it that there is a place for a new session, at the cost of silent ones that nobody needs."""
        world = self._world
        limit, silent_s = world.config.sessions_max, _SILENT_HEARTBEATS * world.config.heartbeat_s
        siblings = self._children.get(peer_of(connection)) if is_child(connection) else None
        if siblings is not None and len(siblings) >= CHILDREN_MAX and not self._forget_one(siblings):
            raise ResourceExhaustedError(
                f"{CHILDREN_MAX} sessions of this agent's children are open, which is the limit: close some of them "
                f"and say hello again in {silent_s:g} s, or start another agent"
            )
        if len(world.sessions) >= limit and not self._forget_one(world.sessions):
            raise ResourceExhaustedError(
                f"{limit} sessions are open, which is the limit (sessions_max): close some of them and say hello "
                f"again in {silent_s:g} s"
            )

    def _forget_one(self, among: OrderedDict[bytes, Any]) -> bool:
        """Forget one silent session of `among`, oldest first, that no live worker or writer has; False: none was found.

        Those that stay are looked at again after all the others, so that looking for room costs the same however many
        they are.
        """
        world = self._world
        silent_since = world.now - _SILENT_HEARTBEATS * world.config.heartbeat_s
        for _ in range(min(_LOOKED_AT_MAX, len(among))):
            connection = next(iter(among))
            session = world.sessions[connection]
            if session.heard_at < silent_since and not self._lives(session):
                self._forget(connection)
                return True
            among.move_to_end(connection)
        return False

    def _lives(self, session: Session) -> bool:
        """Whether a live worker or writer speaks here."""
        world, worker, writer = self._world, session.worker, session.writer
        if worker is not None and world.workers.get(worker.worker_id) is worker and worker.session is session:
            return True
        return writer is not None and world.writers.get(writer.info.writer_id) is writer

    def _forget(self, connection: bytes) -> None:
        del self._world.sessions[connection]
        if is_child(connection):
            agent = peer_of(connection)
            siblings = self._children[agent]
            del siblings[connection]
            if not siblings:
                del self._children[agent]
