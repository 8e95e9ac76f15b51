"""What tests of dispatchers share: an end for whatever they start, and a folder for sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """What is pushed here is ended with the test, last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name is short enough for a Unix socket's path."""
    made = tmp_path_factory.mktemp("d")
    made.chmod(0o700)
    return made
