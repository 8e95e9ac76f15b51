"""What an error of the library is over HTTP: a status, a body, and when to try again."""

from __future__ import annotations

from math import ceil

from starlette.requests import Request
from starlette.responses import Response

from strata_zmq.errors import NotFoundError, StrataError, UnavailableError, from_wire

from .bodies import answer
from .models import Refused, RefusedTask

__all__ = ["RETRY_AFTER_S", "Refusal", "refusal", "refused_row", "status_of", "tell"]

RETRY_AFTER_S = 1.0
"""After this, a dispatcher that was away may be back."""
_STATUS = {
    "invalid_argument": 400,
    "not_found": 404,
    "already_exists": 409,
    "environment_mismatch": 409,
    "quarantined": 409,
    "resource_exhausted": 429,
    "unavailable": 503,
    "storage": 503,
    "durability": 503,
    "deadline_exceeded": 504,
}


class Refusal(Exception):  # noqa: N818 - it carries an error
    """An error with the seconds after which the dispatcher would take the request."""

    def __init__(self, error: StrataError, retry_after_s: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s


def status_of(code: str) -> int:
    """Return the HTTP status of an error's code."""
    return _STATUS.get(code, 500)


def refusal(code: str, message: str, retry_after_s: float) -> Refusal:
    """Return what is raised for a task that the dispatcher has not accepted."""
    if code == "missing_payload":  # the only thing that a call over HTTP refers to
        return Refusal(NotFoundError("no function has this id: register it first (POST /register_function)"), 0.0)
    return Refusal(from_wire(code, message), retry_after_s)


def refused_row(index: int, code: str, message: str, retry_after_s: float) -> RefusedTask:
    """Return the same as a row of a batch's answer."""
    error = refusal(code, message, retry_after_s).error
    return RefusedTask(index, status_of(error.code), error.code, str(error), retry_after_s)


def tell(_: Request, error: Exception) -> Response:
    """Answer with an error; registered for StrataError and Refusal."""
    told = error if isinstance(error, Refusal) else Refusal(_known(error), 0.0)
    retry_after_s = told.retry_after_s or (RETRY_AFTER_S if isinstance(told.error, UnavailableError) else 0.0)
    made = answer(Refused(str(told.error), told.error.code), status_of(told.error.code))
    if retry_after_s > 0:
        made.headers["retry-after"] = str(ceil(retry_after_s))
    return made


def _known(error: Exception) -> StrataError:
    return error if isinstance(error, StrataError) else StrataError(str(error))
