"""Hosts on one machine: network namespaces around one switch, and what can go wrong between them. Needs root.

Every host is a namespace with one interface; the switch is a bridge in a namespace of its own, so that nothing shows in
the machine's own network. It knows nothing of what runs there.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["COMMANDS", "Network", "lacking"]

T = TypeVar("T")

COMMANDS = ("ip", "tc", "ss", "nft", "nsenter")
_CLONE_NEWNET = 0x40000000
_NAMES = itertools.count()


def lacking() -> str:
    """Return why no network can be made here, or an empty string."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian packages iproute2, nftables, util-linux)"
    return "" if os.geteuid() == 0 else "network namespaces need root"


class Network:
    """Some hosts, each by its name, with addresses 10.77.0.1, 10.77.0.2, ... in the order given."""

    def __init__(self, *hosts: str) -> None:
        self.addresses = {host: f"10.77.0.{number}" for number, host in enumerate(hosts, 1)}
        self._prefix = f"strata-{os.getpid()}-{next(_NAMES)}"

    def __enter__(self) -> Network:
        try:
            self._add("switch")
            self._run("switch", "ip", "link", "add", "bridge", "type", "bridge")
            self._run("switch", "ip", "link", "set", "bridge", "up")
            for host, address in self.addresses.items():
                self._add(host)
                # Both ends are born in their namespaces.
                peer = ("peer", "name", "eth0", "netns", self._name(host))
                self._run("switch", "ip", "link", "add", host, "type", "veth", *peer)
                self._run("switch", "ip", "link", "set", host, "master", "bridge", "up")
                self._run(host, "ip", "address", "add", f"{address}/24", "dev", "eth0")
                self._run(host, "ip", "link", "set", "eth0", "up")
                self._run(host, "nft", "add", "table", "inet", "fault")
                hook = "{ type filter hook input priority 0; }"
                self._run(host, "nft", "add", "chain", "inet", "fault", "input", hook)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in (*self.addresses, "switch"):
            subprocess.run(["ip", "netns", "delete", self._name(host)], stderr=subprocess.DEVNULL)

    def prefix(self, host: str) -> tuple[str, ...]:
        """Return what to put before a command, so that it runs on `host` as the same process."""
        return ("nsenter", f"--net=/run/netns/{self._name(host)}", "--")

    def on(self, host: str, function: Callable[[], T]) -> T:
        """Call `function` on `host`, on a thread of its own; sockets and threads that it makes stay there."""
        results: list[T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                namespace = os.open(f"/run/netns/{self._name(host)}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(namespace)
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again below, where it is waited for
                errors.append(error)

        thread = threading.Thread(target=call, name=f"on-{host}")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    # ---- faults

    @contextlib.contextmanager
    def unplugged(self, *hosts: str) -> Iterator[None]:
        """Within, the hosts' cables are out: nothing passes, either way, and nobody is told."""
        for host in hosts:
            self._run("switch", "ip", "link", "set", host, "down")
        try:
            yield
        finally:
            for host in hosts:
                self._run("switch", "ip", "link", "set", host, "up")

    @contextlib.contextmanager
    def deaf(self, host: str, *others: str) -> Iterator[None]:
        """Within, `host` hears nothing of the others, while what it sends arrives: a one-way partition.

        As behind a firewall that drops, nobody is told; with a pulled cable, the sender may notice itself.
        """
        for other in others:
            rule = ("inet", "fault", "input", "ip", "saddr", self.addresses[other], "drop")
            self._run(host, "nft", "add", "rule", *rule)
        try:
            yield
        finally:
            self._run(host, "nft", "flush", "chain", "inet", "fault", "input")

    @contextlib.contextmanager
    def slow(self, *hosts: str, kbit_per_s: int) -> Iterator[None]:
        """Within, the hosts' cables carry so much a second in each direction, and queue the rest for up to a second."""
        ends = [end for host in hosts for end in ((host, "eth0"), ("switch", host))]
        for place, device in ends:
            limits = ("rate", f"{kbit_per_s}kbit", "burst", "4kb", "latency", "1s")
            self._run(place, "tc", "qdisc", "add", "dev", device, "root", "tbf", *limits)
        try:
            yield
        finally:
            for place, device in ends:
                self._run(place, "tc", "qdisc", "delete", "dev", device, "root")

    def kill_connections(self, host: str) -> int:
        """Destroy every TCP connection of `host`, as `ss -K` does, and return how many there were."""
        there = ("ss", "--no-header", "--numeric", "--tcp", "state", "established")
        before = self._run(host, *there).splitlines()
        self._run(host, *there, "--kill")
        return len(before)

    def _name(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    def _add(self, host: str) -> None:
        subprocess.run(["ip", "netns", "add", self._name(host)], check=True)
        self._run(host, "ip", "link", "set", "lo", "up")

    def _run(self, host: str, *command: str) -> str:
        done = subprocess.run([*self.prefix(host), *command], capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} on {host}: {done.stderr.strip()}")
        return done.stdout
