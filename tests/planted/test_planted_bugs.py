"""Small bugs, planted one at a time: each breaks a promise, and for each there is a test that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from planting import ROOT, Patch, PlantingError, applies, catch, copy_sources, patches

AT_LEAST = 20


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources to plant bugs in."""
    return copy_sources(tmp_path_factory.mktemp("planted"))


def test_there_are_enough_of_them_and_each_fits_the_sources_as_they_are(tree: Path) -> None:
    planted = patches()
    assert len(planted) >= AT_LEAST
    for patch in planted:
        applies(patch, tree)


def test_the_page_about_tests_names_each_with_the_promise_that_it_breaks() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    assert [patch.name for patch in patches() if f"| `{patch.name}` | {patch.promise} |" not in page] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("patch", patches(), ids=lambda patch: patch.name)
def test_a_planted_bug_is_caught(patch: Patch, tree: Path) -> None:
    assert catch(patch, tree).what, "catch() raises when nothing has failed"


def test_a_patch_that_does_not_apply_is_an_error(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "stale.patch"
    path.write_text(
        "Promise: none.\nCaught by: simulation\n\n"
        "diff --git a/coordinator/__init__.py b/coordinator/__init__.py\n"
        "--- a/coordinator/__init__.py\n+++ b/coordinator/__init__.py\n"
        "@@ -1 +1 @@\n-what has never stood there\n+what never will\n"
    )
    with pytest.raises(PlantingError, match="does not apply"):
        applies(Patch.read(path), tree)


def test_a_bug_that_nothing_catches_is_an_error(tree: Path, tmp_path: Path) -> None:
    source = tree / "coordinator" / "__init__.py"
    first = source.read_text().splitlines()[0]
    path = tmp_path / "harmless.patch"
    path.write_text(
        "Promise: none.\nCaught by: tests/planted/test_planted_bugs.py::test_there_are_enough_of_them_and_each_fits_"
        "the_sources_as_they_are\n\n"
        "diff --git a/coordinator/__init__.py b/coordinator/__init__.py\n"
        "--- a/coordinator/__init__.py\n+++ b/coordinator/__init__.py\n"
        f"@@ -1 +1,2 @@\n {first}\n+# Nothing else is here.\n"
    )
    with pytest.raises(PlantingError, match="catches nothing"):
        catch(Patch.read(path), tree)
