"""What functions print is passed on or caught up to a limit, belongs to their call alone, and costs no memory."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from functionkit import errands, nasty
from functionkit.bare_child import BareChild
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.functions.child.output import Stream

MIB = 2**20


@given(st.lists(st.text(max_size=40), max_size=20), st.integers(0, 200))
def test_a_stream_keeps_the_head_of_what_is_printed_and_counts_the_rest(texts: list[str], bytes_max: int) -> None:
    told: list[bytes] = []
    stream = Stream(None, told.append, bytes_max)
    stream.catch()
    stream.writelines(texts)
    whole = "".join(texts).encode("utf-8", "backslashreplace")
    caught, cut = stream.caught()
    assert whole.decode().startswith(caught)
    assert len(caught.encode()) + cut <= len(whole)
    assert cut == max(0, len(whole) - bytes_max)
    assert len(caught.encode()) > min(len(whole), bytes_max) - 4 * (len(texts) + 1), "no more than cut characters miss"
    assert b"".join(told) == whole


def test_a_stream_behaves_like_the_one_that_it_stands_for() -> None:
    first = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="strict")
    stream = Stream(first, lambda _: None, 100)
    print("one", "two", file=stream)
    stream.buffer.write(b"\xff\x00 three\n")
    stream.flush()
    assert first.buffer.getvalue() == b"one two\n\xff\x00 three\n"  # type: ignore[attr-defined]
    stream.reconfigure(line_buffering=True)
    assert stream.line_buffering
    assert not hasattr(stream, "no_such_thing")
    stream.close()
    assert not stream.closed
    assert (stream.encoding, stream.errors, stream.isatty(), stream.writable()) == ("latin-1", "strict", False, True)
    first.close()
    print("nobody reads this", file=Stream(None, lambda _: None, 100))


def test_what_is_printed_comes_with_the_result_and_the_rest_is_counted() -> None:
    with BareChild(output_bytes_max=1000) as child:
        child.ready()
        answer = child.run(errands.say, "häh?", capture=True)
        assert answer.report is not None
        assert (answer.report.stdout, answer.report.stderr, answer.report.cut_bytes) == ("häh?\n", "", 0)
        assert child.run(errands.add, 1, capture=True).report is None, "it printed nothing"
        failed = child.run(nasty.print_and_raise, "before", capture=True)
        assert failed.result.kind == "error"
        assert failed.report is not None
        assert (failed.report.stdout, failed.report.stderr) == ("before\n", "before, too\n")
        assert failed.report.text == "before"
        much = child.run(nasty.print_much, 3, capture=True)
        assert much.report is not None
        assert (len(much.report.stdout), much.report.cut_bytes) == (1000, 3 * MIB - 1000)
        for spoil in (nasty.close_streams, nasty.replace_streams):
            assert child.run(spoil).result.kind == "ok"
            again = child.run(errands.say, "still there", capture=True)
            assert again.report is not None
            assert again.report.stdout == "still there\n"


def test_a_report_of_any_length_arrives() -> None:
    with BareChild(output_bytes_max=MIB) as child:
        child.ready()
        answer = child.run(nasty.print_much, 2, capture=True)
        assert answer.value == 2 * MIB
        assert answer.report is not None
        assert len(answer.report.stdout) == MIB


def test_a_hundred_megabytes_of_print_cost_no_memory() -> None:
    with BareChild() as child:
        child.ready()
        child.run(nasty.print_much, 1, capture=True)
        before = _peak_bytes(child.started.pid)
        assert child.run(nasty.print_much, 100, capture=True).value == 100 * MIB
        assert _peak_bytes(child.started.pid) - before < 8 * MIB


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_the_end_of_what_a_call_printed_outlives_its_process() -> None:
    with BareChild() as child:
        child.ready()
        assert child.run(errands.say, "an earlier call's secret").value is None
        assert child.box.last_lines() == "an earlier call's secret\n"
        child.send(child.call(nasty.print_and_die, "last words"))
        assert child.death() == 5
        assert child.box.last_lines() == "last words\n"


def test_what_is_not_caught_is_printed_where_the_parent_prints_and_before_the_result(tmp_path: Path) -> None:
    program = """
        import sys
        from functionkit import errands
        from functionkit.bare_child import BareChild

        with BareChild(sys.argv[1]) as child:
            child.ready()
            for n in range(20):
                child.run(errands.say, f"{n} from the child")
                print(n, "from the parent", flush=True)
    """
    script = tmp_path / "parent.py"
    script.write_text(f'if __name__ == "__main__":\n{textwrap.indent(textwrap.dedent(program), "    ")}')
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for method in ("fork", "spawn"):
        ran = subprocess.run(
            [sys.executable, str(script), method], capture_output=True, text=True, env=environment, timeout=60
        )
        expected = [f"{n} from the {who}" for n in range(20) for who in ("child", "parent")]
        assert ran.stdout.splitlines() == expected, ran
