"""The other ends of a measurement: children that end when they should, and loads that count what really came back."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from processkit.patience import until

from strata_zmq.bench.loads.coordinator import coordinator_process
from strata_zmq.bench.loads.journaled import Arrivals
from strata_zmq.bench.loads.offered import open_loop, pipeline, repeated
from strata_zmq.bench.loads.process import Child, child_process
from strata_zmq.bench.loads.session import asked, checked, connected, joined
from strata_zmq.bench.loads.wire import Wires, framed, wired
from strata_zmq.errors import PeerLostError, ProtocolError, StrataError
from strata_zmq.protocol.codec import encode
from strata_zmq.protocol.messages import ErrorReply, GetStatus, Heartbeat, HeartbeatAck, Released, Status, Welcome


@pytest.fixture
def echo() -> Iterator[Child]:
    with child_process("strata_zmq.bench.loads.echo") as child:
        yield child


@pytest.fixture
def wires(echo: Child) -> Iterator[Wires]:
    with wired(echo.ready["control"], 3) as made:
        yield made


def test_a_child_is_gone_when_its_block_ends() -> None:
    with child_process("strata_zmq.bench.loads.echo") as child:
        assert psutil.pid_exists(child.pid)
    assert not psutil.pid_exists(child.pid)


def test_a_child_is_gone_when_the_benchmark_is_killed() -> None:
    script = (
        "import sys, time\n"
        "from strata_zmq.bench.loads.process import child_process\n"
        "with child_process('strata_zmq.bench.loads.echo') as child:\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_child_that_cannot_start_is_an_error_with_its_last_words() -> None:
    with pytest.raises(PeerLostError, match="No module named"), child_process("strata_zmq.bench.loads.nothing"):
        pass


def test_a_child_that_is_killed_is_gone_at_once(echo: Child) -> None:
    echo.kill()
    assert not psutil.pid_exists(echo.pid)


def test_what_a_load_costs_is_told_for_both_ends(echo: Child, wires: Wires) -> None:
    found = pipeline(echo, wires, repeated([b"x"] * 3), window=8, duration_s=0.1)
    assert found.cpu_s > 0
    assert found.load_cpu_s > 0
    assert 0 < found.extras["loop_busy"] < 1.5
    now, peak = echo.memory_bytes()
    assert 0 < now <= peak


@pytest.mark.parametrize("size", [1, 255, 256, 5000])
def test_a_wire_carries_whole_messages_of_any_length(wires: Wires, size: int) -> None:
    bodies = [bytes((number,)) * size for number in range(3)]
    for body in bodies:
        wires[0].send(body)
    assert [wires[0].recv() for _ in bodies] == bodies


def test_a_wire_counts_messages_of_mixed_lengths(wires: Wires) -> None:
    bodies = [b"a" * length for length in (3, 3, 7, 300, 3, 0, 3)]
    wires[0].write(b"".join(map(framed, bodies)))
    count, last = 0, b""
    while count < len(bodies):
        more, body = wires[0].take()
        count, last = count + more, body or last
    assert count == len(bodies)
    assert last == bodies[-1]


def test_a_pipeline_counts_replies_and_leaves_the_connections_empty(echo: Child, wires: Wires) -> None:
    bodies = [b"one", b"two", b"three"]
    for _ in range(2):
        found = pipeline(echo, wires, repeated(bodies), window=4, duration_s=0.05)
        assert found.replies > 0
        assert found.last == bodies
        assert found.wall_s >= 0.05
        for wire in wires:
            wire.send(b"next")
            assert wire.recv() == b"next", "a reply was left over"


def test_an_open_loop_measures_every_request_and_keeps_its_rate(echo: Child, wires: Wires) -> None:
    latencies, sending_s, found = open_loop(echo, wires, repeated([b"x"] * 3), rate=1000.0, count=100)
    assert len(latencies) == found.replies == 100
    assert min(latencies) > 0
    assert found.wall_s >= sending_s >= 99 / 1000.0


def test_a_durable_echo_has_every_body_on_disk_before_it_is_sent_back(tmp_path: Path) -> None:
    path = tmp_path / "echo.sqlite"
    with (
        child_process("strata_zmq.bench.loads.echo", f"--journal={path}") as server,
        wired(server.ready["control"], 2) as wires,
    ):
        for number in range(5):
            for place, wire in enumerate(wires):
                wire.send(b"%d-%d" % (place, number))
            answers = {wire.recv() for wire in wires}
            with closing(sqlite3.connect(path)) as connection:
                kept = {body for (body,) in connection.execute("SELECT body FROM kept")}
            assert answers <= kept


def test_every_journaled_request_is_one_release_in_the_journal(tmp_path: Path) -> None:
    with coordinator_process(tmp_path, 3) as server, wired(server.ready["control"], 3) as wires:
        workers = joined(wires)
        arrivals = Arrivals(workers)
        for _ in range(2):
            found = pipeline(server, wires, arrivals, window=2, duration_s=0.1)
            arrivals.check(found.last)
            assert checked(found.last[0], Released).participants == ["worker-00000"]
            (status,) = asked(wires[:1], [GetStatus(seq=1, session=workers[0].session)], Status)
            assert status.counters["barriers_released"] == sum(arrivals.steps) > found.replies
        with pytest.raises(StrataError, match="released from"):
            arrivals.check(found.last[::-1])


def test_a_bare_barrier_answers_all_when_the_last_arrives() -> None:
    with (
        child_process("strata_zmq.bench.loads.bare_barrier", "--expected", "3") as server,
        connected(server.ready["control"], 3) as sockets,
    ):
        for place in (0, 1):
            sockets[place].send(b".")
        sockets[2].send(b"?")
        assert sockets[2].recv() == b"?"
        assert not any(socket.poll(0) for socket in sockets)
        sockets[2].send(b".")
        assert [socket.recv() for socket in sockets] == [b"."] * 3


def test_workers_of_a_load_are_members_of_one_generation(tmp_path: Path) -> None:
    with coordinator_process(tmp_path, 3) as server, connected(server.ready["control"], 3) as sockets:
        workers = joined(sockets)
        assert {worker.generation for worker in workers} == {1}
        assert len({worker.session for worker in workers}) == 3
        beat = Heartbeat(seq=9, session=workers[0].session, generation=1, state="TRAINING")
        sockets[0].send(encode(beat))
        assert checked(sockets[0].recv(), HeartbeatAck).seq == 9


def test_an_error_reply_is_raised_and_another_kind_refused() -> None:
    with pytest.raises(StrataError, match="no such dataset"):
        checked(encode(ErrorReply(code="not_found", message="no such dataset")), HeartbeatAck)
    with pytest.raises(ProtocolError, match="expected Welcome"):
        checked(encode(HeartbeatAck()), Welcome)


COMPARED_WITH_PEERS_ALONE = {"checkpoint_s3", "checkpoint_training"}


@pytest.mark.parametrize(
    ("suite", "cases"),
    [
        ("coordinator", 7),
        ("history", 2),
        ("barrier", 4),
        ("checkpoint", 4),
        ("checkpoint_restore", 4),
        ("checkpoint_s3", 6),
        ("checkpoint_training", 2),
        ("feed", 1),
        ("sharding", 4),
    ],
)
def test_every_suite_runs_end_to_end_without_any_peer_installed(tmp_path: Path, suite: str, cases: int) -> None:
    environment = {**os.environ, "STRATA_BENCH_PEERS": str(tmp_path / "none"), "CHECKPOINT_SIZE_MB": "16"}
    command = [sys.executable, "-m", "strata_zmq.bench", "--quick", suite, "--rounds", "1", "--json", "f.json"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads((tmp_path / "f.json").read_text())["rows"]
    assert len(rows) == cases
    # What a save adds to a loop is a difference of two times, and a few steps of it can come out on either side.
    assert all(row["median"] > 0 or suite == "checkpoint_training" for row in rows)
    assert all(row["limit"]["median"] > 0 for row in rows if suite not in COMPARED_WITH_PEERS_ALONE)
    timed = [row for row in rows if row["floor_id"] not in {None, "sharding.moves"}]
    assert all(row["met"] is None for row in timed), "one round is not enough to judge a duration"
