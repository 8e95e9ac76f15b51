"""What users of shared memory rely on: sizes that hold, descriptors that travel, nothing left behind."""

from __future__ import annotations

import array
import gc
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    PeerLostError,
    ProtocolError,
    ResourceExhaustedError,
)
from strata_zmq.feed.memory import available_memory
from strata_zmq.feed.segment import LABEL_BYTES_MAX, MemfdSegment, recv_segment, send_segment


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def test_what_one_holder_writes_another_reads(pair):
    left, right = pair
    with MemfdSegment.create("strata-test", 10_000) as mine:
        assert mine.size == 12_288
        send_segment(left, mine, b"staging/rank-0")
        theirs, label = recv_segment(right)
        with theirs:
            assert label == b"staging/rank-0"
            mine.array(np.float32, (3, 4), offset=4096)[:] = np.arange(12).reshape(3, 4)
            assert theirs.array("<f4", (3, 4), 4096).tolist() == np.arange(12).reshape(3, 4).tolist()
            theirs.view[-1] = 7
            assert mine.view[mine.size - 1] == 7


def test_a_received_descriptor_is_not_inherited_by_later_children(pair):
    left, right = pair
    with MemfdSegment.create("strata-test", 1) as mine:
        send_segment(left, mine, b"")
        theirs, _ = recv_segment(right)
        with theirs:
            assert not os.get_inheritable(mine.fd)
            assert not os.get_inheritable(theirs.fd)


def test_the_memory_survives_the_process_that_made_it(pair):
    left, right = pair
    code = (
        "import socket, sys, numpy as np\n"
        "from strata_zmq.feed.segment import MemfdSegment, send_segment\n"
        "segment = MemfdSegment.create('strata-test', 1 << 20)\n"
        "segment.array(np.int64, (1 << 17,))[:] = np.arange(1 << 17)\n"
        "send_segment(socket.socket(fileno=int(sys.argv[1])), segment, b'left behind on purpose')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(left.fileno())], pass_fds=[left.fileno()], check=True)
    theirs, label = recv_segment(right)
    with theirs:
        assert label == b"left behind on purpose"
        assert np.array_equal(theirs.array(np.int64, (1 << 17,)), np.arange(1 << 17))


def test_several_segments_and_other_bytes_share_one_socket(pair):
    left, right = pair
    for size, label in ((4096, b"a"), (8192, b"b" * LABEL_BYTES_MAX), (1, b"")):
        with MemfdSegment.create("strata-test", size) as segment:
            send_segment(left, segment, label)
    left.sendall(b"after")
    for size, label in ((4096, b"a"), (8192, b"b" * LABEL_BYTES_MAX), (4096, b"")):
        segment, got = recv_segment(right)
        with segment:
            assert (segment.size, got) == (size, label)
    assert right.recv(16) == b"after"


def test_nobody_can_shrink_or_grow_a_segment():
    with MemfdSegment.create("strata-test", 8192) as segment:
        for size in (4096, 12_288):
            with pytest.raises(PermissionError):
                os.ftruncate(segment.fd, size)


def test_arrays_outlive_close():
    segment = MemfdSegment.create("strata-test", 1 << 22)
    kept = segment.array(np.uint8, (1 << 22,))
    kept[:] = 5
    part = segment.view[100:200]
    segment.close()
    segment.close()
    assert kept.sum() == 5 << 22
    assert bytes(part) == b"\5" * 100
    with pytest.raises(InvalidArgumentError, match="closed"):
        segment.array(np.uint8, (1,))
    with pytest.raises(InvalidArgumentError, match="closed"):
        _ = segment.view


def test_a_read_only_holder_cannot_write(pair):
    left, right = pair
    with MemfdSegment.create("strata-test", 4096) as mine:
        send_segment(left, mine, b"")
        theirs, _ = recv_segment(right, writable=False)
    with theirs:
        assert theirs.view.readonly
        with pytest.raises(ValueError, match="read-only"):
            theirs.array(np.uint8, (4,))[0] = 1


@pytest.mark.parametrize("size", [1 << 50, 1 << 63, 1 << 70])
def test_more_memory_than_there_is_is_an_error_and_no_signal(size):
    with pytest.raises(ResourceExhaustedError, match=str(size)):
        MemfdSegment.create("strata-test", size)


@pytest.mark.parametrize(("name", "size"), [("", 1), ("x" * 201, 1), ("a\0b", 1), ("ok", 0), ("ok", -1)])
def test_a_bad_name_or_size_names_its_limit(name, size):
    with pytest.raises(InvalidArgumentError, match=r"segment (name|size)"):
        MemfdSegment.create(name, size)


@pytest.mark.parametrize(
    ("dtype", "shape", "offset"),
    [("u1", (4097,), 0), ("f8", (1,), 4089), ("u1", (1,), -1), ("u1", (-1,), 0), ("O", (1,), 0)],
)
def test_an_array_outside_the_segment_is_refused(dtype, shape, offset):
    with (
        MemfdSegment.create("strata-test", 4096) as segment,
        pytest.raises(InvalidArgumentError, match="segment array"),
    ):
        segment.array(dtype, shape, offset)


def test_an_unsealed_or_foreign_descriptor_is_refused_and_closed(tmp_path: Path):
    unsealed = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 4096)
    with pytest.raises(ProtocolError, match="sealed"):
        MemfdSegment.attach(unsealed)
    plain = os.open(tmp_path / "plain", os.O_CREAT | os.O_RDWR)
    with pytest.raises(ProtocolError, match="memfd"):
        MemfdSegment.attach(plain)
    for fd in (unsealed, plain):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_segment_of_another_size_than_announced_is_refused():
    with MemfdSegment.create("strata-test", 4096) as segment, pytest.raises(ProtocolError, match=r"8192.*4096"):
        MemfdSegment.attach(os.dup(segment.fd), 8192)


def test_a_silent_a_closed_and_a_babbling_sender_each_have_their_error(pair):
    left, right = pair
    with pytest.raises(DeadlineExceededError, match="within"):
        recv_segment(right, timeout_s=0.05)
    assert right.gettimeout() is None
    left.sendall(b"GET / HTTP/1.1\r\n")
    with pytest.raises(ProtocolError, match="format"):
        recv_segment(right)
    left.close()
    with pytest.raises(PeerLostError, match="closed"):
        recv_segment(right)


def test_descriptors_that_nobody_asked_for_are_not_kept(pair):
    left, right = pair
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    head = b"STFD" + (3).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"x"
    with MemfdSegment.create("strata-test", 4096) as segment:
        left.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [segment.fd] * 3))])
        with pytest.raises(ProtocolError, match="1 expected, 3 announced"):
            recv_segment(right)
    left.sendall(b"STFD" + (1).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"x")
    with pytest.raises(ProtocolError, match="0 received"):
        recv_segment(right)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_sending_to_nobody_names_the_label(pair):
    left, right = pair
    right.close()
    with MemfdSegment.create("strata-test", 4096) as segment:
        with pytest.raises(PeerLostError, match="rank-3"):
            send_segment(left, segment, b"rank-3")
        with pytest.raises(InvalidArgumentError, match="label"):
            send_segment(left, segment, b"x" * (LABEL_BYTES_MAX + 1))


def test_the_tightest_limit_on_the_way_to_the_root_counts(tmp_path: Path):
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert available_memory(tmp_path) is None
    write("proc/meminfo", "MemTotal:  2000 kB\nMemAvailable:   1000 kB\n")
    assert available_memory(tmp_path) == 1_024_000
    write("proc/self/cgroup", "4:memory:/job/task\n0::/slice/job\n")
    write("sys/fs/cgroup/slice/job/memory.max", "max\n")
    write("sys/fs/cgroup/slice/job/memory.current", "5\n")
    assert available_memory(tmp_path) == 1_024_000
    write("sys/fs/cgroup/slice/memory.max", "900000\n")
    write("sys/fs/cgroup/slice/memory.current", "300000\n")
    write("sys/fs/cgroup/slice/memory.stat", "anon 1\ninactive_file 100000\n")
    assert available_memory(tmp_path) == 700_000
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "50000\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "60000\n")
    assert available_memory(tmp_path) == 0
