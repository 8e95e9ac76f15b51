"""Calls over HTTP: one by one on one connection, beside what the framework itself costs, and in batches."""

from __future__ import annotations

import base64
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from strata_zmq.bench.floors import Absolute, Evidence, Floor, Verdict
from strata_zmq.bench.loads.function_bodies import nothing
from strata_zmq.bench.loads.function_calls import latencies
from strata_zmq.bench.loads.functions import api_process, service
from strata_zmq.bench.loads.http import Connection, connected
from strata_zmq.bench.loads.process import child_process
from strata_zmq.bench.model import Case, Contender, Sample, Settings
from strata_zmq.bench.timing import timed_calls
from strata_zmq.domain.task import NO_LIMITS, Durability, Payload, TaskLimits
from strata_zmq.errors import ProtocolError
from strata_zmq.functions.codec import Codec
from strata_zmq.functions.executor import StrataExecutor

from ._functions_local import CHILDREN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from strata_zmq.bench.loads.functions import Kept
    from strata_zmq.bench.model import Measure

__all__ = ["rest_cases"]

DISPATCHER = "the dispatcher itself"
EMPTY = "two requests to an empty FastAPI app"
BATCH_RATE = 10_000.0
BATCH = 1000
_EMPTY_APP = "strata_zmq.bench.loads.empty_app"
_WAIT_S = 60
_NOTES: dict[Kept, str] = {
    "sqlite": "durability: commit (the default over HTTP), SQLite",
    "none": "durability: none (the dispatcher's memory)",
}


@dataclass(frozen=True, slots=True)
class _WithinBoth:
    """The median is at most `times` the limit's and that of the dispatcher itself, added up."""

    times: float
    text: str

    def judge(self, evidence: Evidence) -> Verdict:
        """Return whether HTTP adds no more than its own two requests, twice."""
        peer = evidence.peers.get(DISPATCHER)
        if evidence.limit is None or peer is None:
            return Verdict(None, "the empty app or the dispatcher itself is absent")
        bound = self.times * evidence.limit.figure.median + peer.figure.median
        found = evidence.subject.figure.median
        return Verdict(True) if found <= bound else Verdict(False, f"asked: {self.text} = {bound:.4g}; {found:.4g}")


def rest_cases(settings: Settings) -> Iterator[Case]:
    """Yield the rows of the HTTP interface."""
    calls = settings.pick(50, 300)
    stores: tuple[Kept, ...] = ("sqlite", "none")
    for store in stores:
        asks = _WithinBoth(2.0, f"p50 <= 2x {EMPTY} + the dispatcher's own p50")
        yield Case(
            name=f"a call over HTTP, {'written down' if store == 'sqlite' else 'kept in memory'}",
            size="execute and result, one call after the other, on one connection",
            unit="ms",
            better="lower",
            subject=_over_http(settings.scratch, store, partial(_one_by_one, calls=calls)),
            limit=_empty(calls),
            peers=(_itself(settings.scratch, store, calls),),
            floor=Floor("functions.rest", (asks,)) if store == "sqlite" and not settings.quick else None,
            rounds=settings.pick(2, 7),
            notes=(_NOTES[store], "the result's request waits for it (wait_s), so there are two requests a call"),
        )
    tasks = settings.pick(BATCH, 4 * BATCH)
    for store in stores:
        yield Case(
            name=f"calls over HTTP in batches, {'written down' if store == 'sqlite' else 'kept in memory'}",
            size=f"{tasks:,} calls that do nothing, {BATCH:,} a request, {CHILDREN} children",
            unit="calls/s",
            better="higher",
            subject=_over_http(settings.scratch, store, partial(_in_batches, tasks=tasks)),
            floor=None
            if store == "none" or settings.quick
            else Floor("functions.rest.batch", (Absolute(BATCH_RATE, f">= {BATCH_RATE:,.0f} calls/s"),)),
            rounds=settings.pick(2, 7),
            notes=(_NOTES[store], "one connection; the results are read by as many requests to /wait"),
        )


class _Api:
    """A connection on which a function that does nothing is registered."""

    def __init__(self, connection: Connection, durability: Durability) -> None:
        self.connection, self._durability = connection, durability
        codec = Codec(by_value=False)
        function = codec.pack_function(nothing)
        if function is None:
            raise ProtocolError("a function of a module has to be packed by itself")
        _, _, arguments, _ = codec.pack_call(nothing, (), {})
        self._arguments = _text(arguments)
        registered = connection.post("/register_function", {"name": "nothing", "payload": _text(function.payload)})
        self._function_id = registered["function_id"]

    def call(self) -> bytes:
        """A request to execute once."""
        body = {"function_id": self._function_id, "payload": self._arguments, "durability": self._durability}
        return self.connection.prepared("POST", "/execute_function", msgspec.json.encode(body))

    def batch(self, calls: int) -> bytes:
        """A request to execute many times."""
        body = {"function_id": self._function_id, "durability": self._durability, "payloads": [self._arguments] * calls}
        return self.connection.prepared("POST", "/execute_batch", msgspec.json.encode(body))


def _over_http(scratch: Path, store: Kept, measure: Callable[[_Api], Sample]) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with (
            service(scratch, "push", CHILDREN, store=store) as running,
            api_process(running.endpoint) as server,
            connected(server.ready["url"]) as connection,
        ):
            api = _Api(connection, "none" if store == "none" else "commit")

            def measured() -> Sample:
                cpu = server.cpu_seconds()
                sample = measure(api)
                return Sample(sample.value, sample.wall_s, server.cpu_seconds() - cpu, sample.latencies)

            measure(api)
            yield measured

    return Contender("functions over HTTP", opened)


def _one_by_one(api: _Api, calls: int) -> Sample:
    connection, request = api.connection, api.call()

    def call() -> None:
        task_id = connection.asked(request)["task_id"]
        answer = connection.get(f"/result/{task_id}?wait_s={_WAIT_S}")
        if answer["status"] != "COMPLETED" or not answer["result"]:
            raise ProtocolError(f"a call that does nothing came to {answer}")

    return timed_calls(call, calls)


def _in_batches(api: _Api, tasks: int) -> Sample:
    connection, request = api.connection, api.batch(BATCH)
    start = perf_counter()
    batches = [connection.asked(request)["task_ids"] for _ in range(tasks // BATCH)]
    for task_ids in batches:
        answer = connection.post("/wait", {"task_ids": task_ids, "timeout_s": _WAIT_S})
        if [task["status"] for task in answer["tasks"]] != ["COMPLETED"] * BATCH:
            raise ProtocolError(f"a batch of calls that do nothing came to {str(answer)[:500]}")
    wall_s = perf_counter() - start
    return Sample(tasks / wall_s, wall_s=wall_s)


def _empty(calls: int) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with child_process(_EMPTY_APP) as server, connected(server.ready["url"]) as connection:
            request = connection.prepared("POST", "/execute_function", msgspec.json.encode({"payload": "gAQpfZQu"}))

            def call() -> None:
                connection.get(f"/result/{connection.asked(request)['task_id']}")

            timed_calls(call, calls)
            yield lambda: timed_calls(call, calls)

    return Contender(EMPTY, opened)


def _itself(scratch: Path, store: Kept, calls: int) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        limits = NO_LIMITS if store == "none" else TaskLimits(durability="commit")
        with (
            service(scratch, "push", CHILDREN, store=store) as running,
            StrataExecutor(running.endpoint, limits=limits) as executor,
        ):
            latencies(executor, calls)
            yield lambda: latencies(executor, calls)

    return Contender(DISPATCHER, opened)


def _text(payload: Payload) -> str:
    return base64.b64encode(payload if isinstance(payload, bytes) else b"".join(payload)).decode()
