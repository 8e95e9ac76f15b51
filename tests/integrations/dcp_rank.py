"""One rank of a job with torch.distributed: `python dcp_rank.py FOLDER ACTION RANK WORLD`.

Every rank knows the whole state by formula, so that each can tell whether what it got is right, to the bit.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from strata_zmq.integrations.torch_dcp import StrataReader, StrataWriter


def whole(add: float = 0.0) -> dict[str, torch.Tensor]:
    """The tensors of the state, undivided."""
    base = torch.arange(7 * 10, dtype=torch.float32).reshape(7, 10) + add
    return {
        "rows": base,  # 7 rows: unequal shards
        "columns": base.to(torch.bfloat16),
        "large": torch.arange(4096 * 3, dtype=torch.int64).reshape(4096, 3) + int(add),
        "alone": base[0].clone(),
    }


PLACEMENTS = {"rows": Shard(0), "columns": Shard(1), "large": Shard(0), "alone": Replicate()}
PLAIN = {"name": "a text", "steps": 7, "nested": [1, {"deep": 2.5}], "opaque": {3, 1, 2}}
BLANK: dict[str, Any] = {"name": "", "steps": 0, "nested": [0, {"deep": 0.0}], "opaque": None}


def state(world: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The state as this rank holds it."""
    mesh = init_device_mesh("cpu", (world,))
    divided = {name: distribute_tensor(tensor, mesh, [PLACEMENTS[name]]) for name, tensor in tensors.items()}
    return {"model": divided, "scalar": torch.tensor(2.5, dtype=torch.float64), "empty": torch.empty(0, 3), **PLAIN}


def check(found: dict[str, Any], add: float) -> None:
    """Compare every bit with the formula."""
    for name, wanted in whole(add).items():
        tensor = found["model"][name]
        assert isinstance(tensor, DTensor)
        full = tensor.full_tensor()
        assert full.dtype == wanted.dtype
        assert torch.equal(full, wanted), name
    assert found["scalar"].item() == 2.5
    assert {name: found[name] for name in PLAIN} == PLAIN


def load(place: str, world: int, checkpoint: str | int) -> None:
    """Load into a state of zeros and compare."""
    found = state(world, {name: torch.zeros_like(tensor) for name, tensor in whole().items()})
    found |= BLANK
    reader = StrataReader(place, checkpoint)
    dcp.load(found, storage_reader=reader)
    assert reader.manifest is not None
    assert checkpoint in {"latest", reader.manifest.step}
    check(found, float(reader.manifest.step))
    reader.close()


def main(folder: str, action: str, world: int) -> None:
    """Do one thing together with the other ranks."""
    place = str(Path(folder) / "checkpoints")
    writer = StrataWriter(place, chunk_bytes=4096, keep_count=2)
    if action == "load":
        load(place, world, "latest")
        return
    for step in (1, 2, 3):
        writer.step = step
        mine = state(world, whole(float(step)))
        if action == "save":
            dcp.save(mine, storage_writer=writer)
            continue
        kind = AsyncCheckpointerType.PROCESS if action == "async-process" else AsyncCheckpointerType.THREAD
        saving = dcp.async_save(mine, storage_writer=writer, async_checkpointer_type=kind)
        for tensor in mine["model"].values():
            tensor.to_local().zero_()  # training goes on
        saving.result()
    writer.close()
    for wanted in ("latest", 2):
        load(place, world, wanted)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, action, rank, world = sys.argv[1:]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    meeting = f"file://{folder}/meeting-{action}-{world}"
    dist.init_process_group("gloo", init_method=meeting, rank=int(rank), world_size=int(world))
    try:
        main(folder, action, int(world))
    finally:
        dist.destroy_process_group()
