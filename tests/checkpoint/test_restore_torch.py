"""Torch tensors are filled in place, parameters of a module among them; what has other bits is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from storedkit import write_checkpoint

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.export import export_safetensors
from strata_zmq.checkpoint.sharded import Sharded
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.storage import LocalStorage

torch = pytest.importorskip("torch")  # where it is missing, conftest.py leaves this file out


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float8_e4m3fn", "int64", "bool", "complex64"])
def test_a_tensor_is_filled_bit_by_bit_whatever_its_strides(tmp_path: Path, kind: str) -> None:
    dtype = getattr(torch, kind)
    bits = torch.arange(240, dtype=torch.uint8)[: 24 * dtype.itemsize]
    saved = (bits % 2).to(torch.bool)[:24].reshape(4, 6) if kind == "bool" else bits.view(dtype).reshape(4, 6)
    write_checkpoint(tmp_path, [{"w": saved}])
    with CheckpointManager(tmp_path) as manager:
        for mine in (torch.zeros(4, 6, dtype=dtype), torch.zeros(6, 4, dtype=dtype).t()):
            found = manager.load(into={"w": mine})
            assert found["w"] is mine
            assert mine.contiguous().view(torch.uint8).tolist() == saved.contiguous().view(torch.uint8).tolist()


def test_a_modules_own_parameters_are_filled(tmp_path: Path) -> None:
    source, target = torch.nn.Linear(8, 4), torch.nn.Linear(8, 4)
    write_checkpoint(tmp_path, [{"model": source.state_dict()}])
    with CheckpointManager(tmp_path) as manager:
        manager.load(into={"model": target.state_dict()})
        assert torch.equal(target.weight, source.weight)
        assert torch.equal(target.bias, source.bias)
        with pytest.raises(InvalidArgumentError, match=r"into\['model'\] is a Linear, .* state_dict\(\)"):
            manager.load(into={"model": target})


@pytest.mark.parametrize(
    ("into", "reason"),
    [
        (lambda: torch.zeros(2, dtype=torch.uint16), r"is of torch\.uint16, .* of torch\.bfloat16"),
        (lambda: torch.zeros(2, dtype=torch.float16), r"is of torch\.float16, .* of torch\.bfloat16"),
        (lambda: np.zeros(2, np.uint16), r"is of <u2, .* of torch\.bfloat16: load as_numpy=True"),
        (lambda: torch.zeros(2, dtype=torch.bfloat16, device="meta"), r"without data"),
    ],
)
def test_other_bits_are_refused(tmp_path: Path, into: Any, reason: str) -> None:
    write_checkpoint(tmp_path, [{"w": torch.ones(2, dtype=torch.bfloat16)}])
    with CheckpointManager(tmp_path) as manager:
        with pytest.raises(InvalidArgumentError, match=reason):
            manager.load(into={"w": into()})
        bits = np.zeros(2, np.uint16)
        manager.load(into={"w": bits}, as_numpy=True)
        assert bits.tolist() == [0x3F80, 0x3F80]


def test_numpy_and_torch_of_the_same_numbers_fill_each_other(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, [{"t": torch.ones(3), "n": np.ones(3, np.float32)}])
    mine = {"t": np.zeros(3, np.float32), "n": torch.zeros(3)}
    with CheckpointManager(tmp_path) as manager:
        manager.load(into=mine)
    assert mine["t"].sum() == mine["n"].sum() == 3


def test_parts_of_a_tensor_are_joined_and_cut_again(tmp_path: Path) -> None:
    whole = torch.arange(24, dtype=torch.bfloat16).reshape(6, 4)
    write_checkpoint(tmp_path, [{"w": Sharded(whole[2 * r : 2 * r + 2].clone(), (6, 4), (2 * r, 0))} for r in range(3)])
    with CheckpointManager(tmp_path) as manager:
        parts = [manager.load(rank=rank, world=2)["w"] for rank in range(2)]
        assert torch.equal(torch.cat([part.array for part in parts]), whole)
        mine = Sharded(torch.zeros(6, 1, dtype=torch.bfloat16), (6, 4), (0, 3))
        manager.load(world=1, into={"w": mine})
        assert torch.equal(mine.array, whole[:, 3:])


def test_a_distributed_tensor_is_filled_in_its_own_memory(tmp_path: Path) -> None:
    distributed = pytest.importorskip("torch.distributed")
    pytest.importorskip("torch.distributed.tensor")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = distributed.device_mesh.init_device_mesh("cpu", (1,))
        whole = torch.arange(12.0).reshape(4, 3)
        place = [distributed.tensor.Shard(0)]
        write_checkpoint(tmp_path, [{"w": distributed.tensor.distribute_tensor(whole, mesh, place)}])
        mine = distributed.tensor.zeros(4, 3, device_mesh=mesh, placements=place)
        with CheckpointManager(tmp_path) as manager:
            assert manager.load(into={"w": mine})["w"] is mine
            assert torch.equal(mine.to_local(), whole)
    finally:
        distributed.destroy_process_group()


def test_bfloat16_is_exported_as_itself(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    state = {"b": torch.arange(6, dtype=torch.bfloat16), "e": torch.ones(3).to(torch.float8_e4m3fn), "f": torch.ones(2)}
    write_checkpoint(tmp_path, [state])

    async def run() -> None:
        store = CheckpointStore(LocalStorage(tmp_path))
        await export_safetensors(store, await store.find("one"), tmp_path / "out")

    asyncio.run(run())
    found = safetensors.load_file(tmp_path / "out")
    assert {name: tensor.dtype for name, tensor in found.items()} == {n: t.dtype for n, t in state.items()}
    assert all(torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)) for name, tensor in state.items())
