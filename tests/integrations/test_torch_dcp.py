"""torch.distributed.checkpoint saves into Strata storage and loads from it, on as many processes as there are now.

The tests of real processes exist where torch is installed (`pip install strata-zmq[torch]`).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import strata_zmq
from strata_zmq import CheckpointManager

HERE = Path(__file__).parent


def test_without_torch_the_import_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "try:\n"
        "    import strata_zmq.integrations.torch_dcp\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "install strata-zmq[torch]" in found.stdout


def test_nothing_of_ours_unpickles() -> None:
    """torch's planner reads what torch's planner wrote; the integration calls no loader of objects."""
    for path in (Path(strata_zmq.__file__).parent / "integrations").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            assert not any("pickle" in name for name in named)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}


if find_spec("torch") is not None:

    def ranks(folder: Path, action: str, world: int) -> None:
        """Run `action` on `world` processes that form one group."""
        script = str(HERE / "dcp_rank.py")
        running = [
            subprocess.Popen(
                [sys.executable, script, str(folder), action, str(rank), str(world)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(world)
        ]
        try:
            told = [process.communicate(timeout=200)[0] for process in running]
        finally:
            for process in running:
                process.kill()
        assert [process.returncode for process in running] == [0] * world, "\n".join(told)

    @pytest.mark.timeout(240)
    @pytest.mark.parametrize("action", ["save", "async", "async-process"])
    def test_two_processes_save_and_any_number_loads(tmp_path: Path, action: str) -> None:
        ranks(tmp_path, action, 2)
        with CheckpointManager(tmp_path / "checkpoints") as manager:
            infos = manager.all_checkpoints()
        assert [(info.step, info.world_size) for info in infos] == [(2, 2), (3, 2)], "the newest two are kept"
        # The two have loaded in the same program; these are others, and cut the state differently.
        for world in (1, 3) if action == "save" else ():
            ranks(tmp_path, "load", world)

    def alone(folder: Path, state: dict[str, Any], **options: Any) -> Any:
        """Save from this process alone; returns the writer."""
        from torch.distributed import checkpoint as dcp

        from strata_zmq.integrations.torch_dcp import StrataWriter

        writer = StrataWriter(folder, **options)
        with pytest.warns(UserWarning, match="single process"):
            dcp.save(state, storage_writer=writer)
        writer.close()
        return writer

    def load_alone(folder: Path, state: dict[str, Any], checkpoint: str | int = "latest") -> None:
        from torch.distributed import checkpoint as dcp

        from strata_zmq.integrations.torch_dcp import StrataReader

        reader = StrataReader(folder, checkpoint)
        try:
            with pytest.warns(UserWarning, match="single process"):
                dcp.load(state, storage_reader=reader)
        finally:
            reader.close()

    def test_a_model_and_its_optimizer_come_back_to_the_bit(tmp_path: Path) -> None:
        import torch

        model = torch.nn.Linear(300, 70)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(2, 300)).sum().backward()
        optimizer.step()
        alone(tmp_path, {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, chunk_bytes=4096)
        other = torch.nn.Linear(300, 70)
        again = torch.optim.AdamW(other.parameters())
        other(torch.ones(2, 300)).sum().backward()
        again.step()
        found = {"model": other.state_dict(), "optimizer": again.state_dict()}
        load_alone(tmp_path, found)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
        for number, kept in optimizer.state_dict()["state"].items():
            assert all(torch.equal(kept[name], found["optimizer"]["state"][number][name]) for name in kept)

    def test_a_checkpoint_is_chosen_by_name_by_step_or_as_the_latest(tmp_path: Path) -> None:
        import torch

        alone(tmp_path, {"x": torch.tensor([1])}, checkpoint_id="step-5")
        alone(tmp_path, {"x": torch.tensor([2])}, checkpoint_id="step-6-again")
        alone(tmp_path, {"x": torch.tensor([3])})
        for wanted, value in (("step-5", 1), (6, 2), ("latest", 3), (7, 3)):
            found = {"x": torch.tensor([0])}
            load_alone(tmp_path, found, wanted)
            assert found["x"].item() == value

    def test_a_manager_reads_what_torch_saved(tmp_path: Path) -> None:
        import torch

        alone(tmp_path, {"x": torch.tensor([1.5, 2.5]), "n": 3})
        with CheckpointManager(tmp_path) as manager:
            assert manager.load()["state"]["x"][0].tolist() == [1.5, 2.5]

    def test_a_name_is_used_once(tmp_path: Path) -> None:
        import torch
        from torch.distributed.checkpoint.api import CheckpointException

        alone(tmp_path, {"x": torch.tensor([1])}, checkpoint_id="one")
        with pytest.raises(CheckpointException, match="one is committed: choose another"):
            alone(tmp_path, {"x": torch.tensor([2])}, checkpoint_id="one")

    def test_a_damaged_chunk_is_an_error_and_no_older_state(tmp_path: Path) -> None:
        import torch
        from torch.distributed.checkpoint.api import CheckpointException

        for value in (1, 2):
            writer = alone(tmp_path, {"x": torch.full((5000,), value)})
        (pack,) = (tmp_path / "ckpt" / writer.last_checkpoint_id / "rank-00000").glob("pack-*")
        content = bytearray(pack.read_bytes())
        content[4000] ^= 1
        pack.write_bytes(content)
        with pytest.raises(CheckpointException, match="CheckpointCorruptError"):
            load_alone(tmp_path, {"x": torch.zeros(5000, dtype=torch.int64)})

    def test_what_another_way_saved_is_refused_by_name(tmp_path: Path) -> None:
        from torch.distributed.checkpoint.api import CheckpointException

        with CheckpointManager(tmp_path) as manager:
            manager.save({"x": 1}, 1, 0)
        with pytest.raises(CheckpointException, match="was not saved through torch"):
            load_alone(tmp_path, {"x": 0})

    def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
        import torch
        from torch.distributed.checkpoint.api import CheckpointException

        alone(tmp_path, {"x": torch.zeros(3, 4)})
        with pytest.raises(CheckpointException):
            load_alone(tmp_path, {"x": torch.zeros(3, 5)})

    def test_a_failed_save_leaves_nothing_to_load_and_the_next_one_clears_it_away(tmp_path: Path) -> None:
        import torch
        from torch.distributed import checkpoint as dcp
        from torch.distributed.checkpoint.api import CheckpointException

        from strata_zmq.integrations.torch_dcp import StrataWriter

        writer = StrataWriter(tmp_path)
        bad = {"x": torch.ones(9), "y": torch.eye(3).to_sparse()}
        with pytest.warns(UserWarning, match="single process"), pytest.raises(CheckpointException, match="sparse"):
            dcp.save(bad, storage_writer=writer)
        assert len(list((tmp_path / "ckpt").iterdir())) == 1
        with pytest.warns(UserWarning, match="single process"):
            dcp.save({"x": torch.ones(9)}, storage_writer=writer)
        writer.close()
        assert [path.name for path in (tmp_path / "ckpt").iterdir()] == [writer.last_checkpoint_id]

    def test_a_writer_travels_to_another_process_as_its_arguments(tmp_path: Path) -> None:
        import copy

        from strata_zmq.integrations.torch_dcp import StrataWriter

        other = copy.copy(StrataWriter(tmp_path, step=4, keep_count=3))
        assert (other.path, other.step, other.keep_count) == (str(tmp_path), 4, 3)

    def test_a_save_without_collectives_is_refused(tmp_path: Path) -> None:
        import torch
        from torch.distributed import checkpoint as dcp

        from strata_zmq.errors import InvalidArgumentError
        from strata_zmq.integrations.torch_dcp import StrataWriter

        with pytest.warns(UserWarning, match="single process"):
            with pytest.raises(InvalidArgumentError, match="use_collectives"):
                dcp.save({"x": torch.ones(2)}, storage_writer=StrataWriter(tmp_path), use_collectives=False)

    def test_a_planner_that_caches_plans_needs_a_name_for_every_save(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch
        from torch.distributed import checkpoint as dcp
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.planner import SavePlanner

        from strata_zmq.integrations.torch_dcp import StrataWriter

        for name in [name for name in vars(SavePlanner) if name.startswith("_cached_")]:
            monkeypatch.setattr(SavePlanner, name, {})

        def save(value: int, **named: str) -> None:
            planner = dcp.DefaultSavePlanner(enable_plan_caching=True)
            with pytest.warns(UserWarning, match="single process"):
                dcp.save({"x": torch.tensor([value])}, storage_writer=writer, planner=planner, **named)

        writer = StrataWriter(tmp_path)
        save(1)
        with pytest.raises(CheckpointException, match="give every save a checkpoint_id"):
            save(2)
        for value in (3, 4):
            save(value, checkpoint_id=f"named-{value}")
            found = {"x": torch.tensor([0])}
            load_alone(tmp_path, found)
            assert found["x"].item() == value
        writer.close()

    def test_ranks_that_found_different_checkpoints_do_not_load_a_mixture(tmp_path: Path) -> None:
        from torch.distributed.checkpoint.planner import LoadPlan

        from strata_zmq.errors import InvalidArgumentError
        from strata_zmq.integrations.torch_dcp import StrataReader

        plans = [LoadPlan([], storage_data=name) for name in ("step-1", "step-2", "step-1")]
        with pytest.raises(InvalidArgumentError, match=r"different checkpoints.*step-1, step-2"):
            StrataReader(tmp_path).prepare_global_plan(plans)
