"""From a slot of the ring into GPU memory through CuPy, or plain NumPy arrays by the same path where there is no GPU.

The only file that imports CuPy, and only when asked; knows nothing about loaders or training. The ring's mapping is
registered with CUDA once, so that copies run by DMA from the slot itself, on a stream of their own.
"""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from strata_zmq.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from strata_zmq.feed.staging import CopyStage, DeviceBatch, Stage, ViewStage, staged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from strata_zmq.feed.loader import Batch
    from strata_zmq.feed.ring import Ring, Slot

__all__ = ["DeviceFeed", "describe_device", "device_feed"]

Device = Literal["auto", "cpu"] | int
# Constants of the CUDA runtime that CuPy has no names for.
_HOST_REGISTER_PORTABLE = 1
_ERROR_MEMORY_ALLOCATION = 2
_ERROR_INSUFFICIENT_DRIVER = 35


def describe_device(device: Device = "auto") -> str:
    """Say in one line where batches go: "cuda:0 NVIDIA H200", "cpu", or "no CUDA device: " and the reason."""
    if device == "cpu":
        return "cpu"
    cupy, problem = _find_cuda()
    index = 0 if device == "auto" else device
    if not problem and not 0 <= index < cupy.cuda.runtime.getDeviceCount():
        problem = f"there are {cupy.cuda.runtime.getDeviceCount()} devices, number {index} was asked for"
    if problem:
        return f"no CUDA device: {problem}"
    return f"cuda:{index} {cupy.cuda.runtime.getDeviceProperties(index)['name'].decode()}"


def device_feed(
    batches: Iterable[Batch], device: Device = "auto", *, copy: bool = False, stream: int | None = None
) -> Iterator[DeviceBatch]:
    """Yield `batches` as arrays on the device and give their slots back; see DeviceFeed for the arguments.

    Registering a ring with CUDA takes about 60 ms per GB and is undone at the end of the iteration: for several
    passes over one ring, make one DeviceFeed.
    """
    with DeviceFeed(device, copy=copy, stream=stream) as feed:
        yield from feed.over(batches)


class DeviceFeed:
    """Moves batches to a device, one ahead of the caller.

    `device` is a CUDA device's number, "cpu", or "auto" for cuda:0 where there is one and the CPU otherwise. On the
    CPU the arrays are the slot's own (read-only, no copy); with `copy` they are writable copies and the slots go back
    at once. On a GPU, `stream` is the raw cudaStream_t on which the caller computes, for example
    `torch.cuda.current_stream().cuda_stream`; by default it is CuPy's current stream, at first the null stream, which
    PyTorch's default is, too. Batches cross to other frameworks by DLPack. UnavailableError says why there is no GPU.
    """

    def __init__(self, device: Device = "auto", *, copy: bool = False, stream: int | None = None) -> None:
        if device not in ("auto", "cpu") and (not isinstance(device, int) or isinstance(device, bool)):
            raise InvalidArgumentError(f"device: 'auto', 'cpu' or a CUDA device's number, got {device!r}")
        self.description = describe_device(device)
        if self.description.startswith("cuda:"):
            self._stage: Stage = CudaStage(0 if device == "auto" else int(device), stream)
        elif isinstance(device, int):
            raise UnavailableError(
                f"device {device}: {self.description}; device='cpu' gives the same arrays as NumPy's"
            )
        else:
            self._stage = CopyStage() if copy else ViewStage()

    def over(self, batches: Iterable[Batch]) -> Iterator[DeviceBatch]:
        """Yield `batches` in order, each valid until the next is asked for; a ring of two slots or more is needed.

        After a rollback close this iterator (or leave it to the garbage collector) and begin another.
        """
        return staged(batches, self._stage)

    def close(self) -> None:
        """Wait for copies under way, and give device memory and registrations back; calling again is harmless."""
        self._stage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CudaStage:
    """Two buffers in the memory of one GPU, filled by DMA on a stream of their own.

    Streams and events are handed to the CUDA runtime as raw handles, so that any framework's stream will do.
    """

    buffers: ClassVar[int] = 2

    def __init__(self, device: int, stream: int | None) -> None:
        self._cupy, _ = _find_cuda()
        self._runtime = self._cupy.cuda.runtime
        self._caller_stream = stream
        self._registered: dict[int, NDArray[np.uint8]] = {}  # by address; the array keeps the mapping in place
        self._memory: list[Any] = [None] * self.buffers
        self._memory_bytes = [0] * self.buffers
        self._arrays: list[dict[str, Any]] = [{} for _ in range(self.buffers)]
        with self._cuda("set up"):
            self._device = self._cupy.cuda.Device(device)
            with self._device:
                self._copies = self._cupy.cuda.Stream(non_blocking=True)
                self._copied = [self._cupy.cuda.Event(disable_timing=True) for _ in range(self.buffers)]
                self._used = [self._cupy.cuda.Event(disable_timing=True) for _ in range(self.buffers)]

    def load(self, slot: Slot, buffer: int) -> None:
        """Queue the copy behind the caller's work on the buffer (a wait for an event never recorded is none)."""
        with self._cuda("copy a batch"), self._device:
            self._register(slot.ring)
            memory = self._room(buffer, slot.ring.geometry.slot_bytes)
            self._runtime.streamWaitEvent(self._copies.ptr, self._used[buffer].ptr)
            if slot.payload.size:
                self._runtime.memcpyAsync(
                    memory.ptr,
                    slot.payload.ctypes.data,
                    slot.payload.size,
                    self._runtime.memcpyHostToDevice,
                    self._copies.ptr,
                )
            self._runtime.eventRecord(self._copied[buffer].ptr, self._copies.ptr)
            self._arrays[buffer] = {
                spec.name: self._cupy.ndarray(spec.shape, np.dtype(spec.dtype), memptr=memory + spec.offset)
                for spec in slot.specs
            }

    def loaded(self, buffer: int, *, wait: bool) -> bool:
        """Ask the event behind the copy."""
        with self._cuda("wait for a copy"), self._device:
            if wait:
                self._copied[buffer].synchronize()
            return bool(self._copied[buffer].done)

    def arrays(self, buffer: int) -> Mapping[str, Any]:
        """Make the caller's stream, not its thread, wait for the copy."""
        with self._cuda("order streams"), self._device:
            self._runtime.streamWaitEvent(self._stream(), self._copied[buffer].ptr)
        return self._arrays[buffer]

    def free(self, buffer: int) -> None:
        """Mark where the caller's work on the buffer ends."""
        with self._cuda("order streams"), self._device:
            self._runtime.eventRecord(self._used[buffer].ptr, self._stream())

    def close(self) -> None:
        """Unregister before the mapping can go; arrays that the caller kept hold on to their memory."""
        with self._device:
            self._copies.synchronize()
            for address in list(self._registered):
                with suppress(self._runtime.CUDARuntimeError):
                    self._runtime.hostUnregister(address)
                del self._registered[address]
        self._memory = [None] * self.buffers
        self._memory_bytes = [0] * self.buffers
        self._arrays = [{} for _ in range(self.buffers)]

    def _stream(self) -> int:
        if self._caller_stream is not None:
            return self._caller_stream
        return int(self._cupy.cuda.get_current_stream().ptr)

    def _register(self, ring: Ring) -> None:
        mapping = ring.segment.array(np.uint8, (ring.segment.size,))
        address = mapping.ctypes.data
        if address not in self._registered:
            self._runtime.hostRegister(address, mapping.size, _HOST_REGISTER_PORTABLE)
            self._registered[address] = mapping

    def _room(self, buffer: int, size: int) -> Any:
        """Return the buffer's memory, straight from cudaMalloc.

        A memory pool would reuse it in the order of one stream, while the caller's framework may compute on another.
        """
        if self._memory_bytes[buffer] < size:
            self._memory[buffer] = self._cupy.cuda.MemoryPointer(self._cupy.cuda.Memory(size), 0)
            self._memory_bytes[buffer] = size
        return self._memory[buffer]

    @contextmanager
    def _cuda(self, doing: str) -> Iterator[None]:
        try:
            yield
        except self._runtime.CUDARuntimeError as error:
            if error.status == _ERROR_MEMORY_ALLOCATION:
                raise ResourceExhaustedError(f"cuda: no memory to {doing} ({error}); make batches smaller") from error
            raise UnavailableError(f"cuda: cannot {doing} ({error})") from error


def _find_cuda() -> tuple[Any, str]:
    """Return CuPy and an empty text, or what is missing."""
    if importlib.util.find_spec("cupy") is None:
        return None, "CuPy is not installed (the extra cuda12 or cuda13 brings it)"
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        # Versions before 14 do not import without CUDA's libraries.
        return None, f"CuPy is installed and cannot be imported ({' '.join(str(error).split())})"
    runtime = cupy.cuda.runtime
    try:
        if runtime.getDeviceCount() == 0:
            return cupy, f"CuPy {cupy.__version__} is installed, the driver shows no device"
    except runtime.CUDARuntimeError as error:
        if error.status == _ERROR_INSUFFICIENT_DRIVER and runtime.driverGetVersion() == 0:
            return cupy, f"CuPy {cupy.__version__} is installed, no driver"
        return cupy, f"CuPy {cupy.__version__} is installed, the driver says {error}"
    return cupy, ""
