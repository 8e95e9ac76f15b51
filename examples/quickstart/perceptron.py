"""A two-layer perceptron in NumPy: parameters as a dict of arrays, changed in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Parameters = dict[str, NDArray[np.float32]]


def initial(pixels: int, hidden: int = 128, classes: int = 10, *, seed: int = 0) -> Parameters:
    """Return parameters drawn as He et al. (2015) propose for rectified layers."""
    draw = np.random.default_rng(seed)
    return {
        "w1": (draw.standard_normal((pixels, hidden)) * np.sqrt(2 / pixels)).astype(np.float32),
        "b1": np.zeros(hidden, dtype=np.float32),
        "w2": (draw.standard_normal((hidden, classes)) * np.sqrt(2 / hidden)).astype(np.float32),
        "b2": np.zeros(classes, dtype=np.float32),
    }


def descend(p: Parameters, x: NDArray[np.float32], y: NDArray[np.int64], learning_rate: float) -> None:
    """Take one step of gradient descent on the cross-entropy of samples x, shape (n, pixels), and classes y."""
    hidden = np.maximum(x @ p["w1"] + p["b1"], 0)
    logits = hidden @ p["w2"] + p["b2"]
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    share[np.arange(len(y)), y] -= 1
    share /= len(y)
    back = (share @ p["w2"].T) * (hidden > 0)
    p["w2"] -= learning_rate * (hidden.T @ share)
    p["b2"] -= learning_rate * share.sum(axis=0)
    p["w1"] -= learning_rate * (x.T @ back)
    p["b1"] -= learning_rate * back.sum(axis=0)


def accuracy(p: Parameters, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Return the share of samples whose class is the most likely one."""
    logits = np.maximum(x @ p["w1"] + p["b1"], 0) @ p["w2"] + p["b2"]
    return float((logits.argmax(axis=1) == y).mean())
