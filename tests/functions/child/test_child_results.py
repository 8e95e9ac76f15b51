"""Large arguments are seen where they lie, large results come as memory, and what is too large is told as such."""

from __future__ import annotations

import os
import pickle  # noqa: TID251 - a client packs what a child loads
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from functionkit import errands, nasty
from functionkit.bare_child import Answered, BareChild

from strata_zmq.domain.task import CALL_IN_PAYLOAD
from strata_zmq.functions.child.values import resolve
from strata_zmq.functions.pool import packets
from strata_zmq.functions.pool.packets import Place

MIB = 2**20
ROWS = 100_000


@pytest.fixture(scope="module")
def child() -> Iterator[BareChild]:
    with BareChild() as child:
        yield child.ready()


class Segment:
    """A memfd with a pickle and its buffers."""

    def __init__(self, value: object) -> None:
        buffers: list[pickle.PickleBuffer] = []
        stream = pickle.dumps(value, 5, buffer_callback=buffers.append)
        self.descriptor = os.memfd_create("test")
        self.places: list[Place] = []
        at = 0
        for part in (stream, *(buffer.raw() for buffer in buffers)):
            os.pwrite(self.descriptor, part, at)
            self.places.append(Place(0, at, memoryview(part).nbytes))
            at += -(-memoryview(part).nbytes // 64) * 64

    @property
    def first(self) -> Place:
        return self.places[0]

    @property
    def others(self) -> list[Place]:
        return self.places[1:]


def run_mapped(child: BareChild, fn: Callable[..., object], *args: object, **fields: Any) -> tuple[Answered, bytes]:
    """Run a call whose arguments lie in a memfd; return its answer and the memfd's bytes afterwards."""
    segment = Segment((fn, args, {}))
    try:
        call = child.packed(CALL_IN_PAYLOAD, segment.first, buffers=segment.others, **fields)
        child.send(call, descriptors=[segment.descriptor])
        return child.answers(1)[0], os.pread(segment.descriptor, 64 * MIB, 0)
    finally:
        os.close(segment.descriptor)


def test_an_array_is_seen_where_it_lies_and_its_memory_is_free_afterwards(child: BareChild) -> None:
    array = np.arange(ROWS, dtype=np.float64)
    answer, _ = run_mapped(child, errands.total, array, array[:10])
    assert answer.value == float(array.sum() + array[:10].sum())
    assert answer.result.released


def test_what_a_function_writes_into_its_argument_is_its_own(child: BareChild) -> None:
    array = np.arange(ROWS, dtype=np.float64)
    answer, memory = run_mapped(child, errands.scribble, array)
    assert np.all(answer.value == 7)
    assert answer.value.flags.writeable
    assert array.tobytes() in memory
    assert answer.result.released


def test_memory_that_a_function_keeps_looking_at_is_told_as_not_free(child: BareChild) -> None:
    answer, _ = run_mapped(child, nasty.keep_argument, np.arange(ROWS))
    assert answer.result.kind == "ok"
    assert not answer.result.released
    answer, _ = run_mapped(child, errands.total, np.arange(ROWS))
    assert answer.result.released, "the call after it has nothing to do with that"


def test_an_exception_does_not_hold_the_memory_of_its_call(child: BareChild) -> None:
    answer, _ = run_mapped(child, nasty.raise_with_argument, np.arange(ROWS))
    assert type(answer.value) is ValueError
    assert answer.result.released


def test_large_results_come_as_memory_beside_small_ones_of_the_same_packet(child: BareChild) -> None:
    child.send(
        child.call(errands.add, 1),
        child.call(nasty.return_much, 3 * MIB),
        child.call(np.ones, ROWS),
        child.call(errands.add, 2),
    )
    one, many, ones, two = child.answers(4)
    assert (one.value, two.value) == (1, 2)
    assert many.value == bytes(3 * MIB)
    assert isinstance(ones.payload, tuple)
    assert len(ones.payload) == 2, "the array's memory is beside the pickle"
    assert ones.value.sum() == ROWS
    ones.value[0] = 2.0


def test_the_published_form_gives_plain_pickles_of_any_size(child: BareChild) -> None:
    body = pickle.dumps((np.ones, (ROWS,), {}))
    child.send(child.packed(CALL_IN_PAYLOAD, body, dill=True))
    [answer] = child.answers(1)
    assert answer.result.buffers == []
    assert answer.value.sum() == ROWS


@pytest.mark.parametrize(("fn", "size"), [(nasty.return_much, MIB), (np.zeros, MIB // 8)])
def test_a_result_may_have_as_many_bytes_as_allowed_and_not_more(
    child: BareChild, fn: Callable[..., object], size: int
) -> None:
    fine = child.run(fn, size, result_bytes_max=MIB + 1024)
    assert fine.result.kind == "ok"
    over = child.run(fn, size, result_bytes_max=MIB)
    assert (over.result.kind, over.result.cause, over.payload) == ("failure", "result_too_large", None)
    assert over.report is not None
    assert str(MIB) in over.report.text
    assert "result_bytes_max" in over.report.text


def test_a_result_without_a_name_comes_by_value(child: BareChild) -> None:
    assert child.run(nasty.return_function, 2).value(40) == 42


def test_a_value_that_was_put_is_loaded_once_and_cannot_be_written_to(child: BareChild) -> None:
    segment = Segment(np.arange(ROWS, dtype=np.float64))
    digest = b"v" * 16
    child.order(packets.encode_keep(packets.Keep(digest, segment.first, segment.others)), [segment.descriptor])
    os.close(segment.descriptor)
    reference = _Reference(digest)
    assert child.run(errands.total, reference, reference).value == 2 * float(np.arange(ROWS).sum())
    first, second = (child.run(nasty.identity, reference).value for _ in range(2))
    assert first == second
    answer = child.run(errands.scribble, reference)
    assert type(answer.value) is ValueError
    assert "read-only" in str(answer.value)
    child.order(packets.encode_forget([digest]))
    gone = child.run(errands.total, reference)
    assert gone.result.cause == "unloadable_call"


class _Reference:
    """What a client's reference is packed as."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return resolve, (self.digest,)


def test_a_value_that_cannot_be_loaded_fails_the_calls_that_need_it_alone(child: BareChild) -> None:
    child.order(packets.encode_keep(packets.Keep(b"w" * 16, b"no pickle")))
    child.order(packets.encode_keep(packets.Keep(b"x" * 16, Place(3, 0, 10))))
    for digest in (b"w" * 16, b"x" * 16):
        child.send(child.call(nasty.identity, _Reference(digest)), child.call(errands.add, 1))
        broken, fine = child.answers(2)
        assert (broken.result.kind, broken.result.cause) == ("failure", "unloadable_call")
        assert fine.value == 1


@pytest.mark.parametrize("place", [Place(2, 0, 10), Place(0, 5000, 10)])
def test_a_call_that_names_memory_which_did_not_come_fails_alone(child: BareChild, place: Place) -> None:
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, 4096)
    child.send(child.packed(CALL_IN_PAYLOAD, place), child.call(errands.add, 1), descriptors=[descriptor])
    os.close(descriptor)
    broken, fine = child.answers(2)
    assert (broken.result.kind, broken.result.cause) == ("failure", "unloadable_call")
    assert broken.report is not None
    assert "descriptor" in broken.report.text
    assert fine.value == 1


def test_a_child_without_a_descriptor_left_fails_large_results_and_lives() -> None:
    with BareChild() as child:
        assert child.ready().run(errands.add, 1).value == 1
        answer = child.run(nasty.open_all_descriptors, 3 * MIB)
        assert (answer.result.kind, answer.result.cause) == ("failure", "result_too_large")
        assert answer.report is not None
        assert "Too many open files" in answer.report.text
        assert child.run(errands.add, 1).value == 1
