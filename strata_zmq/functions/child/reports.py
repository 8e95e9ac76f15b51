"""What is told of an exception beside its packed self: type, text and traceback, each cut to its limit."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from strata_zmq.domain.task import OutcomeReport

__all__ = ["TEXT_MAX", "TRACEBACK_MAX", "describe"]

TEXT_MAX = 8 * 1024
TRACEBACK_MAX = 64 * 1024
_TYPE_MAX = 1024
_OWN = str(Path(__file__).parent) + os.sep
_CUT = "\n  [... %d characters left out ...]\n"


def describe(error: BaseException, prefix: str = "") -> OutcomeReport:
    """Return the report of an exception, `prefix` before its text. Its traceback begins where this program's ends."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN):
        frames = frames.tb_next
    try:
        text = str(error)
    except Exception as reason:  # noqa: BLE001 - its __str__ is anybody's code
        text = f"<its text cannot be made: {type(reason).__name__}>"
    try:
        lines = "".join(traceback.format_exception(type(error), error, frames))
    except Exception as reason:  # noqa: BLE001 - as above
        lines = f"{_name(error)}: <its traceback cannot be made: {type(reason).__name__}>\n"
    return OutcomeReport(
        text=_cut(f"{prefix}{text}", TEXT_MAX),
        type_name=_name(error)[:_TYPE_MAX],
        traceback=_cut(lines, TRACEBACK_MAX),
        pid=os.getpid(),
    )


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _cut(text: str, length_max: int) -> str:
    """Return `text` without its middle where it is too long: what matters stands at its ends. No lone surrogates."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= length_max:
        return text
    kept = (length_max - len(_CUT) - 20) // 2
    return text[:kept] + _CUT % (len(text) - 2 * kept) + text[-kept:]
