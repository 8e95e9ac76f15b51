"""Which checkpoint is meant by "latest", "best", a step or an id; reads HEAD and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from strata_zmq.errors import InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import HeadEntry

__all__ = ["Choice", "Mode", "choose"]

Mode = Literal["min", "max"]
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Choice:
    """Which checkpoint to load: `step` is "latest", "best", a step or an id; `metric` and `mode` say what is best."""

    step: str | int = "latest"
    metric: str = ""
    mode: Mode = "min"

    def __post_init__(self) -> None:
        if type(self.step) not in {str, int}:
            raise InvalidArgumentError(f'step is {ascii(self.step)[:48]}: give a step, an id, "latest" or "best"')
        if self.mode not in get_args(Mode):
            raise InvalidArgumentError(f"mode is {ascii(self.mode)[:48]}: give one of {', '.join(get_args(Mode))}")
        if self.step == "best" and not self.metric:
            raise InvalidArgumentError('step="best" needs a metric: name one that was saved, such as metric="loss"')

    @property
    def may_fall_back(self) -> bool:
        """Whether another checkpoint may stand in for a damaged one; one that was named is never replaced."""
        return self.step in {"latest", "best"}


async def choose(store: CheckpointStore, choice: Choice) -> list[HeadEntry]:
    """Return what to try in turn, the first choice first: one entry, or all where another may stand in.

    Raises NotFoundError that says what there is.
    """
    if isinstance(choice.step, str) and not choice.may_fall_back:
        return [await store.find(choice.step)]
    entries = await store.entries()
    if not entries:
        raise NotFoundError(f"no checkpoint is committed in {store.storage.url}: save one first, or check the path")
    if choice.step == "latest":
        return entries[::-1]
    if choice.step == "best":
        return _by_metric(entries, choice, store.storage.url)
    found = next((entry for entry in reversed(entries) if entry.step == choice.step), None)
    if found is None:
        steps = ", ".join(str(entry.step) for entry in entries[-_SHOWN:])
        raise NotFoundError(f"no checkpoint of step {choice.step} in {store.storage.url}; there are: {steps}")
    return [found]


def _by_metric(entries: Sequence[HeadEntry], choice: Choice, where: str) -> list[HeadEntry]:
    # Of equals the newest: sorting keeps their order.
    there = [entry for entry in reversed(entries) if choice.metric in entry.metrics]
    if not there:
        known = sorted({name for entry in entries for name in entry.metrics})
        raise NotFoundError(
            f"no checkpoint in {where} has the metric {choice.metric!r}; "
            + (f"there are: {', '.join(known[:_SHOWN])}" if known else "none was saved with metrics={...}")
        )
    return sorted(there, key=lambda entry: entry.metrics[choice.metric], reverse=choice.mode == "max")
