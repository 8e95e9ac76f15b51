"""Addresses as people write them, and the refusal to listen beyond this machine without keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import InvalidArgumentError, StrataError
from strata_zmq.transport.endpoints import check_bindable, ipc_path, is_local, parse_endpoint, seen_over


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("localhost:50051", "tcp://127.0.0.1:50051"),
        ("LOCALHOST:50051", "tcp://127.0.0.1:50051"),
        ("localhost", "tcp://127.0.0.1:50051"),
        ("node-7:1", "tcp://node-7:1"),
        ("tcp://10.0.0.1:65535", "tcp://10.0.0.1:65535"),
        ("127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("[::1]:50051", "tcp://[::1]:50051"),
        ("tcp://[fe80::1]", "tcp://[fe80::1]:50051"),
        ("ipc:///run/strata/control", "ipc:///run/strata/control"),
    ],
)
def test_an_address_is_understood_as_people_write_it(text: str, endpoint: str) -> None:
    assert parse_endpoint(text) == endpoint


def test_the_default_port_is_the_fields_own() -> None:
    assert parse_endpoint("localhost", default_port=50_052) == "tcp://127.0.0.1:50052"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":50051",
        "tcp://",
        "http://localhost:50051",
        "inproc://here",
        "localhost:port",
        "localhost:65536",
        "localhost:-1",
        "localhost:50051/path",
        "localhost:50051?x=1",
        "localhost:50051#x",
        "user@localhost:50051",
        "[::1",
        "a\0b:1",
        "two words:1",
        "ipc://relative/path",
        "ipc://",
        "ipc:///" + "x" * 107,
    ],
)
def test_what_is_no_address_is_refused_with_the_field_and_the_way_out(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"(?s)--control.*(write host:port|shorter folder)"):
        parse_endpoint(text, field="--control")


@given(text=st.text(max_size=60) | st.from_regex(r"(tcp://|ipc://)?[\w.\[\]:/@#?-]{0,40}", fullmatch=True))
def test_any_text_is_an_address_that_reads_the_same_again_or_an_error_by_name(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except StrataError:
        return
    assert parse_endpoint(endpoint) == endpoint


def test_the_file_behind_an_ipc_address() -> None:
    assert ipc_path("ipc:///run/strata/control") == "/run/strata/control"
    assert ipc_path("tcp://127.0.0.1:1") is None


@pytest.mark.parametrize(
    "endpoint", ["ipc:///x", "tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://localhost:1", "tcp://[::1]:1"]
)
def test_local_addresses_need_no_keys(endpoint: str) -> None:
    assert is_local(endpoint)
    check_bindable(endpoint, secured=False, field="control")


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:1", "tcp://*:1", "tcp://10.0.0.1:1", "tcp://[::]:1", "tcp://node-7:1", "tcp://eth0:1"]
)
def test_listening_beyond_this_machine_needs_keys(endpoint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"control .*beyond this machine.*--curve-keys"):
        check_bindable(endpoint, secured=False, field="control")
    check_bindable(endpoint, secured=True, field="control")


@pytest.mark.parametrize(
    ("endpoint", "over", "seen"),
    [
        ("tcp://0.0.0.0:50052", "tcp://node-7:50051", "tcp://node-7:50052"),
        ("tcp://[::]:7", "tcp://[fe80::1]:50051", "tcp://[fe80::1]:7"),
        ("tcp://10.0.0.1:50052", "tcp://node-7:50051", "tcp://10.0.0.1:50052"),
        ("tcp://0.0.0.0:50052", "ipc:///run/control", "tcp://0.0.0.0:50052"),
        ("ipc:///run/broadcast", "tcp://node-7:50051", "ipc:///run/broadcast"),
    ],
)
def test_a_server_on_every_address_is_found_at_the_one_that_was_used(endpoint: str, over: str, seen: str) -> None:
    assert seen_over(endpoint, over) == seen
