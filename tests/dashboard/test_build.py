"""The built dashboard that is committed is what its sources make, byte for byte, and its types are those of the API.

A copy of the sources is built with the packages that the lock file pins. That takes Node, npm and the packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DASHBOARD = Path(__file__).parents[2] / "coordinator" / "dashboard"
OURS = shutil.ignore_patterns("node_modules", "dist", "coverage", "*.tsbuildinfo")
UNREACHED = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED")
SCRIPTS_BYTES_MAX = 250_000

pytestmark = pytest.mark.timeout(400)  # the packages may have to come from afar


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


class Npm:
    """Commands of npm in a copy of the sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str) -> str:
        """Run a command, which has to end well, and return what it said."""
        done = subprocess.run(
            ["npm", *arguments],
            cwd=self.folder,
            env={**os.environ, "CI": "1", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        said = done.stdout + done.stderr
        if done.returncode and arguments[0] == "ci" and any(word in said for word in UNREACHED):
            pytest.skip(f"npm reaches no registry, and has not all packages: {said.strip().splitlines()[-1]}")
        assert done.returncode == 0, f"npm {' '.join(arguments)}: {said[-5000:]}"
        return said


@pytest.fixture(scope="module")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Npm:
    """A copy of the sources, in which the packages are installed."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; on Debian: apt-get install nodejs npm")
    wanted = json.loads((DASHBOARD / "package.json").read_text())["engines"]["node"]
    present = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if version_of(present) < version_of(wanted):
        pytest.skip(f"node is {present}, and the dashboard is built with {wanted}")
    folder = tmp_path_factory.mktemp("build") / "dashboard"
    shutil.copytree(DASHBOARD, folder, ignore=OURS)
    made = Npm(folder)
    made("ci", "--prefer-offline", "--no-progress")
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_committed_page_is_what_its_sources_make_and_within_its_budget(npm: Npm) -> None:
    """`npm ci && npm run build` in coordinator/dashboard renews it."""
    said = npm("run", "build")
    made, committed = files(npm.folder / "dist"), files(DASHBOARD / "dist")
    assert sorted(made) == sorted(committed)
    assert [name for name in made if made[name] != committed[name]] == []
    found = re.search(r"([\d.]+) kB +all scripts, gzipped", said)
    assert found is not None, said
    assert float(found[1]) * 1000 <= SCRIPTS_BYTES_MAX


def test_the_page_agrees_with_the_apis_document_and_with_its_own_rules(npm: Npm) -> None:
    """`npm run types` renews the types."""
    npm("run", "check")


def test_the_pages_own_tests_pass(npm: Npm) -> None:
    assert "passed" in npm("test")


def test_a_build_depends_on_the_sources_alone(npm: Npm) -> None:
    """What was built before is no source: Tailwind once found class names in it."""
    first = npm.folder / "dist"
    if not first.exists():
        npm("run", "build")
    before = files(first)
    (first / "assets" / "leftover.js").write_text('document.body.className = "grow blur fixed inline-block"')
    npm("exec", "vite", "build")
    assert files(first) == before


def test_nothing_says_where_packages_come_from() -> None:
    """They are pinned by version and hash; from which registry they come is the user's choice."""
    lock = (DASHBOARD / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert "://" not in lock + (DASHBOARD / ".npmrc").read_text()
