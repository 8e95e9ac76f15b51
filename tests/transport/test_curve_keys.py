"""One key folder secures every socket of a job: who has it takes part, who has not is never heard."""

from __future__ import annotations

import stat

import pytest
import zmq

from strata_zmq.errors import InvalidArgumentError, StorageError
from strata_zmq.transport.curve import CurveKeys, accept_job_key_only
from strata_zmq.transport.sockets import bind, connect

TIMEOUT_MS = 10_000
REFUSAL_MS = 700


@pytest.fixture
def keys(tmp_path) -> CurveKeys:
    return CurveKeys.create(tmp_path / "job")


@pytest.fixture
def gate(context, keys):
    handler = accept_job_key_only(context, keys)
    yield handler
    handler.stop()


@pytest.fixture
def router(gate, opened, keys):
    return opened(zmq.ROUTER, keys=keys, server=True)


def test_holders_of_the_jobs_key_are_heard(router, opened, keys) -> None:
    dealer = opened(zmq.DEALER, keys=keys)
    connect(dealer, bind(router, "tcp://127.0.0.1:0"))
    assert dealer.poll(TIMEOUT_MS, zmq.POLLOUT)
    dealer.send(b"hello")
    assert router.poll(TIMEOUT_MS)
    connection, body = router.recv_multipart()
    router.send_multipart([connection, body])
    assert dealer.poll(TIMEOUT_MS)
    assert dealer.recv() == b"hello"


def test_broadcasts_are_for_holders_of_the_jobs_key(gate, opened, keys, tmp_path, eventually) -> None:
    publisher = opened(zmq.PUB, keys=keys, server=True)
    endpoint = bind(publisher, "tcp://127.0.0.1:0")
    subscribers = {
        "holder": opened(zmq.SUB, keys=keys),
        "stranger": opened(zmq.SUB, keys=CurveKeys.create(tmp_path / "other")),
        "nobody": opened(zmq.SUB),
    }
    for one in subscribers.values():
        one.setsockopt(zmq.SUBSCRIBE, b"")
        connect(one, endpoint)

    def heard() -> bool:
        publisher.send(b"news")
        return bool(subscribers["holder"].poll(50))

    eventually(heard)
    assert not subscribers["stranger"].poll(REFUSAL_MS)
    assert not subscribers["nobody"].poll(0)


def test_who_has_another_key_of_their_own_is_not_heard_although_they_know_the_servers(router, opened, keys) -> None:
    """A CURVE server without a gate would accept any client key."""
    public, secret = zmq.curve_keypair()
    dealer = opened(zmq.DEALER)
    dealer.setsockopt(zmq.CURVE_SERVERKEY, keys.public)
    dealer.setsockopt(zmq.CURVE_PUBLICKEY, public)
    dealer.setsockopt(zmq.CURVE_SECRETKEY, secret)
    refused(router, dealer)


def test_who_has_another_jobs_keys_is_not_heard(router, opened, tmp_path) -> None:
    refused(router, opened(zmq.DEALER, keys=CurveKeys.create(tmp_path / "other")))


def test_who_has_no_keys_is_not_heard(router, opened) -> None:
    refused(router, opened(zmq.DEALER))


def test_who_has_keys_does_not_talk_to_a_server_without(opened, keys) -> None:
    refused(opened(zmq.ROUTER), opened(zmq.DEALER, keys=keys))


def refused(router: zmq.Socket[bytes], dealer: zmq.Socket[bytes]) -> None:
    connect(dealer, bind(router, "tcp://127.0.0.1:0"))
    assert not dealer.poll(REFUSAL_MS, zmq.POLLOUT)
    with pytest.raises(zmq.Again):
        dealer.send(b"hello", zmq.DONTWAIT)
    assert not router.poll(0)


def test_a_new_key_is_its_owners_alone(tmp_path) -> None:
    folder = tmp_path / "deep" / "keys"
    keys = CurveKeys.create(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes() == keys.secret
    assert zmq.curve_public(keys.secret) == keys.public


def test_an_existing_key_is_kept(tmp_path) -> None:
    first = CurveKeys.create(tmp_path)
    assert CurveKeys.create(tmp_path) == first == CurveKeys.load(tmp_path)


def test_the_secret_does_not_show(keys) -> None:
    assert keys.secret.decode() not in repr(keys) + str(keys)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused_with_the_way_out(tmp_path, mode: int) -> None:
    CurveKeys.create(tmp_path)
    (tmp_path / "job.key").chmod(mode)
    with pytest.raises(InvalidArgumentError, match=r"others can read.*job\.key.*chmod 600"):
        CurveKeys.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"x" * 41, b"'" * 40], ids=range(5))
def test_a_file_that_is_no_key_is_refused_by_name(tmp_path, content: bytes) -> None:
    path = tmp_path / "job.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidArgumentError, match=r"job\.key.* is no Z85 key"):
        CurveKeys.load(tmp_path)


def test_a_folder_without_a_key_is_refused_with_the_way_out(tmp_path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"job\.key.*cannot be read.*CurveKeys\.create"):
        CurveKeys.load(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        CurveKeys.create(tmp_path / "file" / "keys")


def test_the_environment_names_the_folder(tmp_path, monkeypatch, keys) -> None:
    monkeypatch.delenv("STRATA_CURVE_KEYS", raising=False)
    assert CurveKeys.from_environment() is None
    monkeypatch.setenv("STRATA_CURVE_KEYS", str(tmp_path / "job"))
    assert CurveKeys.from_environment() == keys
