"""The simulation's tests; the simulator is a package beside them, so that scripts/simulate runs the same one."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --rewrite."""
    parser.addoption("--rewrite", action="store_true", help="write the transcripts anew instead of comparing them")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of simulated mishaps would fill the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
