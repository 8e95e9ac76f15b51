"""The long history of a load is one that training could have: whole, owned, checked, and there after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from strata_zmq.bench.loads.coordinator import coordinator_of
from strata_zmq.bench.loads.history import Extent, check, grow
from strata_zmq.bench.loads.session import asked, joined
from strata_zmq.bench.loads.wire import Wire, wired
from strata_zmq.domain.checksum import checksum
from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.messages import AdvanceEpoch, EpochAdvanced, GetStatus, Hello, Status, Welcome

SMALL = Extent(workers=3, datasets=2, shards=20, commit_points=4)


def test_a_history_says_how_long_it_is() -> None:
    assert SMALL.updates == 2 * 20 * 4
    assert str(SMALL) == "3 workers, 2 datasets x 20 shards, 160 ledger updates"
    cursors = SMALL.cursors(4)
    assert cursors.shape == (20,)
    assert len(set(cursors.tolist())) > 1, "neighbours that stand alike are remembered in few bytes"
    assert 0 < cursors.min() <= cursors.max() <= SMALL.shard_size


def test_every_update_is_in_the_ledgers_with_its_samples(tmp_path: Path) -> None:
    with (
        coordinator_of(tmp_path / "journal.sqlite", SMALL.workers) as server,
        wired(server.ready["control"], SMALL.workers) as wires,
    ):
        workers = joined(wires)
        grow(workers, SMALL)
        check(wires[0], workers[0].session, SMALL)
        with pytest.raises(ProtocolError, match="this is known"):
            check(wires[0], workers[0].session, Extent(3, 2, 20, 5))
        asked(wires, [AdvanceEpoch(seq=9, session=worker.session, epoch=0) for worker in workers], EpochAdvanced)
        (status,) = asked(wires[:1], [GetStatus(seq=10, session=workers[0].session)], Status)
    seen = np.concatenate(
        [shard * SMALL.shard_size + np.arange(cursor) for shard, cursor in enumerate(SMALL.cursors(4))]
    )
    for certificate in status.certificates:
        assert certificate["samples"] == seen.size
        assert int(certificate["checksum"]) == checksum(seen)


def test_a_history_survives_a_kill(tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    with coordinator_of(journal, SMALL.workers) as server, wired(server.ready["control"], SMALL.workers) as wires:
        grow(joined(wires), SMALL)
        server.kill()
    with coordinator_of(journal, SMALL.workers) as server:
        wire = Wire(server.ready["control"])
        (welcome,) = asked([wire], [Hello(seq=1, role="client")], Welcome)
        check(wire, welcome.session, SMALL)
        wire.close()
