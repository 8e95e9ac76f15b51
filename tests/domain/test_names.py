"""What comes from outside is accepted within its published limits, and refused with the field, the limit, a way out."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain import names
from strata_zmq.domain.shuffle import num_shards
from strata_zmq.errors import InvalidArgumentError

ALLOWED = string.ascii_letters + string.digits + "_.-"


@given(st.text(ALLOWED, min_size=1, max_size=128).filter(lambda name: name not in {".", ".."}))
def test_every_published_name_is_accepted_as_it_is(name: str) -> None:
    assert names.check_name("worker_id", name, names.WORKER_NAME_MAX) == name


@given(st.text(max_size=300))
def test_a_name_is_accepted_exactly_when_the_published_rule_says_so(name: str) -> None:
    allowed = 1 <= len(name) <= 256 and set(name) <= set(ALLOWED) and name not in {".", ".."}
    if allowed:
        assert names.check_name("dataset_id", name, names.DATASET_NAME_MAX) == name
    else:
        with pytest.raises(InvalidArgumentError, match="dataset_id"):
            names.check_name("dataset_id", name, names.DATASET_NAME_MAX)


@pytest.mark.parametrize("name", ["", "a\n", "a b", "naïve", "a/b", "..", ".", "x" * 129, None, 7, b"raw", "\ud800"])
def test_a_bad_name_is_refused_in_a_short_ascii_message(name: object) -> None:
    with pytest.raises(InvalidArgumentError, match="worker_id") as caught:
        names.check_name("worker_id", name, names.WORKER_NAME_MAX)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 200


def test_a_long_name_is_refused_with_its_length_and_the_limit() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'x+'\.\.\. has 129 characters, the limit is 128: shorten it"):
        names.check_name("worker_id", "x" * 129, names.WORKER_NAME_MAX)


@pytest.mark.parametrize("path", ["/data/train", "relative/file", "s3://bucket/prefix", "a..b/c", "ü", "x" * 4096])
def test_a_path_or_url_is_accepted(path: str) -> None:
    assert names.check_path("path", path) == path


@pytest.mark.parametrize("path", ["", "..", "../x", "/a/../b", "a/..", "a\0b", "x" * 4097, None, "\udcff"])
def test_a_path_that_climbs_or_cannot_be_written_is_refused(path: object) -> None:
    with pytest.raises(InvalidArgumentError, match="path"):
        names.check_path("path", path)


def test_metadata_is_copied() -> None:
    given_metadata = {"site": "north"}
    assert names.check_metadata("metadata", given_metadata) == given_metadata
    assert names.check_metadata("metadata", given_metadata) is not given_metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {str(number): "" for number in range(65)},
        {"k" * 1025: ""},
        {"key": "v" * 1025},
        {1: "v"},
        {"key": 1},
        ["key"],
        None,
    ],
)
def test_metadata_beyond_its_limits_is_refused(metadata: object) -> None:
    with pytest.raises(InvalidArgumentError, match="metadata"):
        names.check_metadata("metadata", metadata)


def test_metadata_at_its_limits_is_accepted() -> None:
    largest = {f"{number:1024}": "v" * 1024 for number in range(64)}
    assert names.check_metadata("metadata", largest) == largest


@pytest.mark.parametrize("value", [0, -1, 11, True, 1.0, "3", None, pytest.param(10**5000, id="huge")])
def test_a_size_outside_its_limits_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"shard_size is .*1 (and|to) 10"):
        names.check_positive("shard_size", value, 10)


def test_a_dataset_in_fewer_samples_than_a_shard_is_one_short_shard() -> None:
    names.check_dataset(dataset_id="digits", total_samples=10, shard_size=1000, seed=42, path="/d", metadata={})
    assert num_shards(10, 1000) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset_id", "no spaces"),
        ("total_samples", 0),
        ("total_samples", 2**49),
        ("shard_size", -5),
        ("seed", -1),
        ("seed", 2**63),
        ("path", "../up"),
        ("metadata", {"key": 7}),
    ],
)
def test_a_dataset_is_refused_by_the_name_of_its_bad_field(field: str, value: object) -> None:
    good: dict[str, object] = {"dataset_id": "imagenet-1k", "total_samples": 1281167, "shard_size": 10000}
    with pytest.raises(InvalidArgumentError, match=field):
        names.check_dataset(**{**good, field: value})


def test_a_dataset_in_too_many_shards_is_refused_with_the_shard_size_that_works() -> None:
    with pytest.raises(InvalidArgumentError, match="use a shard_size of at least") as caught:
        names.check_dataset(dataset_id="web", total_samples=10**9 + 1, shard_size=10)
    advised = int(re.findall(r"\d+", str(caught.value))[-1])
    names.check_dataset(dataset_id="web", total_samples=10**9 + 1, shard_size=advised)
    with pytest.raises(InvalidArgumentError):
        names.check_dataset(dataset_id="web", total_samples=10**9 + 1, shard_size=advised - 1)
