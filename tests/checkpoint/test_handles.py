"""What a handle promises of a save: its futures, its states and its error agree, whatever the order of what happens."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from strata_zmq.checkpoint.handle import SaveHandle
from strata_zmq.errors import DeadlineExceededError, StorageError, SupersededError


def test_a_save_that_goes_well_is_staged_then_durable() -> None:
    handle = SaveHandle(5, 1)
    assert (handle.state, handle.done, handle.staged.done(), handle.durable.done()) == ("STAGING", False, False, False)
    handle.stage(stall_s=0.25)
    assert (handle.state, handle.stall_s, handle.staged.result(0)) == ("STAGED", 0.25, None)
    handle.begin()
    assert (handle.state, handle.attempts, handle.is_durable) == ("STREAMING", 1, False)
    handle.reach(checkpoint_id="step-5")
    assert handle.durable.result(0) == handle.result(0) == handle.checkpoint_id == "step-5"
    assert handle.wait(0)
    assert handle.is_durable
    assert handle.done
    assert handle.error is None


def test_while_it_is_tried_again_the_reason_is_seen_and_no_future_ends() -> None:
    handle = SaveHandle(5, 1)
    handle.stage()
    handle.begin()
    handle.retry(StorageError("the disk is full"))
    assert (handle.state, str(handle.error), handle.durable.done()) == ("RETRYING", "the disk is full", False)
    handle.begin()
    handle.reach(checkpoint_id="a")
    assert (handle.attempts, handle.error) == (2, None)


@pytest.mark.parametrize(("error", "state"), [(StorageError("full"), "FAILED"), (SupersededError("busy"), "SKIPPED")])
def test_a_save_that_ends_badly_gives_its_error_to_all_who_wait(error: StorageError, state: str) -> None:
    handle = SaveHandle(5, 1, tiers=("local", "remote"))
    handle.fail(error)
    assert (handle.state, handle.wait(0), handle.is_durable, handle.error) == (state, False, False, error)
    for future in (handle.staged, handle.durable, *handle.tiers.values()):
        assert future.exception(0) is error
    with pytest.raises(type(error)):
        handle.result(0)


def test_what_was_staged_stays_staged_when_the_save_fails() -> None:
    handle = SaveHandle(5, 1)
    handle.stage()
    handle.fail(StorageError("full"))
    assert handle.staged.result(0) is None


def test_an_end_is_final() -> None:
    handle = SaveHandle(5, 1)
    handle.reach(checkpoint_id="a")
    handle.fail(StorageError("late news"))
    handle.retry(StorageError("later news"))
    assert (handle.state, handle.error, handle.result(0)) == ("DURABLE", None, "a")


def test_each_tier_has_its_own_future_and_the_first_is_durability() -> None:
    handle = SaveHandle(5, 1, tiers=("local", "remote"))
    handle.reach("local", "a")
    assert handle.is_durable
    assert not handle.tiers["remote"].done()
    handle.fail(StorageError("the link is down"), "remote")
    assert (handle.state, handle.error) == ("DURABLE", None)
    assert isinstance(handle.tiers["remote"].exception(0), StorageError)


def test_waiting_too_long_names_who_is_missing() -> None:
    handle = SaveHandle(5, 1)
    handle.waits_for = lambda: ("worker-3",)
    with pytest.raises(DeadlineExceededError, match=r"step 5 is not durable after 0\.01 s, missing: worker-3") as late:
        handle.wait(0.01)
    assert late.value.missing == ("worker-3",)


def test_nobody_can_cancel_a_save_by_its_future() -> None:
    handle = SaveHandle(5, 1)
    assert not handle.durable.cancel()
    assert not handle.staged.cancel()
    waiting = threading.Thread(target=handle.wait)
    waiting.start()
    handle.reach(checkpoint_id="a")
    waiting.join(10)
    try:
        assert handle.durable.result(0) == "a"
    except CancelledError:
        pytest.fail("it was cancelled")
