"""`strata command`: asks something of a job's workers through its coordinator, and leaves when that is on disk.

Owns what is asked; what a worker does with it is the worker's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol.messages import Command, SendCommand
from strata_zmq.workers.client import CoordinatorClient

__all__ = ["send_command"]


def send_command(url: str, command: Command, workers: Sequence[str], *, reason: str, timeout_s: float) -> None:
    """Have the coordinator at `url` hand `command` to `workers` (none: to all), or raise why it does not.

    The supervisor's token comes from STRATA_SUPERVISOR_TOKEN.
    """
    token = os.environ.get("STRATA_SUPERVISOR_TOKEN", "")
    if not token:
        raise InvalidArgumentError(
            "STRATA_SUPERVISOR_TOKEN is not set: a command needs the token that the coordinator was started with"
        )
    with CoordinatorClient(url, role="supervisor", token=token).connect(timeout_s) as client:
        client.request(SendCommand(command=command, workers=list(workers), reason=reason), timeout_s)
