"""Planted bugs: each is a small patch that breaks one promise; here it is shown which test catches it, and how fast.

A patch begins with `Promise:`, the sentence that it breaks, and `Caught by:`, which is `simulation` or ids of tests.
It is applied to a copy of the sources; the checkout is not touched.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_COPIED = ("strata_zmq", "coordinator", "workers", "bench", "tests", "pyproject.toml", "README.md")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "node_modules")
_SEEDS = 1000
_LIMIT_S = 300.0
_SAID = 120
"""Characters of an error that the table shows."""


class PlantingError(Exception):
    """A patch does not apply any more, or nothing has caught it."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One planted bug."""

    path: Path
    promise: str
    caught_by: str

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.stem

    @classmethod
    def read(cls, path: Path) -> Patch:
        """Read a patch file's opening lines."""
        head = path.read_text().partition("\n---")[0].partition("\ndiff ")[0]
        found = re.fullmatch(r"Promise: (?P<promise>.+?)\nCaught by: (?P<caught_by>.+?)\n*", head, re.DOTALL)
        if found is None:
            raise PlantingError(f"{path.name}: begin with `Promise: ...` and `Caught by: ...`")
        return cls(path, " ".join(found["promise"].split()), " ".join(found["caught_by"].split()))


@dataclass(frozen=True, slots=True)
class Catch:
    """How a planted bug was caught: by what, what was said, and after how many seeds and seconds."""

    what: str
    said: str
    seeds: int
    seconds: float


def patches() -> list[Patch]:
    """Return all planted bugs, in the order of their names."""
    return [Patch.read(path) for path in sorted(HERE.glob("*.patch"))]


def copy_sources(target: Path) -> Path:
    """Copy what a test run needs; links stay links."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, symlinks=True, ignore=_LEFT_OUT)
        else:
            shutil.copy(source, target / name)
    # Compiled once, and compared by content: a run compiles what its patch has changed, and nothing else.
    compileall.compile_dir(target, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return target


@contextmanager
def planted(patch: Patch, tree: Path) -> Iterator[None]:
    """Have a copy of the sources with the bug in it; PlantingError if the patch does not fit."""
    _apply(patch, tree)
    try:
        yield
    finally:
        _apply(patch, tree, "--reverse")


def applies(patch: Patch, tree: Path) -> None:
    """Raise PlantingError unless the patch fits the sources exactly."""
    _apply(patch, tree, "--check")


def catch(patch: Patch, tree: Path) -> Catch:
    """Run what should catch the bug; PlantingError if it does not."""
    started = time.monotonic()
    with planted(patch, tree):
        return _simulate(tree, started) if patch.caught_by == "simulation" else _test(patch.caught_by, tree, started)


def _apply(patch: Patch, tree: Path, *options: str) -> None:
    # Outside any repository, so that git looks at the files alone.
    environment = {**os.environ, "GIT_DIR": str(tree / "no-repository"), "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", "--whitespace=nowarn", *options, str(patch.path)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise PlantingError(f"{patch.path.name} does not apply: {done.stderr.strip()}")


def _environment(tree: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "tests" / "sim")]),
        # What is compiled while a bug is planted is compared by time, and might stand for what is there afterwards.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _simulate(tree: Path, started: float) -> Catch:
    command = [sys.executable, "-m", "simulator", "--digests", "--until-failure", "--seeds", str(_SEEDS)]
    done = subprocess.run(command, cwd=tree, env=_environment(tree), capture_output=True, text=True, timeout=_LIMIT_S)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    took = time.monotonic() - started
    if not lines or "error" not in lines[-1]:
        raise PlantingError(f"the simulation catches nothing in {len(lines)} seeds, {took:.0f} s{done.stderr[-2000:]}")
    return Catch("simulation", str(lines[-1]["error"]), len(lines), took)


def _test(ids: str, tree: Path, started: float) -> Catch:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *ids.split()]
    done = subprocess.run(command, cwd=tree, env=_environment(tree), capture_output=True, text=True, timeout=_LIMIT_S)
    took = time.monotonic() - started
    failed = re.findall(r"^FAILED (\S+)(?: - (.*))?$", done.stdout, re.MULTILINE)
    if not failed:
        raise PlantingError(f"{ids} catches nothing: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Catch(failed[0][0].rpartition("::")[2], failed[0][1], 0, took)


def main() -> int:
    """Plant every bug, or the named ones; print who caught it; 1 if a patch does not apply or is not caught."""
    parser = argparse.ArgumentParser(prog="scripts/planted", description="Plant bugs, and see which test catches them.")
    parser.add_argument("names", nargs="*", help="parts of patch names (default: all)")
    options = parser.parse_args()
    chosen = [one for one in patches() if not options.names or any(name in one.name for name in options.names)]
    if not chosen:
        parser.error(f"no patch has one of {', '.join(options.names)} in its name")
    missed = 0
    print("| planted bug | promise that it breaks | caught by | seeds | seconds |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="strata-planted-") as folder:
        tree = copy_sources(Path(folder))
        for patch in chosen:
            try:
                found = catch(patch, tree)
            except (PlantingError, subprocess.TimeoutExpired) as error:
                missed += 1
                print(f"| {patch.name} | {patch.promise} | **nothing**: {error} | | |", flush=True)
            else:
                seeds = found.seeds or ""
                caught = f"{found.what}: {found.said[:_SAID]}" if found.said else found.what
                print(f"| {patch.name} | {patch.promise} | {caught} | {seeds} | {found.seconds:.1f} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
