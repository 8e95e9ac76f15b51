"""The README says what is true: its diff is the examples' own, and every file it names is there."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_diff_is_the_one_between_the_two_examples() -> None:
    plain, strata = ((ROOT / "examples" / f"{name}_numpy.py").read_text().splitlines() for name in ("plain", "strata"))
    diff = [line.rstrip() for line in difflib.unified_diff(plain, strata, lineterm="")][2:]
    shown = re.search(r"```diff\n(.*?)\n```", README, re.DOTALL)
    assert shown is not None
    assert [line.rstrip() for line in shown[1].splitlines()] == diff
    assert sum(line.startswith("+") for line in diff) <= 6


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"`((?:scripts|examples|docs)/[a-z_/.]+)`", README)
    missing = [name for name in named if not name.startswith("http") and not (ROOT / name).exists()]
    assert len(named) > 5
    assert not missing
