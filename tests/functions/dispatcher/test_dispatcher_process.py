"""Dispatcher and worker as processes: options, keys, endings, and what they say when they cannot."""

from __future__ import annotations

import operator
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq
from functionkit.packing import load, run
from functionkit.peers import BareClient
from functionkit.processes import DispatcherProcess, WorkerProcess
from processkit.patience import until
from processkit.signals import catches

from strata_zmq.protocol import functions as wire
from strata_zmq.transport.curve import CurveKeys

Start = Callable[..., DispatcherProcess]


def refused(module: str, *options: str) -> str:
    done = subprocess.run([sys.executable, "-m", module, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-m", "sideways"), "mode is 'sideways': it is local, push or pull"),
        (("-m", "local", "-w", "0"), "workers is 0"),
        (("--endpoint", "tcp://0.0.0.0:0"), "beyond this machine without keys"),
        (("--store", "papyrus:x"), "store 'papyrus:x' is of no known kind"),
        (("--lease", "1", "--heartbeat", "0.9"), "a lease needs at least two heartbeats"),
        (("--nonsense",), "--help"),
    ],
)
def test_a_wrong_option_is_named(options: tuple[str, ...], said: str) -> None:
    assert said in refused("strata_zmq.coordinator.dispatcher", "--store", "none", "-p", "0", *options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--children", "0"), "children is 0"),
        (("--mode", "shove"), "mode is 'shove'"),
        (("--label", "gpu=many"), "label 'gpu=many' is not understood"),
        (("--label", "gpu=2", "--gpus", "0"), "label gpu is 2, and there are 1 gpus"),
        (("--dispatcher", "http://x"), "is no endpoint"),
    ],
)
def test_a_wrong_option_of_a_worker_is_named(options: tuple[str, ...], said: str) -> None:
    assert said in refused("strata_zmq.workers.function_worker", *options)


def test_with_keys_only_their_holders_are_heard(start: Start, folder: Path, ending: ExitStack) -> None:
    keys = CurveKeys.create(folder / "keys")
    dispatcher = start("--store", "none", "--curve-keys", str(folder / "keys"))
    worker = WorkerProcess(folder, dispatcher.endpoint, "--children", "1", "--curve-keys", str(folder / "keys"))
    ending.callback(worker.stop)
    worker.start()
    stranger = BareClient(dispatcher.endpoint)
    ending.callback(stranger.close)
    stranger.ask(wire.Attach, "stranger")
    holder = BareClient(dispatcher.endpoint)
    ending.callback(holder.close)
    holder.socket.close()
    holder.socket = holder.context.socket(zmq.DEALER)
    holder.socket.linger = 0
    keys.apply(holder.socket, server=False)
    holder.socket.connect(dispatcher.endpoint)
    holder.attach()
    run(holder, operator.neg, 1)
    assert load(holder.result()) == -1
    assert stranger.hears_nothing(wire.AttachedReply)


def test_a_dispatcher_that_is_asked_to_end_ends_well(start: Start) -> None:
    dispatcher = start("--store", "none")
    dispatcher.signal(signal.SIGTERM)
    assert dispatcher.wait() == 0


def test_its_port_is_its_own(start: Start, folder: Path) -> None:
    dispatcher = start("--store", "none")
    assert "is in use by another process" in refused(
        "strata_zmq.coordinator.dispatcher", "--store", "none", "--endpoint", dispatcher.endpoint
    )


def test_its_records_are_its_own(start: Start, folder: Path) -> None:
    start()
    said = refused("strata_zmq.coordinator.dispatcher", "-p", "0", "--store", f"sqlite:{folder}/tasks.sqlite")
    assert "another" in said


def test_a_worker_waits_for_its_dispatcher(folder: Path, ending: ExitStack) -> None:
    """It can be started first; it is asked to end before there is any, and does."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "strata_zmq.workers.function_worker", "--dispatcher", f"ipc://{folder}/nobody"],
        stderr=subprocess.DEVNULL,
    )
    ending.callback(worker.kill)
    until(lambda: catches(worker.pid, signal.SIGTERM))
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1.0)
    worker.terminate()
    assert worker.wait(40.0) == 0
