"""A copy of the checkout that a test may build in or break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_NOT_SOURCES = shutil.ignore_patterns("__pycache__", "node_modules")
SOURCES = ("strata_zmq", "coordinator", "workers", "bench", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


def copy_sources(target: Path) -> Path:
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            # Links stay links: they are what is under test.
            shutil.copytree(source, target / name, symlinks=True, ignore=_NOT_SOURCES)
        else:
            shutil.copy(source, target / name)
    return target


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh copy of the sources, with the links from strata_zmq to the process folders."""
    return copy_sources(tmp_path)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources for tests that only read or build."""
    return copy_sources(tmp_path_factory.mktemp("checkout"))
