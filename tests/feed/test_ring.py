"""What both ends of a shared-memory ring rely on."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    PeerLostError,
    ProtocolError,
    ResourceExhaustedError,
)
from strata_zmq.feed import slots
from strata_zmq.feed.descriptors import send_descriptors
from strata_zmq.feed.peer import Peer
from strata_zmq.feed.ring import Ring, RingConsumer, RingProducer

if TYPE_CHECKING:
    from collections.abc import Iterator

PRODUCER = """
import os, socket, sys, time
import numpy as np
from strata_zmq.feed import Peer, Ring
with socket.socket(fileno=int(sys.argv[1])) as sock, Ring.recv(sock) as ring:
    with Peer.of("consumer", os.getppid()) as peer:
        producer = ring.producer(peer)
"""


@contextmanager
def both_ends(slots: int = 2, slot_bytes: int = 1 << 16) -> Iterator[tuple[RingProducer, RingConsumer, Ring]]:
    """A ring whose two ends live in this process."""
    with Ring.create("strata-test", slots, slot_bytes) as ring, Peer.of("test", os.getpid()) as peer:
        yield ring.producer(peer), ring.consumer(peer), ring


@contextmanager
def other_process(body: str, slots: int = 2, slot_bytes: int = 1 << 16) -> Iterator[tuple[RingConsumer, int]]:
    """A ring whose producer runs `body` in a process of its own."""
    ours, theirs = socket.socketpair()
    code = PRODUCER + "".join(f"        {line}\n" for line in body.strip().splitlines())
    with ours, Ring.create("strata-test", slots, slot_bytes) as ring:
        with theirs:
            child = subprocess.Popen([sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        with child, Peer.of("producer", child.pid) as peer:
            ring.send(ours)
            try:
                yield ring.consumer(peer), child.pid
            finally:
                child.kill()


def test_every_slot_of_another_process_arrives_once_in_order_and_bit_exact():
    body = """
for k in range(200):
    slot = producer.reserve()
    slot.put("x", np.full((k % 7, 5), k, np.float32))
    slot.allocate("y", np.int64, (3,))[:] = (k, k + 1, k + 2)
    slot.commit(str(k).encode())
time.sleep(60)
"""
    with other_process(body, slots=3) as (consumer, _):
        for k in range(200):
            with consumer.receive() as slot:
                assert slot.note == str(k).encode()
                assert np.array_equal(slot.arrays["x"], np.full((k % 7, 5), k, np.float32))
                assert slot.arrays["y"].tolist() == [k, k + 1, k + 2]


def test_a_producer_waits_for_a_slow_consumer_and_overwrites_nothing():
    body = """
for k in range(4):
    slot = producer.reserve()
    slot.put("k", np.array([k]))
    slot.commit()
try:
    producer.reserve(timeout_s=0.2)
except TimeoutError as error:
    print(error, file=sys.stderr)
slot = producer.reserve()
slot.put("k", np.array([4]))
slot.commit()
time.sleep(60)
"""
    with other_process(body, slots=4) as (consumer, _):
        held = [consumer.receive() for _ in range(4)]
        with pytest.raises(DeadlineExceededError, match=r"a batch within 0\.5 s"):
            consumer.receive(timeout_s=0.5)
        assert [slot.arrays["k"].item() for slot in held] == [0, 1, 2, 3]
        held[2].release()
        with consumer.receive() as slot:
            assert slot.arrays["k"].item() == 4
        assert [held[k].arrays["k"].item() for k in (0, 1, 3)] == [0, 1, 3]


def test_a_producer_killed_while_a_batch_is_awaited_is_named_within_the_timeout():
    with other_process("time.sleep(60)") as (consumer, pid):
        os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(PeerLostError, match=f"producer {pid} died while a batch was awaited"):
            consumer.receive(timeout_s=60)
        assert time.monotonic() - started < 30


def test_a_consumer_that_died_is_named_to_its_producer():
    with Ring.create("strata-test", 1, 4096) as ring:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        with child, Peer.of("consumer", child.pid) as peer:
            producer = ring.producer(peer)
            producer.reserve().commit()
            child.kill()
            with pytest.raises(PeerLostError, match=f"consumer {child.pid} died while a free slot was awaited"):
                producer.reserve(timeout_s=60)
            assert not peer.alive


ARRAYS = hnp.arrays(
    dtype=st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    ),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
)


@settings(deadline=None, max_examples=150)
@given(
    batch=st.dictionaries(st.text("abcäß/.", min_size=1, max_size=8), ARRAYS, max_size=5), note=st.binary(max_size=99)
)
def test_any_arrays_come_out_as_they_went_in(batch, note):
    with both_ends(slots=1, slot_bytes=1 << 17) as (producer, consumer, _):
        for _ in range(2):
            slot = producer.reserve(timeout_s=1)
            for name, array in batch.items():
                slot.put(name, array.T)
            slot.commit(note)
            with consumer.receive(timeout_s=1) as got:
                assert got.note == note
                assert list(got.arrays) == list(batch)
                for name, array in batch.items():
                    view = got.arrays[name]
                    assert view.dtype == array.dtype.newbyteorder("=")
                    assert view.shape == array.T.shape
                    assert view.tobytes() == array.T.astype(view.dtype).tobytes()
                    assert not view.flags.writeable
                    assert view.ctypes.data % view.dtype.alignment == 0


@settings(deadline=None, max_examples=100)
@given(steps=st.lists(st.integers(0, 5), max_size=80))
def test_slots_may_be_released_in_any_order_and_a_held_one_is_never_written_over(steps):
    """Step 0 produces, 1 receives, any other releases one of the slots that are held."""
    made = seen = 0
    held = []
    with both_ends(slots=3, slot_bytes=64) as (producer, consumer, _):
        for step in steps:
            if step == 0:
                slot = producer.poll()
                assert (slot is not None) == (made - seen + len(held) < 3)
                if slot is not None:
                    slot.put("k", np.array([made]))
                    slot.commit()
                    made += 1
            elif step == 1:
                got = consumer.poll()
                assert (got is not None) == (made > seen)
                if got is not None:
                    held.append((seen, got))
                    seen += 1
            elif held:
                held.pop(step % len(held))[1].release()
            assert consumer.held == len(held)
            assert [got.arrays["k"].item() for _, got in held] == [k for k, _ in held]


def test_a_batch_too_large_for_its_slot_names_both_sizes():
    with both_ends(slot_bytes=4096) as (producer, consumer, _):
        slot = producer.reserve()
        slot.put("small", np.zeros(16))
        with pytest.raises(ResourceExhaustedError, match=r"'large'.*ends at byte 4352 of a slot that holds 4096"):
            slot.put("large", np.zeros(512))
        slot.clear()
        slot.put("large", np.ones(512))
        slot.commit()
        assert consumer.receive().arrays["large"].sum() == 512


@pytest.mark.parametrize(
    "dtype", ["O", "S4", "U4", "M8[s]", "m8[s]", "V8", np.longdouble, [("a", "i4"), ("b", "f8")], [("a", "O")]]
)
def test_only_plain_numbers_travel(dtype):
    with both_ends() as (producer, _, _ring):
        with pytest.raises(InvalidArgumentError, match=r"array 'x': dtype .* cannot travel.*float32"):
            producer.reserve().allocate("x", dtype, (2,))


def test_names_shapes_notes_and_counts_have_limits():
    with both_ends() as (producer, consumer, _):
        slot = producer.reserve()
        slot.put("x", np.zeros(1))
        for name, shape, says in (("x", (1,), "there already"), ("", (1,), "name"), ("y" * 65, (1,), "name")):
            with pytest.raises(InvalidArgumentError, match=says):
                slot.allocate(name, "f4", shape)
        for shape in ((-1,), (1,) * 33):
            with pytest.raises(InvalidArgumentError, match="dimensions"):
                slot.allocate("z", "f4", shape)
        with pytest.raises(InvalidArgumentError, match="note"):
            slot.commit(b"x" * (slots.NOTE_BYTES_MAX + 1))
        for k in range(64):
            slot.allocate(f"n{k}", "u1", ())
        with pytest.raises(InvalidArgumentError, match="at most 64 arrays, got 65"):
            slot.commit()
        assert consumer.poll() is None
        slot.clear()
        slot.commit(b"x" * slots.NOTE_BYTES_MAX)
        assert consumer.receive().note == b"x" * slots.NOTE_BYTES_MAX


def test_the_longest_description_that_the_limits_allow_fits_the_header():
    with both_ends() as (producer, consumer, _):
        slot = producer.reserve()
        for k in range(64):
            slot.allocate(f"{k:064}", "f8", (1,) * 32)
        slot.commit(b"x" * slots.NOTE_BYTES_MAX)
        assert len(consumer.receive().arrays) == 64


def test_a_slot_is_committed_once_and_one_is_open_at_a_time():
    with both_ends() as (producer, _, _ring):
        slot = producer.reserve()
        with pytest.raises(InvalidArgumentError, match="commit the reserved slot"):
            producer.reserve()
        slot.commit()
        with pytest.raises(InvalidArgumentError, match="committed already"):
            slot.commit()


@pytest.mark.parametrize(("count", "size"), [(0, 1), (5000, 1), (1, 0), (1, -5)])
def test_a_ring_of_impossible_shape_is_refused(count, size):
    with pytest.raises(InvalidArgumentError, match=r"ring slot(s|_bytes)"):
        Ring.create("strata-test", count, size)


def description(**changes: object) -> bytes:
    spec = {"name": "x", "dtype": "<f4", "shape": [4], "offset": 0, **changes}
    return msgspec.msgpack.encode([[list(spec.values())], b""])


@pytest.mark.parametrize(
    "body",
    [
        description(dtype="|O8"),
        description(dtype="<f4,<f4"),
        description(dtype="nonsense"),
        description(shape=[1 << 40]),
        description(shape=[1 << 62, 1 << 62]),
        description(shape=[-1]),
        description(shape=[1] * 33),
        description(offset=-256),
        description(offset=4096),
        description(offset=4),
        description(offset=1 << 63),
        msgspec.msgpack.encode([[["x", "<f4", [1], 0], ["x", "<f4", [1], 256]], b""]),
        msgspec.msgpack.encode([[], b"", "more"]),
        msgspec.msgpack.encode({"arrays": []}),
        b"\xc1",
        b"",
        b"\xa1\xff",
    ],
)
def test_a_wrong_description_is_an_error_and_the_ring_goes_on(body):
    with both_ends(slot_bytes=4096) as (producer, consumer, ring):
        producer.reserve().commit()
        ring.places[0][0][4:8] = len(body).to_bytes(4, sys.byteorder)
        ring.places[0][0][16 : 16 + len(body)] = body
        with pytest.raises(ProtocolError, match="slot 0"):
            consumer.receive()
        assert consumer.held == 0
        for _ in range(3):
            producer.reserve().commit(b"fine")
            with consumer.receive() as slot:
                assert slot.note == b"fine"


@settings(deadline=None, max_examples=200)
@given(noise=st.binary(max_size=64), at=st.integers(0, 80))
def test_a_damaged_header_never_leads_outside_its_slot(noise, at):
    with both_ends(slots=1, slot_bytes=4096) as (producer, consumer, ring):
        slot = producer.reserve()
        slot.put("x", np.arange(8.0))
        slot.commit(b"note")
        ring.places[0][0][at : at + len(noise)] = noise
        try:
            got = consumer.receive()
        except ProtocolError:
            return
        for array in got.arrays.values():
            assert array.nbytes <= got.payload.size <= 4096


def test_a_slot_written_out_of_turn_is_refused():
    with both_ends(slots=1) as (producer, consumer, ring):
        producer.reserve().commit()
        ring.places[0][0][8:16] = (5).to_bytes(8, sys.byteorder)
        with pytest.raises(ProtocolError, match="slot 0: the header carries sequence number 5"):
            consumer.receive()


def test_impossible_slot_numbers_are_refused():
    with both_ends(slots=2) as (producer, consumer, ring):
        _, ready = ring.geometry.queues(ring.segment)
        producer.reserve().commit()
        ready[0] = 7
        with pytest.raises(ProtocolError, match="slot number 7 in a ring of 2"):
            consumer.poll()
    with both_ends(slots=2) as (producer, consumer, ring):
        _, ready = ring.geometry.queues(ring.segment)
        producer.reserve().commit()
        producer.reserve().commit()
        ready[1] = 0
        held = consumer.receive()
        with pytest.raises(ProtocolError, match="slot 0, which is still held"):
            consumer.poll()
        held.release()


def test_a_slot_stays_readable_after_the_ring_is_closed_and_nothing_else_works():
    with both_ends() as (producer, consumer, ring):
        slot = producer.reserve()
        slot.put("x", np.arange(10))
        slot.commit()
        got = consumer.receive()
        opened = producer.reserve()
        ring.close()
        ring.close()
        assert got.arrays["x"].tolist() == list(range(10))
        got.release()
        for forbidden in (opened.commit, consumer.poll, consumer.receive):
            with pytest.raises(InvalidArgumentError, match="ring: closed"):
                forbidden()


@pytest.mark.parametrize("label", [b"", b"\x92\x01", msgspec.msgpack.encode((9, 4096)), msgspec.msgpack.encode((0, 1))])
def test_descriptors_that_are_no_ring_are_refused_and_closed_though_the_error_is_kept(label):
    ours, theirs = socket.socketpair()
    with ours, theirs, Ring.create("strata-test", 2, 4096) as ring:
        gc.collect()
        before = len(list(Path("/proc/self/fd").iterdir()))
        send_descriptors(ours, [ring.segment.fd, ring.free_fd, ring.ready_fd], label)
        with pytest.raises(ProtocolError, match="no ring") as kept:
            Ring.recv(theirs)
        assert kept.value.__cause__ is not None
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_process_that_does_not_exist_cannot_be_watched():
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(PeerLostError, match=f"loader {child.pid} does not exist"):
        Peer.of("loader", child.pid)
