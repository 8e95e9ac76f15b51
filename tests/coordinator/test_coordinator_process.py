"""The coordinator as a process: it starts or says in one line why not, ends when asked, and leaves nothing."""

from __future__ import annotations

import json
import os
import resource
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from strata_zmq.coordinator.config import CoordinatorConfig
from strata_zmq.coordinator.journal import Journal
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_reply, encode
from strata_zmq.transport.curve import CurveKeys

COMMAND = [sys.executable, "-m", "strata_zmq.coordinator"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder with a short name: a socket's path has 107 bytes at most."""
    made = Path(tempfile.mkdtemp(prefix="st-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(*options)` starts a coordinator on ipc in `folder` and waits until it serves."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str, **popen: Any) -> subprocess.Popen[str]:
        reading, writing = os.pipe()
        command = [*COMMAND, *places(folder), "--ready-fd", str(writing), *options]
        started.append(subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.PIPE, text=True, **popen))
        os.close(writing)
        with os.fdopen(reading) as ready:
            assert select.select([ready], [], [], 30.0)[0]
            assert json.loads(ready.readline())["pid"] == started[-1].pid
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def places(folder: Path) -> list[str]:
    names = {"--control": f"ipc://{folder}/control", "--broadcast": f"ipc://{folder}/broadcast"}
    return [*(text for pair in names.items() for text in pair), "--journal", str(folder / "journal.sqlite")]


def refused(*options: str) -> str:
    """Start one that cannot; return its one line of error."""
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_well_and_leaves_no_socket_file(start, folder: Path, number: int) -> None:
    process = start()
    assert {path.name for path in folder.iterdir()} >= {"control", "broadcast", "journal.sqlite"}
    process.send_signal(number)
    assert process.wait(30) == 0
    assert not {path.name for path in folder.iterdir()} & {"control", "broadcast"}


def test_a_port_in_use_is_named(tmp_path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        options = ["--journal", str(tmp_path / "journal.sqlite"), "--control", f"127.0.0.1:{port}"]
        line = refused(*options, "--broadcast", "127.0.0.1:0")
    assert f"control 'tcp://127.0.0.1:{port}' is in use" in line


def test_a_second_coordinator_of_one_job_is_refused_and_the_first_serves_on(start, folder: Path, tmp_path) -> None:
    process = start()
    assert "is in use by another coordinator" in refused(*places(folder))
    elsewhere = ["--journal", str(tmp_path / "journal.sqlite")]
    assert "is in use by another process" in refused(*places(folder), *elsewhere)
    assert (folder / "control").is_socket()
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--control", "0.0.0.0:50051"], "beyond this machine"),
        (["--control", "nonsense://x"], "control 'nonsense://x' is no endpoint"),
        (["--journal", "/proc/journal.sqlite"], "journal '/proc/journal.sqlite'"),
        (["--initial-workers", "0"], "initial_workers is 0"),
        (["--min-workers", "9", "--max-workers", "3"], "min_workers is 9 and max_workers 3"),
        (["--initial-workers", "9", "--max-workers", "3"], "initial_workers is 9 and max_workers 3"),
        (["--fixed", "3", "--min-workers", "2"], "min_workers is 2 and fixed 3"),
        (["--fixed", "-1"], "initial_workers is -1"),
        (["--join-window-s", "61"], "join_window_s is 61"),
        (["--hang-s", "nan"], "hang_s is nan"),
        (["--lease-s", "0.01"], "lease_s is 0.01"),
        (["--lease-s", "1", "--heartbeat-s", "0.8"], "a lease needs at least two heartbeats"),
        (["--keep-count", "0"], "keep_count is 0"),
        (["--keep-every", "-1"], "keep_every is -1"),
        (["--keep-best", "loss"], "METRIC:min:N"),
        (["--job", "two words"], "job 'two words'"),
        (["--job", "j" * 129], "the limit is 128"),
        (["--curve-keys", "/nowhere"], "cannot be read"),
        (["--ready-fd", "99"], "--ready-fd 99"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_it_cannot_start_with_is_named_in_one_line(folder: Path, options: list[str], words: str) -> None:
    assert words in refused(*places(folder), *options)


def test_a_full_disk_ends_it_with_the_reason_and_everything_acknowledged_survives(start, folder: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: no file may grow beyond it."""
    process = start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)))
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{folder}/control")
        dealer.send(encode(wire.Hello(seq=1)))
        session = decode_reply(dealer.recv()).session
        acknowledged = []
        for number in range(1000):
            name = f"data-{number}"
            metadata = {f"key-{key}": "x" * 1000 for key in range(10)}
            request = wire.RegisterDataset(
                dataset_id=name, total_samples=1, shard_size=1, metadata=metadata, session=session, seq=number + 2
            )
            dealer.send(encode(request))
            while not dealer.poll(50) and process.poll() is None:
                pass
            if not dealer.poll(0):
                break
            assert type(decode_reply(dealer.recv())) is wire.DatasetRegistered
            acknowledged.append(name)
    assert process.wait(30) == 1
    assert "journal" in (reason := process.stderr.read())
    assert "cannot be written" in reason
    assert 3 < len(acknowledged) < 100
    journal = Journal(folder / "journal.sqlite")
    assert list(journal.replay().datasets) == acknowledged
    journal.close()


def test_it_speaks_curve_with_one_option(folder: Path, tmp_path, start) -> None:
    keys = CurveKeys.create(tmp_path / "keys")
    process = start("--curve-keys", str(tmp_path / "keys"))
    with zmq.Context() as context:
        answers = {}
        for name in ("stranger", "holder"):
            with context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 0)
                if name == "holder":
                    keys.apply(dealer, server=False)
                dealer.connect(f"ipc://{folder}/control")
                dealer.send(encode(wire.Hello(seq=1)))
                answers[name] = bool(dealer.poll(500 if name == "stranger" else 10_000))
    assert answers == {"stranger": False, "holder": True}
    process.terminate()
    assert process.wait(30) == 0


def test_the_supervisors_token_comes_from_the_environment_and_does_not_show(start, folder: Path) -> None:
    token = secrets.token_hex()
    start(env=os.environ | {"STRATA_SUPERVISOR_TOKEN": token})
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{folder}/control")
        for given, kind in (("wrong", wire.ErrorReply), (token, wire.Welcome)):
            dealer.send(encode(wire.Hello(role="supervisor", token=given, seq=1)))
            assert dealer.poll(10_000)
            assert type(decode_reply(dealer.recv())) is kind
    assert token not in repr(CoordinatorConfig(supervisor_token=token))


@pytest.mark.parametrize("journal", ["", ".", "/"])
def test_a_journal_is_a_file(journal: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"journal .* name a file"):
        CoordinatorConfig(journal=journal)


@pytest.mark.parametrize("field", ["lease_s", "heartbeat_s"])
def test_a_duration_that_is_no_number_is_refused(field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=field):
        CoordinatorConfig(**{field: float("nan")})
