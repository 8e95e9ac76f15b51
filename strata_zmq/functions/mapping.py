"""How `map` cuts its calls into chunks, runs one in a child and hands the results out in order; never who runs them.

Every call of a chunk runs, whatever the others do, and has its own result or exception. Only a child that dies, and a
result that cannot be pickled, is shared by the whole chunk.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from strata_zmq.functions.codec import RemoteTraceback, portable

__all__ = ["CHUNK_MAX", "automatic_chunk", "chunk_results", "cut", "results_in_order", "run_chunk"]

CHUNK_MAX = 32
_CHUNKS_A_WORKER = 32
"""Enough that the last chunks even out what the calls differ by."""

ChunkResult = tuple[list[Any], dict[int, tuple[BaseException, str]]]
"""The results in order, None for those that raised; and by their position what they raised, with the traceback."""


def automatic_chunk(calls: int, workers: int) -> int:
    """Return how many calls travel together so that each worker still has many chunks to take."""
    return max(1, min(calls // (_CHUNKS_A_WORKER * workers), CHUNK_MAX))


def cut(calls: list[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    """Return the calls in chunks of `size`, the last one perhaps shorter."""
    return (calls[start : start + size] for start in range(0, len(calls), size))


def run_chunk(fn: Callable[..., Any], calls: list[tuple[Any, ...]]) -> ChunkResult:
    """Run the calls of a chunk, all of them; this is what a child is given."""
    results: list[Any] = []
    errors: dict[int, tuple[BaseException, str]] = {}
    for position, args in enumerate(calls):
        try:
            results.append(fn(*args))
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, is this call's own and nobody else's
            text = "".join(traceback.format_exception(error))
            results.append(None)
            errors[position] = (portable(error.with_traceback(None)), text)
    return results, errors


def chunk_results(chunks: Iterator[ChunkResult]) -> Iterator[Any]:
    """Return the results of all chunks in order, up to the first call that raised: its exception is raised here."""
    for results, errors in chunks:
        first = min(errors) if errors else len(results)
        del results[first + 1 :]
        results.reverse()
        # No result is referred to here once it is handed out: it may be large.
        while len(results) > (1 if errors else 0):
            yield results.pop()
        if errors:
            error, text = errors.pop(first)
            error.__cause__ = RemoteTraceback(text)
            try:
                raise error
            finally:
                del error


def results_in_order(futures: Sequence[Future[Any]], timeout: float | None) -> Iterator[Any]:
    """Return the futures' results in order; TimeoutError if they are not all there `timeout` seconds from now.

    Those that nobody will read any more are cancelled.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    return _results(list(reversed(futures)), deadline)


def _results(futures: list[Future[Any]], deadline: float | None) -> Iterator[Any]:
    try:
        while futures:
            yield _result(futures.pop(), None if deadline is None else deadline - time.monotonic())
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[Any], timeout: float | None) -> Any:
    try:
        return future.result(timeout)
    finally:
        future.cancel()  # after a TimeoutError
        del future
