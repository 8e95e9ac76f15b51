"""docs/functions.md and examples/functions_remote.py run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from functionkit.processes import DispatcherProcess, WorkerProcess

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "functions.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("docs")
    folder.chmod(0o700)
    dispatcher = DispatcherProcess(folder, endpoint="tcp://127.0.0.1:0").start()
    worker = WorkerProcess(folder, dispatcher.endpoint, "--children", "2").start()
    yield dispatcher.endpoint
    worker.stop()
    dispatcher.stop()


@pytest.mark.parametrize("block", BLOCKS)
def test_the_blocks_of_the_page_print_what_they_say(address: str, block: str, tmp_path: Path) -> None:
    program = tmp_path / "block.py"
    program.write_text(block.replace("tcp://localhost:5555", address))
    said = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)", block)


def test_the_page_links_to_every_page_of_the_plane_and_to_none_that_is_not_there() -> None:
    links = set(re.findall(r"\]\((\w+\.md)\)", PAGE))
    pages = {path.name for path in (ROOT / "docs").glob("functions_*.md")}
    mentioned = set(re.findall(r"functions_\w+\.md", PAGE))
    assert pages <= mentioned | links
    assert all((ROOT / "docs" / link).exists() for link in links)


def test_the_example_runs_with_functions_that_no_worker_can_import(address: str) -> None:
    said = subprocess.run(
        [sys.executable, ROOT / "examples" / "functions_remote.py", address],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout == "pi is 3.1415926536\n"
