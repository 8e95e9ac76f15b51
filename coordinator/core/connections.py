"""The names of connections, and whose they are: an agent's child is named by the agent's connection and a number.

It knows no socket, and no session.
"""

from __future__ import annotations

__all__ = ["GENERATED_BYTES", "child_connection", "child_of", "is_child", "peer_of"]

_NUMBER_BYTES = 8
GENERATED_BYTES = 5
"""Length of the name that ROUTER gives to a connection; it begins with 0."""


def child_connection(agent: bytes, child: int) -> bytes:
    """Return the connection that stands for a child of the agent on connection `agent`."""
    return b"\0" + child.to_bytes(_NUMBER_BYTES, "little") + agent


def is_child(connection: bytes) -> bool:
    """Tell a child from a connection of its own.

    libzmq does not keep a peer from choosing such a name: what it sends under it has to be refused.
    """
    return len(connection) > GENERATED_BYTES and connection[0] == 0


def peer_of(connection: bytes) -> bytes:
    """Return the connection that really is one: of a child its agent's, else itself."""
    return connection[1 + _NUMBER_BYTES :] if is_child(connection) else connection


def child_of(connection: bytes) -> int:
    """Return the agent's number for a child."""
    return int.from_bytes(connection[1 : 1 + _NUMBER_BYTES], "little")
