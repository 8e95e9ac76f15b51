"""`import strata_zmq` costs next to nothing, and every public name is there when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import strata_zmq

HEAVY = {"numpy", "zmq", "msgspec", "msgpack", "asyncio", "rich", "typer", "psutil", "cupy", "torch"}


def test_importing_the_library_imports_nothing_else() -> None:
    program = "import sys; before = set(sys.modules); import strata_zmq; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    assert not {name.split(".")[0] for name in names} & HEAVY
    assert {name for name in names if name.startswith("strata_zmq")} == {"strata_zmq"}


@pytest.mark.parametrize("name", strata_zmq.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(strata_zmq, name).__name__ == name
    assert name in dir(strata_zmq)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Orchestrator'"):
        strata_zmq.Orchestrator  # noqa: B018


def test_importing_the_worker_side_makes_no_cuda_context() -> None:
    program = "import sys; from strata_zmq import WorkerMixin; sys.exit(bool({'cupy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
