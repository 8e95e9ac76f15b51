"""torch tensors come back as torch tensors to the bit; where torch is missing, they can be read all the same.

The tests of real tensors exist where torch is installed (`pip install strata-zmq[torch]`).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from storedkit import write_chunk

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import Manifest, RankEntry, RankIndex, Span, TensorRecord
from strata_zmq.domain.retention import Retention
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

BITS = np.array([0x3F80, 0xFFC1, 0x8000], np.uint16)  # 1.0, a NaN with a payload, -0.0


def save_tagged(folder: Path, tag: str) -> None:
    """Write what a process with torch would have written."""
    store = CheckpointStore(LocalStorage(folder))

    async def write() -> None:
        chunk = await write_chunk(store, "c", 0, BITS.tobytes())
        tensor = TensorRecord("data", "<u2", (3,), tag, (Span(0, 0, 6),))
        key, digest = await store.write_rank_index("c", RankIndex(0, ["a", 0], (tensor,), (chunk,)))
        await store.commit(Manifest("c", 1, 0, 0, 0, 0.0, (RankEntry(0, "w", key, digest, 6),)), Retention(5))

    asyncio.run(write())


def test_a_torch_tensor_can_be_read_without_torch(tmp_path: Path) -> None:
    save_tagged(tmp_path, "torch:bfloat16")
    with CheckpointManager(tmp_path) as manager:
        assert manager.load(as_numpy=True).tolist() == BITS.tolist()


def test_without_torch_the_load_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tagged(tmp_path, "torch:bfloat16")
    monkeypatch.setitem(sys.modules, "torch", None)
    with CheckpointManager(tmp_path) as manager:
        with pytest.raises(InvalidArgumentError, match=r"install strata-zmq\[torch\], or load as_numpy=True"):
            manager.load()


def test_a_kind_of_tensor_that_is_unknown_here_is_named(tmp_path: Path) -> None:
    save_tagged(tmp_path, "torch:bfloat7")
    with CheckpointManager(tmp_path) as manager:
        with pytest.raises(InvalidArgumentError, match="was saved as 'torch:bfloat7'"):
            manager.load(as_numpy=True)


def test_saving_and_loading_arrays_imports_no_torch(tmp_path: Path) -> None:
    program = f"""
import sys
import numpy as np
from strata_zmq import CheckpointManager
with CheckpointManager({str(tmp_path)!r}) as manager:
    manager.save({{"w": np.ones(3)}}, 1, 0)
    manager.wait_pending()
    manager.load()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


if find_spec("torch") is not None:

    def tensors() -> dict[str, Any]:
        import torch

        base = torch.arange(12.0).reshape(3, 4)
        names = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bfloat16"]
        names += ["complex64", "complex128", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]
        return {name: base.to(getattr(torch, name)) for name in names} | {
            "transposed": base.T,
            "transposed bits": base.to(torch.float8_e5m2).T,
            "zero dimensions": torch.tensor(3.5, dtype=torch.bfloat16),
            "empty": torch.empty(0, 3, dtype=torch.bfloat16),
            "conjugate": torch.tensor([1 + 2j]).conj(),
            "negative view": torch.tensor([1 + 2j]).conj().imag,
            "expanded": torch.tensor([1.0]).to(torch.bfloat16).expand(5),
            "needs gradients": torch.ones(3, requires_grad=True),
        }

    @pytest.mark.parametrize("name", list(tensors()))
    def test_a_torch_tensor_comes_back_to_the_bit(tmp_path: Path, name: str) -> None:
        import torch

        wanted = tensors()[name]
        with CheckpointManager(tmp_path) as manager:
            saved = manager.save({"x": wanted}, 1, 0)
            manager.wait_pending()
            found = manager.load(saved)["x"]
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        same = wanted.detach().resolve_conj().resolve_neg().contiguous()
        bits = [
            bytes(x.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8).tolist())
            if x.numel()
            else b""
            for x in (found, same)
        ]
        assert bits[0] == bits[1]

    def test_a_model_and_its_optimizer_come_back(tmp_path: Path) -> None:
        import torch

        model = torch.nn.Linear(8, 4)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(2, 8)).sum().backward()
        optimizer.step()
        with CheckpointManager(tmp_path) as manager:
            manager.save({"model": model, "optimizer": optimizer}, 1, 0)
            manager.wait_pending()
            found = manager.load()
        other = torch.nn.Linear(8, 4)
        other.load_state_dict(found["model"])
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
        again = torch.optim.AdamW(other.parameters())
        again.load_state_dict(found["optimizer"])
        assert again.state_dict()["state"][0]["step"] == 1

    def test_tensors_that_cannot_come_back_are_refused(tmp_path: Path) -> None:
        import torch

        with CheckpointManager(tmp_path) as manager:
            for tensor in (torch.eye(3).to_sparse(), torch.empty(3, device="meta")):
                with pytest.raises(InvalidArgumentError, match=r"data\['x'\].*sparse, quantised or without data"):
                    manager.save({"x": tensor}, 1, 0)

    def test_a_distributed_tensor_is_saved_as_this_ranks_part_with_its_place(tmp_path: Path) -> None:
        """Two processes; five rows are cut as torch cuts them, three and two."""
        program = f"""
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from strata_zmq import CheckpointManager
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
whole = torch.arange(15.0).reshape(5, 3)
with CheckpointManager(f"{tmp_path}/{{rank}}") as manager:
    cut, same = (distribute_tensor(whole, mesh, [place]) for place in (Shard(0), Replicate()))
    manager.save({{"cut": cut, "same": same}}, 1, 0)
dist.barrier()
dist.destroy_process_group()
"""
        ranks = [subprocess.Popen([sys.executable, "-c", program, str(rank)]) for rank in range(2)]
        assert [rank.wait(120) for rank in ranks] == [0, 0]
        for rank, (begin, end) in enumerate([(0, 3), (3, 5)]):
            with CheckpointManager(tmp_path / str(rank)) as manager:
                found = manager.load()
            assert (found["cut"].global_shape, found["cut"].offsets) == ((5, 3), (begin, 0))
            assert found["cut"].array.tolist() == np.arange(15.0).reshape(5, 3)[begin:end].tolist()
            assert found["same"].shape == (5, 3)
