"""Which child gets the next packet: idle ones first, then new ones, then unread packets for short functions.

It starts and retires children where calls ask for that, and sends nothing.
"""

from __future__ import annotations

from strata_zmq.functions.pool.child_handle import Child
from strata_zmq.functions.pool.planner import GROUP, Planner, PoolCall
from strata_zmq.functions.pool.roster import Roster

__all__ = ["Assignment", "assign"]

Assignment = list[tuple[Child, list[PoolCall]]]


def assign(planner: Planner, roster: Roster, packets_ahead: int, now: float) -> Assignment:
    """Return packets for children, in the order in which they are to be sent; each child's calls leave their queue.

    Raises what starting a process raises; nothing is assigned then.
    """
    plan: Assignment = []
    for need in planner.needs():
        busy = {child for child, _ in plan}
        taken: Assignment = []
        try:
            _to_idle(planner, roster, need, busy, taken, now)
        except BaseException:
            for _, calls in reversed([*plan, *taken]):
                planner.put_front(calls)
            raise
        if planner.waits(need):
            _ahead(planner, roster, need, packets_ahead, taken)
        plan += taken
    return plan


def _to_idle(planner: Planner, roster: Roster, need: int, busy: set[Child], plan: Assignment, now: float) -> None:
    """One packet for each child without a call; a new child where there is none, and room for it."""
    idle = [child for child in roster.idle(need) if child not in busy]
    while waiting := planner.waits(need):
        if idle:
            child = idle.pop(0)
        else:
            started = _start(roster, need, busy, now)
            if started is None:
                return
            child = started
        share = waiting // max(len(roster.children), 1)
        most = max(1, min(GROUP, share, child.left)) if child.ready else 1
        plan.append((child, planner.packet(need, most)))
        busy.add(child)


def _start(roster: Roster, need: int, busy: set[Child], now: float) -> Child | None:
    """Start a child with `need` devices, in place of an idle one with others if there is no room."""
    others = [child for child in roster.idle() if child not in busy and len(child.devices) != need]
    holder = next((child for child in others if child.devices), None)
    if len(roster.free_devices) < need:
        # Devices are free again when the process that had them is gone; one that is idle is asked to go.
        if holder is not None and not any(child.devices for child in roster.leaving):
            roster.retire(holder, now)
        return None
    if roster.full and others:
        roster.retire(holder or others[0], now)
    return None if roster.full else roster.try_start(need, now)


def _ahead(planner: Planner, roster: Roster, need: int, packets_ahead: int, plan: Assignment) -> None:
    """Unread packets for busy children, evenly, as long as the next calls are short."""
    depth: dict[Child, int] = {}
    room: dict[Child, int] = {}
    for child in roster.children:
        if child.ready and child.usable and not child.stuck and len(child.devices) == need:
            depth[child] = len(child.bounds)
            room[child] = child.left
    for child, calls in plan:
        if child in depth:
            depth[child] += 1
            room[child] -= len(calls)
    for level in range(1, packets_ahead + 1):
        for child, packets in depth.items():
            if packets == level and room[child] > 0:
                if not planner.may_go_ahead(need):
                    return
                share = planner.waits(need) // len(depth)
                calls = planner.packet(need, max(1, min(GROUP, share, room[child])))
                plan.append((child, calls))
                depth[child] += 1
                room[child] -= len(calls)
