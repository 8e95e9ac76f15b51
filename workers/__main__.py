"""`python -m strata_zmq.workers worker|writer|relay ...`: one worker-side process. It only picks which."""

from __future__ import annotations

import sys

from strata_zmq.errors import InvalidArgumentError

from .launcher.entry import guarded


def main(argv: list[str]) -> int:
    """Run the named process to its end and return its exit code."""
    role, rest = (argv[0], argv[1:]) if argv else ("", [])
    if role == "worker":
        from .launcher.single import main as worker_main

        return worker_main(rest)
    if role == "writer":
        from .storage_writer import main as writer_main

        return writer_main(rest)
    if role == "relay":
        from .agent.process import main as relay_main

        return relay_main(rest)
    raise InvalidArgumentError(f"{role!r} is no process of this package: say 'worker', 'writer' or 'relay'")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
