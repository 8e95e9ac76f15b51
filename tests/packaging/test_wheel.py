"""What a user installs is the library under one name, complete, with its types and its protocol's description."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution: a file missing in either is missing here."""
    output = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", output, pristine], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = output.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def files(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_every_module_of_the_checkout_and_nothing_else(files: set[str], pristine: Path) -> None:
    modules = {
        str(path.relative_to(pristine))
        for folder, _, names in os.walk(pristine / "strata_zmq", followlinks=True)
        for path in (Path(folder, name) for name in names)
        if path.suffix == ".py"
    }
    assert {"strata_zmq/coordinator/__init__.py", "strata_zmq/workers/__init__.py"} < modules
    assert "strata_zmq/bench/__init__.py" in modules
    assert {name for name in files if name.endswith(".py")} == modules


def test_nothing_generic_lands_in_anybodys_site_packages(files: set[str]) -> None:
    tops = {name.split("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"strata_zmq"}


@pytest.mark.parametrize(
    "name",
    [
        "strata_zmq/py.typed",
        "strata_zmq/protocol/PROTOCOL.md",
        "strata_zmq/coordinator/dashboard/dist/index.html",
    ],
)
def test_the_wheel_holds_what_is_not_code(files: set[str], name: str) -> None:
    assert name in files


def test_the_wheel_holds_the_whole_built_dashboard_and_nothing_of_its_sources(files: set[str], pristine: Path) -> None:
    built = {
        f"strata_zmq/{path.relative_to(pristine)}"
        for path in (pristine / "coordinator/dashboard/dist").rglob("*")
        if path.is_file()
    }
    assert len(built) > 2
    assert {name for name in files if name.startswith("strata_zmq/coordinator/dashboard/")} == built


def test_the_wheel_carries_its_licence_and_its_command(wheel: Path, files: set[str]) -> None:
    (licence,) = (name for name in files if name.endswith(".dist-info/licenses/LICENSE"))
    (entry_points,) = (name for name in files if name.endswith(".dist-info/entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        assert b"Apache License" in archive.read(licence)
        assert b"strata = strata_zmq.cli:main" in archive.read(entry_points)


def test_the_installed_process_folders_are_real_ones(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import strata_zmq.{0} as it; print(it.__file__)"
    for name in ("coordinator", "workers", "bench"):
        shown = subprocess.run(
            [sys.executable, "-P", "-c", program.format(name)],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(shown.stdout.strip()) == tmp_path / "strata_zmq" / name / "__init__.py"
