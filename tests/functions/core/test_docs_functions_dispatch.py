"""The page about dispatching names every state, limit and default that there is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_args

from strata_zmq.domain.service import DEPTH_MAX, HORIZON_S, SLOW_S
from strata_zmq.domain.task import State, TaskLimits
from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.ends import BACKSTOP_S, REST_S

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "functions_dispatch.md").read_text()


def test_it_names_every_state_and_every_limit() -> None:
    names = [*get_args(State), *[one.name for one in (*fields(TaskLimits), *fields(CoreConfig))]]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_its_figures_are_those_of_the_code() -> None:
    config = CoreConfig()
    assert f"{HORIZON_S * 1000:g} ms of work" in PAGE
    assert f"at most {DEPTH_MAX} tasks" in PAGE
    assert f"takes longer than {SLOW_S * 1000:g} ms" in PAGE
    assert f"no others for {REST_S:g} s" in PAGE
    assert f"the core ends it {BACKSTOP_S:g} s later" in PAGE
    rows = {
        "queue_tasks_max": f"{config.queue_tasks_max:,} unfinished tasks",
        "queue_bytes_max": f"{config.queue_bytes_max / 2**30:g} GiB",
        "worker_bytes_max": f"{config.worker_bytes_max / 2**20:g} MiB",
        "results_bytes_max": f"{config.results_bytes_max / 2**30:g} GiB",
        "results_max": f"{config.results_max:,} of them",
        "tombstones_max": f"{config.tombstones_max:,} tasks",
        "keys_max": f"{config.keys_max:,} keys",
        "quarantine_s": f"{config.quarantine_deaths} deaths, {config.quarantine_s:g} s",
        "stall_s": f"{config.stall_s * 1000:g} ms",
        "lease_s": f"{config.lease_s:g} s of silence",
        "client_lease_s": f"{config.client_lease_s:g} s of silence",
    }
    lines = PAGE.splitlines()
    for name, figure in rows.items():
        assert [line for line in lines if f"`{name}`" in line and figure in line], f"{name}: {figure}"
