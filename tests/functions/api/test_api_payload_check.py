"""A payload that is no pickle is told from one that is, by its opcodes alone."""

from __future__ import annotations

import pickle  # noqa: TID251 - what is checked is what pickle makes
import pickletools  # the reference: it names each opcode and measures its argument
import warnings

import dill  # noqa: TID251 - what published clients send
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.functions.payload_check import PROTOCOL_MAX, check_pickle

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=4)
        | st.binary(max_size=8).map(bytearray)
    ),
    max_leaves=12,
)


def passes(data: bytes) -> bool:
    try:
        check_pickle(data)
    except InvalidArgumentError:
        return False
    return True


def passes_the_reference(data: bytes) -> bool:
    """pickletools reads it to the last byte, and names no protocol that is not there yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an escape that Python does not know
        try:
            found = list(pickletools.genops(data))
        except (ValueError, OverflowError):
            return False
    known = all(argument <= PROTOCOL_MAX for opcode, argument, _ in found if opcode.name == "PROTO")
    return known and found[-1][2] == len(data) - 1


@given(value=VALUES, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_whatever_pickle_writes_passes_and_its_protocol_is_told(value: object, protocol: int) -> None:
    facts = check_pickle(pickle.dumps(value, protocol))
    assert facts.protocol == (protocol if protocol >= 2 else 0)


@given(value=VALUES, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), data=st.data())
def test_a_damaged_pickle_is_judged_as_pickletools_judges_it(value: object, protocol: int, data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(value, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (passes(bytes(whole)), passes(cut)) == (passes_the_reference(bytes(whole)), passes_the_reference(cut))


@given(data=st.binary(max_size=64))
@example(data=b"payload")
@example(data=b"K.")
@example(data=b"I01\n.")
@example(data=b"S'\n.")
@example(data=b"S'a\\x41'\n.")
@example(data=b"\x8b\xff\xff\xff\xff.")
@example(data=b"T\xfb\xff\xff\xff.")  # five bytes back is itself
@example(data=b"Sa\n.")
@example(data=b"\x8c\x01\xff.")
@example(data=b"\x8d" + b"\xff" * 8 + b".")
def test_any_bytes_are_judged_as_pickletools_judges_them(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert passes(data) == passes_the_reference(data)


def test_every_opcode_of_this_python_is_known() -> None:
    arguments = {
        **dict.fromkeys(("uint1", "uint2", "int4", "uint4", "float8", "uint8"), bytes(8)),
        **dict.fromkeys(("long1", "string1", "bytes1", "unicodestring1"), b"\0"),
        **dict.fromkeys(("long4", "string4", "bytes4", "unicodestring4"), bytes(4)),
        **dict.fromkeys(("bytes8", "bytearray8", "unicodestring8"), bytes(8)),
        **dict.fromkeys(("decimalnl_short", "decimalnl_long", "floatnl"), b"1\n"),
        "stringnl": b"'a'\n",
        "unicodestringnl": b"a\n",
        "stringnl_noescape": b"a\n",
        "stringnl_noescape_pair": b"a\nb\n",
    }
    for opcode in pickletools.opcodes:
        argument = b""
        if opcode.arg is not None:
            argument = arguments[opcode.arg.name]
            argument = argument[: opcode.arg.n] if opcode.arg.n > 0 else argument
        program = opcode.code.encode("latin-1") + argument + (b"" if opcode.name == "STOP" else b".")
        assert passes(program), opcode.name


def test_what_dill_makes_of_functions_and_arguments_passes() -> None:
    for value in (lambda x: x + 1, ((1, "two"), {"three": np.arange(10_000)}), (tuple(range(100_000)), {})):
        assert check_pickle(dill.dumps(value)).protocol == dill.settings["protocol"]


def test_a_long_pickle_is_walked_across_the_borders_of_a_search() -> None:
    assert passes(pickle.dumps([2**20 + i for i in range(100_000)]))
    assert not passes(pickle.dumps([2**20 + i for i in range(100_000)])[:-3])


def test_nothing_of_a_pickle_is_run(tmp_path: object) -> None:
    """A program that would create a file on loading creates none."""
    target = f"{tmp_path}/made"
    assert passes(b"cos\nmkdir\n(X" + len(target).to_bytes(4, "little") + target.encode() + b"tR.")
    with pytest.raises(FileNotFoundError):
        open(target)  # noqa: PTH123, SIM115 - it must not be there


def test_the_error_names_the_place_and_the_way_out() -> None:
    with pytest.raises(InvalidArgumentError, match=r"at byte 0, 0xa5 is no opcode; send what dill\.dumps"):
        check_pickle(b"\xa5\xac\xad")
    with pytest.raises(InvalidArgumentError, match="2 bytes follow STOP"):
        check_pickle(b"N.N.")
    with pytest.raises(InvalidArgumentError, match="pickle protocol 6 is not known"):
        check_pickle(b"\x80\x06N.")
