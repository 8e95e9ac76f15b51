"""How calls are packed and results loaded at a client: with the child the only place that pickles. Servers never do."""

from __future__ import annotations

__all__ = ["RemoteTraceback"]


class RemoteTraceback(Exception):  # noqa: N818 - the cause of an error, never one itself
    """The cause of an exception that a function raised elsewhere: its traceback there, as text."""

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'
