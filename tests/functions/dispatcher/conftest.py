"""A dispatcher process in a folder of its own, and bare peers of it, all ended with the test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from functionkit.peers import BareClient, BareWorker
from functionkit.processes import DispatcherProcess


@pytest.fixture
def start(ending: ExitStack, folder: Path) -> Callable[..., DispatcherProcess]:
    """Start a dispatcher with options."""

    def starter(*options: str, env: dict[str, str] | None = None) -> DispatcherProcess:
        made = DispatcherProcess(folder, *options)
        ending.callback(made.stop)
        return made.start(env)

    return starter


@pytest.fixture
def dispatcher(start: Callable[..., DispatcherProcess]) -> DispatcherProcess:
    """A dispatcher that keeps no records and loses who is silent for two seconds."""
    return start("--store", "none", "--lease", "2")


@pytest.fixture
def client(dispatcher: DispatcherProcess, ending: ExitStack) -> BareClient:
    """A client that has attached."""
    made = BareClient(dispatcher.endpoint)
    ending.callback(made.close)
    made.attach()
    return made


@pytest.fixture
def enlist(dispatcher: DispatcherProcess, ending: ExitStack) -> Callable[..., BareWorker]:
    """Enlist a hand-made worker."""

    def maker(*arguments: Any, **options: Any) -> BareWorker:
        made = BareWorker(dispatcher.endpoint, *arguments, **options)
        ending.callback(made.close)
        made.enlist()
        return made

    return maker
