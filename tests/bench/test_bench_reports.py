"""Terminal, page and JSON show the same run, each whole in itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from strata_zmq.bench.formatting import number
from strata_zmq.bench.model import Failure, Report, Row
from strata_zmq.bench.report_html import as_html, write_html
from strata_zmq.bench.report_json import write_json
from strata_zmq.bench.report_terminal import print_report

Rows = Callable[..., Row]
Reports = Callable[..., Report]


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its tags are closed in order."""

    VOID = frozenset({"meta", "br", "rect", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "data"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(report: Report) -> str:
    console = Console(file=StringIO(), width=160)
    print_report(report, console)
    output = console.file
    assert isinstance(output, StringIO)
    return output.getvalue()


def test_the_page_refers_to_nothing_outside_itself(make_report: Reports) -> None:
    text = as_html(make_report())
    page = Page(text)
    assert page.links == []
    assert page.open == []
    assert not re.search(r"https?://|//cdn|@import|url\(|<script|<link", text)


def test_the_page_has_a_plot_for_each_case_and_escapes_what_it_shows(make_report: Reports, make_row: Rows) -> None:
    rows = [make_row(limit=(1.0,) * 6, case="<b>one</b>"), make_row(case="two")]
    page = Page(as_html(make_report(*rows)))
    assert page.tags.count("svg") == 2
    assert "b" not in page.tags
    assert "<b>one</b>" in page.text
    assert "bare <echo>" in page.text


def test_regressions_are_red_on_the_page(make_report: Reports, make_row: Rows) -> None:
    calm, bad = as_html(make_report(make_row())), as_html(make_report(make_row(regression="1.5x worse")))
    assert '<tr class="regression">' in bad
    assert 'rect class="bad"' in bad
    assert "1.5x worse" in bad
    assert '<tr class="regression">' not in calm
    assert 'rect class="bad"' not in calm


@pytest.mark.parametrize(("met", "word"), [(True, "met"), (False, "missed"), (None, "not measured")])
def test_every_report_says_whether_a_floor_was_met_missed_or_not_measured(
    make_report: Reports, make_row: Rows, tmp_path: Path, met: bool | None, word: str
) -> None:
    report = make_report(make_row(met=met))
    assert f">{word}<" in as_html(report)
    assert f"bare: {word}" in " ".join(shown(report).split())
    write_json(report, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["rows"][0]["met"] is met


def test_the_table_names_limit_peers_absences_noise_and_regressions(make_report: Reports, make_row: Rows) -> None:
    text = shown(make_report(make_row(limit=(1.0,) * 6, regression="1.5x worse")))
    for expected in (
        "bare <echo>",
        "peer & co 2",
        "missing peer: absent",
        "absent: missing peer: not installed",
        "the machine hummed",
        "REGRESSION made/a case/10 things: 1.5x worse",
    ):
        assert expected in text


def test_failures_and_a_loaded_machine_are_reported(make_report: Reports, make_row: Rows) -> None:
    report = Report(
        {"load_warning": "load average 9 on 2 cores"}, (make_row(),), (Failure("made", "b", "broke"),), ("c: absent",)
    )
    for text in (shown(report), as_html(report)):
        assert "load average 9 on 2 cores" in text
        assert "broke" in text
        assert "c: absent" in text


def test_a_report_replaces_an_older_file_whole(make_report: Reports, tmp_path: Path) -> None:
    for write, name in ((write_json, "a.json"), (write_html, "a.html")):
        path = tmp_path / name
        path.write_text("old")
        write(make_report(), path)
        assert path.read_text() not in {"", "old"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.html", "a.json"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567.8, "1,234,568"),
        (12.345, "12.3"),
        (1.0, "1"),
        (100.0, "100"),
        (0.01234, "0.0123"),
        (-2.5, "-2.5"),
        (1e-9, "1e-09"),
    ],
)
def test_numbers_keep_three_digits_and_their_thousands(value: float, text: str) -> None:
    assert number(value) == text
