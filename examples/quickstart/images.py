"""Real images as .npy files: Fashion-MNIST where Debian's package is installed, scikit-learn's digits otherwise."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, slots=True)
class Images:
    """Where the arrays lie, and how long to train on them.

    `{part}_x.npy` holds float32 pixels in [0, 1] of shape (samples, pixels), `{part}_y.npy` int64 classes 0 to 9.
    """

    name: str
    folder: Path
    batch_size: int
    shard_size: int
    epochs: int
    learning_rate: float

    def load(self, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the samples and classes of "train" or "test", memory-mapped."""
        return (
            np.load(self.folder / f"{part}_x.npy", mmap_mode="r"),
            np.load(self.folder / f"{part}_y.npy", mmap_mode="r"),
        )


def prepare(folder: Path) -> Images:
    """Write the arrays into `folder` unless they are there, and describe them."""
    if FASHION_MNIST.is_dir():
        images = Images("Fashion-MNIST", folder, batch_size=64, shard_size=500, epochs=3, learning_rate=0.2)
        parts = _fashion_mnist
    else:
        images = Images("scikit-learn digits", folder, batch_size=16, shard_size=40, epochs=12, learning_rate=0.5)
        parts = _digits
    if not folder.exists():
        # Several processes may come at once: each writes a folder of its own, and the first one's name counts.
        folder.parent.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder.parent))
        for name, array in parts().items():
            np.save(own / f"{name}.npy", array)
        try:
            own.rename(folder)
        except OSError:
            shutil.rmtree(own)
    return images


def _fashion_mnist() -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    arrays: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        arrays[f"{part}_x"] = (_idx(f"{prefix}-images-idx3-ubyte.gz").reshape(-1, 28 * 28) / 255).astype(np.float32)
        arrays[f"{part}_y"] = _idx(f"{prefix}-labels-idx1-ubyte.gz").astype(np.int64)
    return arrays


def _idx(name: str) -> NDArray[np.uint8]:
    """Read an IDX file: two zero bytes, a type, the number of axes, each axis's length, then the data."""
    data = gzip.decompress((FASHION_MNIST / name).read_bytes())
    axes = data[3]
    shape = np.frombuffer(data, dtype=">i4", count=axes, offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)


def _digits() -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    x, y = (pixels / 16).astype(np.float32), classes.astype(np.int64)
    return {"train_x": x[:1437], "train_y": y[:1437], "test_x": x[1437:], "test_y": y[1437:]}
