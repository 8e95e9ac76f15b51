"""The job's rules, without a process: who is restarted, in which order things end, and the exit code."""

from __future__ import annotations

import signal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from strata_zmq.workers.launcher.job import Effect, Finish, Job, Limits, Phase, Report, Signal, Spawn

SIGINT, SIGTERM, SIGKILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL


def running(workers: int = 2, writers: int = 1, **limits: float) -> Job:
    """A job whose services are ready and whose workers have been started, at time 0."""
    job = Job(workers, writers, Limits(**limits))  # type: ignore[arg-type]
    job.begin(0.0)
    job.ready("coordinator", 0.0)
    for index in range(writers):
        job.ready(f"writer-{index}", 0.0)
    assert job.phase is Phase.RUNNING
    return job


def only(effects: list[Effect], *kinds: type) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kinds)]


def test_workers_start_after_writers_and_writers_after_the_coordinator() -> None:
    job = Job(2, 1)
    assert job.begin(0.0) == [Spawn("coordinator", 0)]
    assert job.ready("coordinator", 0.1) == [Spawn("writer-0", 0)]
    assert job.ready("writer-0", 0.2) == [Spawn("worker-0", 0), Spawn("worker-1", 0)]


def test_all_workers_ending_well_ends_writers_then_the_coordinator_with_code_0() -> None:
    job = running()
    assert only(job.exited("worker-0", 0, 1.0), Signal) == []
    assert only(job.exited("worker-1", 0, 2.0), Signal) == [Signal("writer-0", SIGTERM)]
    assert only(job.exited("writer-0", 0, 2.1), Signal) == [Signal("coordinator", SIGTERM)]
    assert job.exited("coordinator", 0, 2.2) == [Finish(0, "all 2 workers finished")]


def test_a_lost_worker_is_reported_and_restarted_only_after_the_coordinator_knows() -> None:
    job = running()
    effects = job.exited("worker-1", -9, 1.0)
    assert only(effects, Report, Spawn) == [Report("worker-1", "was killed by SIGKILL")]
    assert job.reported("worker-1", 1.1) == [Spawn("worker-1", 1)]
    assert job.reported("worker-1", 1.2) == []


def test_a_worker_is_restarted_in_the_end_even_if_the_coordinator_never_answers() -> None:
    job = running(report_s=5.0)
    job.exited("worker-0", 3, 1.0)
    assert job.next_deadline() == 6.0
    assert only(job.tick(5.9), Spawn) == []
    assert only(job.tick(6.0), Spawn) == [Spawn("worker-0", 1)]


def test_a_worker_lost_more_often_than_allowed_fails_the_job_with_its_code() -> None:
    for code, expected in ((-9, 137), (-15, 143), (3, 3)):
        job = running(worker_restarts=1, grace_s=10.0)
        job.exited("worker-0", code, 1.0)
        job.reported("worker-0", 1.0)
        effects = job.exited("worker-0", code, 2.0)
        assert only(effects, Signal, Spawn) == [Signal("worker-1", SIGTERM)]
        job.exited("worker-1", -15, 2.1)
        job.exited("writer-0", 0, 2.2)
        assert only(job.exited("coordinator", 0, 2.3), Finish)[0].code == expected  # type: ignore[union-attr]


def test_a_lost_coordinator_or_writer_is_restarted_up_to_a_limit_and_then_fails_the_job() -> None:
    for name in ("coordinator", "writer-0"):
        job = running(service_restarts=2)
        for life in (1, 2):
            assert only(job.exited(name, -9, 1.0), Spawn) == [Spawn(name, life)]
            assert job.ready(name, 1.1) == []
        effects = job.exited(name, -9, 2.0)
        assert only(effects, Spawn) == []
        assert job.phase is Phase.ENDING
        assert job.code == 1


def test_a_service_that_never_served_is_not_tried_again() -> None:
    job = Job(2, 1)
    job.begin(0.0)
    effects = job.exited("coordinator", 1, 0.5)
    assert only(effects, Spawn) == []
    assert only(effects, Finish)[0].code == 1  # type: ignore[union-attr]


def test_a_service_that_is_not_ready_in_time_is_killed() -> None:
    job = Job(1, 0, Limits(ready_s=30.0))
    job.begin(0.0)
    assert job.tick(30.0) == [Signal("coordinator", SIGKILL)]
    assert "not ready within 30 s" in only(job.exited("coordinator", -9, 30.1), Finish)[0].outcome  # type: ignore[union-attr]


def test_ctrl_c_climbs_from_sigint_over_sigterm_to_sigkill_and_ends_with_130() -> None:
    job = running(workers=2, grace_s=10.0, terminate_s=3.0)
    assert only(job.interrupted(SIGINT, 1.0), Signal) == [Signal("worker-0", SIGINT), Signal("worker-1", SIGINT)]
    assert only(job.exited("worker-0", -2, 1.5), Signal) == []
    assert only(job.tick(11.0), Signal) == [Signal("worker-1", SIGTERM)]
    assert only(job.tick(14.0), Signal) == [Signal("worker-1", SIGKILL)]
    assert only(job.exited("worker-1", -9, 14.1), Signal) == [Signal("writer-0", SIGTERM)]
    job.exited("writer-0", 0, 14.2)
    assert only(job.exited("coordinator", 0, 14.3), Finish)[0].code == 130  # type: ignore[union-attr]


def test_the_second_ctrl_c_kills_everything_at_once() -> None:
    job = running(workers=1)
    job.interrupted(SIGINT, 1.0)
    killed = only(job.interrupted(SIGINT, 1.1), Signal)
    assert killed == [Signal(name, SIGKILL) for name in ("coordinator", "writer-0", "worker-0")]


def test_sigterm_ends_with_143_even_when_the_workers_end_well() -> None:
    job = running(workers=1, writers=0)
    assert only(job.interrupted(SIGTERM, 1.0), Signal) == [Signal("worker-0", SIGTERM)]
    job.exited("worker-0", 0, 1.1)
    assert job.exited("coordinator", 0, 1.2)[-1] == Finish(143, "SIGTERM received")


def test_nothing_is_restarted_once_the_job_ends() -> None:
    job = running()
    job.interrupted(SIGINT, 1.0)
    for name in ("coordinator", "writer-0", "worker-0", "worker-1"):
        assert only(job.exited(name, -9, 2.0), Spawn) == []
    assert job.phase is Phase.DONE


class Storm(RuleBasedStateMachine):
    """Any events in any order: no member runs twice, limits hold, and the end leaves nobody."""

    @initialize(
        workers=st.integers(1, 3),
        writers=st.integers(0, 2),
        restarts=st.integers(0, 2),
        coordinator=st.booleans(),
        relay=st.booleans(),
        api=st.booleans(),
        unreported_s=st.sampled_from([0.0, 7.0]),
    )
    def begin(
        self, workers: int, writers: int, restarts: int, coordinator: bool, relay: bool, api: bool, unreported_s: float
    ) -> None:
        self.restarts, self.now, self.gave_up = restarts, 0.0, False
        self.alive: set[str] = set()
        self.finished: list[Finish] = []
        limits = Limits(worker_restarts=restarts, service_restarts=restarts)
        self.job = Job(
            workers, writers, limits, coordinator=coordinator, relay=relay, api=api, unreported_s=unreported_s
        )
        self.perform(self.job.begin(self.now))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert not self.finished, f"{effect} after the end"
            if isinstance(effect, Spawn):
                assert effect.name not in self.alive
                assert effect.restarts <= self.restarts or effect.name == "relay"
                self.alive.add(effect.name)
            elif isinstance(effect, Signal):
                assert effect.name in self.alive
            elif isinstance(effect, Finish):
                self.finished.append(effect)
                # Only what SIGKILL does not end within its time may be left, and that is said.
                assert not self.alive or self.gave_up

    @precondition(lambda self: not self.finished and self.alive)
    @rule(which=st.integers(0, 5), code=st.sampled_from([0, 1, 3, -9, -15]))
    def a_process_ends(self, which: int, code: int) -> None:
        name = sorted(self.alive)[which % len(self.alive)]
        self.alive.discard(name)
        self.perform(self.job.exited(name, code, self.now))

    @precondition(lambda self: not self.finished and self.alive)
    @rule(which=st.integers(0, 5))
    def a_service_is_ready(self, which: int) -> None:
        self.perform(self.job.ready(sorted(self.alive)[which % len(self.alive)], self.now))

    @rule(which=st.integers(0, 5))
    def a_report_is_answered(self, which: int) -> None:
        names = list(self.job.members)
        self.perform(self.job.reported(names[which % len(names)], self.now))

    @rule(which=st.integers(0, 5), lost_s=st.floats(0.0, 10.0))
    def a_worker_is_given_up(self, which: int, lost_s: float) -> None:
        names = list(self.job.members)
        self.perform(self.job.given_up(names[which % len(names)], lost_s, "its lease is over", self.now))

    @rule()
    def the_ranks_agree_to_stop(self) -> None:
        self.job.stopped = True

    @rule(signum=st.sampled_from([SIGINT, SIGTERM]))
    def a_signal_arrives(self, signum: signal.Signals) -> None:
        self.perform(self.job.interrupted(signum, self.now))

    @precondition(lambda self: not self.finished)
    @rule(wait_s=st.floats(0.0, 20.0))
    def time_passes(self, wait_s: float) -> None:
        self.now += wait_s
        self.gave_up = True
        self.perform(self.job.tick(self.now))
        deadline = self.job.next_deadline()
        assert deadline is None or deadline > self.now, "the loop would spin"

    def teardown(self) -> None:
        if not hasattr(self, "job"):
            return
        if not self.finished:
            self.perform(self.job.interrupted(SIGINT, self.now))
        if not self.finished:
            self.perform(self.job.interrupted(SIGINT, self.now))
        while self.alive and not self.finished:
            name = min(self.alive)
            self.alive.discard(name)
            self.perform(self.job.exited(name, -9, self.now))
        assert len(self.finished) == 1


TestStorm = Storm.TestCase
