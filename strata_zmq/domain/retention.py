"""Which checkpoints stay, as a rule over what HEAD lists; knows no storage, no folder and no time.

A rule only ever adds to what stays: whatever it says, the newest checkpoint, the pinned ones, the one that was last
read whole and those that a save under way may refer to are among the survivors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from strata_zmq.domain.manifest import CHECKPOINT_ID_MAX
from strata_zmq.domain.names import check_name
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from strata_zmq.domain.manifest import HeadEntry

__all__ = [
    "KEEP_COUNT_MAX",
    "KEEP_EVERY_MAX",
    "BestMode",
    "Retention",
    "is_milestone",
    "parse_best",
    "reachable",
    "survivors",
]

KEEP_COUNT_MAX = 10_000
"""Checkpoints, for `keep_count` and `best_count` alike."""

KEEP_EVERY_MAX = 2**53
"""Steps."""

BestMode = Literal["min", "max"]
"""Whether a low or a high value of the metric is good."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What stays besides the newest: a checkpoint that any part of the rule holds stays.

    The last `keep_count`; with `keep_every` > 0 the first one at or after each multiple of that many steps; with
    `best_metric` the `best_count` best by that metric (the newer of two that are equal).
    """

    keep_count: int = 5
    keep_every: int = 0
    best_metric: str = ""
    best_mode: BestMode = "min"
    best_count: int = 0

    def __post_init__(self) -> None:
        _count("keep_count", self.keep_count, 1, KEEP_COUNT_MAX)
        _count("keep_every", self.keep_every, 0, KEEP_EVERY_MAX)
        _count("best_count", self.best_count, 0, KEEP_COUNT_MAX)
        if self.best_mode not in get_args(BestMode):
            raise InvalidArgumentError(f"best_mode is {ascii(self.best_mode)[:48]}: give 'min' or 'max'")
        if self.best_metric:
            check_name("best_metric", self.best_metric, CHECKPOINT_ID_MAX)
        if bool(self.best_metric) != bool(self.best_count):
            raise InvalidArgumentError(
                f"best_metric is {self.best_metric!r} and best_count is {self.best_count}: give both or neither"
            )


def is_milestone(keep_every: int, step: int, before: int) -> bool:
    """Say whether `keep_every` keeps a checkpoint of `step` when the one before it is of step `before` (0: none).

    Such a one is written in full: it stays for good, and no damage shall span two that do.
    """
    return keep_every > 0 and step // keep_every != before // keep_every


def parse_best(text: str) -> tuple[str, BestMode, int]:
    """Return the metric, mode and count that METRIC:min:N or METRIC:max:N writes; ("", "min", 0) of the empty text."""
    if not text:
        return "", "min", 0
    metric, _, rest = text.partition(":")
    mode, _, count = rest.partition(":")
    if not metric or mode not in get_args(BestMode) or not (count.isdecimal() and int(count)):
        raise InvalidArgumentError(f"{ascii(text)[:80]} names no best checkpoints: give METRIC:min:N or METRIC:max:N")
    rule = Retention(best_metric=metric, best_mode=cast("BestMode", mode), best_count=int(count))
    return rule.best_metric, rule.best_mode, rule.best_count


def survivors(
    entries: Sequence[HeadEntry],
    rule: Retention,
    *,
    pins: Collection[str] = (),
    verified: str = "",
    in_use: Collection[str] = (),
) -> tuple[HeadEntry, ...]:
    """Return those of `entries`, oldest first, that stay, in their order."""
    if not entries:
        return ()
    stay = {entry.checkpoint_id for entry in entries[-rule.keep_count :]}
    stay.update(pins, in_use, [verified])
    stay.update(_milestones(entries, rule.keep_every) if rule.keep_every else ())
    stay.update(_best(entries, rule) if rule.best_metric else ())
    return tuple(entry for entry in entries if entry.checkpoint_id in stay)


def reachable(entries: Sequence[HeadEntry]) -> frozenset[str]:
    """Return the ids whose folders have to stay: those of `entries`, and those in which chunks of theirs lie."""
    return frozenset(name for entry in entries for name in (entry.checkpoint_id, *entry.refs))


def _milestones(entries: Sequence[HeadEntry], every: int) -> list[str]:
    # The lowest step of each window; of equal ones the newer, which is of the history that went on. What is chosen
    # stays, so a later call cannot choose a higher one in its place.
    first: dict[int, HeadEntry] = {}
    for entry in entries:
        window = entry.step // every
        if window and (window not in first or entry.step <= first[window].step):
            first[window] = entry
    return [entry.checkpoint_id for entry in first.values()]


def _best(entries: Sequence[HeadEntry], rule: Retention) -> list[str]:
    sign = 1.0 if rule.best_mode == "min" else -1.0
    ranked = sorted(
        (sign * entry.metrics[rule.best_metric], -place, entry.checkpoint_id)
        for place, entry in enumerate(entries)
        if rule.best_metric in entry.metrics
    )
    return [name for _, _, name in ranked[: rule.best_count]]


def _count(name: str, value: object, minimum: int, maximum: int) -> None:
    if type(value) is not int or not minimum <= value <= maximum:
        raise InvalidArgumentError(f"{name} is {ascii(value)[:48]}: choose from {minimum} to {maximum}")
