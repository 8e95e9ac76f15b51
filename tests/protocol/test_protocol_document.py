"""PROTOCOL.md says what the code speaks: every message, its fields in their order, their types, limits and defaults."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import inspect

import strata_zmq.errors
from strata_zmq.protocol import codec, functions, stream
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol import sight_rows as rows
from strata_zmq.protocol.broadcasts import Announcement
from strata_zmq.protocol.fields import Header

DOCUMENT = Path(strata_zmq.errors.__file__).parent / "protocol" / "PROTOCOL.md"
MESSAGES = {
    kind.__struct_config__.tag: kind
    for union in (
        *(wire.Request, wire.Reply, wire.Broadcast, stream.StreamRequest, stream.StreamReply),
        *(functions.FromClient, functions.ClientReply, functions.FromWorker, functions.WorkerReply),
    )
    for kind in get_args(union)
} | {"chunk": stream.ChunkHeader, "fold": wire.Fold, "folded": wire.Folded, "sight_delta": wire.SightDelta}
PARTS = [
    wire.Resources,
    wire.SeenRange,
    wire.WriterInfo,
    wire.CheckpointSummary,
    wire.RankArrival,
    wire.RetentionRule,
    wire.Value,
    wire.Lag,
    wire.HangRow,
    wire.LostRow,
    wire.WorkerRow,
    stream.Candidate,
    wire.Part,
    wire.Shared,
    wire.Addressee,
    wire.Spent,
    wire.Changes,
    *(value for name in rows.__all__ if isinstance(value := getattr(rows, name), type)),
    functions.LimitsRow,
    functions.NewTask,
    functions.Blob,
    functions.RefusedTask,
    functions.Existing,
    functions.ReportRow,
    functions.OutcomeRow,
    functions.TaskRow,
    functions.TaskRef,
    functions.HeldTask,
    functions.AssignedTask,
]
COUNT_MAX = 2**62


def limits(low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return ""
    if not low:
        return f" ≤ {high}"
    return f" {low}" if low == high else f" {low}..{high}" if high is not None else f" ≥ {low}"


def integer(kind: inspect.IntType) -> str:
    if (kind.ge, kind.le) == (0, COUNT_MAX):
        return "count"
    return "int" if (kind.ge, kind.le) in {(None, None), (-(2**63), 2**63 - 1)} else f"int {kind.ge}..{power(kind.le)}"


def power(number: int) -> str:
    return f"2^{number.bit_length() - 1}" if number > 2**20 and number.bit_count() == 1 else str(number)


def notation(kind: inspect.Type) -> str:
    """A type as the document writes it."""
    match kind:
        case inspect.IntType():
            return integer(kind)
        case inspect.StrType():
            if kind.pattern:
                return f"text `{kind.pattern}`"
            return "text" + limits(kind.min_length, kind.max_length)
        case inspect.BytesType():
            return "bytes" + limits(kind.min_length, kind.max_length)
        case inspect.FloatType():
            return "float" if kind.ge is None else f"float {kind.ge:g}..{kind.le:.0f}"
        case inspect.BoolType():
            return "bool"
        case inspect.NoneType():
            return "nil"
        case inspect.LiteralType():
            return "one of " + " ".join(sorted(f"`{value}`" for value in kind.values))
        case inspect.StructType():
            return kind.cls.__name__
        case inspect.UnionType():
            return " or ".join(sorted(map(notation, kind.types)))
    return collection(kind)


def collection(kind: inspect.Type) -> str:
    match kind:
        case inspect.ListType():
            return f"[{notation(kind.item_type)}]" + limits(None, kind.max_length)
        case inspect.TupleType():
            return f"({', '.join(map(notation, kind.item_types))})"
        case inspect.DictType():
            return f"{{{notation(kind.key_type)}: {notation(kind.value_type)}}}" + limits(None, kind.max_length)
    pytest.fail(f"the document has no notation for {kind}")


def default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{msgspec.json.encode(value).decode()}`"


def first_index(kind: type) -> int:
    """Where a message's own fields begin: after its tag and its header."""
    if issubclass(kind, Header):
        return 6
    if issubclass(kind, Announcement):
        return 5
    return 0 if kind in PARTS else 1


def rows_of(kind: type) -> list[tuple[str, str, str, str]]:
    described = inspect.type_info(kind)
    tagged = 0 if kind in PARTS else 1
    fields = [
        (str(index + tagged), f"`{field.name}`", notation(field.type), default(field))
        for index, field in enumerate(described.fields)
    ]
    return [row for row in fields if int(row[0]) >= first_index(kind)]


def sections() -> dict[str, str]:
    """The document's third-level headings in code font, and what stands below each."""
    found = re.split(r"^### `([A-Za-z_]+)`.*$", DOCUMENT.read_text(), flags=re.MULTILINE)
    names, bodies = found[1::2], [re.split(r"^##", body, maxsplit=1, flags=re.MULTILINE)[0] for body in found[2::2]]
    assert len(set(names)) == len(names), "a heading stands twice"
    return dict(zip(names, bodies, strict=True))


def table(body: str) -> list[tuple[str, str, str, str]]:
    """The first four columns of the rows whose first column is a number."""
    rows = []
    for line in body.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and cells[0].isdigit():
            rows.append((cells[0], cells[1], cells[2], cells[3]))
    return rows


def test_every_message_and_part_has_a_section_and_no_section_is_of_the_past() -> None:
    assert set(sections()) == set(MESSAGES) | {part.__name__ for part in PARTS}


@pytest.mark.parametrize("kind", [*MESSAGES.values(), *PARTS], ids=lambda kind: kind.__name__)
def test_the_fields_stand_there_in_their_order_with_their_types_limits_and_defaults(kind: Any) -> None:
    config = kind.__struct_config__
    name = config.tag if kind not in PARTS else kind.__name__
    assert config.array_like
    assert table(sections()[name]) == rows_of(kind)


@pytest.mark.parametrize("kind", [*MESSAGES.values(), *PARTS], ids=lambda kind: kind.__name__)
def test_every_field_is_explained(kind: Any) -> None:
    name = kind.__struct_config__.tag if kind not in PARTS else kind.__name__
    for line in sections()[name].splitlines():
        if re.match(r"\| \d+ \|", line):
            assert re.fullmatch(r"\|(?: [^|]+ \|){5}", line), line


def test_the_header_stands_there_as_it_is() -> None:
    body = DOCUMENT.read_text().split("## Header", 1)[1].split("\n## ", 1)[0]
    fields = inspect.type_info(Header).fields
    assert [row[:3] for row in table(body)] == [
        (str(index), f"`{field.name}`", notation(field.type)) for index, field in enumerate(fields, start=1)
    ]


def test_every_error_code_stands_there_with_its_fault_and_whether_a_retry_helps() -> None:
    body = DOCUMENT.read_text().split("## Errors", 1)[1].split("\n## ", 1)[0]
    written = {}
    for line in body.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if cells[0].startswith("`") and len(cells) == 4:
            written[cells[0].strip("`")] = (cells[1], cells[2])
    errors = [
        value
        for value in vars(strata_zmq.errors).values()
        if isinstance(value, type) and issubclass(value, strata_zmq.errors.StrataError)
    ]
    assert written == {one.code: (one.fault, "yes" if one.retryable else "no") for one in errors}


@pytest.mark.parametrize(
    "said",
    [
        f"protocol version is {wire.PROTOCOL_VERSION}",
        f"{codec.MAX_REQUEST_BYTES:,} bytes",
        f"{codec.MAX_REPLY_BYTES:,} bytes",
        f"{codec.MAX_FOLDED_BYTES:,} downward",
        f"{stream.HEADER_BYTES_MAX:,} bytes",
        f"{stream.CONTROL_BYTES_MAX:,} bytes",
        f"version of this plane is {functions.FUNCTIONS_VERSION}",
        f"{functions.MESSAGE_BYTES_MAX:,}\nbytes",
        f"{functions.INLINE_BYTES_MAX:,} bytes",
        f"{functions.BLOB_BYTES_MAX:,} bytes",
        f"at most {functions.FRAMES_MAX:,} of them",
    ],
)
def test_versions_and_limits_are_those_of_the_code(said: str) -> None:
    assert said in DOCUMENT.read_text()


def test_the_example_frames_are_what_the_codec_writes() -> None:
    """Each `hex` block is preceded by the message as a Python expression."""
    examples = re.findall(r"```python\n(.+?)```\n+```hex\n(.+?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert len(examples) >= 3
    names = {name: value for name, value in vars(wire).items() if isinstance(value, type | types.UnionType)}
    for expression, dump in examples:
        message = eval(expression, {"__builtins__": {}}, names)  # noqa: S307 - our own document
        assert codec.encode(message).hex() == re.sub(r"\s", "", dump)
