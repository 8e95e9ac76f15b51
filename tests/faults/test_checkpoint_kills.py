"""kill -9 at every named place of a save: what was acknowledged is there, what is there is whole, and the job goes on.

Each case is a real `strata run` of two workers and two writers, in which one process is killed at one place.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import strata_zmq
from strata_zmq import CheckpointManager
from strata_zmq.domain.manifest import Head
from strata_zmq.domain.manifest_format import decode_head

PROGRAM = Path(__file__).with_name("programs") / "train_and_save.py"
sys.path.insert(0, str(PROGRAM.parent))
from train_and_save import expected, same  # noqa: E402 - a script, not a package

KEEP, EVERY, STEPS_MIN = 3, 5, 40
LIMIT_S = 100.0

WORKER = [
    "save.begin",
    "save.copying",
    "save.staged",
    "save.opened",
    "stream.open",
    "stream.willed",
    "stream.chunk.sent",
    "stream.index.sent",
    "save.arrive",
    "save.answered",
    "restore.chunk",
]
WRITER = [
    "writer.chunk.received",
    "writer.ack.before",
    "writer.ack.after",
    "writer.index.stored",
    "commit.begin",
    "commit.manifest.stored",
    "commit.head.before",
    "commit.head.after",
    "gc.folder.half",
    "storage.create",
    "storage.write",
    "storage.sync",
    "storage.rename",
    "storage.sync_folder",
    "storage.unlink",
    "storage.make_folder",
    "storage.remove_folder",
]
COORDINATOR = [
    "coordinator.begun",
    "coordinator.staged",
    "coordinator.arrived",
    "coordinator.told",
    "coordinator.taken",
]
DRAIN = ["writer.drain.begin", "writer.drain.arrive"]
"""Where a writer finishes a dead worker's save: the worker is killed first."""
ELSEWHERE = ["tier.object.copied", "tier.head.before", "tier.head.after", "gc.before", "gc.after"]
"""What a job of one tier does not come to: filling a second tier, and what a manager or `gc` looks for as it starts."""
FUNCTION_PLANE = {"api", "child", "client", "dispatcher", "worker"}
"""What the names of places in remote execution begin with: a training job does not come to them."""
ONCE = {"restore.chunk", "gc.folder.half", "storage.make_folder", "storage.remove_folder", *DRAIN}
USUAL = {
    ("stream.index.sent", 2),
    ("writer.index.stored", 2),
    ("commit.head.after", 2),
    ("gc.folder.half", 1),
    ("coordinator.arrived", 2),
    ("writer.drain.begin", 1),
}
"""What the ordinary suite runs of the product; the rest takes minutes."""


def named_places() -> set[str]:
    """All names that the sources give to `failpoint`."""
    root = Path(strata_zmq.__file__).parent
    rooms = [root, *((root / name).resolve() for name in ("coordinator", "workers"))]
    calls = [
        node
        for path in {path for room in rooms for path in room.rglob("*.py")}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint"
    ]
    texts = [one.value for call in calls for one in ast.walk(call) if isinstance(one, ast.Constant)]
    return {text for text in texts if "." in text}


def test_every_named_place_is_in_this_product() -> None:
    names = {name for name in named_places() if name.partition(".")[0] not in FUNCTION_PLANE}
    assert names == {*WORKER, *WRITER, *COORDINATOR, *DRAIN, *ELSEWHERE}


@dataclass
class Watch:
    """Reads HEAD again and again while a job runs, and holds it against itself."""

    path: Path
    heads: list[Head] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self._look()

    def _look(self) -> None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            if self.heads:
                self.torn.append("HEAD is gone")
            return
        try:
            head = decode_head(data, "HEAD")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self.torn.append(repr(error))
            return
        if not self.heads or head != self.heads[-1]:
            self.heads.append(head)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Where a job's checkpoints go, where it says what is durable, and the log of its failpoints."""
    told = tmp_path / "told"
    told.mkdir()
    return tmp_path / "checkpoints", told, tmp_path / "failpoints"


def run_job(armed: str, store: Path, told: Path, log: Path) -> tuple[subprocess.CompletedProcess[str], Watch]:
    """Run the whole job, with these failpoints, to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRATA_")}
    environment |= {
        "STRATA_FAILPOINTS": armed,
        "STRATA_FAILPOINTS_LOG": str(log),
        "STRATA_FAILPOINTS_ONCE": "1",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }
    command = [sys.executable, "-m", "strata_zmq", "run", "-n", "2", "--writers", "2", "--progress", "off"]
    command += ["--checkpoint-path", str(store), "--keep", str(KEEP), "--policy", f"every-steps:{EVERY}"]
    with Watch(store / "HEAD") as watch:
        done = subprocess.run(
            [*command, str(PROGRAM), str(told)], env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )
    return done, watch


def check(done: subprocess.CompletedProcess[str], watch: Watch, store: Path, told: Path) -> None:
    """Hold what is left against everything that was promised."""
    story = done.stdout + done.stderr
    assert done.returncode == 0, story
    assert not watch.torn, (watch.torn, story)
    versions = [head.version for head in watch.heads]
    assert versions == sorted(set(versions)), "HEAD went back"
    fences = [head.fence for head in watch.heads]
    assert fences == sorted(fences), "the fence went back"
    head = watch.heads[-1]
    kept = [entry.checkpoint_id for entry in head.retained]
    assert len(kept) <= KEEP + 1

    lines = [line.split() for path in told.iterdir() for line in path.read_text().splitlines()]
    acknowledged = {name: int(step) for step, name in lines}
    assert acknowledged, story
    ever = {entry.checkpoint_id for one in watch.heads for entry in one.retained}
    assert acknowledged.keys() <= ever, f"acknowledged, and HEAD never reached it: {acknowledged.keys() - ever}"
    newest = max(acknowledged.values())
    assert head.retained[-1].step >= newest
    assert head.retained[-1].step >= STEPS_MIN - 2 * EVERY, f"the job went on, and saved nothing any more: {story}"

    with CheckpointManager(store) as manager:
        for entry in head.retained:
            for rank in range(entry.world_size):
                state = manager.load(entry.checkpoint_id, rank=rank)
                assert same(state, expected(entry.step)), f"{entry.checkpoint_id}, rank {rank}: of another step"
            manifest = manager.last_restore.manifest
            assert manifest.ledger["commit_index"] == entry.step == manifest.step


def cases() -> list[object]:
    """Every place, some times; beside the usual ones they are a storm's."""
    roles = {"worker": WORKER, "writer": WRITER, "coordinator": COORDINATOR, "draining": DRAIN}
    product = []
    for role, place in ((role, place) for role, places in roles.items() for place in places):
        times = (20, 90) if place.startswith("storage.") else (1, 2, 5)
        for time in (1,) if place in ONCE else times:
            marks = () if (place, time) in USUAL else (pytest.mark.storm,)
            product.append(pytest.param(place, time, role, id=f"{role}-{place}-{time}", marks=marks))
    return product


@pytest.mark.parametrize(("place", "time", "role"), cases())
def test_a_process_that_is_killed_there_costs_nothing_that_was_acknowledged(
    folders: tuple[Path, Path, Path], place: str, time: int, role: str
) -> None:
    store, told, log = folders
    armed = f"{place}=kill@{time}"
    if role == "draining":
        armed = f"stream.index.sent=kill@2;{armed}"
    done, watch = run_job(armed, store, told, log)
    story = done.stdout + done.stderr
    assert f" {place} {time}\n" in (log.read_text() if log.exists() else ""), f"nobody came there: {story}"
    check(done, watch, store, told)
