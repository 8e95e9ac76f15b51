"""moto and SeaweedFS as child processes: a free port each, waited for until they answer, ended by their pids."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from processkit.patience import until

from .place import BUCKET, S3Place

__all__ = ["moto", "weed", "weed_command"]

_STARTS_S, _ENDS_S = 60.0, 10.0
_WEED_PORT_MAX = 50_000  # it takes port + 10,000, too


@contextlib.contextmanager
def moto() -> Iterator[S3Place]:
    """Run moto's server: exact conditional writes; it checks neither signatures nor checksums."""
    (port,) = _free_ports(1)
    with _served([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port) as place:
        yield place


@contextlib.contextmanager
def weed() -> Iterator[S3Place]:
    """Run SeaweedFS: conditional writes, and it refuses bad signatures and checksums."""
    names = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")
    ports = _free_ports(len(names))
    with tempfile.TemporaryDirectory(prefix="strata-weed-") as folder:
        command = [
            str(weed_command()),
            "mini",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-webdav=false",
            "-admin.ui=false",
            *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
        ]
        with _served(command, ports[0]) as place:
            yield place


def weed_command() -> Path | None:
    """Return where `weed` is, beside this Python or on the path."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    return Path(found) if found else None


@contextlib.contextmanager
def _served(command: list[str], port: int) -> Iterator[S3Place]:
    place = S3Place(f"http://127.0.0.1:{port}")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **place.environ}
        )
        try:
            until(
                lambda: process.poll() is not None or _has_bucket(place), _STARTS_S, f"{command[:3]} takes no objects"
            )
            if process.poll() is not None:
                log.seek(0)
                raise AssertionError(f"{command} ended: {log.read()[-2000:].decode(errors='replace')}")
            yield place
        finally:
            process.terminate()
            try:
                process.wait(_ENDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _has_bucket(place: S3Place) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    client = place.client()
    try:
        client.create_bucket(Bucket=BUCKET)
        # A server that has only just come up may take a bucket before it takes objects.
        client.put_object(Bucket=BUCKET, Key="up", Body=b"")
    except client.exceptions.BucketAlreadyOwnedByYou:
        return True
    except (BotoCoreError, ClientError):
        return False
    finally:
        client.close()
    return True


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody has now, low enough for SeaweedFS."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            probe = stack.enter_context(socket.socket())
            for port in range(20_000 + (os.getpid() * 37 + len(found) * 101) % 20_000, _WEED_PORT_MAX, 7):
                beside = stack.enter_context(socket.socket())
                with contextlib.suppress(OSError):
                    beside.bind(("127.0.0.1", port + 10_000))
                    probe.bind(("127.0.0.1", port))
                    found.append(port)
                    break
            else:
                raise AssertionError("no port is free")
    return found
