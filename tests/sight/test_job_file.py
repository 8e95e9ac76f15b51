"""Of a request only declared values reach a program, each inside of its word; all else is refused, by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.coordinator.api.state.job_file import NAME_MAX, TEXT_MAX, JobType, parse_job_file, read_job_file
from strata_zmq.coordinator.api.state.models import CreateJob
from strata_zmq.errors import InvalidArgumentError

HEAD = """
[jobs.train]
description = "A run"
module = "json.tool"
arguments = ["--n={n}", "--rate", "{rate}", "{flag}", "{label}", "--of={name}:{dataset_id}:{worker_count}"]
workers_max = 8
writers = 2
checkpoint_path = "saved"
environment = { OMP_NUM_THREADS = "1" }
[jobs.train.parameters]
n = { type = "int", least = 1, most = 100, default = 3 }
rate = { type = "float", least = 0.0, most = 1.0, default = 0.5 }
flag = { type = "bool", default = false }
label = { type = "text", pattern = "[a-z ]*", default = "" }
"""


def train() -> JobType:
    return parse_job_file(HEAD, Path("/"))["train"]


def asked(**fields: Any) -> CreateJob:
    return CreateJob(**{"name": "one", "type": "train", **fields})


def test_the_defaults_are_taken_where_nothing_is_given() -> None:
    program = train().prepare(asked())
    assert program.arguments == ("--n=3", "--rate", "0.5", "false", "", "--of=one::1")
    assert (program.program, program.module, program.workers, program.writers) == ("json.tool", True, 1, 2)
    assert program.environment == {"OMP_NUM_THREADS": "1"}
    assert program.checkpoint_path == "/saved"


@given(
    n=st.integers(1, 100),
    rate=st.floats(0, 1),
    flag=st.booleans(),
    label=st.text("abc ", max_size=TEXT_MAX),
    name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    workers=st.integers(1, 8),
)
def test_each_value_stays_inside_of_its_word(
    n: int, rate: float, flag: bool, label: str, name: str, workers: int
) -> None:
    config: dict[str, str | int | float | bool] = {"n": n, "rate": rate, "flag": flag, "label": label}
    program = train().prepare(asked(name=name, dataset_id="d", worker_count=workers, config=config))
    said = "true" if flag else "false"
    assert program.arguments == (f"--n={n}", "--rate", repr(rate), said, label, f"--of={name}:d:{workers}")
    assert float(program.arguments[2]) == rate


@given(
    config=st.dictionaries(
        st.sampled_from(["n", "rate", "flag", "label", "name", "shell", "__class__"]),
        st.one_of(st.text(max_size=300), st.integers(), st.floats(), st.booleans()),
        max_size=4,
    ),
    name=st.text(max_size=130),
    dataset_id=st.text(max_size=20),
)
def test_whatever_is_asked_no_word_is_more_than_its_pattern(config: dict[str, Any], name: str, dataset_id: str) -> None:
    try:
        program = train().prepare(asked(name=name, dataset_id=dataset_id, config=config))
    except InvalidArgumentError:
        return
    n, option, rate, flag, label, of = program.arguments
    assert re.fullmatch(r"--n=[0-9]{1,3}", n)
    assert option == "--rate"
    assert 0.0 <= float(rate) <= 1.0
    assert flag in ("true", "false")
    assert re.fullmatch("[a-z ]*", label)
    assert re.fullmatch(r"--of=\w[\w.-]*:(\w[\w.-]*)?:1", of, re.ASCII)


def test_text_of_a_form_is_read_as_what_it_stands_for() -> None:
    program = train().prepare(asked(config={"n": "7", "rate": "1e-3", "flag": "True"}))
    assert program.arguments[:4] == ("--n=7", "--rate", "0.001", "true")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"config": {"n": 0}}, "config.n is 0: give int from 1 to 100, default 3"),
        ({"config": {"n": 2.5}}, "config.n"),
        ({"config": {"n": True}}, "config.n"),
        ({"config": {"n": "7; ls"}}, "config.n"),
        ({"config": {"n": 10**400}}, "config.n"),
        ({"config": {"n": "9" * 400}}, "config.n"),
        ({"config": {"rate": -(10**400)}}, "config.rate"),
        ({"config": {"rate": float("nan")}}, "config.rate"),
        ({"config": {"rate": "inf"}}, "config.rate"),
        ({"config": {"flag": 1}}, "config.flag"),
        ({"config": {"label": "A"}}, r"is not like \[a-z \]\*"),
        ({"config": {"label": "-a"}}, "begins with a dash"),
        ({"config": {"label": "a\nb"}}, "cannot be printed"),
        ({"config": {"label": "a" * (TEXT_MAX + 1)}}, f"the limit is {TEXT_MAX}"),
        ({"config": {"more": 1}}, "config has 'more', and train takes n, rate, flag, label: leave it out"),
        ({"worker_count": 9}, "worker_count is 9, and train takes 1 to 8"),
        ({"name": "a" * (NAME_MAX + 1)}, "name is"),
        ({"name": "-n"}, "name is"),
        ({"name": "."}, "name is"),
        ({"dataset_id": "--all"}, "dataset_id is"),
        ({"dataset_id": "a/b"}, "dataset_id is"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_what_would(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        train().prepare(asked(**fields))


def test_a_parameter_without_a_default_has_to_be_given() -> None:
    text = '[jobs.a]\nmodule = "json"\n[jobs.a.parameters]\nn = { type = "int" }\n'
    with pytest.raises(InvalidArgumentError, match=r"config\.n is missing: give int, required"):
        parse_job_file(text, Path("/"))["a"].prepare(asked())


def test_a_template_tells_what_it_takes_and_neither_its_program_nor_its_environment() -> None:
    row = train().row()
    assert row.parameters == {
        "n": "int from 1 to 100, default 3",
        "rate": "float from 0 to 1, default 0.5",
        "flag": "bool, default false",
        "label": "text like [a-z ]*, default ",
    }
    assert "json" not in repr(row)
    assert "OMP" not in repr(row)


MODULE = 'module = "json"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs = 3", "jobs has to be a table"),
        ("[other]", "the file has 'other'"),
        ("[jobs.a]\n", "either a script or a module"),
        (f'[jobs.a]\n{MODULE}script = "x.py"', "either a script or a module"),
        ('[jobs.a]\nscript = "nothing.py"', "there is no script /nowhere/nothing.py"),
        ('[jobs.a]\nmodule = "nothing_like_it"', "there is no module"),
        ('[jobs.a]\nmodule = "json; ls"', "name a module"),
        (f'[jobs."-a"]\n{MODULE}', "a type's name"),
        (f"[jobs.a]\n{MODULE}shell = true", "jobs.a has 'shell'"),
        (f"[jobs.a]\n{MODULE}workers_max = 0", "workers_max is 0: give a whole number from 1"),
        (f'[jobs.a]\n{MODULE}arguments = "-x"', "arguments has to be a list"),
        (f'[jobs.a]\n{MODULE}arguments = ["{{n}}"]', "names n, which is no parameter"),
        (f'[jobs.a]\n{MODULE}arguments = ["{{n.real}}"]', "a single {"),
        (f'[jobs.a]\n{MODULE}arguments = ["}}"]', "a single }"),
        (f'[jobs.a]\n{MODULE}environment = {{ "A=B" = "1" }}', "environment"),
        (f"[jobs.a]\n{MODULE}environment = {{ A = 1 }}", "environment.A"),
        (f'[jobs.a]\n{MODULE}checkpoint_path = "ftp://x"', "jobs.a.checkpoint_path"),
        (f'[jobs.a]\n{MODULE}[jobs.a.parameters]\nname = {{ type = "int" }}', "none of name"),
        (f'[jobs.a]\n{MODULE}[jobs.a.parameters]\nn = {{ type = "list" }}', "type is 'list'"),
        (f'[jobs.a]\n{MODULE}[jobs.a.parameters]\nn = {{ type = "bool", least = 1 }}', "has 'least'"),
        (f'[jobs.a]\n{MODULE}[jobs.a.parameters]\nn = {{ type = "int", default = 5, most = 4 }}', "n.default"),
        (f'[jobs.a]\n{MODULE}[jobs.a.parameters]\nn = {{ type = "int", least = 5, most = 4 }}', "least is 5"),
        (f'[jobs.a]\n{MODULE}[jobs.a.parameters]\nn = {{ type = "text", pattern = "(" }}', "no regular expression"),
        (f'[jobs.a]\n{MODULE}[jobs.a.parameters]\nn = {{ type = "int", default = "5" }}', "n.default is '5'"),
        ("".join(f"[jobs.a{number}]\n{MODULE}" for number in range(101)), "the limit is 100"),
    ],
)
def test_a_mistake_in_the_list_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(message)):
        parse_job_file(text, Path("/nowhere"))


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "jobs.toml"
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        read_job_file(path)
    path.write_text("[jobs")
    with pytest.raises(InvalidArgumentError, match="is no TOML"):
        read_job_file(path)
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidArgumentError, match="is no TOML"):
        read_job_file(path)
    path.write_text("#" * 300_000)
    with pytest.raises(InvalidArgumentError, match="more than 262144 bytes"):
        read_job_file(path)


def test_a_script_is_named_relative_to_the_list_and_a_module_may_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("raise SystemExit('this was imported')")
    (tmp_path / "jobs.toml").write_text('[jobs.a]\nscript = "train.py"\n[jobs.b]\nmodule = "mine.train"\n')
    found = read_job_file(tmp_path / "jobs.toml")
    assert (found["a"].program, found["b"].program) == (str(tmp_path / "train.py"), "mine.train")
