"""Processes that are no relatives meet at a socket in a private folder, and leave nothing there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from strata_zmq.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    InvalidArgumentError,
    StorageError,
    UnavailableError,
)
from strata_zmq.feed.handoff import HandoffListener, connect_handoff
from strata_zmq.feed.segment import MemfdSegment, recv_segment, send_segment

if TYPE_CHECKING:
    from pathlib import Path

SENDER = """
import sys
from pathlib import Path
import numpy as np
from strata_zmq.feed.handoff import connect_handoff
from strata_zmq.feed.segment import MemfdSegment, send_segment
with connect_handoff(Path(sys.argv[1])) as connection, MemfdSegment.create("arena", 1 << 16) as arena:
    arena.array(np.int32, (100,))[:] = range(100)
    send_segment(connection, arena, b"rank-5")
"""


def test_a_stranger_of_the_same_user_hands_over_its_segment(tmp_path: Path):
    path = tmp_path / "private" / "segments.sock"
    with HandoffListener(path) as listener:
        assert path.parent.stat().st_mode & 0o777 == 0o700
        with subprocess.Popen([sys.executable, "-c", SENDER, str(path)]) as child:
            connection, pid = listener.accept()
            assert pid == child.pid
            with connection:
                arena, label = recv_segment(connection)
        with arena:
            assert label == b"rank-5"
            assert arena.array(np.int32, (100,)).tolist() == list(range(100))
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_listener_left_is_replaced_and_a_living_one_is_not(tmp_path: Path):
    path = tmp_path / "private" / "s"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with HandoffListener(path) as listener:
        with pytest.raises(AlreadyExistsError, match="is listening there"):
            HandoffListener(path)
        listener.accept()[0].close()
        with connect_handoff(path):
            listener.accept()[0].close()


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(InvalidArgumentError, match="mode 0700"):
        HandoffListener(tmp_path / "open" / "s")


def test_a_file_in_the_way_a_missing_parent_and_a_long_path_are_named(tmp_path: Path):
    (tmp_path / "f").mkdir(mode=0o700)
    (tmp_path / "f" / "s").write_text("not a socket")
    with pytest.raises(StorageError, match="cannot be bound"):
        HandoffListener(tmp_path / "f" / "s")
    with pytest.raises(StorageError, match="cannot be made"):
        HandoffListener(tmp_path / "missing" / "deeper" / "s")
    with pytest.raises(InvalidArgumentError, match="at most 107 bytes"):
        connect_handoff(tmp_path / ("x" * 108))


def test_nobody_there_and_nobody_coming_are_named(tmp_path: Path):
    with pytest.raises(UnavailableError, match="nobody listens"):
        connect_handoff(tmp_path / "nothing")
    with (
        HandoffListener(tmp_path / "p" / "s") as listener,
        pytest.raises(DeadlineExceededError, match="nobody connected"),
    ):
        listener.accept(timeout_s=0.05)


def test_a_receiver_that_takes_nothing_does_not_hold_the_sender_for_ever(tmp_path: Path):
    with HandoffListener(tmp_path / "p" / "s"), connect_handoff(tmp_path / "p" / "s") as connection:
        assert not os.get_inheritable(connection.fileno())
        with MemfdSegment.create("arena", 4096) as arena:

            def send_many() -> None:
                for _ in range(10_000):
                    send_segment(connection, arena, b"x" * 4096, timeout_s=0.05)

            with pytest.raises(DeadlineExceededError, match="did not take"):
                send_many()
