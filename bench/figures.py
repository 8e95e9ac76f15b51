"""Owns what a measured value looks like: a figure, whose it is, and which way is better; judges and prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Better", "Figure", "PeerFigure"]

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A median with its interval; `values` are the rounds behind it, in order."""

    median: float
    low: float
    high: float
    coverage: float
    values: tuple[float, ...]
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class PeerFigure:
    """One contender's figure in a row, with what it cost and the extras' medians."""

    name: str
    figure: Figure
    wall_s: float
    cpu_s: float | None
    extras: Mapping[str, float] = field(default_factory=dict)
