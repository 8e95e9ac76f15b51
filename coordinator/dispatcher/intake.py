"""Submissions as tasks for the core: what can be refused without it is refused here. It keeps no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from blake3 import blake3

from strata_zmq.domain.task import Payload, Task, TaskLimits
from strata_zmq.functions.calls import payload_bytes
from strata_zmq.functions.wire import Buffer, body_of, limits_of
from strata_zmq.protocol.functions import LimitsRow, NewTask, RefusedTask, Submit

from .blobs import Blobs

__all__ = ["Intake", "Taken"]

_CHANGED_MAX = 1024
_NO_STORE = (
    "durability 'commit' needs a store, and this dispatcher has none: start it with --store sqlite:PATH or "
    "redis://HOST:PORT/DB, or submit with durability 'none'"
)


@dataclass(slots=True)
class Taken:
    """The tasks of one submission. `places` are their indexes in it, None where all are there."""

    tasks: list[Task]
    refused: list[RefusedTask]
    places: list[int] | None = None


class Intake:
    """Makes tasks. `attempt_s` is given to those that name no deadline of their own; 0: none."""

    def __init__(self, blobs: Blobs, *, attempt_s: float, durable: bool) -> None:
        self._blobs = blobs
        self._attempt_s = attempt_s
        self._durable = durable
        self._changed: dict[int, tuple[TaskLimits, TaskLimits]] = {}

    def take(self, client: str, message: Submit, frames: Sequence[Buffer], digests: set[bytes]) -> Taken:
        """Return a submission's tasks; what a durable one needs is added to `digests`. ProtocolError for bad rows."""
        limits = self._limits_of(message.limits)
        if limits.durability == "commit" and not self._durable:
            refused = [RefusedTask(index, "invalid_argument", _NO_STORE) for index in range(len(message.tasks))]
            return Taken([], refused)
        tasks = [_task(new, client, limits, frames) for new in message.tasks]
        named = {task.function for task in tasks}
        resolved = {name: self._blobs.resolve(name) for name in named}
        for name, digest in resolved.items():
            if digest is not None and digest != name:
                for task in tasks:
                    if task.function == name:
                        task.function = digest
        values = {ref for task in tasks if task.refs for ref in task.refs}
        lacking = {name for name, digest in resolved.items() if digest is None}
        lacking |= {ref for ref in values if not self._blobs.has(ref)}
        if limits.durability == "commit":
            digests |= values
            digests.update(digest for digest in resolved.values() if digest is not None)
        return _without(tasks, lacking) if lacking else Taken(tasks, [])

    def _limits_of(self, row: LimitsRow) -> TaskLimits:
        asked = limits_of(row)
        if not self._attempt_s or asked.attempt_s:
            return asked
        known = self._changed.get(id(asked))
        if known is None:
            if len(self._changed) >= _CHANGED_MAX:
                self._changed.clear()
            # The key is kept alive beside its value, so that nothing else can come to have its id.
            known = self._changed[id(asked)] = (asked, replace(asked, attempt_s=self._attempt_s))
        return known[1]


def _task(new: NewTask, client: str, limits: TaskLimits, frames: Sequence[Buffer]) -> Task:
    body = new.body
    if isinstance(body, bytes):
        nbytes = len(body)
        payload: Payload = body
    else:
        payload = body_of(body, frames)
        nbytes = payload_bytes(payload)
    if new.key:
        return Task(
            *(new.task_id, client, new.function, payload, nbytes, limits, tuple(new.refs)),
            key=new.key,
            key_digest=_call_digest(new, payload),
        )
    return Task(new.task_id, client, new.function, payload, nbytes, limits, tuple(new.refs))


def _call_digest(new: NewTask, payload: Payload) -> bytes:
    """What is the same for the same call: function, referred values and arguments."""
    whole = blake3(new.function)
    for ref in new.refs:
        whole.update(ref)
    for part in (payload,) if isinstance(payload, bytes) else payload:
        whole.update(part)
    return whole.digest(16)


def _without(tasks: list[Task], lacking: set[bytes]) -> Taken:
    kept = Taken([], [], [])
    places: list[int] = []
    for index, task in enumerate(tasks):
        missing = [one for one in (task.function, *task.refs) if one in lacking]
        if missing:
            names = ", ".join(one.hex() for one in missing)[:4096]
            text = f"the dispatcher does not have {names}: put it and submit again"
            kept.refused.append(RefusedTask(index, "missing_payload", text))
        else:
            places.append(index)
            kept.tasks.append(task)
    kept.places = places
    return kept
