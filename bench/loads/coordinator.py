"""Owns how a coordinator is started to be measured: the real process, its journal on the scratch disk."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .process import Child, child_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["coordinator_of", "coordinator_process"]

_LEASE_S = 600


@contextmanager
def coordinator_process(scratch: Path, workers: int) -> Iterator[Child]:
    """Run a coordinator whose first generation forms with `workers` members, on a journal of its own."""
    with tempfile.TemporaryDirectory(prefix="coordinator-", dir=scratch) as folder:
        with coordinator_of(Path(folder) / "journal.sqlite", workers) as child:
            yield child


def coordinator_of(journal: Path, workers: int) -> AbstractContextManager[Child]:
    """Run a coordinator on `journal`, which may hold a history.

    The lease is longer than any measurement, because most workers of a load send no heartbeats of their own.
    """
    return child_process(
        "strata_zmq.coordinator",
        "--control=tcp://127.0.0.1:0",
        "--broadcast=tcp://127.0.0.1:0",
        f"--journal={journal}",
        f"--initial-workers={workers}",
        f"--lease-s={_LEASE_S}",
    )
