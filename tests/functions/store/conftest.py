"""The places that the contract holds for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from recordkit.places import Place


@pytest.fixture(params=["sqlite"])
def fresh_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Place]]:
    """Makes a place that is empty, of each kind of store."""
    made: list[Place] = []
    numbers = count()

    def make() -> Place:
        made.append(Place(f"sqlite:{tmp_path / f'{next(numbers)}.sqlite'}"))
        return made[-1]

    yield make
    for place in made:
        place.end()


@pytest.fixture
def place(fresh_place: Callable[[], Place]) -> Place:
    return fresh_place()
