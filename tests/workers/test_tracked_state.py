"""What `track` registered goes back, in place, to the state that committed history knows."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.workers.tracked import Tracked


class Optimizer:
    """Has the two methods that PyTorch's modules, optimizers and schedulers have."""

    def __init__(self) -> None:
        self.momentum = np.zeros(3)
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.momentum = state["momentum"]
        self.steps = state["steps"]


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.floats(allow_nan=False))
array = arrays(np.float64, array_shapes(max_dims=2, max_side=4), elements=st.floats(-10, 10))
tree = st.recursive(
    st.one_of(plain, array),
    lambda children: st.one_of(
        st.lists(children, max_size=4), st.dictionaries(st.text(max_size=3), children, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, two: Any) -> bool:
    """Whether two trees are equal, arrays by value."""
    if isinstance(one, np.ndarray):
        return isinstance(two, np.ndarray) and one.shape == two.shape and bool((one == two).all())
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return isinstance(two, list) and len(one) == len(two) and all(map(same, one, two))
    return bool(type(one) is type(two) and one == two)


def mutate(node: Any) -> None:
    """Change everything in place that can be."""
    if isinstance(node, np.ndarray):
        node += 1
    elif isinstance(node, dict):
        for key in list(node):
            mutate(node[key])
            if not isinstance(node[key], (np.ndarray, dict, list)):
                node[key] = "changed"
        node["new"] = 1
    elif isinstance(node, list):
        for index, value in enumerate(node):
            mutate(value)
            if not isinstance(value, (np.ndarray, dict, list)):
                node[index] = "changed"
        node.append(np.zeros(1))


@given(st.dictionaries(st.text(max_size=3), tree, max_size=4), st.lists(tree, max_size=4))
def test_any_nested_state_comes_back(settings: dict[str, Any], layers: list[Any]) -> None:
    """Dicts, lists, arrays and plain values are what they were when they were remembered, however they changed."""
    tracked = Tracked()
    tracked.add({"settings": settings, "layers": layers})
    before = copy.deepcopy([settings, layers])
    tracked.remember()
    for _ in range(2):
        mutate(settings)
        mutate(layers)
        assert tracked.rollback()
        assert same([settings, layers], before)


def test_arrays_keep_their_identity() -> None:
    """The training code's own references see the restored values: nothing is replaced."""
    weights, inner = np.arange(4.0), np.ones(2)
    model: dict[str, Any] = {"weights": weights, "blocks": [{"inner": inner}]}
    tracked = Tracked()
    tracked.add({"model": model, "bias": (bias := np.zeros(()))})
    tracked.remember()
    weights *= 5
    inner[:] = 7
    bias += 3
    model["blocks"][0]["inner"] = inner
    tracked.rollback()
    assert weights.tolist() == [0, 1, 2, 3]
    assert model["weights"] is weights
    assert model["blocks"][0]["inner"] is inner
    assert inner.tolist() == [1, 1]
    assert bias == 0


def test_objects_with_a_state_dict_are_asked_for_it() -> None:
    """The object loads a copy: what it does with that afterwards does not change the remembered state."""
    optimizer = Optimizer()
    tracked = Tracked()
    tracked.add({"optimizer": optimizer})
    tracked.remember()
    for _ in range(2):
        optimizer.momentum += 1
        optimizer.steps += 1
        tracked.rollback()
        assert (optimizer.momentum.tolist(), optimizer.steps) == ([0, 0, 0], 0)


def test_the_latest_remembered_state_counts() -> None:
    """Every commit point moves the state to return to, also when shapes have changed in between."""
    history: list[Any] = [np.zeros(2)]
    tracked = Tracked()
    tracked.add({"history": history})
    tracked.remember()
    history[0] = np.ones(3)
    history.append(np.full(1, 9.0))
    tracked.remember()
    history.clear()
    tracked.rollback()
    assert [entry.tolist() for entry in history] == [[1, 1, 1], [9]]


def test_what_is_tracked_later_joins_the_remembered_state() -> None:
    """Tracking one more object between two commit points does not forget the others' state to return to."""
    weights, late = np.zeros(1), np.zeros(1)
    tracked = Tracked()
    tracked.add({"weights": weights})
    tracked.remember()
    weights += 1
    tracked.add({"late": late})
    late += 1
    assert tracked.rollback()
    assert (weights.item(), late.item()) == (0, 0)


def test_there_is_nothing_to_return_to_before_the_first_commit_point() -> None:
    tracked = Tracked()
    assert not tracked
    weights = np.ones(1)
    tracked.add({"weights": weights})
    assert tracked
    assert tracked.rollback() is False
    assert weights.item() == 1


@pytest.mark.parametrize("value", [1.5, "text", (1, 2), None, object()])
def test_what_cannot_be_restored_in_place_is_refused_at_once(value: Any) -> None:
    """The error names the argument and what would do."""
    with pytest.raises(InvalidArgumentError, match=r"track\(step=\.\.\.\).*cannot be restored in place.*NumPy array"):
        Tracked().add({"step": value})


@pytest.mark.parametrize(
    ("saved", "reason"),
    [
        ({}, "no weights"),
        ({"weights": np.zeros(3)}, r"weights: .* shape \(3,\), the tracked array \(2,\)"),
        ({"weights": [1, 2]}, "weights: .* shape list"),
        ({"weights": np.zeros(2), "config": [1]}, "config: the saved state is a list, not a dict"),
        ({"weights": np.zeros(2), "config": {"deep": {"a": 1}}}, r"config\.deep: .* shape dict"),
    ],
)
def test_a_state_of_another_shape_is_refused_with_its_place(saved: dict[str, Any], reason: str) -> None:
    tracked = Tracked()
    tracked.add({"weights": np.ones(2), "config": {"deep": np.zeros(1)}})
    with pytest.raises(InvalidArgumentError, match=reason):
        tracked.load({"config": {"deep": np.zeros(1)}, **saved} if saved else saved)


def test_a_loaded_state_can_be_loaded_again() -> None:
    """Loading copies: training on does not change the loaded tree."""
    saved: dict[str, Any] = {"layers": [{"w": np.zeros(2)}, {"extra": {"w": np.zeros(1)}}]}
    layers: list[Any] = []
    tracked = Tracked()
    tracked.add({"layers": layers})
    for _ in range(2):
        tracked.load(saved)
        layers[0]["w"] += 1
        layers[1]["extra"]["w"] += 1
    assert saved["layers"][0]["w"].tolist() == [0, 0]
    assert saved["layers"][1]["extra"]["w"].tolist() == [0]
