"""What a core was given in its last minutes is kept and can be played again: the same decisions come of it."""

from __future__ import annotations

import logging
import resource
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import simulator.coordinator
from simulator.simulation import Simulation

from strata_zmq.coordinator.core.connections import child_connection
from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.world import CoreConfig, Effects, Received
from strata_zmq.coordinator.flight.player import Began, Ended, Played, play
from strata_zmq.coordinator.flight.recorder import Recorder
from strata_zmq.coordinator.flight.segments import read_segment
from strata_zmq.coordinator.flight.telling import as_json, as_lines
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import encode

SEEDS = 4
MINUTES = 0.5
SECRET = "open sesame"  # noqa: S105 - a token that must not be found
CONFIG = CoreConfig(supervisor_token=SECRET)
CONNECTION = b"\0abcd"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of simulated mishaps would fill the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Noted(deque[tuple[bytes, bytes]]):
    """Frames that wait, of which it is noted which were taken."""

    taken: list[tuple[bytes, bytes]]

    def popleft(self) -> tuple[bytes, bytes]:
        self.taken.append(super().popleft())
        return self.taken[-1]


def recorded(seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[float, Effects]]]:
    """Record one simulated job, each life in a folder of its own; returns what each life has decided, and when."""
    lives: list[list[tuple[float, Effects]]] = []
    recorders: list[Recorder] = []
    inbox = Noted()
    inbox.taken = []

    class Recorded(Core):
        def __init__(self, config: CoreConfig, history: object = None) -> None:
            super().__init__(config, history)  # type: ignore[arg-type]
            for one in recorders[-1:]:
                one.close()
            recorders.append(Recorder(folder / f"{len(lives):03d}", self, config, minutes=MINUTES))
            lives.append([])

        def start(self, now: float) -> Effects:
            inbox.taken.clear()
            effects = super().start(now)
            recorders[-1].begin(now)
            return effects

        def step(self, batch: Sequence[Received], now: float, *, backlog: bool = False) -> Effects:
            recorders[-1].take(now, backlog, inbox.taken)
            inbox.taken.clear()
            effects = super().step(batch, now, backlog=backlog)
            recorders[-1].decided(effects, now)
            lives[-1].append((now, effects))
            return effects

    monkeypatch.setattr(simulator.coordinator, "Core", Recorded)
    simulation = Simulation(seed)
    simulation.coordinator._inbox = inbox
    simulation.run()
    recorders[-1].close()
    return lives


def test_what_is_played_decides_what_was_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through storms of faults, agents and unreadable frames, in every segment, from its middle as well."""
    played_steps = 0
    for seed in range(SEEDS):
        for number, life in enumerate(recorded(seed, tmp_path / str(seed), monkeypatch)):
            played = list(play(tmp_path / str(seed) / f"{number:03d}"))
            steps = [one for one in played if isinstance(one, Played)]
            if not life:
                continue  # it was killed before it took a step
            # The oldest segments are gone.
            expected = life[len(life) - len(steps) :]
            for step, (_, effects) in zip(steps, expected, strict=True):
                assert step.effects == effects, f"seed {seed}, life {number}, step {step.number}"
                assert step.agrees
            assert {one.note for one in played if isinstance(one, Ended)} == {""}
            assert life[-1][0] - expected[0][0] <= 60 * MINUTES * 1.6
            assert len(expected) == len(life) or life[-1][0] - expected[0][0] >= 60 * MINUTES
            middle = steps[len(steps) // 2].at
            later = [one for one in play(tmp_path / str(seed) / f"{number:03d}", since=middle) if type(one) is Played]
            assert [one.at for one in later] == [one.at for one in steps if one.at >= middle]
            played_steps += len(steps)
    assert played_steps > 500 * SEEDS


class Bench:
    """A core that is recorded, and told frames by hand."""

    def __init__(self, folder: Path, bytes_max: int = 10**8, minutes: float = 10.0) -> None:
        self.core = Core(CONFIG)
        self.recorder = Recorder(folder, self.core, CONFIG, minutes=minutes, bytes_max=bytes_max)
        self.now = 100.0
        self.core.start(self.now)
        self.recorder.begin(self.now)

    def step(self, *frames: bytes, seconds: float = 0.1) -> None:
        self.now += seconds
        self.recorder.take(self.now, False, [(CONNECTION, frame) for frame in frames])
        self.recorder.decided(self.core.step([], self.now), self.now)


HELLO = encode(wire.Hello(role="supervisor", token=SECRET, seq=7))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.flight"))


@pytest.mark.parametrize(
    "frame",
    [
        HELLO,
        encode(wire.Fold(session=1, parts=[wire.Part(3, HELLO), wire.Part(4, HELLO[:-1])])),
        HELLO[:-1] + b"\xc1",
        HELLO + b"more",
        encode(wire.Hello(role="supervisor", token=f"not {SECRET}")),
    ],
)
def test_no_token_is_written(tmp_path: Path, frame: bytes) -> None:
    """Neither in a frame of its own, nor in an agent's, nor in one that cannot be read; nor with the settings."""
    bench = Bench(tmp_path)
    bench.step(frame)
    bench.recorder.close()
    (path,) = files(tmp_path)
    assert SECRET.encode() not in path.read_bytes()
    assert read_segment(path).steps[0].frames[0][0] == CONNECTION
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_supervisor_is_one_when_it_is_played_and_an_impostor_is_none(tmp_path: Path) -> None:
    core = Core(CONFIG)
    recorder = Recorder(tmp_path, core, CONFIG)
    core.start(0.0)
    recorder.begin(0.0)
    told: list[list[wire.Reply]] = []
    for number, token in enumerate((SECRET, "a guess")):
        hello = wire.Hello(role="supervisor", token=token, seq=1)
        recorder.take(float(number), False, [(b"\0%d" % number, encode(hello))])
        effects = core.step([Received(b"\0%d" % number, hello)], float(number))
        recorder.decided(effects, float(number))
        told.append([reply for _, reply in effects.sends])
    recorder.close()
    played = [[reply for _, reply in one.told] for one in play(tmp_path) if isinstance(one, Played)]
    assert played == told
    assert [type(one[0]) for one in told] == [wire.Welcome, wire.ErrorReply]


def test_a_file_that_was_cut_anywhere_is_readable_up_to_there(tmp_path: Path) -> None:
    """As kill -9 leaves it: whole steps, and not one that is half."""
    bench = Bench(tmp_path)
    for number in range(30):
        bench.step(encode(wire.GetStatus(session=1, seq=number + 1)), seconds=0.5)
    bench.recorder.close()
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    beginning = whole.index(read_segment(path).state) + len(read_segment(path).state)
    steps = read_segment(path).steps
    assert len(steps) == 30
    torn = tmp_path / "torn.flight"
    counts = []
    for length in range(0, len(whole), 7):
        torn.write_bytes(whole[:length])
        if length < beginning:
            with pytest.raises(InvalidArgumentError, match="no recording of this format"):
                read_segment(torn)
            continue
        segment = read_segment(torn)
        assert segment.steps == steps[: len(segment.steps)]
        counts.append(len(segment.steps))
        assert not segment.damage
    assert counts == sorted(counts)
    assert len(set(counts)) > 5


def test_a_damaged_file_is_played_up_to_the_damage_and_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(30):
        bench.step(encode(wire.GetStatus(session=1, seq=number + 1)), seconds=0.5)
    bench.recorder.close()
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[-400] ^= 1
    path.write_bytes(data)
    played = list(play(path))
    assert 0 < sum(isinstance(one, Played) for one in played) < 30
    assert isinstance(played[-1], Ended)
    assert "damaged at byte" in played[-1].note


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="holds no recording"):
        list(play(tmp_path))
    for content in (b"", b"something else", b"STRATA FLIGHT 1\n", b"STRATA FLIGHT 1\n\1\5\0\0\0\0\0\0\0hello"):
        (tmp_path / "x.flight").write_bytes(content)
        with pytest.raises(InvalidArgumentError, match="no recording of this format"):
            list(play(tmp_path / "x.flight"))


def test_the_files_take_no_more_than_they_may_and_the_latest_stay(tmp_path: Path) -> None:
    """Those of earlier lives go first, and a flood makes it pause: never does it grow."""
    most = 600_000
    for life in range(3):
        bench = Bench(tmp_path, bytes_max=most, minutes=1.0)
        bench.now += life * 1000.0
        for _ in range(80):
            bench.step(b"x" * 20_000, seconds=0.5)
            bench.recorder._write(bench.now)
            assert sum(path.stat().st_size for path in files(tmp_path)) <= most
        bench.recorder.close()
    latest = read_segment(files(tmp_path)[-1])
    assert latest.steps, "it has gone on after the pause"
    assert len(files(tmp_path)) > 1


def test_what_is_older_than_the_minutes_goes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, minutes=1.0)
    for _ in range(400):
        bench.step()
        bench.step(seconds=0.9)
    bench.recorder.close()
    openings = [one for one in play(tmp_path) if isinstance(one, Began)]
    assert 2 <= len(openings) <= 3
    assert bench.now - openings[0].opening.began_at <= 90.0


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.disable(logging.NOTSET)
    bench = Bench(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (files(tmp_path)[0].stat().st_size + 1000, hard))
    try:
        for _ in range(10):
            bench.step(b"x" * 300, seconds=1.1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert bench.recorder.ended
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the job goes on" in caplog.text
    bench.recorder.close()
    assert len(read_segment(files(tmp_path)[0]).steps) in range(1, 10)


def test_who_pretends_to_be_an_agents_child_is_refused_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.recorder.take(bench.now, False, [(child_connection(b"\0agnt", 4), encode(wire.GetStatus(session=1, seq=1)))])
    bench.recorder.decided(bench.core.step([], bench.now), bench.now)
    bench.recorder.close()
    (step,) = [one for one in play(tmp_path) if isinstance(one, Played)]
    assert [reply.code for _, reply in step.refused] == ["protocol"]
    assert step.given == []


def test_another_decision_is_told_as_such(tmp_path: Path) -> None:
    """A recording that another release has made may be decided otherwise by this one."""
    bench = Bench(tmp_path)
    hello = wire.Hello(role="client", seq=1)
    bench.recorder.take(bench.now, False, [(CONNECTION, encode(hello))])
    effects = bench.core.step([Received(CONNECTION, hello)], bench.now)
    effects.notes.append("something that this release does not say")
    bench.recorder.decided(effects, bench.now)
    bench.recorder.close()
    (step,) = [one for one in play(tmp_path) if isinstance(one, Played)]
    assert step.agrees is False


def test_the_last_step_before_a_crash_is_kept(tmp_path: Path) -> None:
    """What a core was given is taken before it is: an error in the middle of the step leaves its input."""
    bench = Bench(tmp_path)
    bench.step()
    bench.recorder.take(bench.now, False, [(CONNECTION, encode(wire.GetStatus(session=1, seq=1)))])
    bench.recorder.close()
    last = read_segment(files(tmp_path)[0]).steps[-1]
    assert msgspec.structs.asdict(last)["decided"] == ()
    assert [one.agrees for one in play(tmp_path) if isinstance(one, Played)] == [True, None]


def test_who_only_looks_is_not_in_the_way_of_what_was_decided(tmp_path: Path) -> None:
    """`strata run` and a page look twice a second: without --all a replay leaves them out."""
    core = Core(CONFIG)
    recorder = Recorder(tmp_path, core, CONFIG)
    core.start(0.0)
    recorder.begin(0.0)
    hello = wire.Hello(role="supervisor", token=SECRET, seq=1)
    looks: list[wire.Request] = [hello]
    for number in range(5):
        now = float(number)
        recorder.take(now, False, [(CONNECTION, encode(one)) for one in looks])
        effects = core.step([Received(CONNECTION, one) for one in looks], now)
        recorder.decided(effects, now)
        session = effects.sends[0][1].session
        looks = [
            wire.GetStatus(session=session, seq=2 * number + 2),
            wire.GetSight(session=session, seq=2 * number + 3),
        ]
    recorder.close()
    played = [one for one in play(tmp_path) if isinstance(one, Played)]
    shown = ["\n".join(as_lines(one, everything=False)) for one in played]
    assert "hello role=supervisor" in shown[0]
    assert shown[1:] == [""] * 4
    assert [as_json(one, everything=False) for one in played[1:]] == [b""] * 4
    whole = ["\n".join(as_lines(one, everything=True)) for one in played]
    assert all("get_status" in text and "get_sight" in text and "told" in text for text in whole[1:])
