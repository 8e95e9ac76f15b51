"""One person who looks at the dashboard: a page in a context of its own, and whatever went wrong in it.

Nothing waits for the network to be idle, which a live page never is, nor sleeps: each look waits for what it wants.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

__all__ = ["PATIENCE_MS", "VIEWS", "Viewer"]

VIEWS = {
    "Overview": "/",
    "Timeline": "/timeline",
    "Workers": "/workers",
    "Data": "/data",
    "Checkpoints": "/checkpoints",
    "Barriers": "/barriers",
    "Functions": "/functions",
    "Jobs": "/jobs",
    "Activity": "/activity",
    "Logs": "/logs",
    "Settings": "/settings",
}
PATIENCE_MS = 30_000
"""How long something may take to appear on a machine with other things to do."""
_WIDTH, _HEIGHT = 1440, 900


class Viewer:
    """`errors` are exceptions and what the console calls an error; there may be none at the end.

    With `unanswered`, somebody may not answer for a while: what the browser says of that is no error of the page's.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        scheme: Literal["light", "dark"] = "light",
        motion: Literal["reduce", "no-preference"] = "reduce",
        unanswered: bool = False,
        screenshots: Path | None = None,
    ) -> None:
        self.url, self._unanswered, self._screenshots = url, unanswered, screenshots
        self.errors: list[str] = []
        self._context = browser.new_context(
            color_scheme=scheme, reduced_motion=motion, viewport={"width": _WIDTH, "height": _HEIGHT}
        )
        self._context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        self.page: Page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._heard)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._context.close()
        if kind is None:
            assert not self.errors, f"the page said {self.errors}"

    def open(self, path: str) -> Page:
        """Load an address of the page, and wait until it is fed."""
        self.page.goto(self.url + path, wait_until="domcontentloaded")
        self.filled()
        return self.page

    def visit(self, view: str) -> Page:
        """Go to a view by the navigation, and wait until it shows something."""
        self.page.get_by_role("navigation", name="Views").get_by_role("link", name=view, exact=True).click()
        expect(self.page.get_by_role("heading", level=1, name=view, exact=True)).to_be_visible()
        self.filled()
        return self.page

    def filled(self) -> None:
        """Wait until nothing is being loaded any more."""
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()
        expect(self.page.get_by_role("main").get_by_text(re.compile("^Loading"))).to_have_count(0)

    def table(self, name: str) -> Locator:
        """Return a table by what it lists."""
        return self.page.get_by_role("grid", name=name, exact=True)

    def row(self, table: str, text: str) -> Locator:
        """Return the rows of a table that have a text."""
        return self.table(table).get_by_role("row").filter(has_text=text)

    def drawer(self, title: str) -> Locator:
        """Return the panel at the right with this title."""
        return self.page.get_by_role("complementary", name=title)

    def tile(self, name: str) -> Locator:
        """Return a figure by its name."""
        return self.page.get_by_role("group", name=name)

    def screenshot(self, name: str) -> None:
        """Keep what is seen under a name, where the run was asked to (--screenshots)."""
        if self._screenshots is not None:
            self._screenshots.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=self._screenshots / f"{name}.png")

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Return what a script returns in the page."""
        return self.page.evaluate(script, argument)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not (self._unanswered and "net::ERR_" in message.text):
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")
