"""Owns the order of events in a case: open everybody, warm up, interleave the rounds, fold the samples into a row.

Rounds are interleaved, and the order rotates, so that a slow minute of the machine hits subject, limit and peers alike
and nobody is always the one who runs after the largest neighbour. It knows no suite and prints nothing.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from .environment import StealMeter
from .figures import Figure, PeerFigure
from .floors import Evidence, Verdict
from .model import Absent, Case, Contender, Measure, Row, Sample
from .statistics import P99_MIN, figure, relative_spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LIMIT_SPREAD_MAX", "STEAL_SHARE_MAX", "run_case"]

LIMIT_SPREAD_MAX = 0.25
"""A limit is the same bare work every round: when its interval is wider than this share of its median, the machine
was busy with something else and the row is called noisy."""

STEAL_SHARE_MAX = 0.02
"""Share of CPU time taken by the hypervisor above which a row is called noisy."""


@dataclass(frozen=True, slots=True)
class _Entrant:
    contender: Contender
    measure: Measure
    samples: list[Sample]


def run_case(suite: str, case: Case, *, rounds: int, on_round: Callable[[int, int], None]) -> Row:
    """Measure `case` and return its row; `on_round(done, total)` is told after each round, the warm-up included.

    Raises `Absent` when the subject itself cannot take part; an absent limit or peer only leaves its place empty.
    """
    absent: dict[str, str] = {}
    steal = StealMeter()
    with ExitStack() as stack:
        subject = _Entrant(case.subject, stack.enter_context(case.subject.open()), [])
        limit = _enter(stack, case.limit, absent) if case.limit else None
        peers = [entrant for peer in case.peers if (entrant := _enter(stack, peer, absent))]
        entrants = [subject, *([limit] if limit else []), *peers]
        total = case.warmup + rounds
        for turn in range(total):
            shift = turn % len(entrants)
            for entrant in (*entrants[shift:], *entrants[:shift]):
                sample = entrant.measure()
                if turn >= case.warmup:
                    entrant.samples.append(sample)
            on_round(turn + 1, total)
    return _row(suite, case, _fold(subject), _fold(limit) if limit else None, peers, absent, steal.share())


def _enter(stack: ExitStack, contender: Contender, absent: dict[str, str]) -> _Entrant | None:
    try:
        return _Entrant(contender, stack.enter_context(contender.open()), [])
    except Absent as reason:
        absent[contender.name] = str(reason)
        return None


def _fold(entrant: _Entrant) -> PeerFigure:
    samples = entrant.samples
    cpu = [sample.cpu_s for sample in samples if sample.cpu_s is not None]
    names = {name for sample in samples for name in sample.extras}
    return PeerFigure(
        name=entrant.contender.name,
        figure=figure(
            [sample.value for sample in samples],
            [latency for sample in samples for latency in sample.latencies],
        ),
        wall_s=median(sample.wall_s for sample in samples),
        cpu_s=median(cpu) if cpu else None,
        extras={
            name: median(sample.extras[name] for sample in samples if name in sample.extras) for name in sorted(names)
        },
    )


def _row(
    suite: str,
    case: Case,
    subject: PeerFigure,
    limit: PeerFigure | None,
    peers: list[_Entrant],
    absent: Mapping[str, str],
    steal_share: float,
) -> Row:
    folded = tuple(_fold(peer) for peer in peers)
    ratio = _paired_ratio(subject.figure, limit.figure) if limit else None
    evidence = Evidence(case.better, subject, limit, ratio, {peer.name: peer for peer in folded})
    verdict = case.floor.judge(evidence) if case.floor else Verdict(None)
    notes = list(case.notes)
    notes += [f"{case.floor.floor_id}: {verdict.why}"] if case.floor and verdict.why else []
    if case.floor is not None and "p99" in case.floor.text and subject.figure.p99 is None:
        notes.append(f"a p99 needs at least {P99_MIN} operations over all rounds")
    return Row(
        suite=suite,
        case=case.name,
        size=case.size,
        unit=case.unit,
        better=case.better,
        subject=subject,
        limit=limit,
        ratio=ratio,
        peers=folded,
        absent=absent,
        floor_id=case.floor.floor_id if case.floor else None,
        floor=case.floor.text if case.floor else None,
        met=verdict.met,
        notes=tuple(notes),
        noisy=_noise(limit, steal_share),
    )


def _paired_ratio(subject: Figure, limit: Figure) -> Figure | None:
    if not all(limit.values):
        return None
    return figure([mine / bare for mine, bare in zip(subject.values, limit.values, strict=True)])


def _noise(limit: PeerFigure | None, steal_share: float) -> tuple[str, ...]:
    found = []
    if limit is not None and (spread := relative_spread(limit.figure)) > LIMIT_SPREAD_MAX:
        found.append(f"the limit's own interval is {spread:.0%} of its median (quiet: {LIMIT_SPREAD_MAX:.0%})")
    if steal_share > STEAL_SHARE_MAX:
        found.append(f"the hypervisor took {steal_share:.1%} of the CPU time (quiet: {STEAL_SHARE_MAX:.0%})")
    return tuple(found)
