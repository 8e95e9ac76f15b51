"""A worker that sleeps with uncommitted work in hand, and tells what became of it when it was awake again."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from strata_zmq.domain.shuffle import checksum
from strata_zmq.errors import GenerationChangedError, StaleGenerationError, StrataError
from strata_zmq.protocol.messages import SeenRange
from strata_zmq.workers.identity import WorkerIdentity
from strata_zmq.workers.session import WorkerSession
from strata_zmq.workers.shards import shards_from

FOLDER = Path(sys.argv[1])
NAME = os.environ["WORKER_ID"]


def say(event: str, **what: Any) -> None:
    """Append one line to this worker's events."""
    with (FOLDER / f"{NAME}.events").open("a") as events:
        events.write(json.dumps({"event": event, **what}) + "\n")


def seen(session: WorkerSession) -> list[SeenRange]:
    """Everything that this rank owns and that is not committed, as if it had been trained on."""
    reply = session.get_shards("numbers")
    found = []
    for shard, cursor in zip(shards_from(reply), reply.cursors, strict=True):
        if cursor < shard.num_samples:
            total = checksum(shard.samples(cursor, shard.num_samples)).to_bytes(8, "little")
            found.append(SeenRange("numbers", reply.epoch, shard.shard_id, cursor, shard.num_samples, total))
    return found


def main() -> None:
    """Commit what was in hand before the sleep, and then what belongs to the generation after it."""
    session = WorkerSession(WorkerIdentity(worker_id=NAME))
    session.connect()
    session.join(30)
    session.register_dataset("numbers", 100, 5)
    in_hand = seen(session)
    say("holding", generation=session.generation, incarnation=session.identity.incarnation)
    while not (FOLDER / f"{NAME}.go").exists():
        time.sleep(0.005)
    try:
        session.commit(in_hand, timeout_s=30)
    except (StaleGenerationError, GenerationChangedError) as error:
        say("refused", code=error.code)
    while True:
        try:
            session.join(30)
            session.commit(seen(session), timeout_s=30)
        except (StaleGenerationError, GenerationChangedError):
            continue
        except StrataError as error:
            say("failed", code=error.code, message=str(error))
            raise
        break
    say("committed", generation=session.generation)
    session.close()


main()
