"""Owns the peer's end of the pipe: one JSON request a line in, one JSON answer a line out; knows no peer by name.

Run as `python serve.py MODULE OPTIONS`. MODULE defines `Peer`, whose constructor takes OPTIONS and whose public methods
return JSON-ready dicts. An ImportError, or a FileNotFoundError for a missing program, means that the peer is absent.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

__all__ = ["main"]


def main(module: str, options: dict[str, Any]) -> None:
    """Serve requests until standard input ends."""
    # Libraries print where they like: keep the pipe for answers alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        peer = import_module(module).Peer(**options)
    except (ImportError, FileNotFoundError) as reason:
        answers.write(json.dumps({"absent": str(reason)}) + "\n")
        return
    answers.write(json.dumps({"ready": True}) + "\n")
    try:
        for line in sys.stdin:
            answers.write(json.dumps(_answer(peer, json.loads(line))) + "\n")
    finally:
        peer.close()


def _answer(peer: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = getattr(peer, request["call"])(**request["arguments"])
    except Exception as reason:  # noqa: BLE001 - whatever a peer raises is its answer
        return {"error": f"{type(reason).__name__}: {reason}"}
    return found


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
