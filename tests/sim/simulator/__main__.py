"""The simulation's command: many seeds on many cores, or one seed as a story. It owns no rule of the simulation."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from .faulty import InvariantError
from .simulation import Simulation

_CHUNK = 100


def main() -> int:
    """Run what the arguments ask for; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description="Simulate whole jobs under faults.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (default: cores)")
    parser.add_argument("--seed", type=int, help="run this one seed and tell what happened")
    parser.add_argument("--verbose", action="store_true", help="with --seed: every line instead of the last ones")
    parser.add_argument("--digests", action="store_true", help="print one JSON line a seed, in this process")
    parser.add_argument("--until-failure", action="store_true", help="with --digests: end at the first failure")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.seed is not None:
        return _tell(options.seed, whole=options.verbose)
    if options.digests:
        return _print_digests(options.first, options.seeds, on=not options.until_failure)
    return _storm(options.first, options.seeds, max(options.jobs, 1))


def _tell(seed: int, *, whole: bool) -> int:
    simulation = Simulation(seed, whole=whole)
    try:
        outcome = simulation.run()
    except InvariantError as error:
        print(error)
        return 1
    print(simulation.plan, *simulation.transcript.lines(), sep="\n")
    print(f"seed {seed}: every promise held for {outcome.simulated_s:.1f} s; digest {outcome.digest}")
    print(", ".join(f"{name} {count}" for name, count in outcome.counts.items()))
    return 0


def _print_digests(first: int, seeds: int, *, on: bool) -> int:
    failed = 0
    for seed in range(first, first + seeds):
        try:
            line: dict[str, object] = {"seed": seed, "digest": Simulation(seed).run().digest}
        except InvariantError as error:
            failed = 1
            line = {"seed": seed, "error": str(error).splitlines()[0]}
        print(json.dumps(line), flush=True)
        if failed and not on:
            break
    return failed


def _storm(first: int, seeds: int, jobs: int) -> int:
    started = time.monotonic()
    ends = first + seeds
    chunks = [(start, min(_CHUNK, ends - start)) for start in range(first, ends, _CHUNK)]
    failures = 0
    with ThreadPoolExecutor(jobs) as pool:
        for line in (line for lines in pool.map(_chunk, chunks) for line in lines):
            if "error" in line:
                failures += 1
                print(f"{line['error']}\n    replay: scripts/simulate --seed {line['seed']} --verbose", flush=True)
    took = time.monotonic() - started
    print(f"{seeds} seeds from {first}, {failures} failed, {took:.0f} s")
    return 1 if failures else 0


def _chunk(span: tuple[int, int]) -> Iterator[dict[str, object]]:
    first, seeds = span
    command = [sys.executable, "-m", "simulator", "--digests", "--first", str(first), "--seeds", str(seeds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if len(lines) < seeds:
        lines.append({"seed": first + len(lines), "error": f"seed {first + len(lines)} ended the process"})
    return iter(lines)


if __name__ == "__main__":
    sys.exit(main())
