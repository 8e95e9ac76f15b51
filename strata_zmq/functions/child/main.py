"""The child process's program: takes packets from its socket until that closes, and performs their calls in order.

It never decides what runs where. Everything here that unpickles runs code of whoever submitted the call.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
import sys
import types
from time import monotonic_ns

from strata_zmq.failpoints import failpoint
from strata_zmq.functions.child.calls import Caller
from strata_zmq.functions.child.limits import MemoryLimit
from strata_zmq.functions.child.outbox import Outbox
from strata_zmq.functions.child.output import Output
from strata_zmq.functions.child.reports import describe
from strata_zmq.functions.child.values import VALUES
from strata_zmq.functions.pool.blackbox import FAULT_OFFSET, RUNNING, BlackBox
from strata_zmq.functions.pool.entry import ChildSettings
from strata_zmq.functions.pool.packets import Call, Keep, decode_order, encode_broken, encode_ready, receive, send

__all__ = ["FLUSH_NS", "main"]

FLUSH_NS = 500_000
"""A finished result waits at most so long for the other calls of its packet."""

_logger = logging.getLogger("concurrent.futures")  # where who knows the stock pool looks


def main(sock: int, box: int, settings: ChildSettings) -> None:
    """Run until the socket's other end closes. The two descriptors are this program's own."""
    black_box = BlackBox(box)
    os.lseek(box, FAULT_OFFSET, os.SEEK_SET)
    faulthandler.enable(file=box)
    _interrupts(black_box)
    output = Output(black_box, settings.output_bytes_max)
    output.install()
    limit = MemoryLimit(settings.memory_bytes)
    connection = socket.socket(fileno=sock)
    if settings.initializer is not None:
        try:
            settings.initializer(*settings.initargs)
        except BaseException as error:  # as the stock pool does
            _logger.critical("Exception in initializer:", exc_info=True)
            output.flush()
            report = describe(error)
            send(connection, encode_broken(f"{report.type_name}: {report.text}"), flags=0)
            return
    gc.freeze()  # what is there stays: no collection need look at it again
    outbox = Outbox(connection, black_box)
    caller = Caller(black_box, outbox, output, limit)
    try:
        send(connection, encode_ready(os.getpid()), flags=0)
        _serve(connection, black_box, caller, outbox, output)
    except ConnectionError:
        output.flush()  # the pool is closed; nobody waits for what is left
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.ENOTSOCK):
            raise
        sys.exit(1)  # a function has closed the socket; what was finished is in the black box


def _serve(connection: socket.socket, black_box: BlackBox, caller: Caller, outbox: Outbox, output: Output) -> None:
    while True:
        received = receive(connection, 0)
        if received is None:  # somebody made the socket non-blocking: wait as if nobody had
            connection.setblocking(True)
            continue
        packet, descriptors = received
        if not packet:
            return
        order = decode_order(packet)
        if isinstance(order, list):
            # Once a packet: short calls share one, and this is a system call.
            black_box.holds(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            _perform(order, descriptors, caller, outbox, output)
            failpoint("child.result.sent")
        elif isinstance(order, Keep):
            VALUES.keep(order, descriptors)
        else:
            VALUES.forget(order.digests)
        for descriptor in descriptors:
            os.close(descriptor)


def _perform(calls: list[Call], descriptors: list[int], caller: Caller, outbox: Outbox, output: Output) -> None:
    """Perform the calls of a packet; what one of them printed is passed on before its result is sent."""
    sent_ns = monotonic_ns()
    for call in calls:
        ended_ns = caller.perform(call, descriptors)
        if ended_ns - sent_ns > FLUSH_NS:
            output.flush()
            outbox.flush()
            sent_ns = ended_ns
    output.flush()
    outbox.flush()


class _Interrupt:
    """What Ctrl-C does: it interrupts functions, as in the stock pool, and nothing else."""

    def __init__(self, box: BlackBox) -> None:
        self._box = box

    def __call__(self, number: int, frame: types.FrameType | None) -> None:
        if self._box.phase == RUNNING:
            raise KeyboardInterrupt


def _interrupts(box: BlackBox) -> None:
    """Handle Ctrl-C, unless whoever started this process ignores or handles it: that goes on here."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler or isinstance(handler, _Interrupt):  # a child's child may be forked
        signal.signal(signal.SIGINT, _Interrupt(box))
    signal.set_wakeup_fd(-1)  # a forked process would write into its parent's
