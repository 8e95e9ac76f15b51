"""Owns the command line `python -m strata_zmq.bench [SUITE ...]`: options in, reports and an exit code out.

Exit codes: 0 all measured; 1 a case failed, or a comparison found a regression; 2 a mistake on the command line;
130 interrupted (what had been measured is still reported).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from strata_zmq.errors import InvalidArgumentError, StrataError

from . import baseline
from .environment import filesystem_of, load_warning, stamp
from .model import Report, Settings, Suite
from .progress import progress
from .registry import chosen, suite_names
from .report_html import write_html
from .report_json import write_json
from .report_terminal import print_report
from .runner import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites that `arguments` name and return the exit code."""
    options = _parser().parse_args(arguments)
    os.environ["STRATA_API_PORT"] = "none"  # what is measured runs without a dashboard beside it
    # Ended from outside like by Ctrl-C: children and scratch files are cleared away on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        suites = chosen(options.suites)
        if options.list:
            _print_list(suites)
            return 0
        return _measure(options, suites)
    except StrataError as mistake:
        print(f"strata_zmq.bench: {mistake}", file=sys.stderr)
        return USAGE_ERROR


def _measure(options: argparse.Namespace, suites: list[Suite]) -> int:
    outputs = {"--json": options.json, "--html": None if options.no_html else options.html}
    for option, path in outputs.items():
        _check_output(option, path)
    remembered = baseline.load(options.baseline_file) if options.baseline == "compare" else None
    if options.rounds is not None and options.rounds < 1:
        raise InvalidArgumentError(f"--rounds is {options.rounds}; it must be at least 1")

    environment = stamp(quick=options.quick)
    environment["load_warning"] = load_warning(environment)
    with _scratch(options.scratch) as scratch, progress() as shown:
        environment["scratch_filesystem"] = filesystem_of(scratch)
        settings = Settings(quick=options.quick, scratch=scratch, rounds=options.rounds)
        report, interrupted = run(suites, settings, environment, shown)

    if remembered is not None:
        report = baseline.compare(report, remembered)
    print_report(report)
    _write(report, options, outputs)
    if interrupted:
        return 130
    return 1 if report.failures or report.regressions else 0


def _write(report: Report, options: argparse.Namespace, outputs: dict[str, Path | None]) -> None:
    if (page := outputs["--html"]) is not None:
        write_html(report, page)
        print(f"page: {page}")
    if (data := outputs["--json"]) is not None:
        write_json(report, data)
        print(f"data: {data}")
    if options.baseline == "save":
        baseline.save(report, options.baseline_file)
        print(f"baseline: {options.baseline_file}")


def _check_output(option: str, path: Path | None) -> None:
    """Fail before the first round rather than after the last one."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as reason:
        raise InvalidArgumentError(f"{option} {path} cannot be written: {reason}") from None
    if path.is_dir():
        raise InvalidArgumentError(f"{option} {path} is a folder; name a file")


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    root = folder or Path("runs")
    try:
        root.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix="bench-", dir=root)
    except OSError as reason:
        raise InvalidArgumentError(f"--scratch {root} cannot be written: {reason}; name another folder") from None
    with made as path:
        yield Path(path).resolve()


def _print_list(suites: list[Suite]) -> None:
    for suite in suites:
        print(f"{suite.name:<12} {suite.question}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m strata_zmq.bench",
        description="Measure each figure beside its limit and its peers, in interleaved rounds.",
        epilog=f"suites: {', '.join(suite_names())}",
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="suites to run, in this order (default: all)")
    parser.add_argument("--list", action="store_true", help="print the suites and what each asks, and end")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: under two minutes for all")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of every case, instead of its own number")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows to FILE")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", default=Path("runs/bench.html"), help="the page (default: %(default)s)"
    )
    parser.add_argument("--no-html", action="store_true", help="write no page")
    parser.add_argument("--baseline", choices=("save", "compare"), help="remember this run, or compare with it")
    parser.add_argument(
        "--baseline-file", type=Path, metavar="FILE", default=baseline.default_path(), help="default: %(default)s"
    )
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="folder on the disk to measure (default: runs)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
