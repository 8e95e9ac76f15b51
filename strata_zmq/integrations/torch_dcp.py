"""Strata storage under torch.distributed.checkpoint: a StorageWriter and a StorageReader; torch plans, we store.

    from torch.distributed import checkpoint as dcp
    dcp.save(state, storage_writer=StrataWriter("checkpoints"))
    dcp.load(state, storage_reader=StrataReader("checkpoints"))

A checkpoint exists, as everywhere in Strata, once HEAD names it; every byte is checked when it is read, and the tools
list, verify and export it. Tensors are stored as their bits and torch's plan as JSON. Values that are no tensors are
bytes that torch's planner made and that it alone reads again: nothing is pickled or unpickled here.
"""

from __future__ import annotations

try:
    import torch.distributed.checkpoint  # noqa: F401 - asked for here, so that its absence is told in our words
except ImportError as missing:
    raise ImportError(f"{__name__} needs torch ({missing}): install strata-zmq[torch]") from missing

from strata_zmq.integrations.dcp_reader import StrataReader
from strata_zmq.integrations.dcp_writer import StrataWriter

__all__ = ["StrataReader", "StrataWriter"]
