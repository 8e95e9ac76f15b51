"""Whatever several threads do to one executor at once, every future comes to one right end, and nobody is forgotten."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from functionkit.errands import add, boom, kill_self, total

from strata_zmq.errors import QuarantinedError, WorkerFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import MakeExecutor

    from strata_zmq import StrataExecutor
    from strata_zmq.functions.future import StrataFuture
    from strata_zmq.functions.refs import Ref

OPERATIONS = 150
SHARED = 50_000


def storm(pool: StrataExecutor, ref: Ref, rng: random.Random) -> list[tuple[Any, StrataFuture[Any]]]:
    """Submit, cancel, kill and wait at random; return what each call should give, and its future."""
    calls: list[tuple[Any, StrataFuture[Any]]] = []
    kinds: list[Callable[[], tuple[Any, StrataFuture[Any]]]] = [
        lambda: (7, pool.submit(add, 3, 4)),
        lambda: (None, pool.submit(time.sleep, rng.random() / 100)),
        lambda: (20_000.0, pool.submit(total, np.ones(20_000))),
        lambda: (SHARED, pool.submit(total, ref)),
        lambda: (LookupError, pool.submit(boom, "x")),
        lambda: (WorkerFailure, pool.submit(kill_self)),
    ]
    for _ in range(OPERATIONS):
        chance = rng.random()
        if chance < 0.75 or not calls:
            calls.append(rng.choices(kinds, (50, 20, 5, 10, 5, 2))[0]())
        elif chance < 0.9:
            rng.choice(calls[-30:])[1].cancel(running=chance < 0.8)
        else:
            ended(rng.choice(calls[-30:])[1])
    return calls


def ended(call: StrataFuture[Any]) -> Any:
    """What a call gave, or the type of what it raised."""
    try:
        return call.result(timeout=60)
    except (CancelledError, LookupError, QuarantinedError, WorkerFailure) as error:
        return type(error)


@pytest.mark.parametrize("seed", range(3))
def test_every_future_comes_to_one_right_end(executor: MakeExecutor, seed: int) -> None:
    pool = executor(3)
    ref = pool.put(np.ones(SHARED))
    calls: list[tuple[Any, StrataFuture[Any]]] = []
    threads = [
        threading.Thread(target=lambda n=n: calls.extend(storm(pool, ref, random.Random(10 * seed + n))))  # type: ignore[misc]
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) > OPERATIONS
    for expected, call in calls:
        # A function that keeps killing children is quarantined after five.
        allowed = {expected, CancelledError} | ({QuarantinedError} if expected is WorkerFailure else set())
        assert ended(call) in allowed
        assert call.done()
    engine = pool._local
    assert engine is not None
    assert engine._waiting.over
    assert pool.submit(add, 1, 1).result() == 2
