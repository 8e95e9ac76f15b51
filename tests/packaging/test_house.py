"""Every file says what it owns, stays readable, names the library by its full name and unpickles nothing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("strata_zmq", "coordinator", "workers", "bench", "examples")
FILES = sorted(
    path
    for folder in (*SHIPPED, "tests")
    for path in (ROOT / folder).rglob("*.py")
    if not any(parent.is_symlink() for parent in path.parents)
)
LINES_MAX = 500
OTHER_NAMES = {"coordinator", "workers", "bench"}
# A client loads the results of what it has submitted, a child process its task; nobody else loads anything.
MAY_UNPICKLE = ("strata_zmq/functions/codec.py", "strata_zmq/functions/child/")
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports by their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def offenders(rule: Callable[[Path], bool], files: Iterable[Path] = FILES) -> list[str]:
    """The files that break a rule, as paths from the root."""
    return [str(path.relative_to(ROOT)) for path in files if not rule(path)]


def opens_with_a_sentence(path: Path) -> bool:
    docstring = ast.get_docstring(ast.parse(path.read_bytes()))
    return docstring is not None and docstring.split("\n\n")[0].rstrip().endswith((".", ":"))


def test_every_file_says_in_its_first_sentence_what_it_owns() -> None:
    assert offenders(opens_with_a_sentence) == []


def test_every_file_can_be_read_in_one_sitting() -> None:
    assert offenders(lambda path: len(path.read_text().splitlines()) <= LINES_MAX) == []


def test_nobody_makes_a_second_copy_of_a_class_by_importing_a_folder_by_its_short_name() -> None:
    assert offenders(lambda path: not imported(path) & OTHER_NAMES) == []


def test_nothing_that_is_shipped_can_unpickle_but_a_clients_codec_and_a_child_process() -> None:
    shipped = [
        path
        for path in FILES
        if path.relative_to(ROOT).parts[0] in SHIPPED and not str(path.relative_to(ROOT)).startswith(MAY_UNPICKLE)
    ]
    assert offenders(lambda path: not imported(path) & UNPICKLERS, shipped) == []


def test_every_room_is_looked_at() -> None:
    rooms = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert rooms >= {"strata_zmq", "coordinator", "workers", "bench", "tests"}
