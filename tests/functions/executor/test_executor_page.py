"""docs/functions_executor.md and its example run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "functions_executor.md"


def test_the_pages_first_program_runs_as_it_stands(tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    (tmp_path / "program.py").write_text(program)
    shown = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (shown.stdout, shown.stderr) == ("1024 500500\n", "")


def test_the_example_shows_what_the_page_says() -> None:
    shown = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "functions_local.py")], capture_output=True, text=True, timeout=60
    )
    assert shown.stderr == ""
    assert "2 ** 10 is 1024\n" in shown.stdout
    assert "the sum of 10,000 squares is 333283335000\n" in shown.stdout
    assert "a child died: exited with code 5\nnobody else noticed: 81 15625\n" in shown.stdout


def test_every_argument_is_on_the_page() -> None:
    from strata_zmq import StrataExecutor

    names = StrataExecutor.__init__.__code__.co_varnames[1 : 1 + 4 + StrataExecutor.__init__.__code__.co_kwonlyargcount]
    assert not [name for name in names if f"`{name}`" not in PAGE.read_text()]
