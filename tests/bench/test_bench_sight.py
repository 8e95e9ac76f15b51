"""What looks at a job while it is measured: workers that really beat, and dashboards that really read."""

from __future__ import annotations

from pathlib import Path

import pytest

from strata_zmq.bench.loads.coordinator import coordinator_process
from strata_zmq.bench.loads.dashboards import api_process, fleet, open_dashboards
from strata_zmq.bench.loads.http import connected
from strata_zmq.bench.model import Settings
from strata_zmq.bench.registry import chosen


def test_dashboards_are_open_while_the_workers_beats_are_timed(tmp_path: Path) -> None:
    with coordinator_process(tmp_path, 3) as server, fleet(server.ready["control"], 3) as crew:
        with api_process(server.ready["control"], 3) as api, connected(api.ready["url"]) as http:
            with open_dashboards(api.ready["url"], 2):
                assert len(crew.latencies(rate=500.0, count=30)) == 30
                assert http.get("/api/health")["clients"] == 2
            with crew.beating(500.0):
                assert [row["current_step"] >= 0 for row in http.get("/api/workers")] == [True] * 3


def test_the_weight_of_the_page_is_judged_by_its_floor(tmp_path: Path) -> None:
    (suite,) = chosen(["sight"])
    case = next(iter(suite.cases(Settings(quick=True, scratch=tmp_path))))
    assert case.floor is not None
    assert case.floor.floor_id == "sight.weight"
    with case.subject.open() as measure:
        assert 10 < measure().value < 250


def test_dashboards_that_could_not_be_opened_are_refused_beyond_the_limit(tmp_path: Path) -> None:
    """A load that did not happen is a failure, and no figure."""
    with coordinator_process(tmp_path, 1) as server, fleet(server.ready["control"], 1):
        with api_process(server.ready["control"], 1) as api:
            with pytest.raises(Exception, match="did not start"), open_dashboards(api.ready["url"], 300):
                pytest.fail("more dashboards were opened than the API takes")
