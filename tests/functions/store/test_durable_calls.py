"""Calls of durability `commit`, from an executor to real children: their dispatcher is killed, they come to one end."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from functionkit.peers import BareClient, new_id
from functionkit.processes import DispatcherProcess, WorkerProcess
from recordkit.places import Place

from strata_zmq.domain.task import TaskLimits
from strata_zmq.functions.executor import StrataExecutor
from strata_zmq.protocol import functions as wire

CALLS = 150
Start = Callable[..., DispatcherProcess]


def noted(file: str, number: int) -> int:
    """Append a line to `file`, in one write, and take a while."""
    with Path(file).open("a") as lines:
        lines.write(f"{number}\n")
    time.sleep(0.01)
    return number * number


@pytest.mark.parametrize("mode", ["push", "pull"])
def test_every_call_runs_once_and_gives_its_result_though_its_dispatcher_is_killed_again_and_again(
    dispatcher: DispatcherProcess, folder: Path, ending: ExitStack, mode: str
) -> None:
    """The worker lives all the time, so no call is lost, none runs twice, and no retry is asked for."""
    worker = WorkerProcess(folder, dispatcher.endpoint, "--children", "2", "--mode", mode)
    ending.callback(worker.stop)
    worker.start()
    ran = folder / "ran"
    with StrataExecutor(dispatcher.endpoint, limits=TaskLimits(durability="commit")) as executor:
        futures = [executor.submit(noted, str(ran), number) for number in range(CALLS)]
        for reached in (10, 60, 110):
            assert futures[reached].result(60) == reached * reached
            dispatcher.restart()
        assert [future.result(60) for future in futures] == [number * number for number in range(CALLS)]
    assert Counter(map(int, ran.read_text().split())) == Counter(range(CALLS))


def test_a_disk_that_is_full_ends_the_dispatcher_before_it_says_anything(
    start: Start, tmp_path: Path, ending: ExitStack
) -> None:
    """A limit on the size of its files stands for the disk."""
    place = Place(f"sqlite:{tmp_path / 'store.sqlite'}")
    dispatcher = start(place.url)
    client = BareClient(dispatcher.endpoint)
    ending.callback(client.close)
    client.attach()
    first = client.call(durability="commit")
    resource.prlimit(dispatcher.pid, resource.RLIMIT_FSIZE, (4 * 2**20, 4 * 2**20))
    task = wire.NewTask(new_id(), bytes(16), [0])
    client.ask(wire.Submit, wire.LimitsRow(durability="commit"), [task], frames=[bytes(6 * 2**20)])
    assert dispatcher.wait() == 1
    assert client.hears_nothing(wire.SubmittedReply)
    assert "cannot be written" in dispatcher.log.read_text()
    dispatcher.start()
    client.reconnect()
    client.attach()
    assert [row.state for row in client.fetch(first, task.task_id)] == ["QUEUED", "UNKNOWN"]


def test_a_damaged_store_is_told_and_nothing_is_served(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"no database, " * 1000)
    with pytest.raises(pytest.fail.Exception, match=f"store '{path}' is damaged or no store"):
        start(f"sqlite:{path}")
