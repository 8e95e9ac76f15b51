"""Owns the self-contained HTML page: styles and plots are inside it, so it opens offline and travels as one file.

Each case has one plot: a bar per contender (median, with its interval as a whisker and one dot per round), so that the
eye sees the figure, its limit, its peers and the noise at once. Regressions are red.
"""

from __future__ import annotations

from html import escape
from itertools import groupby
from math import log10
from typing import TYPE_CHECKING

from .formatting import cost, interval, number, ratio, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .figures import Figure, PeerFigure
    from .model import Report, Row

__all__ = ["as_html", "write_html"]

_LOG_SPAN = 40.0
"""Ratio of the largest to the smallest value of a plot above which its axis is logarithmic."""

_LABEL, _WIDTH, _BAR, _GAP, _TOP = 190, 760, 18, 10, 26
_PLOT = _WIDTH - _LABEL - 90

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d5dae1; --quiet: #667080;
  --subject: #2f6fdb; --limit: #8b95a5; --peer: #c4a24a;
  --bad: #d1242f; --warn: #9a6700; --good: #1a7f37; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14171c; --line: #343b46; --quiet: #98a2b3;
  --subject: #6ea1ff; --limit: #7c8797; --peer: #d6b764; --bad: #ff6b6b;
  --warn: #d9a441; --good: #56d364; --card: #1c2128; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1180px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-size: 13px; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
td.figure { font-variant-numeric: tabular-nums; white-space: nowrap; }
.quiet { color: var(--quiet); } .met { color: var(--good); }
.noisy, .not-measured { color: var(--warn); }
.missed, .regression { color: var(--bad); }
tr.regression td { color: var(--bad); font-weight: 600; }
figure { background: var(--card); margin: 1rem 0; padding: .8rem 1rem; border-radius: 6px; }
figcaption { font-size: 13px; } svg { max-width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
.subject { fill: var(--subject); } .limit { fill: var(--limit); } .peer { fill: var(--peer); }
.bad { fill: var(--bad); }
.whisker { stroke: var(--ink); stroke-width: 1.4; } .dot { fill: var(--ink); opacity: .45; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: 13px; }
dt { color: var(--quiet); } dd { margin: 0; }
"""


def as_html(report: Report) -> str:
    """Return the whole page."""
    suites = [_suite(name, list(rows)) for name, rows in groupby(report.rows, key=lambda row: row.suite)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Strata ZMQ benchmarks</title><style>{_STYLE}</style></head><body>",
            "<h1>Strata ZMQ benchmarks</h1>",
            _summary(report),
            *suites,
            _failures(report),
            "<h2>Environment</h2>",
            _environment(report),
            "</body></html>",
            "",
        ]
    )


def write_html(report: Report, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(as_html(report), encoding="utf-8")
    draft.replace(path)


def _summary(report: Report) -> str:
    judged = [row for row in report.rows if row.floor_id]
    met, missed = (sum(row.met is outcome for row in judged) for outcome in (True, False))
    parts = [
        (
            f"{len(report.rows)} figures; of {len(judged)} floors {met} met, {missed} missed, "
            f"{len(judged) - met - missed} not measured."
        )
    ]
    if report.environment.get("quick"):
        parts.append("Quick run: smaller sizes and fewer rounds.")
    if load := report.environment.get("load_warning"):
        parts.append(f'<strong class="noisy">Noisy run: {escape(str(load))}.</strong>')
    if report.regressions:
        parts.append(f'<strong class="regression">{len(report.regressions)} regressions.</strong>')
    parts.append(
        '<span class="quiet">Every figure is the median of interleaved rounds with its order-statistic interval '
        "(95 % from six rounds on). Bars show medians, whiskers intervals, dots single rounds.</span>"
    )
    return f"<p>{' '.join(parts)}</p>"


def _suite(name: str, rows: list[Row]) -> str:
    head = "".join(
        f"<th>{text}</th>"
        for text in ("case", "median [interval]", "p99", "limit", "x limit", "peers", "CPU / wall ms", "floor")
    )
    body = "".join(_table_row(row) for row in rows)
    plots = "".join(_plot(row) for row in rows)
    return f"<h2>{escape(name)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{plots}"


def _table_row(row: Row) -> str:
    cells = [
        f"<td>{escape(row.case)}<br><span class='quiet'>{escape(row.size)}</span></td>",
        (
            f"<td class='figure'>{escape(interval(row.subject.figure))}<br>"
            f"<span class='quiet'>{escape(row.unit)}, {row.better} is better</span></td>"
        ),
        f"<td class='figure'>{_p99(row.subject.figure)}</td>",
        f"<td class='figure'>{_limit(row)}</td>",
        f"<td class='figure'>{escape(ratio(row))}</td>",
        f"<td>{_peers(row)}</td>",
        f"<td class='figure'>{escape(cost(row.subject))}</td>",
        f"<td>{_floor(row)}</td>",
    ]
    kind = ' class="regression"' if row.regression else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _p99(figure: Figure) -> str:
    return "-" if figure.p99 is None else number(figure.p99)


def _limit(row: Row) -> str:
    return f"{escape(row.limit.name)}<br>{number(row.limit.figure.median)}" if row.limit else "-"


def _peers(row: Row) -> str:
    present = [f"{escape(peer.name)} {number(peer.figure.median)}" for peer in row.peers]
    gone = [f"<span class='quiet'>{escape(name)}: absent ({escape(why)})</span>" for name, why in row.absent.items()]
    return "<br>".join([*present, *gone]) or "-"


def _floor(row: Row) -> str:
    if row.floor_id is None:
        return ""
    word = verdict(row)
    noise = " in a noisy row" if row.noisy and row.met is not None else ""
    return (
        f"{escape(row.floor_id)}<br><span class='quiet'>{escape(row.floor or '')}</span><br>"
        f"<span class='{word.replace(' ', '-')}'>{word}</span>{noise}"
    )


def _plot(row: Row) -> str:
    entrants = [
        ("bad" if row.regression else "subject", row.subject),
        *([("limit", row.limit)] if row.limit else []),
        *(("peer", peer) for peer in row.peers),
    ]
    scale = _Scale(value for _, found in entrants for value in (*found.figure.values, found.figure.high))
    height = _TOP + len(entrants) * (_BAR + _GAP)
    bars = "".join(
        _bar(kind, found, scale, _TOP + place * (_BAR + _GAP)) for place, (kind, found) in enumerate(entrants)
    )
    remarks = "".join(
        f"<br><span class='{kind}'>{escape(text)}</span>"
        for kind, texts in (
            ("regression", [f"Regression: {row.regression}"] if row.regression else []),
            ("noisy", [f"Noisy: {reason}" for reason in row.noisy]),
            ("quiet", row.notes),
        )
        for text in texts
    )
    title = f"{row.case}, {row.size}: {row.unit}, {row.better} is better{', logarithmic' if scale.log else ''}"
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f'<text x="0" y="14">{escape(title)}</text>{bars}</svg><figcaption>{remarks}</figcaption></figure>'
    )


class _Scale:
    """Maps values of one plot to pixels, on a logarithmic axis where a linear one would hide the small ones."""

    def __init__(self, values: Iterable[float]) -> None:
        shown = [value for value in values if value > 0] or [1.0]
        self._low, self._high = min(shown), max(shown)
        self.log = self._high / self._low > _LOG_SPAN

    def x(self, value: float) -> float:
        """Return the horizontal place of `value`."""
        if not self.log:
            return _LABEL + _PLOT * max(value, 0.0) / self._high
        # Half a decade below the smallest value, so that it still has a bar.
        floor = log10(self._low) - 0.5
        return _LABEL + _PLOT * max((log10(max(value, self._low)) - floor) / (log10(self._high) - floor), 0.0)


def _bar(kind: str, found: PeerFigure, scale: _Scale, top: int) -> str:
    figure, middle = found.figure, top + _BAR / 2
    low, high, end = scale.x(figure.low), scale.x(figure.high), scale.x(figure.median)
    dots = "".join(
        f'<circle class="dot" cx="{scale.x(value):.1f}" cy="{middle + (place % 3 - 1) * 4:.1f}" r="2"/>'
        for place, value in enumerate(figure.values)
    )
    return (
        f'<text x="0" y="{middle + 4:.0f}">{escape(_short(found.name))}</text>'
        f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{max(end - _LABEL, 1):.1f}" height="{_BAR}"/>'
        f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
        f'{dots}<text x="{max(end, high) + 6:.1f}" y="{middle + 4:.0f}">{number(figure.median)}</text>'
    )


def _short(name: str, limit: int = 30) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _failures(report: Report) -> str:
    lines = [
        f"<li class='missed'>{escape(failure.suite)}/{escape(failure.case)}: {escape(failure.reason)}</li>"
        for failure in report.failures
    ]
    lines += [f"<li>not run: {escape(skipped)}</li>" for skipped in report.skipped]
    return f"<h2>Not measured</h2><ul>{''.join(lines)}</ul>" if lines else ""


def _environment(report: Report) -> str:
    pairs = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in report.environment.items()
    )
    return f"<dl>{pairs}</dl>"
