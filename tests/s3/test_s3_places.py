"""Which place a URL and the environment name, and what is said when they name none: nothing here needs a server."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from strata_zmq import CheckpointManager, storage
from strata_zmq.errors import InvalidArgumentError, StorageError
from strata_zmq.storage import default_place, join_url, open_storage
from strata_zmq.storage.options import s3_options


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, None),
        ({"STORAGE_BACKEND": "local", "CHECKPOINT_BUCKET": "unused"}, None),
        ({"STORAGE_BACKEND": "s3", "CHECKPOINT_BUCKET": "runs"}, "s3://runs"),
        ({"STORAGE_BACKEND": "s3", "CHECKPOINT_BUCKET": "runs/a/b"}, "s3://runs/a/b"),
        ({"STORAGE_BACKEND": "s3", "CHECKPOINT_BUCKET": "s3://runs/a"}, "s3://runs/a"),
        ({"STRATA_CHECKPOINT_PATH": "/mnt/x", "STORAGE_BACKEND": "s3", "CHECKPOINT_BUCKET": "runs"}, "/mnt/x"),
    ],
)
def test_the_environment_names_the_place(environ: dict[str, str], place: str | None) -> None:
    assert default_place(environ) == place


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"STORAGE_BACKEND": "s3"}, "CHECKPOINT_BUCKET is not set"),
        ({"STORAGE_BACKEND": "gcs", "CHECKPOINT_BUCKET": "runs"}, "write local or s3"),
    ],
)
def test_half_a_place_is_refused(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        default_place(environ)


def test_a_key_joins_each_of_several_places() -> None:
    assert join_url("/mnt/runs/", "a/b") == "/mnt/runs/a/b"
    assert join_url("/mnt/runs", "") == "/mnt/runs"
    assert join_url("s3://bucket", "a") == "s3://bucket/a"
    assert join_url("/mnt/runs,s3://bucket/x/", "a") == "/mnt/runs/a,s3://bucket/x/a"
    assert join_url("/mnt/a,b", "c") == "/mnt/a,b/c"
    with pytest.raises(InvalidArgumentError, match="component"):
        join_url("s3://bucket", "../x")


@pytest.mark.parametrize(
    ("url", "environ", "reason"),
    [
        ("s3://", {}, "bucket '' is no bucket's name"),
        ("s3://ab", {}, "3 to 63 characters"),
        ("s3://UPPER/x", {}, "3 to 63 characters"),
        ("s3://user:word@bucket/x", {}, "3 to 63 characters"),
        ("s3://bucket//x", {}, "component"),
        ("s3://bucket/../x", {}, r"'\.\.'"),
        ("s3://bucket/x?y", {}, "other characters"),
        ("s3://bucket", {"STRATA_S3_TIMEOUT_S": "soon"}, "STRATA_S3_TIMEOUT_S is 'soon'"),
        ("s3://bucket", {"STRATA_S3_TIMEOUT_S": "0"}, "the least is"),
        ("s3://bucket", {"STRATA_S3_TIMEOUT_S": "nan"}, "STRATA_S3_TIMEOUT_S"),
        ("s3://bucket", {"STRATA_S3_SIGN_PAYLOAD": "maybe"}, "auto, always or never"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "localhost:9000"}, "no URL of a server"),
        ("/folder,s3://bucket", {}, "names several places"),
    ],
)
def test_a_place_that_cannot_be_says_why(url: str, environ: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        open_storage(url, environ)


def test_the_settings_go_by_the_names_of_other_aws_tools() -> None:
    environ = {
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ENDPOINT_URL": "http://everything:1",
        "AWS_ENDPOINT_URL_S3": "http://objects:2",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "AWS_SESSION_TOKEN": "token",
        "AWS_CA_BUNDLE": "/ca.pem",
    }
    options = s3_options("s3://bucket/a/b/", environ)
    assert (options.bucket, options.prefix, options.url) == ("bucket", "a/b", "s3://bucket/a/b")
    assert (options.region, options.endpoint) == ("eu-central-1", "http://objects:2")
    assert (options.access_key_id, options.secret_access_key, options.session_token) == ("id", "hush", "token")
    assert options.ca_bundle == "/ca.pem"
    assert "hush" not in repr(options)
    assert "token" not in repr(options)


def test_whoever_asks_for_no_s3_does_not_load_its_libraries(tmp_path: object) -> None:
    program = (
        "import sys; from strata_zmq import CheckpointManager; from strata_zmq.storage import open_storage; "
        "CheckpointManager(sys.argv[1]).close(); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in loaded.stdout.split()} & {"boto3", "botocore", "obstore"} == set()


@pytest.mark.parametrize("missing", [["boto3"], ["obstore"], ["boto3", "obstore"]])
def test_without_the_packages_s3_says_what_to_install(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda name: None if name in missing else object())
    with pytest.raises(InvalidArgumentError, match=rf"needs {' and '.join(missing)}.*pip install strata-zmq\[s3\]"):
        CheckpointManager("s3://bucket/prefix")


@pytest.mark.s3
def test_without_credentials_the_first_access_says_how_to_give_them(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3")
    pytest.importorskip("obstore")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    opened = open_storage("s3://bucket/prefix", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    with pytest.raises(StorageError, match=r"no AWS credentials were found.*AWS_ACCESS_KEY_ID"):
        asyncio.run(opened.get("a"))


@pytest.mark.s3
def test_a_ca_bundle_that_is_not_there_is_named() -> None:
    pytest.importorskip("boto3")
    pytest.importorskip("obstore")
    environ = {
        "AWS_ENDPOINT_URL": "https://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_CA_BUNDLE": "/nowhere.pem",
    }
    with pytest.raises(StorageError, match=r"/nowhere\.pem"):
        asyncio.run(open_storage("s3://bucket", environ).get("a"))
