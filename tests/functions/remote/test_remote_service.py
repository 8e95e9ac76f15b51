"""A remote executor and a real dispatcher with a real worker, on wires and with ends that are not good."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import ExitStack
from operator import add
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from faultkit.proxy import Behaviour, TcpProxy
from functionkit.processes import DispatcherProcess, WorkerProcess
from processkit.patience import until

from strata_zmq.domain.task import TaskLimits
from strata_zmq.errors import ResultExpiredError, UnavailableError, WorkerFailure
from strata_zmq.functions.executor import StrataExecutor
from strata_zmq.functions.remote import aio
from strata_zmq.functions.remote.aio import AsyncClient
from strata_zmq.protocol.functions import Counts
from strata_zmq.transport.curve import CurveKeys

COMMIT = TaskLimits(durability="commit", retries_lost=1)


class Service:
    """A dispatcher behind a proxy, and its worker."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.dispatcher = DispatcherProcess(folder, *options, endpoint="tcp://127.0.0.1:0").start()
        self.endpoint = self.dispatcher.endpoint
        self.worker = WorkerProcess(folder, self.endpoint, "--children", "2").start()
        self.proxy = TcpProxy(("127.0.0.1", urlsplit(self.endpoint).port or 0)).start()

    def stop(self) -> None:
        with ExitStack() as stack:
            stack.callback(self.dispatcher.stop)
            stack.callback(self.worker.stop)
            stack.callback(self.proxy.stop)

    def counts(self) -> Counts:
        async def ask() -> Counts:
            client = await AsyncClient.connect(self.endpoint)
            try:
                return await client.counts()
            finally:
                await client.close()

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("remote")
    made.chmod(0o700)
    return made


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder, "--client-lease", "1")
    yield made
    made.stop()


@pytest.fixture
def proxy(service: Service) -> Iterator[TcpProxy]:
    yield service.proxy
    service.proxy.up = Behaviour()
    service.proxy.down = Behaviour()


def test_calls_run_there_and_come_back_by_their_own_type(service: Service) -> None:
    with StrataExecutor(service.endpoint) as executor:
        assert executor.submit(add, 2, 3).result(20) == 5
        assert list(executor.map(pow, range(100), [2] * 100, timeout=20)) == [number**2 for number in range(100)]
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(20)


def test_a_wire_that_loses_doubles_and_swaps_messages_changes_no_result(service: Service, proxy: TcpProxy) -> None:
    proxy.up = Behaviour(loses=0.1, duplicates=0.1, reorders=0.1)
    proxy.down = Behaviour(loses=0.1, duplicates=0.1, reorders=0.1)
    with StrataExecutor(proxy.url) as executor:
        futures = []
        for number in range(60):
            futures.append(executor.submit(add, number, 1))
            time.sleep(0.002)  # so that they travel in many messages
        assert [one.result(60) for one in futures] == list(range(1, 61))
    assert proxy.counts["up"].lost + proxy.counts["down"].lost > 0
    assert proxy.counts["up"].duplicated + proxy.counts["down"].duplicated > 0


def test_connections_that_break_again_and_again_lose_no_call(service: Service, proxy: TcpProxy) -> None:
    with StrataExecutor(proxy.url) as executor:
        futures = []
        for turn in range(5):
            futures += [executor.submit(add, number, turn) for number in range(100)]
            until(lambda: proxy.cut() > 0)
        assert [one.result(30) for one in futures] == [number + turn for turn in range(5) for number in range(100)]


def test_a_client_that_nobody_hears_for_its_lease_learns_what_became_of_its_calls(
    service: Service, proxy: TcpProxy
) -> None:
    with StrataExecutor(proxy.url) as executor:
        executor.submit(add, 0, 0).result(20)
        running = [executor.submit(time.sleep, 1.5) for _ in range(2)]
        queued = [executor.submit(time.sleep, 1.5) for _ in range(20)]
        until(lambda: service.counts().running == 2)
        proxy.stall("up", "down")
        until(lambda: service.counts().queued == 0, 10)  # nobody is there to read what they would come to
        proxy.flow("up", "down")
        _, waiting = wait(running + queued, 20)
        assert not waiting
        for one in queued:
            with pytest.raises(ResultExpiredError, match="not heard for longer than its lease"):
                one.result(0)
        assert executor.submit(add, 1, 1).result(20) == 2


def test_the_queued_calls_of_a_client_that_vanished_are_not_run(service: Service, tmp_path: Path) -> None:
    program = tmp_path / "client.py"
    program.write_text(
        "import sys, time\n"
        "from strata_zmq.functions.executor import StrataExecutor\n"
        "executor = StrataExecutor(sys.argv[1])\n"
        "futures = [executor.submit(time.sleep, 0.4) for _ in range(100)]\n"
        "futures[1].result()\n"
        "print('there', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, program, service.endpoint], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"there\n"
        assert service.counts().queued > 50
        client.kill()
    # 100 sleeps on two children would take 20 s.
    until(lambda: (counts := service.counts()).queued == 0 and counts.running == 0, 10)


@pytest.mark.parametrize("place", ["client.submit.sent", "client.result.taken"])
def test_a_client_killed_in_the_middle_leaves_durable_calls_to_their_ends(
    service: Service, tmp_path: Path, place: str
) -> None:
    program = tmp_path / "client.py"
    marks = tmp_path / "marks"
    marks.mkdir()
    program.write_text(
        "import sys, pathlib\n"
        "from strata_zmq.domain.task import TaskLimits\n"
        "from strata_zmq.functions.executor import StrataExecutor\n"
        "def touch(folder, number):\n"
        "    __import__('pathlib').Path(folder, str(number)).touch()\n"
        "executor = StrataExecutor(sys.argv[1])\n"
        "limits = TaskLimits(durability='commit', keep_s=60.0)\n"
        "futures = [executor.submit_with(limits, touch, sys.argv[2], number) for number in range(10)]\n"
        "futures[-1].result()\n"
        "print('never', flush=True)\n"
    )
    before = service.counts()
    env = {**os.environ, "STRATA_FAILPOINTS": f"{place}=kill"}
    killed = subprocess.run([sys.executable, program, service.endpoint, marks], env=env, capture_output=True)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, b""), killed.stderr
    until(lambda: (now := service.counts()).queued == 0 and now.running == 0, 10)
    accepted = service.counts().accepted_total - before.accepted_total
    assert len(list(marks.iterdir())) == accepted
    if place == "client.result.taken":
        assert accepted > 0


def test_a_killed_dispatcher_costs_what_was_not_durable_and_nothing_else(folder: Path) -> None:
    home = folder / "restarted"
    home.mkdir(mode=0o700)
    service = Service(home)
    try:
        with StrataExecutor(service.endpoint) as executor:
            executor.submit(add, 0, 0).result(20)
            durable = [executor.submit_with(COMMIT, add, number, 1) for number in range(200)]
            durable[-1].result(20)
            blocker = [executor.submit(time.sleep, 0.3) for _ in range(2)]
            volatile = [executor.submit(time.sleep, 0.01) for _ in range(50)]
            waiting = [executor.submit_with(COMMIT, add, number, 2) for number in range(200)]
            until(lambda: executor._engine._held_tasks == 0)  # type: ignore[attr-defined]
            service.dispatcher.restart()
            assert [one.result(30) for one in waiting] == list(range(2, 202))
            assert [one.result(0) for one in durable] == list(range(1, 201))
            ends = [one.exception(30) for one in blocker + volatile]
            assert all(end is None or isinstance(end, WorkerFailure) for end in ends), ends
            assert any("the dispatcher was restarted" in str(end) for end in ends)
            assert executor.submit(add, 1, 1).result(20) == 2
    finally:
        service.stop()


def test_with_keys_both_faces_are_let_in_and_a_stranger_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = folder / "keys"
    keys = CurveKeys.create(home / "job")
    options = ("--curve-keys", str(home / "job"))
    with ExitStack() as stack:
        dispatcher = DispatcherProcess(home, *options, endpoint="tcp://127.0.0.1:0").start()
        stack.callback(dispatcher.stop)
        worker = WorkerProcess(home, dispatcher.endpoint, "--children", "1", *options).start()
        stack.callback(worker.stop)
        with StrataExecutor(dispatcher.endpoint, curve_keys=str(home / "job")) as executor:
            assert executor.submit(add, 2, 3).result(20) == 5

        async def count(keys: CurveKeys | None) -> int:
            client = await AsyncClient.connect(dispatcher.endpoint, keys=keys)
            try:
                return (await client.counts()).workers
            finally:
                await client.close()

        assert asyncio.run(count(keys)) == 1
        monkeypatch.setattr(aio, "_PATIENCE_S", 1.0)
        with pytest.raises(UnavailableError, match="no dispatcher answers"):
            asyncio.run(count(None))
