"""The training state that Strata may copy, roll back, save and load: what `track(model=..., optimizer=...)` registered.

Arrays are changed in place, so that the training code's own references stay valid.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from strata_zmq.errors import InvalidArgumentError

__all__ = ["Tracked", "state_of"]


class Tracked:
    """Named objects, each a NumPy array, a nested dict or list of arrays and plain values, or with `state_dict`."""

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}
        self._memory: dict[str, Any] | None = None

    def __bool__(self) -> bool:
        return bool(self._objects)

    def add(self, objects: Mapping[str, Any]) -> None:
        """Register objects by name; an object that cannot be restored in place is refused here, not at the rollback."""
        for name, value in objects.items():
            if not _is_stateful(value) and not isinstance(value, (np.ndarray, dict, list)):
                raise InvalidArgumentError(
                    f"track({name}=...) got {type(value).__name__}, which cannot be restored in place: give a "
                    "NumPy array, "
                    "a dict or list of them, or an object with state_dict() and load_state_dict()"
                )
            self._objects[name] = value
            if self._memory is not None:
                # Known from now on: a rollback takes it back to what it is here.
                self._memory[name] = copy.deepcopy(state_of(value))

    def capture(self) -> dict[str, Any]:
        """Return the state as a tree, by reference: whoever keeps it has to copy it first."""
        return {name: state_of(value) for name, value in self._objects.items()}

    def remember(self) -> None:
        """Copy the state into memory, as the one that `rollback` returns to."""
        state = self.capture()
        self._memory = copy.deepcopy(state) if self._memory is None else _copied(state, self._memory)

    def rollback(self) -> bool:
        """Return to the remembered state, in place; False when there is none."""
        if self._memory is None:
            return False
        self.load(self._memory)
        return True

    def load(self, state: Mapping[str, Any]) -> None:
        """Put a captured state back, in place; every tracked name has to be there."""
        missing = [name for name in self._objects if name not in state]
        if missing:
            raise InvalidArgumentError(
                f"the saved state has no {', '.join(missing)} (it has {', '.join(state) or 'nothing'}): track the "
                "same names"
            )
        for name, value in self._objects.items():
            if _is_stateful(value):
                value.load_state_dict(copy.deepcopy(state[name]))
            else:
                _restore(value, state[name], name)


def _is_stateful(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def state_of(value: Any) -> Any:
    """Return what there is to save of a trackable object, by reference where it is an array or a tree of them."""
    return value.state_dict() if _is_stateful(value) else value


def _copied(source: Any, target: Any) -> Any:
    """Return a copy of `source` that reuses the arrays of `target` where they fit."""
    if isinstance(source, np.ndarray):
        if isinstance(target, np.ndarray) and target.shape == source.shape and target.dtype == source.dtype:
            np.copyto(target, source)
            return target
        return source.copy()
    if isinstance(source, dict) and isinstance(target, dict):
        return {key: _copied(value, target.get(key)) for key, value in source.items()}
    if isinstance(source, list) and isinstance(target, list) and len(source) == len(target):
        return [_copied(value, old) for value, old in zip(source, target, strict=True)]
    return copy.deepcopy(source)


def _restore(target: Any, saved: Any, path: str) -> None:
    if isinstance(target, np.ndarray):
        if not isinstance(saved, np.ndarray) or saved.shape != target.shape:
            shape = getattr(saved, "shape", type(saved).__name__)
            raise InvalidArgumentError(f"{path}: the saved state has shape {shape}, the tracked array {target.shape}")
        np.copyto(target, saved)
        return
    if isinstance(target, dict) and isinstance(saved, dict):
        for key in [key for key in target if key not in saved]:
            del target[key]
        items = list(saved.items())
    elif isinstance(target, list) and isinstance(saved, list):
        del target[len(saved) :]
        target.extend([None] * (len(saved) - len(target)))
        items = list(enumerate(saved))
    else:
        raise InvalidArgumentError(
            f"{path}: the saved state is a {type(saved).__name__}, not a {type(target).__name__}"
        )
    for key, value in items:
        old = target.get(key) if isinstance(target, dict) else target[key]
        if isinstance(old, (np.ndarray, dict, list)):
            _restore(old, value, f"{path}.{key}")
        else:
            target[key] = copy.deepcopy(value)
