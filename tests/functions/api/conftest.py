"""The app over a dispatcher's client that is made by hand: what it is asked is written down, what it says is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from strata_zmq.coordinator.api.app import create_app
from strata_zmq.domain.task import FINAL, Outcome, OutcomeReport, TaskLimits
from strata_zmq.errors import UnavailableError
from strata_zmq.functions.calls import PackedCall, TaskView
from strata_zmq.protocol.functions import Counts

Refusal = tuple[str, str, float]


@dataclass(frozen=True)
class Verdict:
    task_id: bytes
    code: str = ""
    message: str = ""
    retry_after_s: float = 0.0


@dataclass
class HandMade:
    """A dispatcher that does nothing by itself. `refuse` says of the n-th call of the next submissions why not."""

    functions: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    views: dict[bytes, TaskView] = field(default_factory=dict)
    submitted: list[tuple[bytes, PackedCall, TaskLimits]] = field(default_factory=list)
    keys: dict[str, bytes] = field(default_factory=dict)
    refuse: dict[int, Refusal] = field(default_factory=dict)
    away: bool = False
    watched: int = 0
    with_bodies: list[bool] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def answering(self) -> None:
        if self.away:
            raise UnavailableError("nobody answers at tcp://127.0.0.1:5555")

    async def register(self, name: str, payload: bytes, function_id: bytes = b"") -> bytes:
        self.answering()
        self.functions[function_id] = (name, payload)
        return function_id

    async def submit(self, calls: Sequence[tuple[bytes, PackedCall]], limits: TaskLimits) -> list[Verdict]:
        self.answering()
        verdicts = []
        for index, (task_id, call) in enumerate(calls):
            if call.function not in self.functions:
                verdicts.append(Verdict(task_id, "missing_payload", "the dispatcher does not have it"))
            elif index in self.refuse:
                verdicts.append(Verdict(task_id, *self.refuse[index]))
            elif call.key in self.keys:
                verdicts.append(Verdict(self.keys[call.key]))
            else:
                if call.key:
                    self.keys[call.key] = task_id
                self.submitted.append((task_id, call, limits))
                self.views[task_id] = TaskView(task_id, "QUEUED", submitted_at=100.0 + len(self.views))
                verdicts.append(Verdict(task_id))
        return verdicts

    async def fetch(self, task_ids: Sequence[bytes], *, bodies: bool = True) -> list[TaskView]:
        self.answering()
        return [self.views.get(task_id, TaskView(task_id, "UNKNOWN")) for task_id in task_ids]

    async def watch(
        self, task_ids: Sequence[bytes], timeout_s: float, *, bodies: bool = True
    ) -> AsyncIterator[TaskView]:
        self.answering()
        self.with_bodies.append(bodies)
        self.watched += 1
        left = list(task_ids)
        try:
            async with asyncio.timeout(timeout_s):
                while left:
                    self.changed.clear()
                    for view in await self.fetch(left):
                        if view.state in FINAL or view.state == "UNKNOWN":
                            left.remove(view.task_id)
                            yield view
                    if left:
                        await self.changed.wait()
        except TimeoutError:
            return
        finally:
            self.watched -= 1

    async def cancel(self, task_ids: Sequence[bytes], *, running: bool) -> list[str]:
        states = []
        for task_id in task_ids:
            view = self.views.get(task_id, TaskView(task_id, "UNKNOWN"))
            if view.state == "QUEUED":
                self.end(task_id, Outcome(task_id, 1, "failure", None, cause="cancelled"), "CANCELLED")
                view = self.views[task_id]
            states.append(view.state)
        return states

    async def page(self, after: bytes = b"", limit: int = 100, state: str = "") -> list[TaskView]:
        views = list(self.views.values())
        begin = [view.task_id for view in views].index(after) + 1 if after else 0
        return [view for view in views[begin:] if not state or view.state == state][:limit]

    async def counts(self) -> Counts:
        self.answering()
        return Counts(0, 3, 2, 1, 1, 4, 10, 20, 6, 1)

    async def close(self) -> None: ...

    def run(self, task_id: bytes) -> None:
        self.views[task_id] = replace(self.views[task_id], state="RUNNING", attempt=1, started_at=200.0)

    def end(self, task_id: bytes, outcome: Outcome, state: str = "") -> None:
        state = state or ("COMPLETED" if outcome.kind == "ok" else "FAILED")
        self.views[task_id] = replace(self.views[task_id], state=state, outcome=outcome, ended_at=300.0)
        self.changed.set()

    def complete(self, task_id: bytes, body: object, report: OutcomeReport | None = None) -> None:
        self.end(task_id, Outcome(task_id, 1, "ok", body, report=report))


class Http:
    """A client of the app, without a port between them; one event loop over all requests."""

    def __init__(self, app: Any, runner: asyncio.Runner, url: str = "http://localhost:8000") -> None:
        self.app, self.runner = app, runner
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.runner.run(self.client.get(path, **options))

    def post(self, path: str, body: object = None, **options: Any) -> httpx.Response:
        return self.runner.run(self.client.post(path, json=body, **options))

    def both(self, *awaitables: Any) -> list[Any]:
        """Run several at once and return what each gave."""

        async def together() -> list[Any]:
            return await asyncio.gather(*awaitables)

        return self.runner.run(together())


@pytest.fixture
def dispatcher() -> HandMade:
    return HandMade()


@pytest.fixture
def make_http() -> Iterator[Callable[..., Http]]:
    """`make_http(client, url=..., **options)` makes an app and a client of it."""
    with asyncio.Runner() as runner:
        made: list[Http] = []

        def make(client: HandMade, url: str = "http://localhost:8000", **options: Any) -> Http:
            made.append(Http(create_app(client, **options), runner, url))
            return made[-1]

        yield make
        for http in made:
            runner.run(http.client.aclose())


@pytest.fixture
def http(make_http: Callable[..., Http], dispatcher: HandMade) -> Http:
    return make_http(dispatcher)
