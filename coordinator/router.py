"""The control socket: frames in, frames out, and nothing that a peer sends can stop it or speak for another peer.

Of the messages it knows an agent's envelope only; what the others mean is decided in `core/`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import zmq

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.codec import around_address, decode_upward, encode, encode_each, seq_of
from strata_zmq.protocol.messages import Fold

from .core.connections import GENERATED_BYTES, is_child
from .core.effects import Fanout
from .core.world import Received
from .folding import Folding

if TYPE_CHECKING:
    from strata_zmq.protocol.messages import Reply

__all__ = ["Router"]

log = logging.getLogger("strata.coordinator")

DRAIN_MAX = 512
"""Most messages that one step takes, so that replies and time do not wait for a flood."""
# Plain integers: combining pyzmq's flags costs more than sending a frame.
_DONTWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.SNDMORE) | _DONTWAIT
_RCVMORE = int(zmq.RCVMORE)


class Router:
    """A bound ROUTER whose peers send requests of one frame. `refuse` gives the answer to what cannot be read.

    `folding` opens the frames of agents and takes what their children are told, until the end of `send_all`.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], refuse: Callable[[bytes, ProtocolError, int], Reply], folding: Folding
    ) -> None:
        self._socket = socket
        # The method of the class below pyzmq's own: what it adds, for draft sockets, costs as much as the sending.
        self._send_frame = super(zmq.Socket, socket).send
        self._refuse = refuse
        self.backlog = False
        """Whether the last `drain` took as much as it may, so that more can be waiting."""
        self.frames: list[tuple[bytes, bytes]] | None = None
        """Collects each frame that is read, with its connection; None: nobody wants them."""
        self._folding = folding

    def drain(self) -> list[Received]:
        """Take what has arrived, at most DRAIN_MAX messages, and answer what cannot be read."""
        receive = self._socket.recv
        batch: list[Received] = []
        frames = self.frames
        for _ in range(DRAIN_MAX):
            try:
                connection = receive(_DONTWAIT)
            except zmq.Again:
                self.backlog = False
                break
            # A frame knows whether more follow, and asking it costs less than asking the socket. It has to be asked
            # every time: the frame after a message of three would be taken for the name of the next one's sender.
            frame = receive(0, False)
            body = frame.bytes
            if frames is not None:
                frames.append((connection, body))
            try:
                if frame.more:
                    if frames is not None:
                        frames[-1] = (connection, b"")  # what is refused here has to be refused again
                    self._discard_rest()
                if len(connection) > GENERATED_BYTES:
                    _check_name(connection)
                message = decode_upward(body)
                if type(message) is Fold:
                    self._open(connection, message, batch)
                    if len(batch) >= DRAIN_MAX:
                        self.backlog = True
                        break
                else:
                    batch.append(Received(connection, message))
            except ProtocolError as error:
                log.warning("refused a frame: %s", error)
                self._send([(connection, encode(self._refuse(connection, error, seq_of(body))))])
        else:
            self.backlog = True
        return batch

    def send_all(self, outbox: Iterable[tuple[bytes, Reply] | Fanout]) -> None:
        """Send replies in order. A peer that is gone, or too slow to read, does not get its own: it asks again."""
        for item in outbox:
            if isinstance(item, Fanout):
                self._fan_out(item)
            else:
                self._reply(item[0], item[1])
        self._send(self._folding.take())

    def _open(self, agent: bytes, fold: Fold, batch: list[Received]) -> None:
        for each in self._folding.open(agent, fold):
            if isinstance(each, Received):
                batch.append(each)
            else:
                log.warning("refused what an agent sent: %s", each[1].message)
                self._reply(*each)

    def _reply(self, connection: bytes, reply: Reply) -> None:
        if len(connection) > GENERATED_BYTES and is_child(connection):
            self._folding.add(connection, encode(reply))
        else:
            self._send([(connection, encode(reply))])

    def _fan_out(self, fanout: Fanout) -> None:
        direct = fanout.recipients
        children = [one for one in direct if len(one[0]) > GENERATED_BYTES and is_child(one[0])]
        if children:
            self._folding.share(*around_address(fanout.template), children)
            direct = [one for one in direct if not is_child(one[0])]
        if direct:
            self._send(encode_each(fanout.template, direct))

    def _send(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        send = self._send_frame
        for connection, body in messages:
            try:
                send(connection, _MORE)
                send(body, _DONTWAIT)
            except zmq.ZMQError as error:
                if error.errno not in {zmq.EHOSTUNREACH, zmq.EAGAIN}:
                    raise

    def _discard_rest(self) -> None:
        frames = 1
        while self._socket.getsockopt(_RCVMORE):
            self._socket.recv()
            frames += 1
        raise ProtocolError(f"a request is one frame, this one has {frames}: send a single MessagePack array")


def _check_name(connection: bytes) -> None:
    if is_child(connection):
        raise ProtocolError("this socket's ROUTING_ID begins with 0, as the children of agents are named: set none")
