"""The peers of the function suite, which run in an interpreter of their own where they are installed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from strata_zmq.bench.loads.function_contenders import MODULES

FOLDER = Path(__file__).parents[2] / "bench" / "peers"


@pytest.mark.parametrize("module", sorted(MODULES.values()))
def test_every_peer_answers_what_the_suite_asks_and_imports_nothing_of_ours(module: str) -> None:
    tree = ast.parse((FOLDER / f"{module}.py").read_text())
    (peer,) = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "Peer"]
    asked = {
        one.name: [argument.arg for argument in one.args.args[1:]]
        for one in peer.body
        if isinstance(one, ast.FunctionDef) and (one.name == "__init__" or not one.name.startswith("_"))
    }
    assert asked == {"__init__": ["workers"], "throughput": ["tasks"], "latencies": ["tasks"], "close": []}
    imported = {name.name for one in ast.walk(tree) if isinstance(one, ast.Import) for name in one.names}
    imported |= {one.module or "" for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)}
    assert not {name for name in imported if name.startswith("strata")}


def test_every_peer_of_the_suite_can_be_installed() -> None:
    script = (FOLDER.parents[1] / "scripts" / "install_peers").read_text()
    for module in MODULES.values():
        name = module.removeprefix("peer_")
        assert f"    {name}) install {name} " in script
