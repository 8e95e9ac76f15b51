"""Every socket has its limits, and binding takes nothing from anybody."""

from __future__ import annotations

import os
import resource
import socket as unix
import subprocess
import sys

import pytest
import zmq

from strata_zmq.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.sockets import CONTROL, REPLIES, STREAM, bind, connect, open_socket, raise_file_limit

TIMEOUT_MS = 10_000


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.DEALER, zmq.PUB, zmq.SUB, zmq.PUSH, zmq.PULL])
@pytest.mark.parametrize("limits", [CONTROL, REPLIES, STREAM], ids=["control", "replies", "stream"])
def test_every_socket_has_its_limits(opened, kind: int, limits) -> None:
    socket = opened(kind, limits=limits)
    assert socket.getsockopt(zmq.LINGER) == 0
    assert socket.getsockopt(zmq.MAXMSGSIZE) == limits.message_bytes_max
    assert socket.getsockopt(zmq.SNDHWM) == limits.send_high_water_mark > 0
    assert socket.getsockopt(zmq.RCVHWM) == limits.receive_high_water_mark > 0
    assert socket.getsockopt(zmq.HANDSHAKE_IVL) > 0


def test_a_frame_above_the_limit_cuts_its_sender_off_and_the_server_goes_on(opened) -> None:
    router = opened(zmq.ROUTER)
    endpoint = bind(router, "tcp://127.0.0.1:0")
    bad, good = opened(zmq.DEALER), opened(zmq.DEALER)
    monitor = bad.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        connect(bad, endpoint)
        connect(good, endpoint)
        bad.send(b"\0" * (CONTROL.message_bytes_max + 1))
        assert monitor.poll(TIMEOUT_MS), "the connection was not cut"
        good.send(b"\0" * CONTROL.message_bytes_max)
        assert router.poll(TIMEOUT_MS)
        assert len(router.recv_multipart()[1]) == CONTROL.message_bytes_max
        assert not router.poll(100)
    finally:
        bad.disable_monitor()
        monitor.close()


def test_a_router_says_that_a_peer_is_gone_instead_of_dropping(opened) -> None:
    router = opened(zmq.ROUTER)
    bind(router, "tcp://127.0.0.1:0")
    with pytest.raises(zmq.ZMQError) as caught:
        router.send_multipart([b"nobody", b"hello"], zmq.DONTWAIT)
    assert caught.value.errno == zmq.EHOSTUNREACH


def test_nothing_queues_for_a_peer_that_was_never_there(opened) -> None:
    dealer = opened(zmq.DEALER)
    connect(dealer, "tcp://127.0.0.1:9")
    with pytest.raises(zmq.Again):
        dealer.send(b"hello", zmq.DONTWAIT)


def test_port_0_takes_a_free_one_and_tells_which(opened) -> None:
    first, second = opened(zmq.ROUTER), opened(zmq.ROUTER)
    endpoints = {bind(one, "tcp://127.0.0.1:0") for one in (first, second)}
    assert len(endpoints) == 2
    assert all(int(endpoint.rpartition(":")[2]) > 0 for endpoint in endpoints)


def test_a_port_in_use_is_named_with_the_way_out(opened) -> None:
    endpoint = bind(opened(zmq.ROUTER), "tcp://127.0.0.1:0")
    port = endpoint.rpartition(":")[2]
    with pytest.raises(UnavailableError, match=rf"control .*:{port}' is in use.*choose another port"):
        bind(opened(zmq.ROUTER), endpoint, field="control")


@pytest.mark.parametrize("endpoint", ["tcp://203.0.113.7:50051", "tcp://no-such-interface:1"])
def test_an_address_that_is_not_this_machines_is_named(opened, tmp_path, endpoint: str) -> None:
    keys = CurveKeys.create(tmp_path / "keys")
    with pytest.raises(UnavailableError, match=r"control .* cannot be bound"):
        bind(opened(zmq.ROUTER, keys=keys, server=True), endpoint, field="control")


def test_a_socket_without_keys_does_not_listen_beyond_this_machine(opened, tmp_path) -> None:
    with pytest.raises(InvalidArgumentError, match="beyond this machine"):
        bind(opened(zmq.ROUTER), "tcp://0.0.0.0:0")
    keys = CurveKeys.create(tmp_path / "keys")
    assert bind(opened(zmq.ROUTER, keys=keys, server=True), "tcp://0.0.0.0:0")


def test_ipv6_loopback_can_be_used_where_there_is_one(opened) -> None:
    try:
        with unix.socket(unix.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        with pytest.raises(UnavailableError, match="cannot be bound"):
            bind(opened(zmq.ROUTER), "tcp://[::1]:0")
        return
    router, dealer = opened(zmq.ROUTER), opened(zmq.DEALER)
    connect(dealer, bind(router, "tcp://[::1]:0"))
    assert dealer.poll(TIMEOUT_MS, zmq.POLLOUT)
    dealer.send(b"hello")
    assert router.poll(TIMEOUT_MS)


def test_a_malformed_address_cannot_be_connected_to(opened) -> None:
    with pytest.raises(InvalidArgumentError, match="COORDINATOR_URL 'nonsense'"):
        connect(opened(zmq.DEALER), "nonsense")


def test_an_ipc_folder_is_made_for_its_owner_alone(opened, short_folder) -> None:
    path = short_folder / "deep" / "control"
    endpoint = bind(opened(zmq.ROUTER), f"ipc://{path}")
    assert endpoint == f"ipc://{path}"
    assert path.is_socket()
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o770, 0o777])
def test_an_ipc_folder_that_others_reach_is_refused_with_the_way_out(opened, short_folder, mode: int) -> None:
    folder = short_folder / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(InvalidArgumentError, match=r"control: others can reach.*chmod 700"):
        bind(opened(zmq.ROUTER), f"ipc://{folder}/control", field="control")


def test_an_ipc_folder_of_somebody_else_is_refused(opened, monkeypatch, short_folder) -> None:
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(InvalidArgumentError, match="yours alone"):
        bind(opened(zmq.ROUTER), f"ipc://{short_folder}/control")


def test_an_ipc_folder_that_cannot_be_made_is_named(opened, short_folder) -> None:
    (short_folder / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"control: the folder .* cannot be made"):
        bind(opened(zmq.ROUTER), f"ipc://{short_folder}/file/control", field="control")


def test_a_socket_file_that_nobody_listens_on_is_replaced(opened, short_folder) -> None:
    path = short_folder / "control"
    with unix.socket(unix.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.is_socket()
    router, dealer = opened(zmq.ROUTER), opened(zmq.DEALER)
    connect(dealer, bind(router, f"ipc://{path}"))
    assert dealer.poll(TIMEOUT_MS, zmq.POLLOUT)
    dealer.send(b"hello")
    assert router.poll(TIMEOUT_MS)


def test_a_socket_file_that_a_killed_process_left_is_replaced(opened, short_folder) -> None:
    path = short_folder / "control"
    code = f"import os, zmq; zmq.Context().socket(zmq.ROUTER).bind('ipc://{path}'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False, timeout=30)
    assert path.is_socket()
    bind(opened(zmq.ROUTER), f"ipc://{path}")


def test_a_socket_file_that_somebody_listens_on_is_not_stolen(opened, short_folder) -> None:
    path = short_folder / "control"
    first, dealer = opened(zmq.ROUTER), opened(zmq.DEALER)
    bind(first, f"ipc://{path}")
    inode = path.stat().st_ino
    with pytest.raises(UnavailableError, match=r"control .* is in use by another process"):
        bind(opened(zmq.ROUTER), f"ipc://{path}", field="control")
    assert path.stat().st_ino == inode
    connect(dealer, f"ipc://{path}")
    assert dealer.poll(TIMEOUT_MS, zmq.POLLOUT)
    dealer.send(b"hello")
    assert first.poll(TIMEOUT_MS)


def test_a_file_that_is_no_socket_is_not_overwritten(opened, short_folder) -> None:
    path = short_folder / "thesis.txt"
    path.write_text("years of work")
    with pytest.raises(InvalidArgumentError, match=r"control .*thesis\.txt.* is no socket"):
        bind(opened(zmq.ROUTER), f"ipc://{path}", field="control")
    assert path.read_text() == "years of work"


def test_too_many_sockets_are_an_error_by_name(context) -> None:
    context.set(zmq.MAX_SOCKETS, 2)
    made: list[zmq.Socket[bytes]] = []

    def open_many() -> None:
        made.extend(open_socket(context, zmq.DEALER, CONTROL) for _ in range(100))

    with pytest.raises(ResourceExhaustedError, match="ulimit -n"):
        open_many()
    for socket in made:
        socket.close()


def test_the_limit_on_open_files_is_raised_where_it_may_be_and_named_where_not() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))\n"
        "from strata_zmq.transport.sockets import raise_file_limit\n"
        "from strata_zmq.errors import ResourceExhaustedError\n"
        "raise_file_limit(50); assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 64\n"
        "raise_file_limit(200); assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200\n"
        "try: raise_file_limit(300)\n"
        "except ResourceExhaustedError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert "300 open files are needed and the hard limit is 256" in done.stdout
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_file_limit(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
