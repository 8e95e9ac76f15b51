"""Compute pi on the workers of a dispatcher.

    strata functions up -m push -w 4 &
    python examples/functions_remote.py tcp://localhost:5555

Functions of this file travel with their code: the workers need nothing of it.
"""

from __future__ import annotations

import sys

from strata_zmq import StrataExecutor, WorkerFailure

PARTS, STEPS = 40, 25_000


def area(part: int) -> float:
    """Return one part of the area under 4 / (1 + x^2) between 0 and 1, which is pi."""
    width = 1 / (PARTS * STEPS)
    return sum(4 * width / (1 + ((part * STEPS + step + 0.5) * width) ** 2) for step in range(STEPS))


def main(address: str) -> None:
    """Ask for all parts at once, and print their sum."""
    total = 0.0
    with StrataExecutor(address) as pool:
        for part, future in enumerate([pool.submit(area, part) for part in range(PARTS)]):
            try:
                total += future.result(timeout=60)
            except WorkerFailure as failure:
                print(f"part {part} is missing: {failure}")
    print(f"pi is {total:.10f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tcp://localhost:5555")
