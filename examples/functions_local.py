"""Runs functions in child processes of this one: the standard library's executor, over children that may die."""

from __future__ import annotations

import os

import numpy as np

from strata_zmq import StrataExecutor, WorkerFailure


def score(weights: np.ndarray, row: np.ndarray) -> float:
    """Something worth another process."""
    return float(weights @ row)


def main() -> None:
    """Show calls, a shared value, a map and a child that dies."""
    rng = np.random.default_rng(7)
    weights, rows = rng.normal(size=100_000), rng.normal(size=(8, 100_000))
    with StrataExecutor(max_workers=2) as pool:
        print("2 ** 10 is", pool.submit(pow, 2, 10).result())

        shared = pool.put(weights)  # handed over once, named in every call
        print("scores:", [round(call.result()) for call in [pool.submit(score, shared, row) for row in rows]])

        print("the sum of 10,000 squares is", sum(pool.map(lambda number: number**2, range(10_000))))

        innocent = pool.submit(pow, 3, 4)
        try:
            pool.submit(os._exit, 5).result()
        except WorkerFailure as failure:
            print("a child died:", failure.cause, "with code", failure.exit_code)
        print("nobody else noticed:", innocent.result(), pool.submit(pow, 5, 6).result())


if __name__ == "__main__":
    main()
