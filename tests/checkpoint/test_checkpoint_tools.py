"""`strata checkpoints`: what it prints, what it changes, and the exit codes that scripts rely on."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from storedkit import write_checkpoint, write_chunk

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.owner import note_of_this_process
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.cli import main
from strata_zmq.storage import LocalStorage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "checkpoints"
    for step in (1, 2):
        state = [{"w": np.arange(6.0).reshape(2, 3) * step, "rank": rank} for rank in range(2)]
        write_checkpoint(place, state, checkpoint_id=f"c{step}", step=step, metrics={"loss": 1 / step})
    return place


def strata(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["checkpoints", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, err = strata(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def damage(folder: Path, name: str) -> None:
    pack = next((folder / "ckpt" / name).rglob("pack-*"))
    pack.write_bytes(pack.read_bytes()[:-1])


def test_ls_lists_what_is_committed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = strata(capsys, "ls", folder)
    head, *rows = out.splitlines()
    assert code == 0
    assert head.split() == ["CHECKPOINT", "STEP", "EPOCH", "KIND", "RANKS", "SIZE", "SAVED", "(UTC)", "METRICS"]
    assert rows[0].split() == ["c1", "1", "0", "FULL", "2", "96", "B", "1970-01-01", "00:00:01", "loss=1"]
    assert [row["checkpoint_id"] for row in as_json(capsys, "ls", folder)] == ["c1", "c2"]
    code, out, err = strata(capsys, "ls", folder / "nothing")
    assert (code, out) == (0, "")
    assert "no checkpoint is committed in" in err


def test_show_tells_what_a_checkpoint_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = strata(capsys, "show", folder, "1")
    assert code == 0
    assert out.startswith("c1  step 1, epoch 0, FULL\n96 B of 2 ranks, saved 1970-01-01 00:00:01\n")
    assert "rank 1 (worker-1): 48 B\n  data['w']  <f8  2x3\n" in out
    found = as_json(capsys, "show", folder)
    assert (found["checkpoint_id"], found["metrics"], len(found["ranks"])) == ("c2", {"loss": 0.5}, 2)
    assert found["arrays"][1] == {
        "rank": 1,
        "path": "data['w']",
        "dtype": "<f8",
        "shape": [2, 3],
        "tag": "numpy",
        "global_shape": None,
        "global_offsets": None,
        "nbytes": 48,
    }
    code, out, err = strata(capsys, "show", folder, "7")
    assert (code, out) == (1, "")
    assert "no checkpoint of step 7" in err
    assert "there are: 1, 2" in err


def test_verify_ends_with_1_where_anything_is_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = strata(capsys, "verify", folder, "all")
    assert code == 0
    assert [line.split(" (")[0] for line in out.splitlines()] == ["c1: good", "c2: good"]
    assert as_json(capsys, "ls", folder)[1]["verified"]
    damage(folder, "c1")
    assert strata(capsys, "verify", folder)[0] == 0, "the latest is good"
    code, out, _ = strata(capsys, "verify", folder, "c1")
    assert code == 1
    assert "c1: DAMAGED" in out
    assert re.search(r"rank-00000/pack-\d+ ends 1 bytes before the end of its chunk", out)
    code, out, _ = strata(capsys, "verify", folder, "all", "--json")
    assert code == 1
    assert [(one["checkpoint_id"], one["ok"]) for one in json.loads(out)] == [("c1", False), ("c2", True)]


def test_a_pinned_checkpoint_outlives_the_retention_until_it_is_unpinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with CheckpointManager(tmp_path, keep_count=1) as manager:
        first = manager.save({"x": 1}, 1, 0)
        manager.wait_pending()
        assert strata(capsys, "pin", tmp_path, "latest") == (0, f"pinned: {first}\n", "")
        manager.save({"x": 2}, 2, 0)
        manager.wait_pending()
        assert [info.step for info in manager.all_checkpoints()] == [1, 2]
        assert [row["pinned"] for row in as_json(capsys, "ls", tmp_path)] == [True, False]
        assert strata(capsys, "unpin", tmp_path, "1") == (0, "pinned: none\n", "")
        manager.save({"x": 3}, 3, 0)
        manager.wait_pending()
        assert [info.step for info in manager.all_checkpoints()] == [3]
    code, _, err = strata(capsys, "pin", tmp_path, "nobody")
    assert code == 1
    assert "'nobody' is not among the committed ones" in err


def test_gc_deletes_what_the_dead_left_and_spares_the_living(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def leave() -> None:
        store = CheckpointStore(LocalStorage(folder))
        mine = note_of_this_process()
        await store.declare("dead", {**mine, "started": 1})
        await store.declare("alive", mine)
        await write_chunk(store, "unknown", 0, b"x")

    asyncio.run(leave())

    def there() -> list[str]:
        return sorted(path.name for path in (folder / "ckpt").iterdir() if any(path.rglob("*")))

    everything = ["alive", "c1", "c2", "dead", "unknown"]
    found = as_json(capsys, "gc", folder, "--dry-run")
    assert found == {"deleted": [], "would_delete": ["dead"], "spared": ["alive", "unknown"]}
    assert there() == everything
    code, out, _ = strata(capsys, "gc", folder)
    assert code == 0
    assert out.splitlines()[0] == "deleted dead"
    assert "left alive: it may be a save under way" in out
    assert there() == ["alive", "c1", "c2", "unknown"]
    assert as_json(capsys, "gc", folder, "--all")["deleted"] == ["alive", "unknown"]
    assert there() == ["c1", "c2"]
    assert strata(capsys, "gc", folder) == (0, "nothing to delete\n", "")
    assert strata(capsys, "verify", folder, "all")[0] == 0


def test_export_writes_a_file_for_other_programs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.safetensors"
    code, out, _ = strata(capsys, "export", folder, "latest", target, "--format", "safetensors", "--name", "w")
    assert (code, out) == (0, f"{target}: 1 arrays, 48 B, safetensors\n")
    assert load_file(target)["w"].tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]
    assert strata(capsys, "export", folder, "latest", target)[0] == 1, "it is there already"
    assert strata(capsys, "export", folder, "1", target, "--overwrite", "--rank", 1)[0] == 0
    assert strata(capsys, "export", folder, "1", target, "--format", "pickle")[0] == 2


def test_without_a_place_the_environment_says_where(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STRATA_CHECKPOINT_PATH", "STORAGE_BACKEND", "CHECKPOINT_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = strata(capsys, "ls")
    assert (code, err) == (
        2,
        "strata: PLACE is missing: give a folder, s3://bucket/prefix or NEAR,FAR, or set STRATA_CHECKPOINT_PATH\n",
    )
    monkeypatch.setenv("STRATA_CHECKPOINT_PATH", str(folder))
    assert [row["checkpoint_id"] for row in as_json(capsys, "ls")] == ["c1", "c2"]


def test_a_mistake_is_told_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["verify", folder, "--sample", "2"], ["list", folder], ["show", "ftp://there"]):
        code, out, err = strata(capsys, *arguments)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
