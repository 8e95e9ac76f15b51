"""What remote execution costs: throughput, latency and CPU time of calls, and what one bad call does to the others.

The rows' parts stand beside this module, one for each way in: an executor's own children, a dispatcher, HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strata_zmq.bench.model import Case, Settings, Suite

from ._functions_local import local_cases
from ._functions_remote import remote_cases
from ._functions_rest import rest_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SUITE"]


def _cases(settings: Settings) -> Iterator[Case]:
    yield from local_cases(settings)
    yield from remote_cases(settings)
    yield from rest_cases(settings)


SUITE = Suite("functions", "What does a call in another process cost?", _cases)
