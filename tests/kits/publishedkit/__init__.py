"""The published client's codec, and a client of the four published routes; it knows nothing of this library."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from types import FunctionType
from typing import Any

import dill  # noqa: TID251 - published clients pack and load with it
import httpx

__all__ = ["ENDED", "Published", "pack", "pack_call", "unpack"]

ENDED = {"COMPLETED", "FAILED"}


def pack(value: object) -> str:
    """Return base64 text, with newlines, of what dill makes of `value`.

    A function travels by value, as one of a script does: no worker can import a test's module.
    """
    if isinstance(value, FunctionType):
        made = FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, value.__closure__)
        made.__module__ = "__main__"
        value = made
    return codecs.encode(dill.dumps(value, recurse=True), "base64").decode()


def unpack(text: str) -> Any:
    """Return what such text stands for."""
    return dill.loads(codecs.decode(text.encode(), "base64"))  # noqa: S301 - results of the test's own tasks


def pack_call(*args: object, **kwargs: object) -> str:
    """Return the payload of a call."""
    return pack((args, kwargs))


class Published:
    """The published service at `url`; every method is one use of the four routes, and asserts their status codes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=30.0)

    def register(self, function: Callable[..., object], name: str = "") -> str:
        """Register a function and return its id."""
        told = self.http.post("/register_function", json={"name": name or function.__name__, "payload": pack(function)})
        assert told.status_code == 201, told.text
        return str(told.json()["function_id"])

    def execute(self, function_id: str, *args: object, **kwargs: object) -> str:
        """Submit a call and return the task's id."""
        told = self.http.post(
            "/execute_function", json={"function_id": function_id, "payload": pack_call(*args, **kwargs)}
        )
        assert told.status_code == 201, told.text
        return str(told.json()["task_id"])

    def status(self, task_id: str) -> str:
        """Return a task's state."""
        told = self.http.get(f"/status/{task_id}")
        assert told.status_code == 200, told.text
        assert told.json()["task_id"] == task_id
        return str(told.json()["status"])

    def result(self, task_id: str) -> tuple[str, Any]:
        """Return a task's state and its loaded result, None while there is none."""
        told = self.http.get(f"/result/{task_id}")
        assert told.status_code == 200, told.text
        body = told.json()
        assert body["task_id"] == task_id
        return body["status"], None if body["result"] is None else unpack(body["result"])

    def wait(self, task_id: str, timeout_s: float = 30.0, poll_s: float = 0.01) -> tuple[str, Any]:
        """Ask for the result until it is there, as the published clients do."""
        deadline = time.monotonic() + timeout_s
        while (told := self.result(task_id))[0] not in ENDED:
            assert time.monotonic() < deadline, f"{task_id} is {told[0]} after {timeout_s} s"
            time.sleep(poll_s)
        return told

    def call(self, function: Callable[..., object], *args: object, **kwargs: object) -> Any:
        """Register, execute, wait, and return the result of a task that has to complete."""
        status, value = self.wait(self.execute(self.register(function), *args, **kwargs))
        assert status == "COMPLETED", value
        return value

    def close(self) -> None:
        """End the connections."""
        self.http.close()
