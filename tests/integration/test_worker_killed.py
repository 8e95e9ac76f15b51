"""Training goes on when a worker dies: what survives is one history, exactly once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import chain
from typing import Any

from strata_zmq.domain.shuffle import dataset_checksum

TOTAL = 1000


def _committed_ids(trainers: list[Any]) -> list[int]:
    """The ids of the batches whose step ended up in committed history, from what the processes wrote themselves.

    A commit point is counted once, in the generation that reached it last: steps handed out in an earlier generation
    and again in a later one were rolled back in between.
    """
    batches = list(chain.from_iterable(trainer.events("batch") for trainer in trainers))
    last: dict[tuple[int, int], int] = {}
    for batch in batches:
        at = (batch["epoch"], batch["step"])
        last[at] = max(last.get(at, 0), batch["generation"])
    return [
        one for batch in batches if last[batch["epoch"], batch["step"]] == batch["generation"] for one in batch["ids"]
    ]


def test_kill_9_of_a_worker_and_a_newcomer_lose_and_repeat_no_sample(
    start_coordinator: Callable[..., Any], start_trainer: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """The survivors go on in their processes, a newcomer joins, and the epoch's certificate says exactly once."""
    coordinator = start_coordinator("--initial-workers", "3", "--lease-s", "2")
    first, victim, third = (
        start_trainer(coordinator, f"worker-{number}", total=TOTAL, hold=hold)
        for number, hold in enumerate([{"joining": 25}, {"dying": 8}, {}])
    )
    eventually(lambda: victim.events("holding"), 20)
    victim.kill()
    eventually(lambda: first.events("holding"), 20)
    newcomer = start_trainer(coordinator, "worker-7", total=TOTAL)
    eventually(lambda: "worker-7" in coordinator.members(), 20)
    first.go("joining")
    for trainer in (first, third, newcomer):
        trainer.finish()

    status = coordinator.status()
    (certificate,) = status.certificates
    assert certificate == {
        "dataset_id": "numbers",
        "epoch": 0,
        "total_samples": TOTAL,
        "samples": TOTAL,
        "checksum": str(dataset_checksum(TOTAL)),
        "complete": True,
    }
    changes = {tuple(change["left"]) + tuple(change["joined"]): change for change in status.rebalances}
    assert changes["worker-1",]["lower_bound"] > 0
    assert changes["worker-7",]["lower_bound"] > 0
    assert all(change["moved"] == change["lower_bound"] for change in status.rebalances)
    for survivor in (first, third):
        assert {event["pid"] for event in survivor.events("batch")} == {survivor.pid}, "it was restarted"
    assert any(event["ids"] for event in newcomer.events("batch")), "the newcomer took no part in the epoch"


def test_the_model_is_what_committed_history_says(
    start_coordinator: Callable[..., Any], start_trainer: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """A step that every rank had taken in, and a death made void, is taken out of the tracked model again."""
    coordinator = start_coordinator("--initial-workers", "3", "--lease-s", "2")
    first, victim, third = (
        start_trainer(coordinator, f"worker-{number}", total=TOTAL, epochs=2, hold_trained=hold)
        for number, hold in enumerate([{}, {"dying": 8}, {}])
    )
    eventually(lambda: victim.events("holding"), 20)
    victim.kill()
    for survivor in (first, third):
        survivor.finish()
        assert [event["model"] for event in survivor.events("epoch")] == [
            dataset_checksum(TOTAL),
            2 * dataset_checksum(TOTAL) % 2**64,
        ]
    assert sorted(_committed_ids([first, victim, third])) == sorted([*range(TOTAL)] * 2)
    handed_out = sum(len(event["ids"]) for one in (first, victim, third) for event in one.events("batch"))
    assert handed_out > 2 * TOTAL, "nothing was void, so nothing was shown"


def test_a_worker_that_sleeps_through_its_lease_is_fenced_and_rejoins(
    start_coordinator: Callable[..., Any], start_trainer: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """What the sleeper had in hand is trained by others; awake, its process joins again, and nothing counts twice."""
    coordinator = start_coordinator("--initial-workers", "2", "--lease-s", "1.5")
    steady = start_trainer(coordinator, "worker-0", total=TOTAL, hold={"rejoining": 20})
    sleeper = start_trainer(coordinator, "worker-1", total=TOTAL, hold={"sleeping": 5})
    eventually(lambda: sleeper.events("holding"), 20)
    sleeper.signal(signal.SIGSTOP)
    eventually(lambda: coordinator.members() == ["worker-0"], 20)
    eventually(lambda: steady.events("holding"), 20)
    sleeper.go("sleeping")
    sleeper.signal(signal.SIGCONT)
    eventually(lambda: coordinator.members() == ["worker-0", "worker-1"], 20, "the sleeper did not rejoin")
    steady.go("rejoining")
    for trainer in (steady, sleeper):
        trainer.finish()
        assert [event["model"] for event in trainer.events("epoch")] == [dataset_checksum(TOTAL)]
    assert coordinator.status().certificates[0]["complete"]
    assert {event["pid"] for event in sleeper.events("membership")} == {sleeper.pid}
    assert sorted(_committed_ids([steady, sleeper])) == list(range(TOTAL))


def test_what_a_sleeper_had_in_hand_is_void_and_the_same_process_is_a_later_member(
    start_coordinator: Callable[..., Any], start_trainer: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """Stopped for longer than its lease, it is told so at its commit; its next one, in a later generation, counts."""
    coordinator = start_coordinator("--initial-workers", "1", "--lease-s", "1")
    sleeper = start_trainer(coordinator, "worker-0", program="sleep_with_work.py")
    eventually(lambda: sleeper.events("holding"), 20)
    (before,) = sleeper.events("holding")
    sleeper.signal(signal.SIGSTOP)
    eventually(lambda: coordinator.status().workers == [], 20)
    sleeper.go("go")
    sleeper.signal(signal.SIGCONT)
    sleeper.finish()
    (refused,), (committed,) = sleeper.events("refused"), sleeper.events("committed")
    assert refused["code"] in {"fenced", "generation_changed"}
    assert committed["generation"] > before["generation"]
    status = coordinator.status()
    assert status.commit_index == 1, "the commit before the sleep counted, too"
    assert status.datasets[0]["remaining"] == 0
    assert status.counters["leases_expired"] == 1
