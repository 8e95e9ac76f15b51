"""A server that fails: what S3 storage promises when a request is refused, lost, slow or carried out unanswered."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("boto3")
pytest.importorskip("obstore")

from s3kit.faults import KINDS, Fault, FaultServer, Kind

from strata_zmq.errors import InvalidArgumentError, StorageError
from strata_zmq.storage import Storage, VersionConflictError, s3, s3_session

pytestmark = pytest.mark.s3

LOST: list[Kind] = ["slow", "applied_then_reset", "applied_then_500", "applied_then_timeout"]
REFUSED: list[Kind] = ["500", "503", "timeout", "reset", "bad_checksum"]
SOON = {"STRATA_S3_TIMEOUT_S": "0.3"}
"""Requests that are not answered are given up early here."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry soon, and cut small objects into parts of an upload."""
    for module in (s3, s3_session):
        monkeypatch.setattr(module, "_BACKOFF_S", 0.01)
        monkeypatch.setattr(module, "_BACKOFF_MAX_S", 0.05)
    monkeypatch.setattr(s3_session, "_BULK_RETRIES", 1)
    monkeypatch.setattr(s3, "_ONE_PUT_BYTES", 4096)
    monkeypatch.setattr(s3, "_PART_BYTES", 4096)
    monkeypatch.setattr(s3, "_READ_BYTES", 4096)


def run(server: FaultServer, work: Callable[[Storage], Awaitable[Any]]) -> Any:
    """What `work` returns on a storage at the server, which is closed afterwards."""

    async def scenario() -> Any:
        storage = server.place.open(**SOON)
        try:
            return await work(storage)
        finally:
            await storage.close()

    return asyncio.run(scenario())


LARGE = secrets.token_bytes(10_000)


async def _put(storage: Storage) -> None:
    await storage.put("new", b"content")


async def _put_large(storage: Storage) -> None:
    await storage.put("large/new", LARGE)


async def _put_parts(storage: Storage) -> None:
    await storage.put("large/parts", [LARGE[:100], memoryview(LARGE)[100:7000], LARGE[7000:]])


async def _get(storage: Storage) -> None:
    assert await storage.get("old/large", 5, 9000) == LARGE[5:9000]


async def _get_into(storage: Storage) -> None:
    into = memoryview(bytearray(12_000))
    assert await storage.get_into("old/large", 0, into) == len(LARGE)
    assert into[: len(LARGE)] == LARGE


async def _list(storage: Storage) -> None:
    assert await storage.list("old/") == ["old/a", "old/b", "old/large"]


async def _exists(storage: Storage) -> None:
    assert await storage.exists("old/a")


async def _delete_many(storage: Storage) -> None:
    await storage.delete_many(["old/a", "old/b", "old/never"])


async def _sweep(storage: Storage) -> None:
    assert await storage.sweep(older_than_s=0.0) == 0


WORK = [_put, _put_large, _put_parts, _get, _get_into, _list, _exists, _delete_many, _sweep]


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__.strip("_"))
@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_at_any_request_of_a_call_is_overcome(work: Callable[[Storage], Awaitable[None]], kind: Kind) -> None:
    """Each call succeeds, and what it leaves is what it leaves without faults, whichever request fails once."""
    objects = {"old/a": b"a", "old/b": b"b", "old/large": LARGE, "older": b""}

    async def every_request(storage: Storage) -> None:
        server.again(**objects)
        await work(storage)
        wanted, requests = server.truth.objects, server.log
        for at, request in enumerate(requests, 1):
            if kind == "bad_checksum" and request.startswith("GET /checkpoints/old/"):
                continue  # no checksum comes with it: the reader's own digests tell (see the checkpoints)
            server.again(Fault(kind, at), **objects)
            await work(storage)
            # The undisturbed call may have asked once more than it had to: on a busy machine it tries again.
            assert len(server.met) == (at <= len(server.log))
            assert server.truth.objects == wanted, server.log

    with FaultServer(page=2) as server:
        run(server, every_request)


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("expected", [None, "current"])
def test_a_replacement_whose_answer_was_lost_has_won_and_is_no_conflict(kind: Kind, expected: str | None) -> None:
    with FaultServer(Fault(kind, method="PUT", key="HEAD")) as server:
        if expected:
            server.truth.store("HEAD", b"before")
        before = server.truth.tags.get("HEAD")
        version = run(server, lambda storage: storage.replace("HEAD", b"mine", before))
        assert server.met
        assert server.truth.objects == {"HEAD": b"mine"}
        assert version == server.truth.tags["HEAD"]
        assert len([line for line in server.log if line.startswith("PUT")]) == 1, "it is not sent again"


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("expected", [None, "current"])
def test_a_replacement_that_was_refused_is_sent_again(kind: Kind, expected: str | None) -> None:
    with FaultServer(Fault(kind, method="PUT", key="HEAD")) as server:
        if expected:
            server.truth.store("HEAD", b"before")
        version = run(server, lambda storage: storage.replace("HEAD", b"mine", server.truth.tags.get("HEAD")))
        assert server.truth.objects == {"HEAD": b"mine"}
        assert version == server.truth.tags["HEAD"]


@pytest.mark.parametrize("kind", [*REFUSED, *LOST])
def test_a_replacement_of_what_somebody_else_replaced_is_a_conflict_whatever_fails(kind: Kind) -> None:
    with FaultServer(Fault(kind, method="PUT", key="HEAD")) as server:
        server.truth.store("HEAD", b"somebody else's")
        with pytest.raises(VersionConflictError, match="HEAD was replaced by somebody else"):
            run(server, lambda storage: storage.replace("HEAD", b"mine", '"before"'))
        assert server.truth.objects == {"HEAD": b"somebody else's"}


@pytest.mark.parametrize("kind", [*REFUSED, *LOST])
def test_a_replacement_that_is_never_answered_says_that_nobody_knows(kind: Kind) -> None:
    faults = [Fault(kind, method="PUT", key="HEAD", times=99), Fault("500", method="GET", key="HEAD", times=99)]
    with FaultServer(*faults) as server:
        with pytest.raises(StorageError, match=r"cannot be read back.*read it again later"):
            run(server, lambda storage: storage.replace("HEAD", b"mine", None))


def test_racing_writers_whose_answers_get_lost_lose_no_update_and_make_none_twice() -> None:
    """Four writers add their names to a list by compare-and-swap, on a server that loses or refuses every third PUT."""
    kinds = [*LOST, "500", "reset", "503", "bad_checksum"]
    faults = [Fault(kind, at=3 * (number + 1), method="PUT", key="HEAD") for number, kind in enumerate(kinds)]

    async def add(storage: Storage, name: bytes) -> None:
        while True:
            data, version = await storage.read_versioned("HEAD")
            names = (data or b"").split()
            if name in names:
                return
            try:
                await storage.replace("HEAD", b" ".join([*names, name]), version)
            except VersionConflictError:
                continue

    async def writer(storage: Storage, number: int) -> None:
        for turn in range(4):
            await add(storage, b"%d-%d" % (number, turn))

    async def scenario(storage: Storage) -> None:
        await asyncio.gather(*(writer(storage, number) for number in range(4)))

    with FaultServer(*faults) as server:
        run(server, scenario)
        names = server.truth.objects["HEAD"].split()
        assert sorted(names) == sorted({b"%d-%d" % (number, turn) for number in range(4) for turn in range(4)})
        assert len(server.met) == len(faults)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_keeps_failing_is_a_named_error(kind: Kind) -> None:
    with FaultServer(Fault(kind, times=10_000)) as server:
        with pytest.raises(StorageError, match=r"s3://checkpoints/a/b cannot be written: .*; ") as caught:
            run(server, lambda storage: storage.put("a/b", b"content"))
        assert caught.value.retryable
        assert 1 < len(server.log) < 20


def test_nobody_at_the_endpoint_is_a_named_error() -> None:
    with FaultServer() as server:
        storage = server.place.open(**SOON)
    with pytest.raises(StorageError, match=r"s3://checkpoints/a cannot be read: .*AWS_ENDPOINT_URL"):
        asyncio.run(storage.get("a"))
    asyncio.run(storage.close())


@pytest.mark.parametrize("call", ["prepare", "put", "get", "list", "replace", "read_versioned", "sweep"])
def test_a_bucket_that_is_not_there_is_named_and_never_taken_for_an_empty_one(call: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {
        "put": ("a", b""),
        "get": ("a",),
        "replace": ("a", b"", None),
        "read_versioned": ("a",),
    }
    with FaultServer() as server:
        server.truth.bucket = "another"
        with pytest.raises(StorageError, match="create the bucket, or correct CHECKPOINT_BUCKET"):
            run(server, lambda storage: getattr(storage, call)(*arguments.get(call, ())))


def test_a_server_that_ignores_conditions_is_turned_away_before_anything_is_stored() -> None:
    with FaultServer() as server:
        server.truth.conditional = False
        with pytest.raises(StorageError, match="ignores If-None-Match, and two writers could both commit"):
            run(server, lambda storage: storage.prepare())
        assert server.truth.objects == {}


def test_an_upload_put_together_wrongly_is_no_success() -> None:
    """A server that says yes and has stored fewer bytes: a DurabilityError, which is not tried again."""
    with FaultServer() as server:
        server.truth.forgets_parts = True
        with pytest.raises(StorageError, match=r"put together 4096 bytes of 10000") as caught:
            run(server, _put_large)
        assert caught.value.code == "durability"
        assert not caught.value.retryable


_KILLED = """
import asyncio, sys
from strata_zmq.storage import open_storage, s3
s3._ONE_PUT_BYTES = s3._PART_BYTES = 4096
asyncio.run(open_storage(sys.argv[1]).put("large/new", bytes(10_000)))
"""


def test_the_upload_of_a_killed_process_is_out_of_sight_and_aborted_by_a_sweep(
    eventually: Callable[..., object],
) -> None:
    with FaultServer(Fault("timeout", method="PUT", key="large/new", at=2, times=99)) as server:
        environ = {**os.environ, **server.place.environ}
        child = subprocess.Popen([sys.executable, "-c", _KILLED, server.place.url], env=environ)
        try:
            eventually(lambda: server.met, 60)
        finally:
            child.kill()
            child.wait()
        assert len(server.truth.uploads) == 1
        assert run(server, lambda storage: storage.list()) == []
        assert run(server, lambda storage: storage.sweep("other/", older_than_s=0.0)) == 0
        assert run(server, lambda storage: storage.sweep()) == 0, "an upload that may still go on is not touched"
        server.truth.skew_s = 3601.0
        assert run(server, lambda storage: storage.sweep("large/")) == 1, "its age is told by the server's clock"
        assert server.truth.uploads == {}


def test_an_upload_that_failed_for_good_leaves_nothing() -> None:
    with FaultServer(Fault("500", method="PUT", key="large/new", at=2, times=99)) as server:
        with pytest.raises(StorageError, match="large/new cannot be written"):
            run(server, _put_large)
        assert run(server, lambda storage: storage.list()) == []
        assert server.truth.uploads == {}


@pytest.mark.parametrize("call", ["put", "get", "exists", "delete", "read_versioned", "replace"])
def test_a_key_that_is_too_long_with_its_prefix_is_refused_before_anything_is_sent(call: str) -> None:
    key = "k" * (s3.KEY_BYTES_MAX - len("some/prefix/") + 1)
    arguments = {"put": (b"",), "replace": (b"", None)}
    with FaultServer() as server:
        storage = replace(server.place, prefix="some/prefix").open()
        with pytest.raises(InvalidArgumentError, match="S3 takes 1024"):
            asyncio.run(getattr(storage, call)(key, *arguments.get(call, ())))
        assert server.log == []


def test_cancelling_a_put_leaves_nothing_in_sight() -> None:
    with FaultServer(Fault("timeout", method="PUT", key="new", times=99)) as server:

        async def give_up(storage: Storage) -> list[str]:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(storage.put("new", b"content"), 0.2)
            return await storage.list()

        assert run(server, give_up) == []


@pytest.mark.parametrize(("mode", "hashed"), [("auto", False), ("never", False), ("always", True)])
def test_bodies_carry_a_checksum_or_a_signature_and_head_is_always_signed(mode: str, hashed: bool) -> None:
    """On the loopback "auto" leaves the body out of the signature."""

    async def scenario(storage: Storage) -> None:
        await storage.put("data", b"some bytes")
        await storage.replace("HEAD", b"mine", None)

    with FaultServer() as server:
        asyncio.run(scenario(server.place.open(STRATA_S3_SIGN_PAYLOAD=mode)))
        data, head = server.headers["data"], server.headers["HEAD"]
    assert (data["x-amz-content-sha256"] == hashlib.sha256(b"some bytes").hexdigest()) is hashed
    assert ("x-amz-checksum-crc64nvme" in data) is not hashed
    assert head["x-amz-content-sha256"] == hashlib.sha256(b"mine").hexdigest()


def test_over_tls_both_libraries_trust_the_bundle_and_nobody_else(tmp_path: Path) -> None:
    """AWS_CA_BUNDLE names who is trusted; without it a server that nobody vouches for gets nothing."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def scenario(storage: Storage) -> bytes:
        await storage.prepare()
        await storage.put("large", LARGE)
        await storage.replace("HEAD", b"mine", None)
        assert await storage.sweep(older_than_s=0.0) == 0
        return await storage.get("large")

    with FaultServer(tls=context) as server:
        trusting = server.place.open(AWS_CA_BUNDLE=str(bundle))
        assert asyncio.run(scenario(trusting)) == LARGE
        asyncio.run(trusting.close())
        assert server.truth.objects == {"large": LARGE, "HEAD": b"mine"}
        server.again()
        wary = server.place.open(**SOON)
        for call in (wary.prepare(), wary.put("large", LARGE), wary.list()):
            with pytest.raises(StorageError, match=r"(?i)certificate|error sending request"):
                asyncio.run(call)
        asyncio.run(wary.close())
        assert server.log == []


def test_two_threads_may_use_one_storage() -> None:
    """Each with an event loop of its own, as a manager and its background thread do."""
    with FaultServer() as server:
        storage = server.place.open()
        threads = [
            threading.Thread(target=lambda name=name: asyncio.run(storage.put(name, name.encode()))) for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        asyncio.run(storage.close())
        assert server.truth.objects == {name: name.encode() for name in "abcd"}
