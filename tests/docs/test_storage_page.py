"""docs/storage.md: its blocks run as they stand against a server, and it names every setting that the code reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "storage.md").read_text()


@pytest.mark.s3
def test_the_blocks_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    pytest.importorskip("obstore")
    from s3kit.faults import FaultServer

    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    with FaultServer() as server:
        for name, value in server.place.environ.items():
            monkeypatch.setenv(name, value)
        names: dict[str, object] = {}
        for block in blocks:
            exec(compile(block, "docs/storage.md", "exec"), names)  # noqa: S102 - the page is ours, this is its test
        assert any(key.startswith("run-17/ckpt/") for key in server.truth.objects)


def test_the_page_names_every_setting() -> None:
    read = set(re.findall(r'environ\.get\("(\w+)"', (ROOT / "strata_zmq" / "storage" / "options.py").read_text()))
    assert len(read) >= 12
    assert {name for name in read if f"`{name}`" not in PAGE} == set()
