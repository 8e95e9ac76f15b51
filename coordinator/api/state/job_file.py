"""The list of what may be started: a TOML file of the operator's, and what a request makes of one of its entries.

A request names an entry and gives values for the parameters that the entry declares; it never gives a program, an
option or a path of its own. Each value is checked against its parameter's kind and limits, and takes the place of its
`{name}` inside of one word of `arguments`, which stays one word. Nothing here starts anything.
"""

from __future__ import annotations

import math
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal

from strata_zmq.errors import InvalidArgumentError, NotFoundError
from strata_zmq.storage import check_place

from .models import CreateJob
from .rows import JobTemplate

__all__ = [
    "NAME_MAX",
    "TEXT_MAX",
    "JobType",
    "Parameter",
    "Program",
    "found_program",
    "job_type_of",
    "parse_job_file",
    "read_job_file",
]

NAME_MAX = 80
"""Characters of a job's name: its workers' names, which may have 128, are made of it."""
TEXT_MAX = 256
_FILE_BYTES_MAX = 256 * 1024
_TYPES_MAX = 100
_PARAMETERS_MAX = 64
_WORDS_MAX = 256
_WORKERS_MAX, _WRITERS_MAX = 1024, 64
_INTEGER_MAX = 2**53
_FLOAT_BITS = 1023
"""A whole number of more bits is larger than any float."""
Kind = Literal["int", "float", "bool", "text"]
_OWN = ("name", "dataset_id", "worker_count")
"""Placeholders that every entry has: of a request's own fields."""
_PLACE = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_TYPE_KEYS = {
    "description", "script", "module", "arguments", "workers_max", "writers", "environment", "parameters",
    "checkpoint_path",
}  # fmt: skip
_PARAMETER_KEYS: dict[Kind, set[str]] = {
    "int": {"type", "default", "least", "most"},
    "float": {"type", "default", "least", "most"},
    "bool": {"type", "default"},
    "text": {"type", "default", "pattern"},
}
_PYTHON: dict[Kind, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "text": (str,)}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; without a `default` a request has to give it. `least` and `most` are of numbers."""

    name: str
    kind: Kind
    default: str | int | float | bool | None
    least: float = -_INTEGER_MAX
    most: float = _INTEGER_MAX
    pattern: str = ""

    def describe(self) -> str:
        """Say in words what it takes."""
        if self.kind in ("int", "float"):
            limits = [f"from {self.least:g}"] if self.least > -_INTEGER_MAX else []
            limits += [f"to {self.most:g}"] if self.most < _INTEGER_MAX else []
            said = " ".join([self.kind, *limits])
        else:
            said = f"text like {self.pattern}" if self.pattern else self.kind
        return f"{said}, required" if self.default is None else f"{said}, default {_word(self.default)}"

    def read(self, value: object) -> str:
        """Return a value as it is written into a word; raises InvalidArgumentError for one that it does not take.

        A form sends numbers as text: text that reads as the kind is taken for it.
        """
        made = self._cast(value)
        if made is None:
            raise InvalidArgumentError(f"config.{self.name} is {_shown(value)}: give {self.describe()}")
        if self.kind in ("int", "float") and not self.least <= float(made) <= self.most:
            raise InvalidArgumentError(f"config.{self.name} is {_shown(value)}: give {self.describe()}")
        if self.kind == "text":
            self._check_text(str(made))
        return _word(made)

    def _cast(self, value: object) -> str | int | float | bool | None:
        if self.kind == "text":
            return value if isinstance(value, str) else None
        if isinstance(value, str):
            value = _of_text(self.kind, value)
        if self.kind == "bool":
            return value if isinstance(value, bool) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(value, int) and value.bit_length() > _FLOAT_BITS:
            return None
        if self.kind == "float":
            return float(value) if math.isfinite(value) else None
        return int(value) if math.isfinite(value) and value == int(value) else None

    def _check_text(self, text: str) -> None:
        problem = ""
        if len(text) > TEXT_MAX:
            problem = f"has {len(text)} characters, and the limit is {TEXT_MAX}"
        elif text.startswith("-"):
            problem = "begins with a dash, as an option would"
        elif not text.isprintable():
            problem = "has characters that cannot be printed"
        elif self.pattern and re.fullmatch(self.pattern, text) is None:
            problem = f"is not like {self.pattern}"
        if problem:
            raise InvalidArgumentError(f"config.{self.name} {problem}: give {self.describe()}")


@dataclass(frozen=True, slots=True)
class Program:
    """What a request is to start: a script's path or a module's name, its words, and its workers."""

    program: str
    module: bool
    arguments: tuple[str, ...]
    workers: int
    writers: int
    checkpoint_path: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class JobType:
    """One entry of the list."""

    type: str
    description: str
    program: str
    module: bool
    arguments: tuple[str, ...]
    workers_max: int
    writers: int
    checkpoint_path: str
    environment: Mapping[str, str]
    parameters: Mapping[str, Parameter]

    def row(self) -> JobTemplate:
        """Return what the API tells of it: neither its program nor its environment."""
        said = {name: one.describe() for name, one in self.parameters.items()}
        return JobTemplate(type=self.type, description=self.description, workers_max=self.workers_max, parameters=said)

    def prepare(self, asked: CreateJob) -> Program:
        """Return what a request is to start; InvalidArgumentError names what is not as the entry has it."""
        if not _NAME.fullmatch(asked.name) or len(asked.name) > NAME_MAX:
            raise InvalidArgumentError(
                f"name is {_shown(asked.name)}: it takes {NAME_MAX} of A-Z a-z 0-9 _ . -, and begins with none of . -"
            )
        if asked.dataset_id and not _NAME.fullmatch(asked.dataset_id):
            raise InvalidArgumentError(
                f"dataset_id is {_shown(asked.dataset_id)}: it takes A-Z a-z 0-9 _ . -, and begins with none of . -"
            )
        if not 1 <= asked.worker_count <= self.workers_max:
            raise InvalidArgumentError(
                f"worker_count is {asked.worker_count}, and {self.type} takes 1 to {self.workers_max}"
            )
        unknown = sorted(asked.config.keys() - self.parameters.keys())
        if unknown:
            known = ", ".join(self.parameters) or "no parameters"
            raise InvalidArgumentError(f"config has {_shown(unknown[0])}, and {self.type} takes {known}: leave it out")
        values = {"name": asked.name, "dataset_id": asked.dataset_id, "worker_count": str(asked.worker_count)}
        for name, parameter in self.parameters.items():
            given = asked.config.get(name, parameter.default)
            if given is None:
                raise InvalidArgumentError(f"config.{name} is missing: give {parameter.describe()}")
            values[name] = parameter.read(given)
        words = tuple(_filled(word, values) for word in self.arguments)
        return Program(
            program=self.program,
            module=self.module,
            arguments=words,
            workers=asked.worker_count,
            writers=self.writers,
            checkpoint_path=self.checkpoint_path,
            environment=self.environment,
        )


def read_job_file(path: Path) -> dict[str, JobType]:
    """Return the entries of the file by type; InvalidArgumentError names what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidArgumentError(f"--jobs {path} cannot be read: {error.strerror}") from None
    if len(data) > _FILE_BYTES_MAX:
        raise InvalidArgumentError(f"--jobs {path} has more than {_FILE_BYTES_MAX} bytes")
    try:
        return parse_job_file(data.decode(), path.absolute().parent)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgumentError(f"--jobs {path} is no TOML: {error}") from None
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"--jobs {path}: {error}") from None


def parse_job_file(text: str, folder: Path) -> dict[str, JobType]:
    """Return the entries of a file's text; scripts are named relative to `folder`."""
    page = tomllib.loads(text)
    _only(page, {"jobs"}, "the file")
    jobs = _table(page.get("jobs", {}), "jobs")
    if len(jobs) > _TYPES_MAX:
        raise InvalidArgumentError(f"jobs has {len(jobs)} entries, and the limit is {_TYPES_MAX}")
    return {name: _job_type(name, _table(entry, f"jobs.{name}"), folder) for name, entry in jobs.items()}


def found_program(job_type: JobType, folder: Path) -> str:
    """Return why a type's program cannot be started in `folder` now, or nothing; nothing is imported for that."""
    if not job_type.module:
        return "" if Path(job_type.program).is_file() else f"there is no script {job_type.program}"
    name = job_type.program.partition(".")[0]
    found = PathFinder.find_spec(name, [str(folder), *sys.path])
    return "" if found is not None else f"there is no module {name} beside the list or installed"


def _job_type(name: str, entry: dict[str, Any], folder: Path) -> JobType:
    where = f"jobs.{name}"
    if not _NAME.fullmatch(name) or len(name) > 128:
        raise InvalidArgumentError(f"{where}: a type's name takes 128 of A-Z a-z 0-9 _ . -")
    _only(entry, _TYPE_KEYS, where)
    script, module = _text(entry, "script", where), _text(entry, "module", where)
    if bool(script) == bool(module):
        raise InvalidArgumentError(f"{where} has to have either a script or a module")
    if module and not _MODULE.fullmatch(module):
        raise InvalidArgumentError(f"{where}.module is {_shown(module)}: name a module, as in python -m")
    declared = _table(entry.get("parameters", {}), f"{where}.parameters")
    if len(declared) > _PARAMETERS_MAX:
        raise InvalidArgumentError(f"{where}.parameters has {len(declared)}, and the limit is {_PARAMETERS_MAX}")
    parameters = {key: _parameter(key, value, f"{where}.parameters.{key}") for key, value in declared.items()}
    words = entry.get("arguments", [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or len(words) > _WORDS_MAX:
        raise InvalidArgumentError(f"{where}.arguments has to be a list of at most {_WORDS_MAX} texts")
    for word in words:
        _check_word(word, {*_OWN, *parameters}, f"{where}.arguments")
    made = JobType(
        type=name,
        description=_text(entry, "description", where),
        program=module or str((folder / script).resolve()),
        module=bool(module),
        arguments=tuple(words),
        workers_max=_integer(entry, "workers_max", 1, _WORKERS_MAX, 1, where),
        writers=_integer(entry, "writers", 0, _WRITERS_MAX, 0, where),
        checkpoint_path=_place(entry, folder, where),
        environment=_environment(entry, where),
        parameters=parameters,
    )
    problem = found_program(made, folder)
    if problem:
        raise InvalidArgumentError(f"{where}: {problem}")
    return made


def _parameter(name: str, entry: object, where: str) -> Parameter:
    if not _WORD.fullmatch(name) or name in _OWN:
        raise InvalidArgumentError(f"{where}: a parameter's name is a word, and none of {', '.join(_OWN)}")
    table = _table(entry, where)
    kind = table.get("type")
    if kind not in _PYTHON:
        raise InvalidArgumentError(f"{where}.type is {_shown(kind)}: name one of {', '.join(_PYTHON)}")
    _only(table, _PARAMETER_KEYS[kind], where)
    for key, kinds in (
        ("default", _PYTHON[kind]),
        ("least", (int, float)),
        ("most", (int, float)),
        ("pattern", (str,)),
    ):
        value = table.get(key)
        wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        if value is not None and (wrong or (isinstance(value, float) and not math.isfinite(value))):
            raise InvalidArgumentError(f"{where}.{key} is {_shown(value)}: give one of type {kinds[-1].__name__}")
    pattern = table.get("pattern", "")
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidArgumentError(f"{where}.pattern is no regular expression: {error}") from None
    made = Parameter(
        name=name,
        kind=kind,
        default=table.get("default"),
        least=table.get("least", -_INTEGER_MAX),
        most=table.get("most", _INTEGER_MAX),
        pattern=pattern,
    )
    if made.least > made.most:
        raise InvalidArgumentError(f"{where}: least is {made.least}, above most, which is {made.most}")
    if made.default is not None:
        try:
            made.read(made.default)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{where}.default: {error}") from None
    return made


def _environment(entry: dict[str, Any], where: str) -> dict[str, str]:
    table = _table(entry.get("environment", {}), f"{where}.environment")
    for name, value in table.items():
        if not _WORD.fullmatch(name) or not isinstance(value, str) or "\0" in value:
            raise InvalidArgumentError(f"{where}.environment.{name}: a variable's name is a word and its value a text")
    return dict(table)


def _place(entry: dict[str, Any], folder: Path, where: str) -> str:
    place = _text(entry, "checkpoint_path", where)
    if place and "://" not in place:
        place = str(folder / place)
    try:
        if place:
            check_place(place)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{where}.checkpoint_path: {error}") from None
    return place


def _check_word(word: str, known: set[str], where: str) -> None:
    if "\0" in word:
        raise InvalidArgumentError(f"{where}: {_shown(word)} has a NUL, which no argument can have")
    for match in _PLACE.finditer(word):
        if match[0] in ("{", "}"):
            raise InvalidArgumentError(f"{where}: {_shown(word)} has a single {match[0]}: write it twice for itself")
        if match[1] is not None and match[1] not in known:
            raise InvalidArgumentError(
                f"{where}: {_shown(word)} names {match[1]}, which is no parameter: declare it, or use "
                f"{', '.join(sorted(known))}"
            )


def _filled(word: str, values: Mapping[str, str]) -> str:
    """Return a word with the values in their places; what a value says is never looked at again."""
    return _PLACE.sub(lambda match: match[0][0] if match[1] is None else values[match[1]], word)


def _of_text(kind: Kind, text: str) -> object:
    if kind == "bool":
        return {"true": True, "false": False}.get(text.strip().lower())
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError:
        return None


def _word(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _shown(value: object) -> str:
    return ascii(value)[:80]


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise InvalidArgumentError(f"{where} has {_shown(unknown[0])}; it takes {', '.join(sorted(known))}")


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{where} has to be a table")
    return value


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str) or len(value) > 4096 or "\0" in value:
        raise InvalidArgumentError(f"{where}.{key} is {_shown(value)}: give a text of at most 4096 characters")
    return value


def _integer(entry: dict[str, Any], key: str, least: int, most: int, default: int, where: str) -> int:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgumentError(f"{where}.{key} is {_shown(value)}: give a whole number from {least} to {most}")
    return value


def job_type_of(types: Mapping[str, JobType], name: str) -> JobType:
    """Return the entry of that type; NotFoundError names those that there are."""
    if name not in types:
        there = ", ".join(sorted(types)) or "nothing"
        raise NotFoundError(f"nothing of type {_shown(name)} may be started here: there is {there}")
    return types[name]
