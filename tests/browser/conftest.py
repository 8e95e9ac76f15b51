"""A browser for the tests of one file, and viewers that look by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browserkit import Viewer, chromium
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium a file: it takes a second to start."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """Where screenshots go; None: nowhere."""
    folder: str | None = request.config.getoption("--screenshots")
    return Path(folder).resolve() if folder else None


@pytest.fixture
def look(browser: Browser, screenshots: Path | None) -> Iterator[Callable[..., Viewer]]:
    """`look(url, scheme="dark")` is somebody who opens a window of their own; it is closed after the test."""
    with ExitStack() as stack:
        yield lambda url, **options: stack.enter_context(Viewer(browser, url, screenshots=screenshots, **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a file's own."""
    return tmp_path_factory.mktemp("browser")
