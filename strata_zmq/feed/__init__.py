"""Batches through shared memory: a ring between a loader process and the training process, and on to the GPU."""

from __future__ import annotations

from strata_zmq.feed.loader import Batch, Loader
from strata_zmq.feed.messages import ReaderError
from strata_zmq.feed.peer import Peer
from strata_zmq.feed.readers import ArrayReader, FactoryReader, InPlaceReader, Reader
from strata_zmq.feed.ring import Ring, RingConsumer, RingProducer, Slot, WritableSlot
from strata_zmq.feed.segment import MemfdSegment, recv_segment, send_segment

__all__ = [
    "ArrayReader",
    "Batch",
    "FactoryReader",
    "InPlaceReader",
    "Loader",
    "MemfdSegment",
    "Peer",
    "Reader",
    "ReaderError",
    "Ring",
    "RingConsumer",
    "RingProducer",
    "Slot",
    "WritableSlot",
    "recv_segment",
    "send_segment",
]
