"""Checkpoints in a bucket: saved, restored and retired on real servers, and never wrong on one that fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("boto3")
pytest.importorskip("obstore")

from s3kit.faults import KINDS, Fault, FaultServer, Kind
from s3kit.place import S3Place

from strata_zmq import CheckpointManager
from strata_zmq.errors import NotFoundError, StrataError
from strata_zmq.storage import Storage, s3, s3_session

pytestmark = pytest.mark.s3


LOST: list[Kind] = ["applied_then_reset", "applied_then_500", "applied_then_timeout"]


def state(step: int) -> dict[str, object]:
    """A small state that belongs to `step` alone, besides a part that never changes."""
    rng = np.random.default_rng(step)
    frozen = np.random.default_rng(0).normal(size=5000)
    return {"weights": rng.normal(size=(50, 60)), "frozen": frozen, "step": step, "name": f"step {step}"}


def assert_is(found: object, step: int) -> None:
    assert isinstance(found, dict)
    wanted = state(step)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.array_equal(found[name], value), f"{name} of step {step}"


@pytest.fixture
def place(s3_server: S3Place, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """An unused prefix of a real server, to which this process's environment leads."""
    fresh = s3_server.fresh()
    for name, value in fresh.environ.items():
        monkeypatch.setenv(name, value)
    return fresh


def test_a_url_is_all_that_a_manager_needs(place: S3Place) -> None:
    """Save, list, load, retire: as on a folder, bit by bit, and by another process as well."""
    with CheckpointManager(place.url, keep_count=2) as manager:
        saved = [manager.save(state(step), step=step, epoch=0) for step in (1, 2, 3)]
        manager.wait_pending()
        assert [info.checkpoint_id for info in manager.all_checkpoints()] == saved[1:]
        assert manager.latest().path == f"{place.url}/ckpt/{saved[2]}"
        assert_is(manager.load(), 3)
        assert_is(manager.load(saved[1]), 2)
        with pytest.raises(NotFoundError):
            manager.load(saved[0])
    program = (
        "import sys; from strata_zmq import CheckpointManager\n"
        "with CheckpointManager(sys.argv[1]) as manager: print(manager.load()['name'])"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, place.url], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert other.stdout == "step 3\n"


def test_a_state_larger_than_one_request_comes_back(place: S3Place) -> None:
    """20 MiB in one array: uploads in parts, and ranged reads."""
    big = np.random.default_rng(7).integers(0, 256, 20 << 20, np.uint8)
    with CheckpointManager(place.url) as manager:
        manager.save({"big": big}, step=1, epoch=0)
        manager.wait_pending()
        assert np.array_equal(manager.load()["big"], big)
    storage = place.open()
    assert asyncio.run(storage.sweep(older_than_s=0.0)) == 0, "no upload is left unfinished"
    asyncio.run(storage.close())


def test_two_managers_of_one_place_lose_no_checkpoint(place: S3Place) -> None:
    """Both commit to one HEAD; each commit finds what the other did."""
    with CheckpointManager(place.url, keep_count=20) as one, CheckpointManager(place.url, keep_count=20) as two:
        for step in range(1, 4):
            one.save(state(step), step=step, epoch=0)
            two.save(state(step + 10), step=step + 10, epoch=0)
        one.wait_pending()
        two.wait_pending()
        assert {info.step for info in one.all_checkpoints()} == {1, 2, 3, 11, 12, 13}
        for step in (1, 13):
            assert_is(two.load(step), step)


def test_a_wrong_secret_is_refused_with_the_way_out(weed_server: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in weed_server.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a wrong one")
    with CheckpointManager(weed_server.fresh().url) as manager:
        with pytest.raises(StrataError, match="check AWS_ACCESS_KEY_ID"):
            manager.save(state(1), step=1, epoch=0)


WAITS = {"slow", "timeout", "applied_then_timeout"}


# ---- a server that fails -----------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry soon, give up unanswered requests early, and cut small objects into parts of an upload."""
    for module in (s3, s3_session):
        monkeypatch.setattr(module, "_BACKOFF_S", 0.01)
        monkeypatch.setattr(module, "_BACKOFF_MAX_S", 0.05)
    monkeypatch.setattr(s3_session, "_BULK_RETRIES", 1)
    monkeypatch.setattr(s3, "_ONE_PUT_BYTES", 20_000)
    monkeypatch.setattr(s3, "_PART_BYTES", 20_000)


def two_checkpoints(storage: Storage) -> set[int]:
    """Save steps 1 and 2, of which one is kept, and load; return the steps whose saves were acknowledged."""
    acknowledged: set[int] = set()
    with CheckpointManager(storage, keep_count=1, strict=True) as manager:
        for step in (1, 2):
            try:
                manager.save(state(step), step=step, epoch=0)
                manager.wait_pending()
            except StrataError:
                continue
            acknowledged.add(step)
        try:
            found = manager.load()
        except StrataError:
            pass
        else:
            assert_is(found, found["step"])
    return acknowledged


def sweeps() -> list[object]:
    """Each kind at each request; where every fault is a wait, the ordinary suite takes every fifth request."""
    ordinary = [pytest.param(kind, 5 if kind in WAITS else 1, id=kind) for kind in KINDS]
    return ordinary + [pytest.param(kind, 1, id=f"{kind}-each", marks=pytest.mark.storm) for kind in sorted(WAITS)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "every"), sweeps())
@pytest.mark.usefixtures("impatient")
def test_an_acknowledged_checkpoint_is_there_whichever_request_fails(kind: Kind, every: int) -> None:
    """Two checkpoints with a retention, and one fault at each of their requests in turn.

    What was acknowledged loads bit by bit, whatever HEAD lists is whole, and the next save succeeds.
    """
    with FaultServer() as server, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fall-back warns, which other tests hold
        storage = server.place.open(STRATA_S3_TIMEOUT_S="0.5")
        assert two_checkpoints(storage) == {1, 2}
        places, overcome = range(1, len(server.log) + 1, every), 0
        for at in places:
            server.again(Fault(kind, at))
            acknowledged = two_checkpoints(storage)
            met, server.faults = server.met, ()
            overcome += len(met)
            with CheckpointManager(storage, keep_count=1) as manager:
                there = manager.all_checkpoints()
                for info in there:
                    assert_is(manager.load(info.checkpoint_id), info.step)
                newest = max((info.step for info in there), default=0)
                assert newest >= max(acknowledged, default=0), (met, server.log)
                if kind != "bad_checksum":
                    assert acknowledged == {1, 2}, (met, "one failure is overcome", server.log)
                manager.save(state(3), step=3, epoch=0)
                manager.wait_pending()
                assert_is(manager.load(), 3)
            begun = len(server.truth.uploads)
            assert not begun or kind in {"slow", *LOST}, "only an upload whose beginning nobody heard of is left"
            assert asyncio.run(storage.sweep(older_than_s=0.0)) == begun
            assert server.truth.uploads == {}
        # How often retired folders are looked through depends a little on time.
        assert overcome >= 0.9 * len(places)
        asyncio.run(storage.close())
