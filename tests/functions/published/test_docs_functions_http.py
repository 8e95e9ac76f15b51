"""The page about HTTP and the README's section are true: their examples run, and their tables name what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from publishedkit.service import Service

from strata_zmq.coordinator.api import models
from strata_zmq.coordinator.api.app import create_app

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "functions_http.md").read_text()
README = (ROOT / "README.md").read_text()


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = Service(tmp_path_factory.mktemp("docs"), "push", 2)
    yield made
    made.stop()


def run(program: str, service: Service, folder: Path) -> str:
    """Run a page's program against a service that is elsewhere than the page says."""
    here = program.replace("http://127.0.0.1:8000", service.url).replace("tcp://localhost:5555", service.endpoint)
    path = folder / "example.py"
    path.write_text(here)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_of_the_page_prints_what_the_page_shows(service, tmp_path) -> None:
    (program,), (shown,) = blocks(PAGE, "python"), blocks(PAGE, "text")
    assert run(program, service, tmp_path) == shown


def test_the_example_of_the_readme_prints_what_it_says(service, tmp_path) -> None:
    section = README.partition("## Functions")[2].partition("\n## ")[0]
    (program,) = blocks(section, "python")
    said = re.findall(r"print\(.*\)  # (.+)$", program, re.MULTILINE)
    assert run(program, service, tmp_path).splitlines() == said
    assert len(said) == 3


def test_the_routes_of_the_page_are_the_apps() -> None:
    named = {(method, path) for method, path in re.findall(r"^\| `(GET|POST) (/[a-z_/{}]+)", PAGE, re.MULTILINE)}
    page = create_app(None).openapi()["paths"]
    assert named == {(method.upper(), path) for path, methods in page.items() for method in methods}


def test_the_options_of_the_page_are_those_of_a_call() -> None:
    table = PAGE.partition("## Options of a call")[2].partition("\n## ")[0]
    rows = [row.partition("|")[0] for row in re.findall(r"^\| (`.+)$", table, re.MULTILINE)]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(models.Options.__struct_fields__)
