"""What is sent comes out as it went in, within the wire's limits, and bad rows are named errors."""

from __future__ import annotations

from dataclasses import fields

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.task import NO_LIMITS, Outcome, OutcomeReport, TaskLimits
from strata_zmq.errors import InvalidArgumentError, ProtocolError
from strata_zmq.functions import wire
from strata_zmq.functions.calls import TaskView
from strata_zmq.protocol import functions as messages
from strata_zmq.protocol.function_parts import FRAMES_MAX, ReportRow

ID = bytes(range(16))


def over_the_wire(row: msgspec.Struct, frames: list[wire.Buffer]) -> tuple[object, list[bytes]]:
    """What the other side has: decoded anew, and frames of plain bytes."""
    return msgspec.msgpack.decode(messages.encode_function(row), type=type(row)), [bytes(one) for one in frames]


def test_limits_and_reports_have_the_same_fields_on_both_sides() -> None:
    assert [one.name for one in fields(TaskLimits)] == list(messages.LimitsRow.__struct_fields__)
    assert [one.name for one in fields(OutcomeReport)] == list(ReportRow.__struct_fields__)


def test_limits_come_back_as_they_went_and_equal_ones_are_one_object() -> None:
    limits = TaskLimits(durability="commit", attempt_s=2, labels={"gpu": 1}, keep_s=60.0, form="dill", capture=True)
    first, _ = over_the_wire(wire.limits_row(limits), [])
    again, _ = over_the_wire(
        wire.limits_row(TaskLimits(**{one.name: getattr(limits, one.name) for one in fields(limits)})), []
    )
    assert wire.limits_of(first) == limits  # type: ignore[arg-type]
    assert wire.limits_of(first) is wire.limits_of(again)  # type: ignore[arg-type]
    assert wire.limits_of(messages.LimitsRow()) is NO_LIMITS


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (TaskLimits(retries_lost=-1), "retries_lost is -1"),
        (TaskLimits(labels={"": 1}), "labels is"),
        (TaskLimits(result_bytes_max=0), "result_bytes_max is 0"),
        (TaskLimits(durability="maybe"), "durability is 'maybe'"),  # type: ignore[arg-type]
        (TaskLimits(total_s=float("nan")), "total_s is nan"),
    ],
)
def test_limits_that_the_wire_does_not_take_are_told_by_their_field(limits: TaskLimits, named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        wire.limits_row(limits)


payloads = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([bytes(messages.INLINE_BYTES_MAX), bytes(messages.INLINE_BYTES_MAX + 1)]),
    st.lists(st.binary(max_size=64), min_size=1, max_size=4).map(tuple),
)


@given(st.lists(payloads, max_size=6))
def test_payloads_of_a_message_come_back_in_their_parts(sent: list[bytes | tuple[bytes, ...]]) -> None:
    frames: list[wire.Buffer] = []
    bodies = [wire.put_body(payload, frames) for payload in sent]
    for payload, body in zip(sent, bodies, strict=True):
        got = wire.body_of(body, frames)
        parts = got if isinstance(got, tuple) else (got,)
        assert [bytes(part) for part in parts] == list(payload if isinstance(payload, tuple) else (payload,))


def test_a_frame_that_did_not_come_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="names payload frame 1, and 1 came"):
        wire.body_of([0, 1], [b"one"])


def test_an_outcome_comes_back_with_its_report_and_its_buffers() -> None:
    report = OutcomeReport("boom", "ValueError", "tb", "w1", 7, 9, 3, 1 << 20, "last", "out", "err", 12)
    sent = Outcome(ID, 3, "failure", (b"a" * 70_000, memoryview(b"b" * 9)), 0.25, "killed", report, started=False)
    frames: list[wire.Buffer] = []
    row, arrived = over_the_wire(wire.outcome_row(sent, frames), frames)
    got = wire.outcome_of(row, arrived)  # type: ignore[arg-type]
    assert got.body == (b"a" * 70_000, b"b" * 9)
    assert (got.task_id, got.attempt, got.kind, got.service_s) == (ID, 3, "failure", 0.25)
    assert (got.cause, got.report, got.started) == ("killed", report, False)


def test_texts_are_cut_to_what_the_wire_takes_and_lone_surrogates_are_replaced() -> None:
    report = OutcomeReport("\udc80" + "x" * 100_000, "T" * 5_000, "t" * 100_000, "w" * 999, stdout="\ud800o")
    row, _ = over_the_wire(wire.outcome_row(Outcome(ID, 1, "failure", None, 0.0, "exited", report), []), [])
    got = wire.outcome_of(row, []).report  # type: ignore[arg-type]
    assert got is not None
    assert (got.text[:2], len(got.text), len(got.traceback), got.stdout) == ("?x", 8192, 65_536, "?o")


def test_a_cause_that_nobody_knows_is_an_error_that_names_it() -> None:
    with pytest.raises(ProtocolError, match="cause is 'moonlight'"):
        wire.outcome_of(messages.OutcomeRow(ID, 1, "failure", None, cause="moonlight"), [])


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_an_error(seconds: float) -> None:
    with pytest.raises(ProtocolError, match="service_s is"):
        wire.outcome_of(messages.OutcomeRow(ID, 1, "ok", b"", seconds), [])


def test_a_view_has_its_outcome() -> None:
    row = messages.TaskRow(ID, "COMPLETED", 2, messages.OutcomeRow(ID, 2, "ok", b"r"), 1.0, 2.0, 3.0)
    view = wire.view_of(row, [])
    assert view.outcome is not None
    assert view.outcome.body == b"r"
    assert view == TaskView(ID, "COMPLETED", 2, view.outcome, 1.0, 2.0, 3.0)


@given(st.lists(st.tuples(st.integers(0, 2**21), st.integers(0, FRAMES_MAX), st.integers(0, 2**28)), max_size=60))
def test_messages_are_within_every_limit_and_nothing_is_lost_or_reordered(items: list[wire.Weight]) -> None:
    cut = list(wire.batches(items, lambda item: item, rows_max=7))
    assert [item for batch in cut for item in batch] == items
    for batch in cut:
        assert len(batch) <= 7
        inline, frames, nbytes = (sum(column) for column in zip(*batch, strict=True))
        assert len(batch) == 1 or (inline <= 2**20 and frames <= FRAMES_MAX and nbytes <= messages.BLOB_BYTES_MAX)


@given(payloads)
def test_a_payload_weighs_at_least_what_it_adds(payload: bytes | tuple[bytes, ...]) -> None:
    frames: list[wire.Buffer] = []
    row = messages.OutcomeRow(ID, 2**62, "ok", wire.put_body(payload, frames), 0.1)
    inline, count, nbytes = wire.payload_weight(payload)
    assert len(messages.encode_function(row)) <= inline
    assert (len(frames), sum(map(len, frames))) == (count, nbytes)


def test_a_report_full_of_text_weighs_at_least_what_it_adds() -> None:
    report = OutcomeReport("\u2603" * 8000, "X" * 1000, "\U0001f600" * 9000, stdout="\u2603" * 64_000)
    outcome = Outcome(ID, 1, "failure", None, 0.0, "exited", report)
    assert len(messages.encode_function(wire.outcome_row(outcome, []))) <= wire.outcome_weight(outcome)[0]
