"""Runs seeds, one JSON line each: `python -m dispatchsim [--seeds N] [--first K] [--seed S]` in tests/kits."""

from __future__ import annotations

import argparse
import json
import sys

from .simulation import BrokenPromiseError, simulate


def main() -> int:
    """Run seeds; 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(prog="dispatchsim", description="Simulate dispatchers under storms of faults.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="this seed alone")
    options = parser.parse_args()
    first, count = (options.seed, 1) if options.seed is not None else (options.first, options.seeds)
    broken = 0
    for seed in range(first, first + count):
        try:
            run = simulate(seed)
        except BrokenPromiseError as error:
            broken += 1
            sys.stdout.write(json.dumps({"seed": seed, "error": str(error)}) + "\n")
        else:
            sys.stdout.write(json.dumps({"seed": seed, "digest": run.digest, "counts": run.counts}) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
