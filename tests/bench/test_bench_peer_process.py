"""Peers run in an interpreter of their own and are missed without harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strata_zmq.bench.model import Absent
from strata_zmq.bench.peer_process import PEERS_VARIABLE, peer_process
from strata_zmq.errors import DeadlineExceededError, PeerLostError


@pytest.fixture
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with an interpreter and the modules that a test puts beside it, but no peer's package."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys._base_executable} "$@"\n')  # type: ignore[attr-defined]
    python.chmod(0o755)
    monkeypatch.setenv(PEERS_VARIABLE, str(tmp_path))
    return tmp_path


PEER = """
import os, time
class Peer:
    def __init__(self, greeting):
        print("a library that chats on standard output")
        self.greeting = greeting
    def greet(self, name):
        print("more chat")
        return {"text": f"{self.greeting} {name}"}
    def fail(self):
        raise KeyError("no such thing")
    def hang(self):
        time.sleep(60)
    def die(self):
        os._exit(3)
    def close(self):
        open(os.path.join(os.path.dirname(__file__), "closed"), "w").close()
"""


def test_without_the_environment_the_reason_names_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PEERS_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(Absent, match="scripts/install_peers"), peer_process("peer_uhashring"):
        pass


@pytest.mark.usefixtures("bare_environment")
def test_a_peer_whose_package_is_missing_is_absent_with_that_reason() -> None:
    with (
        pytest.raises(Absent, match="No module named 'uhashring'"),
        peer_process("peer_uhashring", shards=1, workers=1),
    ):
        pass


def test_a_peer_answers_calls_whatever_its_library_prints_and_is_closed_at_the_end(bare_environment: Path) -> None:
    (bare_environment / "peer_made.py").write_text(PEER)
    with peer_process("peer_made", greeting="hello") as peer:
        assert peer.call("greet", name="world") == {"text": "hello world"}
        assert peer.call("greet", name="again") == {"text": "hello again"}
    assert (bare_environment / "closed").exists()


def test_a_call_that_fails_tells_why_and_the_peer_goes_on(bare_environment: Path) -> None:
    (bare_environment / "peer_made.py").write_text(PEER)
    with peer_process("peer_made", greeting="hello") as peer:
        with pytest.raises(PeerLostError, match="no such thing"):
            peer.call("fail")
        assert peer.call("greet", name="you") == {"text": "hello you"}


def test_a_peer_that_does_not_start_leaves_its_place_empty(bare_environment: Path) -> None:
    (bare_environment / "peer_made.py").write_text("raise RuntimeError('no room for a cluster')")
    with pytest.raises(Absent, match=r"did not start here: .*no room for a cluster"), peer_process("peer_made"):
        pass


def test_a_peer_that_dies_or_hangs_is_an_error_in_time(bare_environment: Path) -> None:
    (bare_environment / "peer_made.py").write_text(PEER)
    with peer_process("peer_made", greeting="hello") as peer:
        with pytest.raises(PeerLostError, match="peer_made ended"):
            peer.call("die")
    with peer_process("peer_made", greeting="hello") as peer:
        with pytest.raises(DeadlineExceededError, match="did not answer in time"):
            peer.call("hang", timeout_s=0.2)


def test_the_installer_refuses_a_peer_that_it_does_not_know(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "install_peers"
    environment = {**os.environ, PEERS_VARIABLE: str(tmp_path / "peers")}
    ended = subprocess.run([script, "uhashring", "memcached"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "unknown peer 'memcached'; the peers are: uhashring redis etcd grpc torch safetensors" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_subject_is_asked_as_a_peer_in_an_interpreter_and_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PEERS_VARIABLE, str(tmp_path / "none"))
    options = {"place": str(tmp_path), "state_bytes": 1 << 24, "tensors": 4}
    with peer_process(
        "strata_zmq.bench.loads.saver", interpreter=sys.executable, environment={"OMP_NUM_THREADS": "1"}, **options
    ) as peer:
        saved = peer.call("save")
    assert saved["bytes"] == 1 << 24
    assert saved["wall_s"] > 0
    assert len(list((tmp_path / "ckpt").iterdir())) == 1
