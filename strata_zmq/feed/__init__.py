"""Batches through shared memory: a ring between a loader process and the training process, and on to the GPU."""

from __future__ import annotations

from strata_zmq.feed.gpu import DeviceFeed, describe_device, device_feed
from strata_zmq.feed.loader import Batch, Loader
from strata_zmq.feed.messages import ReaderError
from strata_zmq.feed.peer import Peer
from strata_zmq.feed.readers import ArrayReader, FactoryReader, InPlaceReader, Reader
from strata_zmq.feed.ring import Ring, RingConsumer, RingProducer, Slot, WritableSlot
from strata_zmq.feed.segment import MemfdSegment, recv_segment, send_segment
from strata_zmq.feed.staging import DeviceBatch

__all__ = [
    "ArrayReader",
    "Batch",
    "DeviceBatch",
    "DeviceFeed",
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
    "describe_device",
    "device_feed",
    "recv_segment",
    "send_segment",
]
