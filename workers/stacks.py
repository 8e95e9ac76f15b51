"""What this process's threads are doing, as text. It asks nothing of them, however stuck they are."""

from __future__ import annotations

import faulthandler
import os
import re
import threading

from strata_zmq.protocol.requests import STACKS_BYTES_MAX

__all__ = ["fit_stacks", "read_stacks"]

_THREAD = re.compile(r"^(Thread|Current thread) 0x([0-9a-f]+)")
_READ_MAX = 1024 * 1024


def read_stacks() -> str:
    """Return the stacks of all threads with their names, the main thread's first.

    The most recent call comes first, as `faulthandler` writes them: it needs no memory and waits for nobody.
    """
    fd = os.memfd_create("strata-stacks", os.MFD_CLOEXEC)
    try:
        faulthandler.dump_traceback(fd, all_threads=True)
        text = os.pread(fd, _READ_MAX, 0).decode(errors="replace")
    finally:
        os.close(fd)
    main = threading.main_thread().ident
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    told: list[tuple[bool, str]] = []
    for stack in text.strip().split("\n\n"):
        found = _THREAD.match(stack)
        ident = int(found[2], 16) if found else None
        name = f" [{names[ident]}]" if ident in names else ""
        told.append((ident != main, f"{found[0]}{name}{stack[found.end() :]}" if found else stack))
    return "\n\n".join(stack for _, stack in sorted(told, key=lambda one: one[0])) + "\n"


def fit_stacks(text: str) -> str:
    """Return as much of it as a message takes."""
    data = text.encode(errors="replace")
    if len(data) <= STACKS_BYTES_MAX:
        return text
    cut = "\n... the rest is in the worker's log\n"
    return data[: STACKS_BYTES_MAX - len(cut)].decode(errors="ignore") + cut
