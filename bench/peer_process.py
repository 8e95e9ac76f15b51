"""Owns the conversation with a peer: another system in an interpreter of its own, asked by JSON lines over a pipe.

Peers live in the environment that `scripts/install_peers` makes, so that none of them becomes a dependency. A machine
without it has rows without peers.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from strata_zmq.errors import DeadlineExceededError, PeerLostError

from .model import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PEERS_VARIABLE", "PeerProcess", "peer_process", "peers_folder"]

PEERS_VARIABLE = "STRATA_BENCH_PEERS"
"""Names the folder of the peers' environment; without it, `.venv-peers` beside the sources."""

_START_TIMEOUT_S = 60.0
_CALL_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 5.0


def peers_folder() -> Path:
    """Return where the peers' environment is, or would be."""
    return Path(os.environ.get(PEERS_VARIABLE) or Path(__file__).resolve().parents[1] / ".venv-peers")


class PeerProcess:
    """One running peer; `call` asks it for a figure."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], stderr: Path) -> None:
        self._name, self._process, self._stderr = name, process, stderr
        self._rest = b""

    def call(self, method: str, *, timeout_s: float = _CALL_TIMEOUT_S, **arguments: object) -> dict[str, Any]:
        """Return the peer's answer to `method(**arguments)`.

        Raises PeerLostError when it fails or ends, DeadlineExceededError when it does not answer in time.
        """
        request = json.dumps({"call": method, "arguments": arguments}).encode() + b"\n"
        assert self._process.stdin is not None  # noqa: S101 - Popen was given a pipe
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
        except OSError as reason:
            raise PeerLostError(f"peer {self._name} ended: {self._last_words() or reason}") from None
        return self.answer(timeout_s)

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """Return the next answer; Absent when the peer says that it cannot take part."""
        found: dict[str, Any] = json.loads(self._line(monotonic() + timeout_s))
        if "absent" in found:
            raise Absent(str(found["absent"]))
        if "error" in found:
            raise PeerLostError(f"peer {self._name} failed: {found['error']}")
        return found

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - Popen was given a pipe
        pipe = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left = deadline - monotonic()
                if left <= 0 or not selector.select(left):
                    raise DeadlineExceededError(f"peer {self._name} did not answer in time", missing=(self._name,))
                read = os.read(pipe, 1 << 16)
                if not read:
                    raise PeerLostError(f"peer {self._name} ended: {self._last_words()}")
                self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _last_words(self) -> str:
        lines = self._stderr.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


@contextmanager
def peer_process(
    module: str,
    *,
    interpreter: str | None = None,
    environment: Mapping[str, str] | None = None,
    **options: object,
) -> Iterator[PeerProcess]:
    """Start `peers/<module>.py` in the peers' interpreter and yield it, ready; ends it on the way out.

    `options` go to its constructor, `environment` is added to this process's. Raises Absent where the environment or
    the peer's package is missing, and where the peer does not start. With an `interpreter` it is that
    one's, and `module` any that it can import: so a subject is asked as its peers are.
    """
    python = Path(interpreter) if interpreter is not None else peers_folder() / "bin" / "python"
    if not python.exists():
        raise Absent("not installed: scripts/install_peers makes the peers' environment")
    with tempfile.TemporaryDirectory(prefix="strata-peer-") as folder:
        stderr = Path(folder) / "stderr"
        with stderr.open("wb") as errors:
            process = subprocess.Popen(
                [python, Path(__file__).with_name("peers") / "serve.py", module, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {}), "PYTHONSAFEPATH": ""},
            )
        try:
            peer = PeerProcess(module, process, stderr)
            try:
                peer.answer(_START_TIMEOUT_S)
            except (PeerLostError, DeadlineExceededError) as error:
                # The others' figures are worth having without it.
                raise Absent(f"it did not start here: {error}") from error
            yield peer
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
