"""The outcome of a run: computed once, and everything that shows, posts or exits says the same."""

from __future__ import annotations

import html
import io
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aethr import review
from aethr.base.errors import ExitCode
from aethr.base.options import RunOptions
from aethr.base.records import (
    FailOn,
    Finding,
    Gate,
    LoopOutcome,
    LoopResult,
    Mode,
    Quote,
    Receipt,
    RunFinished,
    RunOutcome,
    RunResult,
    Scope,
    StepResult,
    Totals,
)  # fmt: skip
from aethr.github import comment, delivery, upsert
from aethr.github.comment import Blobs, Page
from aethr.github.delivery import Delivered
from aethr.github.upsert import Marker
from aethr.hook import HookOptions, report_result
from aethr.output import report
from aethr.output.render import Display, make_renderer
from tests.live import PASS, REVISE, Aethr, aethr, project, serving, temp
from tests.model_server import Reply
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]  # fixtures

HEAD = "a" * 40
BLOBS = Blobs("https://github.com", "octo/shop", HEAD)
REVIEWING = frozenset({"review", "audit"})
LINES: Mapping[RunOutcome, str] = {
    "nothing-to-review": "Nothing to review: ",
    "not-reviewed": "NOT REVIEWED: ",
    "incomplete": "INCOMPLETE",
    "revise": "Review status: revise",
    "pass": "Review status: pass",
}


def step(content: str, name: str = "review", role: str = "reviewer", **more: Any) -> StepResult:
    return StepResult(name, role, "model", "openai:m", 1, "0" * 64, content)._replace(**more)


PROSE = "That is all."  # the answers as they are recorded, without a status line to be found in a report
WHOLE = Receipt("git_diff", "app.py", 10, changed_lines=1, sent_lines=1)
LOST = Receipt("git_diff", "z.py", 0, 9, note="over budget", complete=False, changed_lines=1)
FOUND = Finding("high", "app.py", 2, "the total is off by one", by=("review",))
CODE = Quote("    return sum(prices)  # a plain sum", "git_diff", "app.py", 2, 2)
CHECKED = step(
    "- 1: dropped — it is a plain sum\n  ```\n  return sum(prices)  # a plain sum\n  ```\n\nChecked: all",
    "verify", "sceptic", shown=(FOUND,), quotes=(CODE._replace(text=CODE.text.strip()),),
)  # fmt: skip
CUT: Mapping[str, Any] = {"truncated": True, "finish_reason": "length"}


class Case(NamedTuple):
    outcome: RunOutcome
    answers: tuple[StepResult, ...]
    mode: Mode = "live"


CASES = {
    "a pass": Case("pass", (step(PASS, context=(WHOLE,)),)),
    "a finding": Case("revise", (step(REVISE, context=(WHOLE,)),)),
    "a disputed finding": Case("revise", (step(REVISE, context=(WHOLE,)), CHECKED)),
    "a dropped finding": Case(
        "pass",
        (
            step(REVISE.replace("high", "medium"), context=(WHOLE,)),
            CHECKED._replace(shown=(FOUND._replace(severity="medium"),)),
        ),
    ),
    "a revise without findings": Case("revise", (step("Review status: revise"),)),
    "a pass on a part": Case("incomplete", (step(PASS, context=(WHOLE, LOST)),)),
    "a finding in a part": Case("incomplete", (step(REVISE, context=(WHOLE, LOST)),)),
    "one of two without a verdict": Case("incomplete", (step(PASS), step("Hm.", "audit"))),
    "a prompt that the server cut": Case("incomplete", (step(PASS, cut_prompt="9 of 99 tokens"),)),
    "a cut review": Case("not-reviewed", (step("It", **CUT),)),
    "a cut review by a critic": Case("not-reviewed", (step("It", role="critic", **CUT),)),
    "no verdict": Case("not-reviewed", (step("Hm."),)),
    "a mock": Case("not-reviewed", (step(PASS),), "mock"),
    "a mock of a critic": Case("not-reviewed", (step(PASS, role="critic"),), "mock"),
    "a script that passes": Case("not-reviewed", (step(PASS),), "scripted"),
    "a script that finds": Case("not-reviewed", (step(REVISE),), "scripted"),
    "no change": Case("nothing-to-review", (step("", skipped="nothing changed"),)),
    "no change for a mock": Case("nothing-to-review", (step("", skipped="nothing changed"),), "mock"),
    "no change for a script": Case("nothing-to-review", (step("", skipped="nothing changed"),), "scripted"),
}
LEVELS: tuple[FailOn, ...] = ("never", "revise", "low", "medium", "high")
GATES = [Gate(level, required) for level in LEVELS for required in (False, True)]
NO_GATE = Gate()
ENDS: tuple[LoopOutcome | None, ...] = (None, "satisfied", "exhausted", "stalled")


def result(case: Case, gate: Gate = NO_GATE, end: LoopOutcome | None = None) -> RunResult:
    verdict = review.judge(case.answers, REVIEWING, case.mode)
    loops = (LoopResult("review", "review", 2, end),) if end else ()
    recorded = review.as_recorded(verdict, case.mode)
    called = tuple(each._replace(content=PROSE) for each in case.answers if each.skipped is None)
    return RunResult(
        "t", "w", case.mode, Scope(), called, loops, recorded.review, Totals(),
        review.exit_code(verdict, loops, gate, case.mode), outcome=recorded.outcome,
    )  # fmt: skip


def screen(made: RunResult, *, quiet: bool = False, **environ: str) -> str:
    out = io.StringIO()
    if environ:
        out.isatty = lambda: True  # type: ignore[method-assign]  # a terminal's file, not one of Aethr's names
    with make_renderer(Display(quiet=quiet), out, io.StringIO(), environ) as show:
        show(RunFinished(made))
    return out.getvalue()


def page(made: RunResult) -> Page:
    return Page(BLOBS, "https://github.com/octo/shop/actions/runs/1", made.exit_code, made)


def hook_lines(made: RunResult) -> str:
    options = HookOptions(RunOptions(fail_on="never"), lenient=False, bypass="git commit --no-verify")
    return "\n".join(report_result(made, options).lines)


def notifications(made: RunResult) -> str:
    (invocation,) = json.loads(report.FORMATS[".sarif"].render(made))["runs"][0]["invocations"]
    return "\n".join(each["message"]["text"] for each in invocation["toolExecutionNotifications"])


HEADINGS: Mapping[RunOutcome, str] = {word: f"### Aethr: {word.replace('-', ' ')}" for word in LINES}
"""What the comment and the summary say instead: the status stands there once."""
READERS: Mapping[str, Callable[[RunResult], str]] = {
    "plain": screen,
    "rich": lambda made: screen(made, TERM="xterm-256color", COLUMNS="200", NO_COLOR="1"),
    ".txt": report.FORMATS[".txt"].render,
    ".md": report.FORMATS[".md"].render,
    ".sarif": notifications,
    ".rdjson": lambda made: "\n".join(json.loads(report.FORMATS[".rdjson"].render(made))["notes"]),
    "comment": lambda made: comment.comment(page(made), Marker("default", 1, 1, HEAD), None),
    "summary": lambda made: comment.summary(page(made)),
    "hook": hook_lines,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", CASES)
def test_every_output_shows_the_same_outcome(name: str, reader: str) -> None:
    case = CASES[name]
    for gate, end in itertools.product(GATES, ENDS):
        text = READERS[reader](result(case, gate, end))
        said = HEADINGS if reader in ("comment", "summary") else LINES
        assert {word for word, line in said.items() if line in text} == {case.outcome}, (gate, end, text)


@pytest.mark.parametrize("name", CASES)
def test_every_record_holds_the_same_outcome(name: str) -> None:
    outcome, _, _ = case = CASES[name]
    made = result(case)
    (invocation,) = json.loads(report.FORMATS[".sarif"].render(made))["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is (outcome in ("nothing-to-review", "revise", "pass"))
    entries = json.loads(report.FORMATS[".codequality"].render(made))
    assert any(each["check_name"] == "aethr/outcome" for each in entries) is (
        outcome not in ("nothing-to-review", "revise", "pass")
    )
    assert report.record(made)["outcome"] == outcome
    assert delivery.outputs(page(made), Delivered(made.exit_code))["status"] == outcome
    said = comment.comment(page(made), Marker("default", 1, 1, HEAD), None)
    assert f"### Aethr: {outcome.replace('-', ' ')}" in said
    of = upsert.read(said)
    assert of is not None
    assert of.reviewed == (None if outcome == "not-reviewed" else HEAD)


@pytest.mark.parametrize("name", CASES)
def test_quiet_prints_only_what_may_close_a_gate(name: str) -> None:
    case = CASES[name]
    loud = case.outcome in ("not-reviewed", "incomplete", "revise")
    for options in ({}, {"TERM": "xterm-256color", "COLUMNS": "200", "NO_COLOR": "1"}):
        assert (LINES[case.outcome] in screen(result(case), quiet=True, **options)) is loud


@pytest.mark.parametrize("name", CASES)
def test_the_exit_code_follows_outcome_findings_and_loops(name: str) -> None:
    case = CASES[name]
    for gate, end in itertools.product(GATES, ENDS):
        code = result(case, gate, end).exit_code
        found = REVISE in [each.content for each in case.answers]
        unexplained = case.answers[0].content == "Review status: revise"
        closes = gate.fail_on != "never" and (found or unexplained or end in ("exhausted", "stalled"))
        if not gate.needs_review:
            assert code == ExitCode.OK
        elif closes and case.mode != "mock":
            assert code == ExitCode.GATE
        elif case.mode == "scripted" and case.outcome != "nothing-to-review":
            assert code == ExitCode.OK, "a script exits as a real run would"
        else:
            reliable = case.outcome in ("nothing-to-review", "revise", "pass")
            assert code == (ExitCode.OK if reliable else ExitCode.NOT_REVIEWED)


def test_a_cut_review_is_not_reviewed_in_every_output(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        ".aethr.yaml",
        """\
workflow: critique
roles: {critic: "Criticise."}
models: {critic: "openai:gpt-4o-mini"}
steps:
  - id: critique
    role: critic
    context: [git_diff]
    repeat: {back_to: critique, until_review_pass: true, max_iterations: 1}
""",
    )
    cut = Reply(chunks=("It",), finish_reason="length")
    reports = [temp / f"out{suffix}" for suffix in report.FORMATS]
    pages = [path for path in reports if path.suffix != ".json"]  # the record has it in fields
    words = [word for path in reports for word in ("--report", str(path))]
    with serving(monkeypatch, cut, cut, cut):
        loud, quiet = aethr("run", *words, "look"), aethr("run", "-q", "look")
        gated = aethr("run", "--fail-on", "high", "look")
    line = "NOT REVIEWED: the answer of step 'critique' was cut (length)"
    assert (loud.code, quiet.code, gated.code) == (0, 0, 1), "the loop is not satisfied"
    for text in (loud.out, quiet.out, gated.out, *(html.unescape(path.read_text()) for path in pages)):
        assert line in text
    assert json.loads((temp / "out.json").read_text())["outcome"] == "not-reviewed"
