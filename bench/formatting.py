"""Owns how figures read to people, in the terminal and on the page alike; knows no layout."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .figures import Figure, PeerFigure
    from .model import Row

__all__ = ["cost", "interval", "number", "ratio", "verdict"]


def number(value: float) -> str:
    """Return `value` with three significant digits, thousands grouped and no exponent: 12,300 or 0.0123."""
    if value == 0:
        return "0"
    if abs(value) < 1e-6 or abs(value) >= 1e15:
        return f"{value:.3g}"
    decimals = max(2 - floor(log10(abs(value))), 0)
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def interval(figure: Figure) -> str:
    """Return the median with the interval behind it."""
    return f"{number(figure.median)} [{number(figure.low)}, {number(figure.high)}]"


def ratio(row: Row) -> str:
    """Return subject / limit, or a dash without a limit."""
    return f"{row.ratio.median:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]" if row.ratio else "-"


def cost(found: PeerFigure) -> str:
    """Return CPU time beside wall time of one round."""
    cpu = "?" if found.cpu_s is None else f"{found.cpu_s * 1e3:,.3g}"
    return f"{cpu} / {found.wall_s * 1e3:,.3g}"


def verdict(row: Row) -> str:
    """Return the floor's outcome in one word; a row without a floor has none."""
    if row.floor_id is None:
        return ""
    return {True: "met", False: "missed", None: "not measured"}[row.met]
