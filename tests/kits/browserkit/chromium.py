"""The system's Chromium under Playwright, which downloads none; where there is none, a test is skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

__all__ = ["chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without a sandbox, which root has none of; without a network of its own: nothing but loopback is to be asked.
_ARGUMENTS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-gpu")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser while the block does. asyncio.run() cannot be used in this thread as long as it is there."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()
