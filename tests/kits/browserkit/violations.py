"""What axe finds amiss on a page, as lines that tell where; only what is serious or critical."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

__all__ = ["violations"]

_AXE = Axe()
_GRAVE = ("serious", "critical")
_PLACES = 3


def violations(page: Page) -> list[str]:
    """Return each serious or critical violation with the first places of it; [] is what is wanted."""
    found: list[dict[str, Any]] = _AXE.run(page).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {one['help']}; "
        + "; ".join(f"{node['html'][:200]} ({_why(node)})" for node in one["nodes"][:_PLACES])
        for one in found
        if one["impact"] in _GRAVE
    ]


def _why(node: dict[str, Any]) -> str:
    return " ".join(check["message"] for name in ("any", "all", "none") for check in node[name])[:200]
