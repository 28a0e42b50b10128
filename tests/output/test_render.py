"""What a run shows: plain lines for logs, a live region and panels for a person's terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from aethr.base.errors import ExitCode
from aethr.base.records import (
    Artifacts,
    Concurrent,
    Event,
    Finding,
    LoopEnded,
    LoopResult,
    Mode,
    Notice,
    Receipt,
    Review,
    RunFinished,
    RunResult,
    RunStarted,
    Scope,
    StepFinished,
    StepPrepared,
    StepResult,
    StepStarted,
    Subject,
    TextDelta,
    Thinking,
    Totals,
    Usage,
)
from aethr.output.render import Display, Renderer, make_renderer
from aethr.review import NO_REVIEWER
from tests.support import outcome_of

ANSWER = "## Look\n\n- [high] a.py:3 — **wrong**\n\nReview status: revise\n"
NASTY = (
    "\x1b[2J\x1b]8;;http://x\x07a\x1b]8;;\x07 \x1b]52;c;aGk=\x07 \x9b31m \x08\r\x7f \u202e "
    "[/red] [link=x]y[/] :x: <b>tag</b> &#x9b; &#x202e; [l](http://h/%1b) \ud800\n::set-output name=a::b\n"
)
FINDINGS = (
    Finding("high", "a.py", 3, "wrong", by=("review",)),
    Finding("low", None, None, "remark", by=("review",)),
    Finding("low", "b.py", None, "x", by=("review",)),
)


def step(content: str = ANSWER, **values: object) -> StepResult:
    fields: dict[str, object] = {
        "id": "review",
        "role": "reviewer",
        "backend": "model",
        "model": "openai:gpt-4o-mini",
        "iteration": 1,
        "prompt_sha256": "0" * 64,
        "content": content,
        "seconds": 12.34,
        "usage": Usage(400, 31, 431, 0.0012),
        **values,
    }
    return StepResult(**fields)  # type: ignore[arg-type]  # the fields are those of the call


def result(
    *steps: StepResult, review: Review | None = None, mode: Mode = "live", code: ExitCode = ExitCode.OK
) -> RunResult:
    found = Review("revise", FINDINGS) if review is None else review
    return RunResult(
        task="look",
        workflow="w",
        mode=mode,
        scope=Scope(),
        steps=steps,
        loops=(),
        review=found,
        totals=Totals(len(steps), 400, 31, 0.0012 if mode == "live" else None, 12.34),
        exit_code=code,
        outcome=outcome_of(found, mode),
    )


STARTED = StepStarted("review", "reviewer", "model", "openai:gpt-4o-mini", 1, 1, 1)


def run_of(answer: str = ANSWER, mode: Mode = "live", pieces: Sequence[str] | None = None) -> list[Event]:
    done = step(answer)
    return [
        RunStarted("w", "look", mode, 1),
        STARTED,
        StepPrepared("review", "the prompt", "0" * 64, ()),
        *(TextDelta(piece) for piece in (pieces if pieces is not None else [answer])),
        StepFinished(done),
        RunFinished(result(done, mode=mode)),
    ]


def show(renderer: Renderer, events: Sequence[Event]) -> None:
    with renderer:
        for event in events:
            renderer.show(event)


def plain(events: Sequence[Event], options: Display | None = None, **environ: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    show(make_renderer(options or Display(), out, err, environ), events)
    assert (err if not (options and options.json) else out).getvalue() == ""
    return out.getvalue() + err.getvalue()


def interrupted(renderer: Renderer, *events: Event) -> None:
    with renderer:
        for event in events:
            renderer.show(event)
        raise KeyboardInterrupt


class Terminal:
    """A pseudo-terminal of a given size, and all the bytes that were written to it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.data = b""
        self.more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while piece := os.read(self.master, 1 << 16):
                with self.more:
                    self.data += piece
                    self.more.notify_all()
        except OSError:
            return  # Linux says EIO when the last writer has closed

    def close(self) -> str:
        os.close(self.slave)
        self._reader.join()
        os.close(self.master)
        return self.data.decode()

    def stream(self, encoding: str = "utf-8") -> TextIO:
        return os.fdopen(os.dup(self.slave), "w", encoding=encoding, newline="\n")

    @property
    def environ(self) -> dict[str, str]:
        return {"TERM": "xterm-256color", "COLUMNS": str(self.columns), "LINES": str(self.rows)}


def drawn(events: Sequence[Event], options: Display | None = None, columns: int = 80, **environ: str) -> str:
    """The bytes that a run leaves on a real pseudo-terminal."""
    terminal = Terminal(columns, 24)
    with terminal.stream() as stream:
        show(
            make_renderer(options or Display(), stream, io.StringIO(), {**terminal.environ, **environ}),
            events,
        )
    return terminal.close()


def screen(data: str) -> list[str]:
    """What a terminal of endless height shows in the end. Fails on a sequence it does not know."""
    rows, row, column = [""], 0, 0
    for match in re.finditer(r"\x1b\[(\??[\d;]*)([A-Za-z])|([^\x1b])", data):
        argument, command, character = match.groups()
        if command == "A":
            row -= int(argument or 1)
        elif command == "K":
            rows[row] = ""
        elif command is not None:
            assert command == "m" or (command in "lh" and argument == "?25"), match.group()
        elif character == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif character == "\r":
            column = 0
        else:
            rows[row] = rows[row][:column].ljust(column) + character + rows[row][column + 1 :]
            column += 1
    return rows


def controls(data: str) -> str:
    """The control characters in what is left after Rich's own sequences are taken out."""
    rest = re.sub(r"\x1b\[[\d;]*[mAK]|\x1b\[\?25[lh]|\r\n|\r(?=\x1b\[)", "", data)
    return "".join(c for c in rest if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160)


# --- plain ---------------------------------------------------------------------------------------


def test_plain_output_is_header_answer_and_closing_line() -> None:
    assert plain(run_of()) == (
        "== review (1/1) reviewer · openai:gpt-4o-mini ==\n"
        f"{ANSWER}"
        "Review status: revise; 1 high and 2 low findings\n"
        "1 step, 431 tokens, $0.0012, 12.3 s\n"
    )


def test_streaming_prints_the_same_text_once() -> None:
    pieces = list(ANSWER.strip())
    assert plain(run_of(pieces=pieces), Display(stream=True)) == plain(run_of())


def test_streamed_text_is_written_as_it_arrives() -> None:
    out = io.StringIO()
    with make_renderer(Display(stream=True), out, out, {}) as show:
        show(STARTED)
        show(TextDelta("half a li"))
        assert out.getvalue().endswith("==\nhalf a li")
        show(Notice("retrying in 2 s", "warning"))
        assert out.getvalue().endswith("half a li\nwarning: retrying in 2 s\n")


def test_an_interrupted_stream_ends_with_a_newline() -> None:
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        interrupted(make_renderer(Display(stream=True), out, out, {}), TextDelta("half\r"))
    assert out.getvalue() == "half\\r\n"


def test_json_leaves_standard_output_to_the_record() -> None:
    assert "Review status: revise" in plain(run_of(), Display(json=True))


def test_quiet_prints_only_the_last_answer() -> None:
    assert plain(run_of(), Display(quiet=True)) == ANSWER
    events = [RunStarted("w", "t", "mock", 1), RunFinished(unreviewed("mock"))]
    assert plain(events, Display(quiet=True)).splitlines() == [
        "note: mock mode: no model is called; --live or AETHR_LIVE=1 calls the model",
        *ANSWER.splitlines(),
        "NOT REVIEWED: mock mode",
    ]


@pytest.mark.parametrize(
    "answer", ["- [high] a.py:1 — wrong\n\nReview status: pass", "Review status: revise."]
)
def test_quiet_prints_a_verdict_that_the_answer_lacks(answer: str) -> None:
    assert plain(run_of(answer), Display(quiet=True)) == (
        f"{answer}\nReview status: revise; 1 high and 2 low findings\n"
    )


def test_quiet_prints_a_loop_that_may_close_the_gate() -> None:
    done = result(step())._replace(loops=(LoopResult("review", "review", 2, "exhausted"),))
    assert plain([RunFinished(done)], Display(quiet=True)).splitlines() == [
        *ANSWER.splitlines(),
        "warning: loop review -> review: exhausted after 2 passes",
    ]


def test_quiet_prints_the_findings_of_a_pass_that_closed_the_gate() -> None:
    """With ``--fail-on low``; the review itself is printed if it is the last answer."""
    said = Review("pass", (Finding("low", "a.py", 1, "a remark"),))
    later = step("It is told.", id="tell", role="teller")
    why = "gate closed (--fail-on low): 1 low finding"
    named = ["It is told.", "a.py:1: [low] a remark", why]
    for code, lines in ((ExitCode.GATE, named), (ExitCode.OK, ["It is told."])):
        events = [RunFinished(result(step(), later, review=said, code=code)._replace(closed=why))]
        assert plain(events, Display(quiet=True)).splitlines() == lines
    said = said._replace(findings=(said.findings[0]._replace(by=("review",)),))
    last = result(step("A remark.\n\nReview status: pass"), review=said, code=ExitCode.GATE)
    assert plain([RunFinished(last._replace(closed=why))], Display(quiet=True)).splitlines() == [
        "A remark.",
        "",
        "Review status: pass",
        why,
    ]


TWO = (
    Finding("low", "b.py", 1, "odd", by=("audit",)),
    Finding("high", "a.py", 3, "wrong", by=("review",)),
)
LISTED = ["a.py:3: [high] wrong", "b.py:1: [low] odd"]


def test_findings_of_several_answers_are_listed_once_by_file() -> None:
    audit = step("- [low] b.py:1 — odd\n\nReview status: pass", id="audit")
    done = result(audit, step(), review=Review("revise", TWO))
    events = [StepFinished(audit), StepFinished(step()), RunFinished(done)]
    lines = plain(events).splitlines()
    end = lines.index("a.py:3: [high] wrong")
    assert lines[end:-1] == [*LISTED, "Review status: revise; 1 high and 1 low finding"]
    assert plain(events).count("[low] odd") == 1


def test_what_the_last_answer_says_is_not_repeated() -> None:
    lines = plain([StepFinished(step()), RunFinished(result(step()))]).splitlines()
    assert lines[len(ANSWER.splitlines()) :] == [
        "Review status: revise; 1 high and 2 low findings",
        "1 step, 431 tokens, $0.0012, 12.3 s",
    ]
    passed = step("Fine.\n\nReview status: pass")
    lines = plain([StepFinished(passed), RunFinished(result(passed, review=Review("pass")))]).splitlines()
    assert lines == ["Fine.", "", "Review status: pass", "1 step, 431 tokens, $0.0012, 12.3 s"]


@pytest.mark.parametrize("replayed", [True, False])
@pytest.mark.parametrize("parts", [1, 2])
def test_findings_that_no_single_answer_has_above_are_listed(replayed: bool, parts: int) -> None:
    made = step(parts=parts)
    events = [StepFinished(made, replayed=replayed), RunFinished(result(made))]
    assert ("a.py:3: [high] wrong" in plain(events).splitlines()) == (replayed or parts == 2)


def test_the_end_says_why_the_gate_closed() -> None:
    why = "gate closed (--fail-on high): 1 high finding"
    done = result(step(), code=ExitCode.GATE)._replace(closed=why)
    assert said(StepFinished(step()), RunFinished(done))[-3:-1] == [
        "Review status: revise; 1 high and 2 low findings",
        why,
    ]
    stopped = done._replace(exit_code=ExitCode.WORLD)
    assert why not in said(RunFinished(stopped)), "something else ended the run"
    assert f"\x1b[31m{why}\x1b[0m" in plain([RunFinished(done)], FORCE_COLOR="1")


LEFT_OUT = Receipt("git_diff", None, 0, complete=False, note="not part of this diff: untracked: r.json")


@pytest.mark.parametrize(
    ("missing", "fix"),
    [
        (LEFT_OUT, "include what is named above"),
        (Receipt("git_diff", "z.py", 0, complete=False), "review less at once"),
    ],
)
def test_the_start_says_what_to_do_about_what_is_missing(missing: Receipt, fix: str) -> None:
    subject = Subject(Scope(), None, reviewed=True)
    lines = said(RunStarted("w", "t", "live", 1, subject, left_out=(missing,)))
    assert [
        line for line in lines if line.startswith(f"note: so the review will be incomplete; to fix: {fix}")
    ]


def test_the_end_counts_answers_that_were_used_again() -> None:
    reused = step(reused="a" * 40, part=2, parts=2)
    lines = said(RunFinished(result(step(part=1, parts=2), reused)))
    assert any(line.startswith("1 step, 2 calls, 1 answer used again, ") for line in lines), lines


@pytest.mark.parametrize(
    ("run", "fix"),
    [
        ({"mode": "mock"}, "set AETHR_LIVE=1"),
        ({"mode": "scripted"}, "leave out --replies"),
        ({"review": NO_REVIEWER.review}, "add a step with the role reviewer"),
        ({"steps": (step(truncated=True),)}, "raise max_tokens"),
        (
            {"steps": (step(context=(Receipt("git_diff", "z.py", 0, complete=False),)),)},
            "review less at once",
        ),
        ({"steps": (step(context=(LEFT_OUT,)),)}, "include what is named above"),
        ({}, "run again"),
    ],
)
def test_an_exit_for_want_of_a_review_says_what_to_do(run: dict[str, object], fix: str) -> None:
    done = unreviewed("live")._replace(exit_code=ExitCode.NOT_REVIEWED, **run)
    lines = said(RunFinished(done))
    assert [line for line in lines if line.startswith(f"To fix: {fix}")]
    assert not [line for line in said(RunFinished(done._replace(exit_code=ExitCode.OK))) if "To fix" in line]


def test_the_end_counts_states_and_notes_what_does_not_count() -> None:
    found = (
        TWO[1]._replace(state="new"),
        TWO[0]._replace(state="open"),
        Finding("low", "c.py", 1, "slow", state="answered", answer="a\nfew items"),
        Finding("high", "d.py", 1, "crash", state="resolved"),
    )
    lines = said(RunFinished(result(step(), review=Review("revise", found))))
    assert lines[:-1] == [
        "note: c.py:1: [low] slow; answered: a\\nfew items",
        "note: d.py:1: [high] crash; resolved: it is no longer found",
        *LISTED,
        "Review status: revise; 1 high and 1 low finding (1 new, 1 still there); "
        "answered: 1 low; resolved: 1 high",
    ]


def test_only_the_severity_of_a_finding_is_coloured() -> None:
    done = RunFinished(result(step(), review=Review("revise", TWO)))
    text = plain([done], FORCE_COLOR="1")
    assert "a.py:3: \x1b[1;31m[high]\x1b[0m wrong\n" in text
    assert "b.py:1: \x1b[1;34m[low]\x1b[0m odd\n" in text
    assert "\x1b" not in plain([done], FORCE_COLOR="1", NO_COLOR="1")
    assert re.search(r"a\.py:3: \x1b\[1;31m\[high\]\x1b\[0m wrong", drawn([done]))
    assert not re.search(r"\x1b\[(?:\d+;)*[34]\d", drawn([done], NO_COLOR="1"))


def test_a_panel_colours_the_severities_of_an_answer() -> None:
    answer = "- [high] a.py:3 — wrong\n- [low] b.py — odd\n\nIt is not [medium] here.\n"
    data = drawn(run_of(answer))
    assert re.search(r"\x1b\[1;31m\[high\]\x1b\[0m", data)
    assert re.search(r"\x1b\[1;34m\[low\]\x1b\[0m", data)
    assert not re.search(r"\x1b\[[\d;]*33m\[medium\]", data)
    assert screen(data) == screen(drawn(run_of(answer), NO_COLOR="1"))


def unreviewed(mode: Mode, *steps: StepResult, reason: str = "mock mode") -> RunResult:
    return result(*(steps or (step(),)), review=Review(reason=reason), mode=mode)


def test_mock_mode_is_in_the_first_and_the_closing_line() -> None:
    lines = plain([RunStarted("w", "t", "mock", 1), RunFinished(unreviewed("mock"))]).splitlines()
    assert lines[0] == "note: mock mode: no model is called; --live or AETHR_LIVE=1 calls the model"
    assert lines[1] == "NOT REVIEWED: mock mode"
    assert lines[2] == "mock mode, no model was called: 1 step, 431 tokens, no cost, 12.3 s"


def said(*events: Event) -> list[str]:
    return plain(events).splitlines()


def test_not_sent_is_one_capped_line_per_step() -> None:
    def lost(name: str, note: str, sent: int = 0, lines: int = 9) -> Receipt:
        return Receipt("git_diff", name, sent, 5, None, note, False, lines, sent)

    receipts = (lost("z.py", "over budget"), lost("logo\n.png", "binary"), lost("a.py", "over budget", 9))
    note = Receipt("git_diff", None, 9, note="2 untracked files are outside of this scope")
    assert said(StepPrepared("review", "p", "0", (*receipts, note))) == [
        "warning: not sent: z.py (over budget); logo\\n.png (binary); a.py (in part: over budget)",
        "note: git_diff: 2 untracked files are outside of this scope",
    ]
    many = tuple(lost(f"{n}.py", "over budget", lines=n) for n in range(25))
    cut = tuple(lost(f"{n}.ts", f"{n} of 9 hunks not sent", 1) for n in range(4))
    assert said(StepPrepared("review", "p", "0", (*many, *cut, receipts[1]))) == [
        "warning: not sent: 25 files, 300 changed lines (largest: 24.py, 23.py, 22.py): over budget; "
        "4 files, 32 changed lines (largest: 0.ts, 1.ts, 2.ts): in part; logo\\n.png (binary)"
    ]


def test_replays_loops_cuts_and_changes_have_a_line() -> None:
    edited = step(
        "", artifacts=Artifacts(("a.py", "b\x1b.py")), truncated=True, finish_reason="length", notes=("n",)
    )
    assert said(
        StepFinished(step(iteration=2), replayed=True),
        StepFinished(edited),
        LoopEnded(LoopResult("review", "implement", 2, "satisfied")),
        LoopEnded(LoopResult("review", "implement", 1, "exhausted")),
    ) == [
        "review (pass 2): from the checkpoint",
        "(no answer)",
        "note: n",
        "warning: the answer was cut (length)",
        "changed: a.py, b\\x1b.py",
        "loop review -> implement: satisfied after 2 passes",
        "warning: loop review -> implement: exhausted after 1 pass",
    ]


def test_a_notice_is_printed_once_per_step() -> None:
    events = [STARTED, Notice("seed is not supported", "warning"), Notice("seed is not supported", "warning")]
    assert len(said(*events)) == 2
    assert len(said(*events, *events)) == 4


@pytest.mark.parametrize(
    ("run", "lines"),
    [
        (result(step(), review=Review("pass", ())), ["Review status: pass"]),
        (
            result(step(), review=Review("pass", (), 0.5, "not sent: z.py")),
            ["INCOMPLETE (pass on what was sent): not sent: z.py"],
        ),
        (unreviewed("live", reason="no verdict"), ["NOT REVIEWED: no verdict"]),
        (
            unreviewed("live", step(role="critic"), reason="the answer was cut (length)"),
            ["NOT REVIEWED: the answer was cut (length)"],
        ),
        (
            unreviewed("live", step(role="planner"), reason=str(NO_REVIEWER.review.reason)),
            ["No review: the workflow has no reviewing step"],
        ),
        (result(review=Review(reason="nothing changed")), ["Nothing to review: nothing changed"]),
        (
            result(review=Review(reason="no key"), code=ExitCode.NOT_REVIEWED),
            [
                "NOT REVIEWED: no key",
                "To fix: run again what is missing or gave no verdict, or use another model.",
            ],
        ),
    ],
)
def test_the_verdict_line_of_each_outcome(run: RunResult, lines: list[str]) -> None:
    assert said(RunFinished(run))[:-1] == lines


def test_an_unknown_cost_is_not_zero() -> None:
    run = result(step())
    unknown = RunResult(
        run.task,
        run.workflow,
        "live",
        run.scope,
        run.steps,
        (),
        run.review,
        Totals(1, 5, 5, None, 1),
        ExitCode.OK,
    )
    assert said(RunFinished(unknown))[-1] == "1 step, 10 tokens, cost unknown, 1.0 s"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("runner", ["", "true"])
def test_untrusted_text_controls_no_log(stream: bool, runner: str) -> None:
    nasty = StepStarted(NASTY, NASTY, NASTY, NASTY, 1, 1, 1)
    receipt = Receipt(NASTY, NASTY, 0, note=NASTY, complete=False)
    events: list[Event] = [
        RunStarted(NASTY, NASTY, "live", 1),
        nasty,
        StepPrepared(NASTY, NASTY, NASTY, (receipt,)),
        *(TextDelta(c) for c in NASTY),
        Notice(NASTY),
        StepFinished(step(NASTY, id=NASTY, notes=(NASTY,), artifacts=Artifacts((NASTY,)))),
        LoopEnded(LoopResult(NASTY, NASTY, 1, "stalled")),
        RunFinished(result(step(), review=Review("none", (), None, NASTY))),
    ]
    text = plain(events, Display(stream=stream, verbose=True), GITHUB_ACTIONS=runner)
    assert controls(text) == ""
    assert "[/red] [link=x]y[/] :x:" in text
    if runner:
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]
    else:
        assert "\n::set-output" in text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_run_prints_in_any_encoding(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(make_renderer(Display(), stream, stream, {}), run_of("a 你 → “b” é\n"))
    stream.seek(0)
    text = stream.read()
    assert {"ascii": 'a \\u4f60 -> "b" \\xe9', "cp1252": "a \\u4f60 -> “b” é"}.get(
        encoding, "a 你 → “b” é"
    ) in text
    assert ("reviewer · openai" in text) == (encoding != "ascii")


def test_force_color_colours_plain_lines_unless_no_color() -> None:
    coloured = plain(run_of(), FORCE_COLOR="1")
    assert "\x1b[31mReview status: revise; 1 high and 2 low findings\x1b[0m\n" in coloured
    assert "\x1b" not in plain(run_of(), FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b" not in plain(run_of())


def test_the_plain_path_imports_no_rich() -> None:
    code = (
        "import sys, io\nfrom aethr.output.render import Display, make_renderer\n"
        "from aethr.base import records\nfrom aethr.output import report, markdown\n"
        "with make_renderer(Display(stream=True), io.StringIO(), io.StringIO(), {}) as show:\n"
        "    show(records.RunStarted('w', 't', 'mock', 1))\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('rich', 'markdown_it', 'pygments')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_closed_pipe_is_raised_to_the_caller() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w", encoding="utf-8")
    with pytest.raises(BrokenPipeError):
        show(make_renderer(Display(), stream, stream, {}), run_of())
    with pytest.raises(BrokenPipeError):
        stream.close()


# --- a person's terminal -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("TERM", "dumb"), ("PRE_COMMIT", "1"), ("GITHUB_ACTIONS", "true")]
)
def test_a_terminal_nobody_watches_gets_plain_lines(name: str, value: str) -> None:
    assert drawn(run_of(), **{name: value}) == plain(run_of()).replace("\n", "\r\n")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_step_leaves_only_its_panel(columns: int) -> None:
    rows = screen(
        drawn(run_of("# Title\n\n" + "many words " * 40 + "\n\n```python\nx = 1\n```\n"), columns=columns)
    )
    assert rows[0].startswith("╭─ review · reviewer · ")
    assert max(map(len, rows)) == columns
    assert [row for row in rows if "Title" in row and "#" not in row]
    assert [row for row in rows if row.startswith("│ many words")]
    assert not [row for row in rows if "step 1/1" in row]
    end = next(at for at, row in enumerate(rows) if row.startswith("╰─")) + 1
    assert "".join(rows[end:]) == (
        "Review status: revise; 1 high and 2 low findings1 step, 431 tokens, $0.0012, 12.3 s"
    )


@contextmanager
def live(options: Display, columns: int = 80) -> Iterator[tuple[Renderer, Terminal]]:
    terminal = Terminal(columns, 10)
    with terminal.stream() as stream:
        renderer = make_renderer(options, stream, io.StringIO(), terminal.environ)
        with renderer:
            yield renderer, terminal
    terminal.close()


def wait_for(terminal: Terminal, text: str) -> str:
    with terminal.more:
        assert terminal.more.wait_for(lambda: text.encode() in terminal.data, 5), terminal.data
        return terminal.data.decode()


def test_a_running_step_shows_its_state_and_last_text() -> None:
    with live(Display(), columns=100) as (renderer, terminal):
        renderer.show(STARTED)
        wait_for(terminal, "step 1/1 review · reviewer · openai:gpt-4o-mini · 0 s")
        renderer.show(TextDelta("".join(f"line {n} [red]x[/red]\n" for n in range(50)) + "the end"))
        rows = screen(wait_for(terminal, "the end"))
    assert "tokens" in rows[0]
    assert "~" in rows[0]
    assert rows[1:9] == [*(f"line {n} [red]x[/red]" for n in range(43, 50)), "the end"]


def test_the_state_shows_how_long_the_model_thinks() -> None:
    with live(Display(), columns=100) as (renderer, terminal):
        renderer.show(STARTED)
        wait_for(terminal, "openai:gpt-4o-mini · 0 s")
        renderer.show(Thinking())
        wait_for(terminal, "thinking, 0 s")
        renderer.show(Thinking())
        wait_for(terminal, "thinking, 1 s")
        renderer.show(TextDelta("a text"))
        assert "thinking" not in screen(wait_for(terminal, "a text"))[0]


def test_a_log_does_not_show_thinking() -> None:
    events = run_of()
    assert plain([*events[:3], Thinking(), Thinking(), *events[3:]]) == plain(events)


def test_without_streaming_only_the_state_is_shown() -> None:
    with live(Display(stream=False)) as (renderer, terminal):
        renderer.show(STARTED)
        renderer.show(TextDelta("a secret thought"))
        wait_for(terminal, "~4 tokens")
        renderer.show(Notice("agent: read a.py", "tool"))
        data = wait_for(terminal, "agent: read a.py")
    assert "a secret thought" not in data


def test_with_json_the_terminal_is_standard_error() -> None:
    terminal, record = Terminal(80, 24), io.StringIO()
    with terminal.stream() as stream:
        show(make_renderer(Display(json=True), record, stream, terminal.environ), run_of())
    assert screen(terminal.close())[0].startswith("╭─ review")
    assert record.getvalue() == ""


def test_notices_stay_above_the_live_region() -> None:
    events = run_of()
    events.insert(3, Notice("[b]read[/b] a.py", "tool"))
    assert "[b]read[/b] a.py" in screen(drawn(events))


def test_the_cursor_is_always_restored() -> None:
    terminal = Terminal(80, 24)
    with terminal.stream() as stream, pytest.raises(KeyboardInterrupt):
        interrupted(make_renderer(Display(), stream, stream, terminal.environ), STARTED, TextDelta("text"))
    data = terminal.close()
    assert data.rfind("\x1b[?25h") > data.rfind("\x1b[?25l") > -1
    assert "".join(screen(data)).strip() == ""


def test_no_color_removes_the_colours() -> None:
    assert re.search(r"\x1b\[[\d;]*3[1-6]", drawn(run_of()))
    assert not re.search(r"\x1b\[(?:\d+;)*[34]\d", drawn(run_of(), NO_COLOR="1"))


def test_quiet_on_a_terminal_is_the_last_panel() -> None:
    rows = screen(drawn(run_of(), Display(quiet=True)))
    assert rows[0].startswith("╭─ review")
    assert rows[-2].startswith("╰─")


@pytest.mark.parametrize(("mode", "said"), [("mock", "mock mode"), ("scripted", "scripted answers")])
def test_a_panel_of_a_mock_or_script_is_marked(mode: Mode, said: str) -> None:
    rows = screen(drawn(run_of(mode=mode)))
    assert rows[0].startswith(f"note: {said}")
    assert rows[1].startswith(f"╭─ {mode} · review")


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("stream", [True, False])
def test_untrusted_text_controls_no_terminal(columns: int, stream: bool) -> None:
    events: list[Event] = [
        RunStarted(NASTY, NASTY, "live", 1),
        StepStarted(NASTY, NASTY, NASTY, NASTY, 1, 1, 1),
        *(TextDelta(c) for c in NASTY),
        Notice(NASTY, "tool"),
        StepFinished(step(NASTY, id=NASTY, role=NASTY, model=NASTY)),
        RunFinished(result(step(NASTY), review=Review("none", (), None, NASTY))),
    ]
    data = drawn(events, Display(stream=stream), columns)
    assert controls(data) == ""
    assert "\u202e" not in data
    text = "".join(row.strip("│ ") for row in screen(data)).replace(" ", "")
    assert "[/red][link=x]y[/]:x:<b>tag</b>" in text
    assert max(map(len, screen(data))) <= columns


def test_a_terminal_without_utf8_gets_an_ascii_panel() -> None:
    terminal = Terminal(60, 24)
    with terminal.stream("ascii") as stream:
        show(make_renderer(Display(), stream, stream, terminal.environ), run_of("- a 你\n\n> quoted\n"))
    rows = screen(terminal.close())
    assert rows[0].startswith("+- review - reviewer - openai:gpt-4o-mini ")
    assert [row for row in rows if "* a \\u4f60" in row]


def test_a_megabyte_in_16000_pieces_is_drawn_quickly() -> None:
    piece = "some words of a long answer, and [brackets] of ``code`` as well\n"
    events = run_of(piece * 16_000, pieces=[piece] * 16_000)
    start = time.process_time()
    began = time.monotonic()
    data = drawn(events)
    assert time.process_time() - start < 3
    assert data.count("step 1/1") <= 2 + 9 * (time.monotonic() - began)


@pytest.mark.parametrize(
    "text", ["[" * 40_000, "> " * 20_000, "*a " * 20_000, "`" * 40_000, "- " * 10_000, "|a" * 20_000]
)
def test_markdown_that_parses_slowly_is_shown_quickly(text: str) -> None:
    start = time.process_time()
    assert screen(drawn(run_of(text)))[0].startswith("╭─ review")
    assert time.process_time() - start < 5


def test_a_signal_restores_a_terminal_of_any_size(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "from aethr.output.render import Display, make_renderer\n"
        "from aethr.base.records import StepStarted, TextDelta\n"
        "with make_renderer(Display(), sys.stdout, sys.stderr, os.environ) as show:\n"
        "    show(StepStarted('a', 'r', 'b', 'm' * 90, 1, 1, 1))\n"
        "    show(TextDelta('x' * 100))\n"
        "    while True: time.sleep(1)\n"
    )
    terminal = Terminal(50, 24)
    child = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=terminal.slave,
        stdout=terminal.slave,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    data = wait_for(terminal, f"{'x' * 50}\x1b[0m\r\n")
    assert max(map(len, screen(data))) == 50
    child.send_signal(2)
    assert child.wait(10) in (-2, 130, 1)
    data = terminal.close()
    assert data.rfind("\x1b[?25h") > data.rfind("\x1b[?25l") > -1


class InterruptedOnce(io.TextIOBase):
    """A terminal on which a signal arrives when this text is to be written; it is not written then."""

    def __init__(self, stream: TextIO, text: str) -> None:
        self._stream = stream
        self._text: str | None = text

    def write(self, text: str) -> int:
        if self._text is not None and self._text in text:
            self._text = None
            raise KeyboardInterrupt
        return self._stream.write(text)

    def flush(self) -> None:
        if not self._stream.closed:  # its finalizer flushes too
            self._stream.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()


@pytest.mark.parametrize("moment", ["\x1b[?25l", "step 1/1", "\x1b[?25h"], ids=["start", "draw", "stop"])
def test_a_signal_at_any_moment_of_the_region_is_a_signal_and_shows_the_cursor(moment: str) -> None:
    terminal = Terminal(100, 24)
    with terminal.stream() as stream:
        out = InterruptedOnce(stream, moment)
        renderer = make_renderer(Display(), out, out, terminal.environ)
        with pytest.raises(KeyboardInterrupt):
            take(renderer, [STARTED, StepFinished(step("An answer."))])
    data = terminal.close()
    assert data.rfind("\x1b[?25h") > data.rfind("\x1b[?25l")


# --- calls that run at once ----------------------------------------------------------------------


def part_events(part: int) -> list[Event]:
    started = STARTED._replace(part=part, parts=3)
    return [
        started,
        StepPrepared("review", "the prompt", "0" * 64, (), part=part, parts=3),
        TextDelta(f"The answer to part {part}."),
        Notice(f"a note on part {part}"),
        StepFinished(step(f"The answer to part {part}.", part=part, parts=3)),
    ]


def at_once(*order: tuple[int, int]) -> list[Event]:
    """The events ``first`` to ``last`` of three parts, by (part, how many of them)."""
    left = {part: part_events(part) for part in (1, 2, 3)}
    events: list[Event] = [RunStarted("w", "look", "live", 1)]
    for part, count in order:
        events += [Concurrent(part - 1, left[part].pop(0), 3) for _ in range(count)]
    return events


def take(renderer: Renderer, events: Sequence[Event]) -> None:
    with renderer as shown:
        for event in events:
            shown(event)


@pytest.mark.parametrize("order", [((3, 5), (2, 5), (1, 5)), ((1, 2), (2, 4), (3, 5), (1, 3), (2, 1))])
def test_a_log_shows_calls_that_run_at_once_in_the_order_of_the_plan(
    order: tuple[tuple[int, int], ...],
) -> None:
    done = RunFinished(result(step()))
    alone, mixed = io.StringIO(), io.StringIO()
    one_by_one = [RunStarted("w", "look", "live", 1), *(e for part in (1, 2, 3) for e in part_events(part))]
    take(make_renderer(Display(), alone, io.StringIO(), {}), [*one_by_one, done])
    take(make_renderer(Display(stream=True), mixed, io.StringIO(), {}), [*at_once(*order), done])
    assert mixed.getvalue() == alone.getvalue()


def test_a_run_that_is_stopped_shows_the_answers_that_have_ended() -> None:
    out = io.StringIO()
    take(make_renderer(Display(), out, io.StringIO(), {}), at_once((1, 3), (2, 5), (3, 2)))
    assert [line.partition(" of 3")[0] for line in out.getvalue().splitlines()] == [
        "== review (1/1, part 1",
        "== review (1/1, part 2",
        "a note on part 2",
        "The answer to part 2.",
        "== review (1/1, part 3",
    ]


def test_a_terminal_shows_a_line_for_each_call_that_runs_and_then_their_panels_in_order() -> None:
    terminal = Terminal(100, 24)
    with terminal.stream() as stream, make_renderer(Display(), stream, stream, terminal.environ) as shown:
        for event in at_once((1, 2), (2, 3), (3, 3)):
            shown(event)
        rows = screen(wait_for(terminal, "~6 tokens"))
        lines = [row.partition(" s ")[0].rstrip() for row in rows if row]
        assert [line.partition(" of 3")[0] for line in lines] == [f"step 1/1, part {n}" for n in (1, 2, 3)]
        assert "The answer" not in "".join(rows)
        for event in at_once((1, 5), (2, 5), (3, 5))[-2:]:  # the third ends first
            shown(event)
        assert "The answer" not in "".join(screen(terminal.data.decode()))
        for event in [*part_events(2)[-1:], *part_events(1)[-1:]]:
            shown(Concurrent(event.result.part - 1, event, 3))
    data = terminal.close()
    titles = [row for row in screen(data) if row.startswith("╭─")]
    assert [title.partition(" of 3")[0] for title in titles] == [f"╭─ review, part {n}" for n in (1, 2, 3)]
    assert data.rstrip().endswith("\x1b[?25h") or data.rfind("\x1b[?25h") > data.rfind("\x1b[?25l")


def test_the_lines_of_a_suggestion_are_marked() -> None:
    from rich.console import Console

    from aethr.output.render_rich import Inert, render_markdown

    answer = "- [high] a.py:1 — `x` is wrong\n\n      x = 1\n\n  ```suggestion\n  x = 2\n  ```\n"
    file = io.StringIO()
    console = Console(file=file, width=60, force_terminal=True, color_system="standard")
    console.print(Inert(render_markdown(answer)))
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in file.getvalue().splitlines()]
    assert "x = 1" in lines
    assert "+ x = 2" in lines
