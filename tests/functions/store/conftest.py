"""The places that the contract holds for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from functionkit.processes import DispatcherProcess
from recordkit.places import Place
from recordkit.redis_server import NO_REDIS, RedisServer, redis_program


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    """A server whose databases are handed out one by one; nobody may restart it. None where none is installed."""
    server = RedisServer(tmp_path_factory.mktemp("redis")) if redis_program() else None
    yield server
    if server is not None:
        server.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "redis"])
def fresh_place(
    request: pytest.FixtureRequest, tmp_path: Path, shared_redis: RedisServer | None
) -> Iterator[Callable[[], Place]]:
    """Makes a place that is empty, of each kind of store."""
    made: list[Place] = []
    numbers = count()

    def make() -> Place:
        if request.param == "redis":
            if shared_redis is None:
                pytest.skip(NO_REDIS)
            made.append(Place(shared_redis.database()))
        else:
            made.append(Place(f"sqlite:{tmp_path / f'{next(numbers)}.sqlite'}"))
        return made[-1]

    yield make
    for place in made:
        place.end()


@pytest.fixture
def place(fresh_place: Callable[[], Place]) -> Place:
    return fresh_place()


@pytest.fixture
def start(ending: ExitStack, folder: Path) -> Callable[..., DispatcherProcess]:
    """Start a dispatcher on a store; it loses who is silent for two seconds."""

    def starter(url: str, *options: str, env: dict[str, str] | None = None) -> DispatcherProcess:
        made = DispatcherProcess(folder, "--store", url, "--lease", "2", *options)
        ending.callback(made.stop)
        return made.start(env)

    return starter


@pytest.fixture
def dispatcher(start: Callable[..., DispatcherProcess], place: Place) -> DispatcherProcess:
    """A dispatcher on each kind of store."""
    return start(place.url)
