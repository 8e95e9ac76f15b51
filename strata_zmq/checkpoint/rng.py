"""The state of this process's random number generators, taken and put back; knows no checkpoint and no storage.

Python's `random`, NumPy's global generator, those that the program names, and torch's on CPU and CUDA devices,
where the program has imported it. A state is plain values and bytes: nothing is pickled.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["capture", "restore"]


def capture(generators: Sequence[np.random.Generator] = ()) -> dict[str, Any]:
    """Return the present state of all generators, with those of `generators` in their order."""
    version, words, gauss = random.getstate()
    found: dict[str, Any] = {
        "random": [version, np.array(words, "<u4").tobytes(), gauss],
        "numpy": _plain(np.random.get_state(legacy=False)),
        "generators": [_plain(generator.bit_generator.state) for generator in generators],
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_rng_state().numpy().tobytes()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found["torch.cuda"] = [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    return found


def restore(state: Mapping[str, Any], generators: Sequence[np.random.Generator] = ()) -> None:
    """Put back what `capture` returned; torch's only where torch is imported, CUDA's on as many devices as there are.

    Raises InvalidArgumentError, before anything is put back, where `state` is none or has other generators.
    """
    try:
        version, words, gauss = state["random"]
        python = (version, tuple(np.frombuffer(words, "<u4").tolist()), gauss)
        legacy = _arrays(state["numpy"])
        others = [_arrays(other) for other in state["generators"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"this is no state of random number generators: {error!r}") from None
    names = [other["bit_generator"] for other in others]
    own = [type(generator.bit_generator).__name__ for generator in generators]
    if names != own:
        raise InvalidArgumentError(
            f"the state has the generators {', '.join(names) or 'none'} beside the global ones, given are "
            f"{', '.join(own) or 'none'}: give as many, of the same kinds, in the order in which they were saved"
        )
    random.setstate(python)
    np.random.set_state(legacy)
    for generator, other in zip(generators, others, strict=True):
        generator.bit_generator.state = other
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(_tensor(torch, state["torch"]))
        devices = state.get("torch.cuda", ())
        if devices and torch.cuda.is_available():
            for number, bits in enumerate(devices[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(_tensor(torch, bits), number)


def _plain(value: Any) -> Any:
    """Return a NumPy state with its arrays as ["array", dtype, bytes]."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return ["array", value.dtype.str, value.tobytes()]
    return value.item() if isinstance(value, np.generic) else value


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) == 3 and value[0] == "array":
        return np.frombuffer(value[2], np.dtype(value[1])).copy()
    return value


def _tensor(torch: Any, bits: bytes) -> Any:
    return torch.frombuffer(bytearray(bits), dtype=torch.uint8)
