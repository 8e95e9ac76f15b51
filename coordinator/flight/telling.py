"""A played recording in words, or as JSON: what a step was given, what it decided, and why. It plays nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from strata_zmq.logs import printable
from strata_zmq.protocol.messages import GetSight, GetStatus, Heartbeat, HeartbeatAck, Sight, Status

from .player import Began, Ended, Played
from .words import say

__all__ = ["as_json", "as_lines"]

_NAMES_MAX = 8
_HIDDEN = ("seq",)
# Somebody looks on twice a second at least. Neither that nor a heartbeat has anything decided.
_ROUTINE = (Heartbeat, GetStatus, GetSight)
_ROUTINE_ANSWERS = (Status, Sight)


def as_lines(one: Began | Played | Ended, *, everything: bool) -> Iterator[str]:
    """Yield an item as lines for people; without `everything` no heartbeat, no look, and no step of nothing else."""
    match one:
        case Began():
            yield (
                f"== {one.path}: job {printable(one.job)}, term {one.term}, generation {one.generation}, "
                f"pid {one.opening.pid}, recorded from {_moment(one.opening.began_at)} on by {one.opening.release}"
            )
        case Ended():
            if one.note:
                yield f"== {one.path}: {one.note}"
        case Played():
            lines = [f"  {head:<9} {printable(text)}" for head, text in _lines(one, everything=everything)]
            if lines:
                yield f"{_moment(one.at)}  step {one.number}"
                yield from lines


def as_json(one: Began | Played | Ended, *, everything: bool) -> bytes:
    """Return an item as one line of JSON; empty where `as_lines` has no line."""
    if not any(True for _ in as_lines(one, everything=everything)):
        return b""
    told: dict[str, Any]
    match one:
        case Began():
            told = {"segment": str(one.path), "release": one.opening.release, "began_at": one.opening.began_at}
            told |= {"pid": one.opening.pid, "job": one.job, "term": one.term, "generation": one.generation}
        case Ended():
            told = {"ended": str(one.path), "note": one.note}
        case Played():
            effects = one.effects
            told = {
                "at": one.at,
                "step": one.number,
                "given": [
                    {"from": name, **_fields(message)}
                    for name, message in one.given
                    if everything or not isinstance(message, _ROUTINE)
                ],
                "refused": [{"to": name, **_fields(reply)} for name, reply in one.refused],
                "decided": [_fields(record) for record in effects.records],
                "why": [
                    {"kind": each.kind, "text": each.text, "worker_id": each.worker_id, "subject": each.subject}
                    for each in effects.happenings
                ],
                "told": [{"to": names, **_fields(reply)} for names, reply in one.told if everything or _matters(reply)],
                "announced": [_fields(broadcast) for broadcast in effects.broadcasts],
                "agrees": one.agrees,
            }
    return msgspec.json.encode(told)


def _lines(one: Played, *, everything: bool) -> Iterator[tuple[str, str]]:
    for name, message in one.given:
        if everything or not isinstance(message, _ROUTINE):
            yield "given", f"{name}: {say(message, _HIDDEN)}"
    for name, refusal in one.refused:
        yield "refused", f"{name}: {refusal.code}: {refusal.message}"
    for record in one.effects.records:
        yield "decided", say(record)
    for happening in one.effects.happenings:
        yield "why", happening.text
    for names, reply in one.told:
        if everything or _matters(reply):
            more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
            yield "told", f"{', '.join(names[:_NAMES_MAX])}{more}: {say(reply, _HIDDEN)}"
    for broadcast in one.effects.broadcasts:
        yield "announced", say(broadcast)
    if one.agrees is False:
        yield "OTHERWISE", "when this was recorded, something else was decided: play it with the release that wrote it"


def _matters(reply: Any) -> bool:
    return bool(reply.commands) if isinstance(reply, HeartbeatAck) else not isinstance(reply, _ROUTINE_ANSWERS)


def _fields(message: Any) -> dict[str, Any]:
    kind = str(message.__struct_config__.tag or type(message).__name__)
    return {"kind": kind, **{name: getattr(message, name) for name in message.__struct_fields__}}


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S.%f}"[:-3]
