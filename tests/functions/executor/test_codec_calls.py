"""What a client packs can be loaded where the call runs, is sent once, and is what the function was at the call."""

from __future__ import annotations

import functools
import gc
import operator
import pickle  # noqa: TID251 - a child loads what is packed
import threading
import types
import weakref
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Payload
from strata_zmq.functions.codec import BUFFER_BYTES_MIN, Codec

CODECS = pytest.mark.parametrize("codec", [Codec(by_value=False), Codec(by_value=True)], ids=["local", "remote"])

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def doubled(self) -> int:
        return 2 * self.cents


def loaded(payload: Payload) -> Any:
    if isinstance(payload, bytes):
        return pickle.loads(payload)  # noqa: S301
    return pickle.loads(payload[0], buffers=payload[1:])  # noqa: S301


def in_main(source: str, **names: object) -> types.FunctionType:
    """A function `call` as a script would define it."""
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, namespace)  # noqa: S102 - what a script is to Python
    return namespace["call"]


def ran(codec: Codec, fn: Any, *args: Any) -> Any:
    """What the call gives where it is loaded."""
    digest, packed, payload, _ = codec.pack_call(fn, args, {})
    if digest == CALL_IN_PAYLOAD:
        there, values, keywords = loaded(payload)
    else:
        assert packed is not None
        assert packed.digest == digest
        there, (values, keywords) = loaded(packed.payload), loaded(payload)
    return there(*values, **keywords)


@CODECS
@given(args=st.tuples(VALUES, VALUES), kwargs=st.dictionaries(st.text(), VALUES))
def test_arguments_arrive_as_they_are(codec: Codec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _, _, payload, refs = codec.pack_call(len, args, kwargs)
    assert loaded(payload) == (args, kwargs)
    assert refs == ()


@CODECS
@pytest.mark.parametrize("fn", [abs, operator.neg, Money, int], ids=["builtin", "extension", "class", "type"])
def test_what_has_a_name_is_packed_once_and_known_by_its_digest(codec: Codec, fn: Any) -> None:
    first = codec.pack_call(fn, (1,), {})
    assert first[0] != CALL_IN_PAYLOAD
    assert codec.pack_call(fn, (2,), {})[1] is first[1]


@CODECS
@pytest.mark.parametrize(
    "fn",
    [Money(4).doubled, functools.partial(pow, 2, 3), "x".upper],
    ids=["bound method", "partial", "built-in method"],
)
def test_what_holds_data_travels_in_the_payload(codec: Codec, fn: Any) -> None:
    assert codec.pack_call(fn, (), {})[:2] == (CALL_IN_PAYLOAD, None)
    assert ran(codec, fn) == fn()


@CODECS
def test_lambdas_and_local_functions_travel_by_value(codec: Codec) -> None:
    base = 10
    assert ran(codec, lambda x: x + base, 5) == 15


@CODECS
def test_a_local_function_is_packed_once_while_nothing_that_it_uses_changes(codec: Codec) -> None:
    fn = in_main("def call(x): return x * factor", factor=3)
    assert codec.pack_function(fn) is codec.pack_function(fn)


def double(x: int) -> int:
    return 2 * x


def rebind_global(fn: types.FunctionType) -> None:
    fn.__globals__["factor"] = 7


def change_in_place(fn: types.FunctionType) -> None:
    fn.__globals__["table"].append(7)


def rebind_helper(fn: types.FunctionType) -> None:
    fn.__globals__["helper"] = in_main("def call(x): return x * 7")


def rebind_in_helper(fn: types.FunctionType) -> None:
    fn.__globals__["helper"].__globals__["factor"] = 7


def replace_code(fn: types.FunctionType) -> None:
    fn.__code__ = in_main("def call(x): return x * 7").__code__


def replace_default(fn: types.FunctionType) -> None:
    fn.__defaults__ = (7,)


@CODECS
@pytest.mark.parametrize(
    ("fn", "change"),
    [
        (lambda: in_main("def call(x): return x * factor", factor=3), rebind_global),
        (lambda: in_main("def call(x): return x * table[-1]", table=[3]), change_in_place),
        (lambda: in_main("def call(x): return helper(x)", helper=in_main("def call(x): return x * 3")), rebind_helper),
        (
            lambda: in_main(
                "def call(x): return helper(x)", helper=in_main("def call(x): return x * factor", factor=3)
            ),
            rebind_in_helper,
        ),
        (lambda: in_main("def call(x): return x * 3"), replace_code),
        (lambda: in_main("def call(x, factor=3): return x * factor"), replace_default),
    ],
    ids=["global", "in place", "helper", "helper's global", "code", "default"],
)
def test_the_next_call_sees_what_was_changed(codec: Codec, fn: Any, change: Any) -> None:
    """A function that travels by value takes along what it uses, as it is at the call and not as it once was."""
    fn = fn()
    assert ran(codec, fn, 2) == 6
    change(fn)
    assert ran(codec, fn, 2) == 14


@CODECS
def test_a_variable_that_is_closed_over_may_change_between_calls(codec: Codec) -> None:
    factor = 3

    def call(x: int) -> int:
        return x * factor

    assert ran(codec, call, 2) == 6
    factor = 7
    assert ran(codec, call, 2) == 14


def test_what_main_defines_goes_by_name_to_own_children_and_by_value_elsewhere() -> None:
    main = in_main("def call(x): return x + 1")
    packed = Codec(by_value=True).pack_function(main)
    assert packed is not None
    assert b"cloudpickle" in packed.payload
    named = Codec(by_value=False).pack_function(double)
    assert named is not None
    assert b"cloudpickle" not in named.payload


def test_instances_of_a_class_of_main_take_their_class_along_elsewhere() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class Point:\n    x = 3", namespace)  # noqa: S102
    _, _, payload, _ = Codec(by_value=True).pack_call(double, (namespace["Point"](),), {})
    (point,), _ = loaded(payload)
    assert point.x == 3


@CODECS
def test_large_buffers_stay_out_of_the_stream_and_are_not_copied(codec: Codec) -> None:
    large, small = np.arange(BUFFER_BYTES_MIN, dtype=np.uint8), np.arange(10)
    _, _, payload, _ = codec.pack_call(double, ([large, small],), {})
    assert isinstance(payload, tuple)
    assert len(payload) == 2
    assert np.shares_memory(np.frombuffer(payload[1], np.uint8), large)
    ((there, _),), _ = loaded(payload)
    assert np.array_equal(there, large)


def test_equal_values_have_equal_digests_and_others_do_not() -> None:
    codec = Codec(by_value=False)
    first, second = np.zeros(BUFFER_BYTES_MIN, np.uint8), np.ones(BUFFER_BYTES_MIN, np.uint8)
    assert codec.pack_value(first).digest == codec.pack_value(first.copy()).digest
    assert codec.pack_value(first).digest != codec.pack_value(second).digest


def test_a_connection_is_handed_over_as_multiprocessing_does_it() -> None:
    """Packed as a plain object it would be the bare number of a descriptor that means something else in the child."""
    here, there = Pipe()
    with here, there:
        _, _, payload, _ = Codec(by_value=False).pack_call(len, (there,), {})
        assert b"rebuild_connection" in (payload if isinstance(payload, bytes) else payload[0])
        (other,), _ = loaded(payload)
        with other:
            other.send("through the handed-over end")
            assert here.recv() == "through the handed-over end"


@CODECS
def test_what_cannot_be_packed_raises_its_own_error(codec: Codec) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        codec.pack_call(len, (threading.Lock(),), {})


@CODECS
def test_the_codec_keeps_few_functions_alive(codec: Codec) -> None:
    """None that has a name, none that holds data, and a bounded number of those that travel by value."""
    born = [weakref.ref(packed_and_dropped(codec, index)) for index in range(200)]
    gc.collect()
    assert sum(fn() is not None for fn in born) <= 64
    held = Money(1)
    codec.pack_call(held.doubled, (), {})
    gone = weakref.ref(held)
    del held
    assert gone() is None


def packed_and_dropped(codec: Codec, index: int) -> types.FunctionType:
    fn = in_main("def call(): return number", number=index)
    codec.pack_function(fn)
    return fn
