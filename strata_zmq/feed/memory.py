"""How many bytes this process may still take: the machine's free memory under its cgroups' limits.

Knows nothing about what the bytes are for. Both cgroup versions are read, every level up to the root, because a
limit anywhere on the path kills the process that crosses it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["available_memory"]

# (limit, usage, statistics key of the page cache that reclaim gives back) per cgroup version.
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that can be allocated without crossing a limit, or None where the system does not say.

    `root` is where `proc` and `sys/fs/cgroup` are looked up.
    """
    bounds = [_machine(root), *_cgroups(root)]
    known = [bound for bound in bounds if bound is not None]
    return max(0, min(known)) if known else None


def _machine(root: Path) -> int | None:
    kibibytes = _table(root / "proc/meminfo").get("MemAvailable")
    return None if kibibytes is None else kibibytes * 1024


def _cgroups(root: Path) -> list[int | None]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    mount = root / "sys/fs/cgroup"
    found: list[int | None] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += _levels(mount, path, _V2)
        elif "memory" in controllers.split(","):
            found += _levels(mount / "memory", path, _V1)
    return found


def _levels(mount: Path, path: str, names: tuple[str, str, str]) -> list[int | None]:
    """Room at each level; in a container the path may be the host's, so that only the mount point itself exists."""
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    return [_room(mount.joinpath(*parts[:depth]), names) for depth in range(len(parts) + 1)]


def _room(folder: Path, names: tuple[str, str, str]) -> int | None:
    limit_name, usage_name, reclaimable = names
    limit, usage = _number(folder / limit_name), _number(folder / usage_name)
    if limit is None or usage is None:
        return None
    return limit - usage + _table(folder / "memory.stat").get(reclaimable, 0)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    """Parse `name value` and `name: value kB` lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    rows = (line.replace(":", " ").split() for line in lines)
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit()}
