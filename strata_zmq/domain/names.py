"""What may be said: limits on names, paths, metadata and sizes that come from outside; never what they are used for.

Every check returns the value that it accepted and raises InvalidArgumentError otherwise. The message names the field,
the offending value (cut short), the limit and the way out. Lengths are counted in characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from strata_zmq.errors import InvalidArgumentError

__all__ = [
    "DATASET_NAME_MAX",
    "METADATA_ENTRIES_MAX",
    "METADATA_TEXT_MAX",
    "PATH_MAX",
    "SAMPLES_MAX",
    "SECONDS_MAX",
    "SEED_MAX",
    "SHARDS_MAX",
    "WORKER_NAME_MAX",
    "check_dataset",
    "check_metadata",
    "check_name",
    "check_not_negative",
    "check_path",
    "check_positive",
    "check_seconds",
]

WORKER_NAME_MAX = 128
DATASET_NAME_MAX = 256
PATH_MAX = 4096
METADATA_ENTRIES_MAX = 64
METADATA_TEXT_MAX = 1024
SAMPLES_MAX = 2**48
"""Samples in one dataset: sums of per-sample figures stay far inside an int64."""
SHARDS_MAX = 1_000_000
"""Shards in one dataset: ownership and ledger hold one array entry each, and a rebalance visits them all."""
SECONDS_MAX = 30 * 86_400.0
SEED_MAX = 2**63 - 1
"""Seeds fit the signed 64-bit integers of SQLite and of most other languages."""

_SHOWN_MAX = 48
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def check_name(field: str, value: object, limit: int) -> str:
    """Accept 1 to `limit` characters of A-Z a-z 0-9 _ . - that are not the folder names "." and ".."."""
    text = _check_text(field, value, limit)
    if not text:
        raise InvalidArgumentError(f"{field} is empty: give it 1 to {limit} characters of A-Z a-z 0-9 _ . -")
    if _NAME.fullmatch(text) is None:
        raise InvalidArgumentError(
            f"{field} {_shown(text)} holds other characters than A-Z a-z 0-9 _ . -: replace them, for example by '-'"
        )
    if text in {".", ".."}:
        raise InvalidArgumentError(f"{field} {_shown(text)} is the name of a folder: give it a letter or a digit")
    return text


def check_path(field: str, value: object) -> str:
    """Accept a path or URL of 1 to 4096 characters without a ".." component and without NUL."""
    text = _check_text(field, value, PATH_MAX)
    if not text:
        raise InvalidArgumentError(f"{field} is empty: name a file, a folder or a URL of at most {PATH_MAX} characters")
    if "\0" in text:
        raise InvalidArgumentError(f"{field} {_shown(text)} holds a NUL character: remove it")
    if ".." in text.split("/"):
        raise InvalidArgumentError(f"{field} {_shown(text)} holds a '..' component: write the path without it")
    return text


def check_metadata(field: str, value: object) -> dict[str, str]:
    """Accept a mapping of at most 64 entries from text to text, each at most 1024 characters; returns a copy."""
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{field} is {_shown(value)}: give a mapping from text to text")
    if len(value) > METADATA_ENTRIES_MAX:
        raise InvalidArgumentError(
            f"{field} has {len(value)} entries, the limit is {METADATA_ENTRIES_MAX}: drop some or join them"
        )
    return {
        _check_text(f"a key of {field}", key, METADATA_TEXT_MAX): _check_text(
            f"{field}[{_shown(key)}]", entry, METADATA_TEXT_MAX
        )
        for key, entry in value.items()
    }


def check_positive(field: str, value: object, maximum: int) -> int:
    """Accept an integer from 1 to `maximum`."""
    return _check_integer(field, value, 1, maximum)


def check_not_negative(field: str, value: object, maximum: int) -> int:
    """Accept an integer from 0 to `maximum`."""
    return _check_integer(field, value, 0, maximum)


def check_seconds(field: str, value: object, maximum: float = SECONDS_MAX) -> float:
    """Accept a finite number of seconds from 0 to `maximum`."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise InvalidArgumentError(f"{field} is {_shown(value)}: give seconds from 0 to {maximum:g}")
    return float(value)


def check_dataset(
    *,
    dataset_id: object,
    total_samples: object,
    shard_size: object,
    seed: object = 0,
    path: object = "",
    metadata: object = None,
) -> None:
    """Accept the description of a dataset: its name, sizes in samples, seed, optional path and metadata.

    A shard size above the total is fine: the dataset is then one short shard.
    """
    check_name("dataset_id", dataset_id, DATASET_NAME_MAX)
    total = check_positive("total_samples", total_samples, SAMPLES_MAX)
    size = check_positive("shard_size", shard_size, SAMPLES_MAX)
    check_not_negative("seed", seed, SEED_MAX)
    if path != "":
        check_path("path", path)
    if metadata is not None:
        check_metadata("metadata", metadata)
    shards = -(-total // size)
    if shards > SHARDS_MAX:
        raise InvalidArgumentError(
            f"shard_size {size} cuts {total} samples into {shards} shards, the limit is {SHARDS_MAX}: "
            f"use a shard_size of at least {-(-total // SHARDS_MAX)}"
        )


def _check_integer(field: str, value: object, minimum: int, maximum: int) -> int:
    # bool is an int to Python and a mistake to everybody else.
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(f"{field} is {_shown(value)}: give an integer from {minimum} to {maximum}")
    if not minimum <= value <= maximum:
        raise InvalidArgumentError(f"{field} is {_shown(value)}, it takes {minimum} to {maximum}")
    return value


def _check_text(field: str, value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{field} is {_shown(value)}: give text of at most {limit} characters")
    if len(value) > limit:
        raise InvalidArgumentError(
            f"{field} {_shown(value)} has {len(value)} characters, the limit is {limit}: shorten it"
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                f"{field} {_shown(value)} cannot be written as UTF-8: remove surrogates"
            ) from None
    return value


def _shown(value: object) -> str:
    """Return `value` as a short ASCII text, whatever it is: messages go to terminals, logs and sockets."""
    if isinstance(value, str):
        return ascii(value) if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]!a}..."
    if isinstance(value, (int, float)) or value is None:
        # Python refuses to print an integer of more than 4300 digits.
        return repr(value) if not isinstance(value, int) or value.bit_length() <= 256 else "a huge integer"
    return f"a {type(value).__name__}"
