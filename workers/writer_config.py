"""What a storage writer is told: its options, their limits and their defaults; it starts nothing."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from strata_zmq.checkpoint.codec import COMPRESSIONS, Compression
from strata_zmq.domain.names import WORKER_NAME_MAX, check_name, check_seconds
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.startup import Parser, add_coordinator
from strata_zmq.storage import default_place
from strata_zmq.transport.endpoints import ipc_path, parse_endpoint

__all__ = ["WriterConfig", "parse_options"]

MIB = 1024 * 1024
_UNIX_PATH_MAX = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterConfig:
    """One storage writer. Sizes are in bytes, times in seconds.

    `listen` is an ipc path or a TCP address; empty, it is beside an ipc coordinator, or a free port of the loopback.
    All streams together may have `inflight_bytes_max` received and not yet durable, each of them `window_bytes`. Chunks
    are compressed where `compression` says so: always, or while the storage is slower than the compressor.
    """

    coordinator_url: str
    path: str
    writer_id: str
    listen: str = ""
    advertise: str = ""
    ready_fd: int = -1
    supervisor_pid: int = 0
    inflight_bytes_max: int = 256 * MIB
    window_bytes: int = 64 * MIB
    connect_timeout_s: float = 30.0
    drain_s: float = 10.0
    stream_timeout_s: float = 30.0
    compression: Compression | None = None

    def __post_init__(self) -> None:
        check_name("--writer-id", self.writer_id, WORKER_NAME_MAX)
        if not self.path:
            raise InvalidArgumentError("--path is empty: name the folder for checkpoints")
        if not MIB <= self.window_bytes <= self.inflight_bytes_max <= 2**40:
            raise InvalidArgumentError(
                f"--window-mib {self.window_bytes // MIB} and --inflight-mib {self.inflight_bytes_max // MIB}: "
                "need 1 <= window <= inflight"
            )
        check_seconds("--drain-s", self.drain_s)

    def endpoints(self) -> tuple[str, str]:
        """Return where to bind for chunks and for control."""
        listen = self.listen or self._default_listen()
        endpoint = parse_endpoint(listen, field="--listen", default_port=0)
        if ipc_path(endpoint) is not None:
            for suffix in (".data", ".control"):
                parse_endpoint(endpoint + suffix, field="--listen")
            return f"{endpoint}.data", f"{endpoint}.control"
        head, _, port = endpoint.rpartition(":")
        return endpoint, f"{head}:{int(port) + 1 if int(port) else 0}"

    def advertised(self, bound: str) -> str:
        """Return how others reach the endpoint that was bound."""
        for wildcard in ("tcp://0.0.0.0:", "tcp://[::]:"):
            if bound.startswith(wildcard):
                if not self.advertise:
                    raise InvalidArgumentError(
                        f"--listen {self.listen!r} is every address of this machine: name the one that workers use "
                        "with --advertise HOST"
                    )
                return f"tcp://{self.advertise}:{bound.removeprefix(wildcard)}"
        return bound

    def _default_listen(self) -> str:
        beside = ipc_path(parse_endpoint(self.coordinator_url))
        if beside is not None:
            listen = f"ipc://{os.path.dirname(beside)}/{self.writer_id}"  # noqa: PTH120 - a URL's path
            if len(f"{listen}.control".removeprefix("ipc://").encode()) <= _UNIX_PATH_MAX:
                return listen
        return "tcp://127.0.0.1:0"


def parse_options(argv: list[str]) -> WriterConfig:
    """Return the configuration that a command line and the environment ask for; InvalidArgumentError otherwise."""
    parser = Parser(prog="strata writer", description="Take checkpoint chunks from workers and make them durable.")
    add_coordinator(parser)
    parser.add_argument("--path", default=default_place() or "", help="the folder or s3://bucket/prefix of checkpoints")
    parser.add_argument(
        "--writer-id", default=f"{socket.gethostname()}-writer", help="default: the host's name and -writer"
    )
    parser.add_argument("--listen", default="", help="host:port, tcp://host:port or ipc:///path (default: a free port)")
    parser.add_argument("--advertise", default="", metavar="HOST", help="how workers reach a --listen of 0.0.0.0")
    parser.add_argument("--ready-fd", type=int, default=-1, help="write one JSON line here when serving")
    parser.add_argument("--inflight-mib", type=int, default=256, help="received and not yet durable, in all")
    parser.add_argument("--window-mib", type=int, default=64, help="the same for one stream")
    parser.add_argument("--drain-s", type=float, default=10.0, help="seconds to finish what was received, at the end")
    parser.add_argument(
        "--compression", choices=["none", *COMPRESSIONS], default="none", help="of chunks, for links slower than it"
    )
    options = parser.parse_args(argv)
    if not options.path:
        raise InvalidArgumentError(
            "--path is not given and STRATA_CHECKPOINT_PATH is not set: name a folder or s3://bucket/prefix"
        )
    supervisor = os.environ.get("STRATA_SUPERVISOR_PID", "")
    return WriterConfig(
        coordinator_url=options.coordinator_url,
        path=options.path,
        writer_id=options.writer_id,
        listen=options.listen,
        advertise=options.advertise,
        ready_fd=options.ready_fd,
        supervisor_pid=int(supervisor) if supervisor.isdecimal() else 0,
        inflight_bytes_max=options.inflight_mib * MIB,
        window_bytes=options.window_mib * MIB,
        drain_s=options.drain_s,
        compression=None if options.compression == "none" else options.compression,
    )
