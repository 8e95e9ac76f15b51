"""The null sink takes what S3 clients send, in every framing, counts it whole, and keeps what is small."""

from __future__ import annotations

import io
import os
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest

from strata_zmq.bench.loads.s3_servers import Place, null_sink
from strata_zmq.bench.loads.s3_sink import KEPT_BYTES_MAX, unframed
from strata_zmq.checkpoint.manager import CheckpointManager

pytestmark = pytest.mark.s3


@pytest.fixture(params=[True, False], ids=["tls", "clear"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with null_sink(tls=request.param) as served:
        for name, value in served.environ.items():
            monkeypatch.setenv(name, value)
        yield served


def raw(place: Place, request: bytes) -> bytes:
    """Send bytes as they are and return the beginning of the answer."""
    url = urlsplit(place.environ["AWS_ENDPOINT_URL_S3"])
    assert url.hostname is not None
    with socket.create_connection((url.hostname, url.port or 0), timeout=10) as plain:
        sock = plain
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=place.environ["AWS_CA_BUNDLE"])
            sock = context.wrap_socket(plain, server_hostname=url.hostname)
        with sock:
            sock.sendall(request)
            return sock.recv(1 << 16)


def test_frames_of_a_signed_body_are_taken_apart() -> None:
    body = b"5;chunk-signature=ab\r\nhello\r\n6;chunk-signature=cd\r\n\r\nwide\r\n0;chunk-signature=ef\r\nx:y\r\n\r\n"
    assert unframed(body) == b"hello\r\nwide"


def test_a_body_in_chunks_with_trailers_is_one_object(place: Place) -> None:
    head = b"PUT /b/chunked HTTP/1.1\r\nHost: x\r\nContent-Encoding: aws-chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw(place, head + b"5\r\nhello\r\n6\r\n\r\nwide\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    found = boto3.client("s3").get_object(Bucket="b", Key="chunked")
    assert found["Body"].read() == b"hello\r\nwide"


def test_a_body_of_a_known_length_in_frames_is_one_object(place: Place) -> None:
    framed = b"5;chunk-signature=ab\r\nhello\r\n0;chunk-signature=ef\r\n\r\n"
    head = (
        b"PUT /b/framed HTTP/1.1\r\nHost: x\r\nContent-Encoding: aws-chunked\r\nx-amz-decoded-content-length: 5\r\n"
        b"Content-Length: %d\r\n\r\n" % len(framed)
    )
    assert raw(place, head + framed).startswith(b"HTTP/1.1 200")
    assert boto3.client("s3").get_object(Bucket="b", Key="framed")["Body"].read() == b"hello"


@pytest.mark.parametrize("nbytes", [0, 1, KEPT_BYTES_MAX, KEPT_BYTES_MAX + 1, 20 << 20])
def test_boto3_uploads_any_size_and_the_sink_has_its_length(place: Place, nbytes: int) -> None:
    client = boto3.client("s3")
    content = os.urandom(min(nbytes, 1 << 20)) * max(1, nbytes >> 20)
    content = (content + b"x" * nbytes)[:nbytes]
    client.upload_fileobj(io.BytesIO(content), place.bucket, "object")
    assert client.head_object(Bucket=place.bucket, Key="object")["ContentLength"] == nbytes
    if nbytes <= KEPT_BYTES_MAX:
        assert client.get_object(Bucket=place.bucket, Key="object")["Body"].read() == content


def test_a_create_or_a_swap_that_comes_too_late_is_refused(place: Place) -> None:
    client = boto3.client("s3")
    first = client.put_object(Bucket="b", Key="HEAD", Body=b"1", IfNoneMatch="*")["ETag"]
    second = client.put_object(Bucket="b", Key="HEAD", Body=b"2", IfMatch=first)["ETag"]
    for late in ({"IfNoneMatch": "*"}, {"IfMatch": first}):
        with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
            client.put_object(Bucket="b", Key="HEAD", Body=b"3", **late)
    assert client.head_object(Bucket="b", Key="HEAD")["ETag"] == second


def test_a_manager_saves_into_the_sink_and_retires_there(place: Place) -> None:
    with CheckpointManager(place.url, keep_count=1) as manager:
        saved = [manager.save({"w": np.full(3_000_000, step, np.float32)}, step, 0) for step in (1, 2)]
        manager.wait_pending()
        assert [info.checkpoint_id for info in manager.all_checkpoints()] == saved[1:]
    listed = boto3.client("s3").list_objects_v2(Bucket=place.bucket, Prefix="run/ckpt/")["Contents"]
    assert {entry["Key"].split("/")[2] for entry in listed} == {saved[1]}
