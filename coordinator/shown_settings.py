"""The effective settings of a coordinator as people are shown them. Secrets are not told."""

from __future__ import annotations

from dataclasses import fields

from strata_zmq.protocol.sight_rows import SettingSight

from .config import CoordinatorConfig

__all__ = ["shown_settings"]

_SECRETS = frozenset({"supervisor_token"})
_VALUE_MAX = 1000


def shown_settings(config: CoordinatorConfig) -> tuple[SettingSight, ...]:
    """Return every setting with its value as text and where it comes from."""
    return tuple(
        SettingSight(name=name, value=_text(config, name), source=_source(config, name))
        for name in (one.name for one in fields(config))
        if name != "sources"
    )


def _text(config: CoordinatorConfig, name: str) -> str:
    value = getattr(config, name)
    if name in _SECRETS:
        return "set" if value else ""
    return str(value)[:_VALUE_MAX]


def _source(config: CoordinatorConfig, name: str) -> str:
    if config.fixed and name.endswith("_workers"):
        return "derived"
    return config.sources.get(name, "default")
