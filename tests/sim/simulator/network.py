"""The simulated network between the coordinator and everybody else. It moves bytes and knows nothing of their meaning.

It does what ZeroMQ over TCP does: in order on each connection, nothing to an unknown connection, another connection
after each reconnect. Faults go beyond that, as a bad proxy would: loss, duplication, reordering, and cuts in one
direction or both, behind which messages pile up until the cut ends or the connection is given up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .timeline import Timeline
from .transcript import Transcript

__all__ = ["Conditions", "Link", "Network"]

Receive = Callable[[bytes], None]


@dataclass(slots=True)
class Conditions:
    """How the network is at present. Probabilities are per message, times in seconds."""

    delay_s: float = 0.0005
    spread_s: float = 0.001
    slow: float = 0.0
    slow_s: float = 0.5
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0


@dataclass(slots=True)
class Link:
    """One process's way to the coordinator: a DEALER's connection and a SUB's beside it."""

    name: str
    receive: Receive
    listen: Receive
    connection: bytes = b""
    """What ROUTER calls the connection; empty while there is none."""
    closed: bool = False
    cut_up: bool = False
    cut_down: bool = False
    held: list[tuple[Callable[..., None], bytes, bytes]] = field(default_factory=list)
    deaf_to: int = 0
    """How many of the next broadcasts are lost on their way to it."""
    up_at: float = 0.0
    down_at: float = 0.0
    news_at: float = 0.0


class Network:
    """All links. The coordinator's host sets `arrive`, which takes (connection, body) off ROUTER."""

    def __init__(self, timeline: Timeline, rng: random.Random, transcript: Transcript) -> None:
        self.conditions = Conditions()
        self.arrive: Callable[[bytes, bytes], None] = lambda connection, body: None
        self.links: dict[str, Link] = {}
        self.lost = 0
        self._timeline = timeline
        self._rng = rng
        self._transcript = transcript
        self._by_connection: dict[bytes, Link] = {}
        self._numbers = 0
        self._serving = False

    def open(self, name: str, receive: Receive, listen: Receive) -> Link:
        """Connect a process; the connection stands a moment later, if there is a coordinator."""
        link = Link(name, receive, listen)
        old = self.links.get(name)
        if old is not None:
            self.close(old)
        self.links[name] = link
        # The wire between two hosts does not care which process uses it.
        link.cut_up, link.cut_down = (old.cut_up, old.cut_down) if old is not None else (False, False)
        if self._serving:
            self._timeline.after(self._rng.uniform(0.001, 0.02), self._connect, link)
        return link

    def close(self, link: Link) -> None:
        """End a process's connection, with what is under way on it."""
        link.closed = True
        self._drop(link)

    def rename(self, link: Link, name: str) -> None:
        """Give a process's place to another one; it keeps its own connection under another name."""
        del self.links[link.name]
        link.name = name
        self.links[name] = link

    def number(self) -> int:
        """Return a number that nobody else gets."""
        self._numbers += 1
        return self._numbers

    @property
    def quiet_at(self) -> float:
        """When the last of what is under way now arrives."""
        return max((max(link.up_at, link.down_at, link.news_at) for link in self.links.values()), default=0.0)

    def name_of(self, connection: bytes) -> str:
        """Return who is behind a connection, for people."""
        link = self._by_connection.get(connection)
        return link.name if link is not None else "nobody"

    # ---- what processes and the coordinator do

    def send(self, link: Link, body: bytes) -> bool:
        """Send to the coordinator; False while no connection stands."""
        if not link.connection:
            return False
        for _ in range(self._copies()):
            when = self._when(link.up_at)
            link.up_at = max(link.up_at, when)
            self._timeline.at(when, self._deliver_up, link, link.connection, body)
        return True

    def reply(self, connection: bytes, body: bytes) -> None:
        """Send from ROUTER to one connection; nothing happens if it is not there any more."""
        link = self._by_connection.get(connection)
        if link is None:
            return
        for _ in range(self._copies()):
            when = self._when(link.down_at)
            link.down_at = max(link.down_at, when)
            self._timeline.at(when, self._deliver_down, link, connection, body)

    def publish(self, body: bytes) -> None:
        """Send from PUB to everybody who is connected."""
        for link in self.links.values():
            if not link.connection:
                continue
            for _ in range(self._copies()):
                when = self._when(link.news_at)
                link.news_at = max(link.news_at, when)
                self._timeline.at(when, self._deliver_news, link, link.connection, body)

    # ---- what happens to the network

    def serve(self) -> None:
        """A coordinator is bound: everybody connects, each in its own time."""
        self._serving = True
        for link in self.links.values():
            if not link.closed:
                self._timeline.after(self._rng.uniform(0.001, 0.2), self._connect, link)

    def fall_silent(self) -> None:
        """The coordinator is gone, and every connection with it."""
        self._serving = False
        for link in self.links.values():
            self._drop(link)

    def reset(self, link: Link) -> None:
        """Kill one connection; ZeroMQ makes another, under which the coordinator knows nobody yet."""
        self._drop(link)
        if self._serving and not link.closed:
            self._timeline.after(self._rng.uniform(0.01, 0.3), self._connect, link)

    def cut(self, names: Iterable[str], *, up: bool, down: bool) -> None:
        """Stop what goes from these processes to the coordinator (`up`) or back (`down`)."""
        for name in names:
            link = self.links[name]
            link.cut_up, link.cut_down = link.cut_up or up, link.cut_down or down

    def mend(self, *, patience: float) -> None:
        """End all cuts. With probability `patience` a connection has lived through it, and what was held arrives."""
        for link in self.links.values():
            if not (link.cut_up or link.cut_down):
                continue
            link.cut_up = link.cut_down = False
            held, link.held = link.held, []
            if self._rng.random() >= patience:
                self.reset(link)
                continue
            for deliver, connection, body in held:
                self._timeline.after(self._rng.uniform(0.0, 0.01), deliver, link, connection, body)

    # ---- inside

    def _connect(self, link: Link) -> None:
        if link.closed or link.connection or not self._serving:
            return
        if link.cut_up or link.cut_down:
            self._timeline.after(0.25, self._connect, link)
            return
        link.connection = b"\0%04d" % self.number()
        link.up_at = link.down_at = link.news_at = 0.0
        self._by_connection[link.connection] = link

    def _drop(self, link: Link) -> None:
        self._by_connection.pop(link.connection, None)
        link.connection = b""
        self.lost += len(link.held)
        link.held.clear()

    def _copies(self) -> int:
        conditions = self.conditions
        if conditions.loss and self._rng.random() < conditions.loss:
            self.lost += 1
            return 0
        return 2 if conditions.duplicate and self._rng.random() < conditions.duplicate else 1

    def _when(self, after: float) -> float:
        conditions, rng = self.conditions, self._rng
        when = self._timeline.now + conditions.delay_s + conditions.spread_s * rng.random()
        if conditions.slow and rng.random() < conditions.slow:
            when += conditions.slow_s * rng.random()
        if conditions.reorder and rng.random() < conditions.reorder:
            return when
        return max(when, after)

    def _deliver_up(self, link: Link, connection: bytes, body: bytes) -> None:
        if link.connection != connection:
            self.lost += 1
        elif link.cut_up:
            link.held.append((self._deliver_up, connection, body))
        else:
            self.arrive(connection, body)

    def _deliver_down(self, link: Link, connection: bytes, body: bytes) -> None:
        if link.connection != connection:
            self.lost += 1
        elif link.cut_down:
            link.held.append((self._deliver_down, connection, body))
        else:
            self._transcript.note(self._timeline.now, "<", link.name, body, body)
            link.receive(body)

    def _deliver_news(self, link: Link, connection: bytes, body: bytes) -> None:
        if link.connection != connection:
            self.lost += 1
        elif link.deaf_to:
            link.deaf_to -= 1
        elif link.cut_down:
            link.held.append((self._deliver_news, connection, body))
        else:
            self._transcript.note(self._timeline.now, "*", link.name, body, body)
            link.listen(body)
