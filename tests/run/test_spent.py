"""What a run used: counted, estimated or unknown, and over budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aethr.agents.events import Transcript, read_opencode
from aethr.base import budget
from aethr.base.records import Allowance, StepResult, Totals, Usage
from aethr.output import wording
from tests.live import (
    PASS,
    REVISE,
    TASK,
    TWO_STEPS,
    Aethr,
    aethr,
    project,
    resume_words,
    serving,
    temp,
    transport,
)
from tests.model_server import Reply, text
from tests.support import Repo

__all__ = ["aethr", "project", "temp", "transport"]

LIMITED = TWO_STEPS.replace('"openai:gpt-4o-mini"', "{model: openai:gpt-4o-mini, max_tokens: 5000}")
ENDLESS = (2000, 60_000)
"""Tokens in the answer of a server that does not honour the limit that it was sent."""


def used(*usages: Usage, **more: Any) -> list[StepResult]:
    return [
        StepResult(f"s{number}", "r", "model", "openai:m", 1, "", "", usage=usage, **more)
        for number, usage in enumerate(usages)
    ]


# --- a budget that was passed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "over"),
    [
        (
            ["--max-cost", "0.02"],
            "$0.0163 over --max-cost 0.02",
        ),  # 2,000 * 0.15 + 60,000 * 0.6 dollars a million
        (["--max-tokens", "20000"], "42,000 tokens over --max-tokens 20000"),
        (
            ["--max-cost", "0.02", "--max-tokens", "20000"],
            "$0.0163 over --max-cost 0.02 and 42,000 tokens over --max-tokens 20000",
        ),
    ],
)
@pytest.mark.usefixtures("transport")
def test_a_server_that_ignores_the_limit_ends_the_run(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], over: str
) -> None:
    project.write(".aethr.yaml", LIMITED)
    with serving(monkeypatch, Reply(("An idea.",), usage=ENDLESS), text(PASS)) as server:
        done = aethr("run", "--json", *words, TASK)
    assert (done.code, len(server.bodies)) == (5, 1)
    assert (
        "step 'think': openai:gpt-4o-mini answered 60,000 tokens where 5,000 were allowed: " + over
        in done.err
    )
    assert [step["id"] for step in done.record["steps"]] == ["think"]
    assert done.record["steps"][0]["over_limit"] == "answered 60,000 tokens where 5,000 were allowed"
    (checkpoint,) = temp.iterdir()
    assert json.loads(checkpoint.read_text().splitlines()[1])["step"]["content"] == "An idea."
    more = [{"0.02": "1", "20000": "200000"}.get(word, word) for word in resume_words(done.err)]
    with serving(monkeypatch, text(PASS)) as server:
        assert aethr(*more).code == 0
    assert len(server.bodies) == 1


@pytest.mark.parametrize("answer", [PASS, REVISE])
@pytest.mark.parametrize("gate", [[], ["--fail-on", "high"]])
def test_a_last_step_over_budget_has_a_complete_record(
    aethr: Aethr, temp: Path, monkeypatch: pytest.MonkeyPatch, answer: str, gate: list[str]
) -> None:
    words = ["--preset", "review-existing-diff", "--model", "openai:gpt-4o-mini", "--max-cost", "0.02"]
    with serving(monkeypatch, Reply((answer,), usage=ENDLESS)):
        done = aethr("run", "--json", *gate, *words, TASK)
    assert (done.code, done.record["exit_code"]) == (5, 5)
    assert "answered 60,000 tokens where 16,384 were allowed: $0.0163 over --max-cost 0.02" in done.err
    assert done.record["review"]["status"] == ("pass" if answer == PASS else "revise")
    assert done.record["totals"]["completion_tokens"] == 60_000
    more = ["1" if word == "0.02" else word for word in resume_words(done.err)]
    with serving(monkeypatch) as server:
        resumed = aethr(*more)
    assert (resumed.code, server.bodies) == (1 if gate and answer == REVISE else 0, [])
    assert list(temp.iterdir()) == []


def test_a_text_with_every_step_over_budget_is_kept_and_resumes(
    aethr: Aethr, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume from a text, or from a list of answers, has no file of its own until it writes one."""
    words = ["--preset", "review-existing-diff", "--model", "openai:gpt-4o-mini", "--max-cost", "0.02"]
    with serving(monkeypatch, Reply((PASS,), usage=ENDLESS)):
        aethr("run", *words, TASK)
    (file,) = temp.iterdir()
    lines = file.read_text(encoding="utf-8")
    file.unlink()
    usage = json.loads(lines.splitlines()[1])["step"]["usage"]
    seed = json.dumps([{"step_id": "review", "content": PASS, "usage": usage}])
    for resumed, outcome in ((lines, "pass"), (seed, "incomplete")):
        with serving(monkeypatch) as server:
            over = aethr("run", "--json", *words, "--resume-checkpoint", resumed, TASK)
            more = ["1" if word == "0.02" else word for word in resume_words(over.err)]
            done = aethr(*more, "--json")
        assert (over.code, over.record["outcome"], server.bodies) == (5, outcome, []), over.err
        assert (done.code, done.record["outcome"]) == (0, outcome), done.err
        assert list(temp.iterdir()) == []


def test_without_a_budget_an_ignored_limit_is_only_named(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(monkeypatch, Reply((PASS,), usage=ENDLESS)):
        done = aethr("run", "--preset", "review-existing-diff", "--model", "openai:gpt-4o-mini", TASK)
    assert done.code == 0
    assert "note: the server answered 60,000 tokens where 16,384 were allowed" in done.out + done.err


def test_a_prompt_over_its_estimate_is_over_budget(aethr: Aethr, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--preset", "review-existing-diff", "--model", "openai:gpt-4o-mini", "--max-tokens", "20000"]
    with serving(monkeypatch, Reply((PASS,), usage=(20_000, 5))):
        done = aethr("run", *words, TASK)
    assert done.code == 5
    assert "used more than was estimated before the call: 5 tokens over --max-tokens 20000" in done.err


def test_an_answer_over_budget_is_not_asked_again(aethr: Aethr, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--preset", "review-existing-diff", "--model", "openai:gpt-4o-mini", "--max-cost", "0.02"]
    with serving(monkeypatch, Reply(("Hm.",), usage=ENDLESS), text(PASS)) as server:
        done = aethr("run", *words, TASK)
    assert (done.code, len(server.bodies)) == (5, 1)


@pytest.mark.parametrize(
    ("allowance", "usages", "said"),
    [
        (Allowance(), [Usage()], None),
        (Allowance(cost_usd=0.3), [Usage(1, 1, 2, 0.1)] * 3, None),  # 0.30000000000000004 in all
        (Allowance(cost_usd=0.2), [Usage(1, 1, 2, 0.1)] * 3, "$0.1000 over --max-cost 0.2"),
        (
            Allowance(cost_usd=0.2),
            [Usage(1, 1, 2, None)],
            "did not report its cost, so --max-cost cannot hold",
        ),
        (Allowance(tokens=2), [Usage(1, 1, 2, None)], None),
        (Allowance(tokens=1), [Usage(1, 1, 2, None)], "1 token over --max-tokens 1"),
        (
            Allowance(tokens=9),
            [Usage(1, 1, 2), Usage()],
            "step 's1': openai:m did not report its tokens",
        ),
    ],
)
def test_a_budget_applies_to_known_figures(
    allowance: Allowance, usages: list[Usage], said: str | None
) -> None:
    error = budget.exceeded(allowance, used(*usages))
    assert error is None if said is None else said in str(error)


# --- how it is shown ---------------------------------------------------------------------------


def test_one_unknown_or_estimated_figure_marks_the_sum() -> None:
    known, silent = Usage(1, 2, 3, 0.5), Usage(4, None, None, None)
    assert Usage.sum([]) == Usage(0, 0, 0, 0)
    assert Usage.sum([known, known]) == Usage(2, 4, 6, 1.0)
    assert Usage.sum([known, silent]) == Usage(5, None, None, None)
    assert Usage.sum([known, known._replace(estimated=True)]) == Usage(2, 4, 6, 1.0, estimated=True)


@pytest.mark.parametrize(
    ("usage", "row"),
    [
        (Usage(400, 31, 431, 0.0012), "431 tokens · $0.0012 · 0.0 s"),
        (Usage(400, 31, 431, 0.0012, estimated=True), "about 431 tokens · about $0.0012 · 0.0 s"),
        (Usage(400, 31, 431, 0.0, estimated=True), "about 431 tokens · $0.00 · 0.0 s"),
        (Usage(400, 31, 431, None, estimated=True), "about 431 tokens · cost unknown · 0.0 s"),
        (Usage(), "tokens unknown · cost unknown · 0.0 s"),
        (Usage(400, None, None, 0.5), "tokens unknown · $0.50 · 0.0 s"),
    ],
)
def test_a_step_marks_estimated_and_unknown_figures(usage: Usage, row: str) -> None:
    (step,) = used(usage)
    assert wording.step_spent(step) == row


@pytest.mark.parametrize(("totals", "tokens"), [(Totals(1, 5, None), None), (Totals(1, 5, 6), 11)])
def test_totals_with_an_unknown_part_are_unknown(totals: Totals, tokens: int | None) -> None:
    assert totals.tokens == tokens


@pytest.mark.usefixtures("transport")
def test_uncounted_tokens_are_null_and_unknown(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = tmp_path / "out.md"
    words = ["--preset", "review-existing-diff", "--model", "openai:gpt-4o-mini", TASK]
    with serving(monkeypatch, Reply((PASS,), usage=None)):
        done = aethr("run", "--json", "--report", str(report), *words)
    assert done.record["totals"]["prompt_tokens"] is done.record["totals"]["completion_tokens"] is None
    assert done.record["steps"][0]["usage"] == {
        "prompt_tokens": None,
        "completion_tokens": None,
        "total_tokens": None,
        "cost_usd": None,
        "estimated": False,
        "cached_tokens": None,
        "written_tokens": None,
        "reasoning_tokens": None,
    }
    assert "| unknown | cost unknown |" in report.read_text()
    assert "tokens unknown, cost unknown" in report.read_text()
    with serving(monkeypatch, Reply((PASS,), usage=None)):
        shown = aethr("run", "-v", *words)
    assert "1 step, tokens unknown, cost unknown" in shown.out


@pytest.mark.usefixtures("transport")
def test_estimated_tokens_are_marked_wherever_they_are_shown(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = tmp_path / "out.md"
    words = [
        "--preset",
        "review-existing-diff",
        "--model",
        "openai:gpt-4o-mini",
        "--max-tokens",
        "90000",
        TASK,
    ]
    with serving(monkeypatch, Reply((PASS,), usage=None)):
        done = aethr("run", "--json", "--report", str(report), *words)
    totals = done.record["totals"]
    assert totals["estimated"] is done.record["steps"][0]["usage"]["estimated"] is True
    number = totals["prompt_tokens"] + totals["completion_tokens"]
    assert f"| about {number:,} | about \\$0.0002 |" in report.read_text()
    assert f"1 step, about {number:,} tokens, about \\$0.0002, " in report.read_text()


def test_a_mock_run_has_a_known_usage_of_zero(aethr: Aethr) -> None:
    done = aethr("run", "--preset", "review-existing-diff", "--json", TASK)
    assert done.record["steps"][0]["usage"] == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "cost_usd": 0.0,
        "estimated": False,
        "cached_tokens": None,
        "written_tokens": None,
        "reasoning_tokens": None,
    }


# --- agents ------------------------------------------------------------------------------------


def finish(**part: Any) -> dict[str, Any]:
    return {"type": "step_finish", "part": {"reason": "stop", **part}}


TOKENS = {"input": 5, "output": 2, "reasoning": 1, "cache": {"read": 3, "write": 0}}


@pytest.mark.parametrize(
    ("parts", "usage"),
    [
        ([], Usage()),
        ([{"tokens": TOKENS, "cost": 0.5}], Usage(8, 3, 11, 0.5)),
        ([{"tokens": TOKENS, "cost": 0}], Usage(8, 3, 11, None)),  # it reports 0 if it does not know a price
        ([{"tokens": {"input": 5, "output": 2}, "cost": 0.5}], Usage(5, 2, 7, 0.5)),
        ([{"cost": 0.5}], Usage(None, None, None, 0.5)),
        ([{"tokens": {"input": "5", "output": -2}, "cost": 0.5}], Usage(None, None, None, 0.5)),
        ([{"tokens": {"input": 0, "output": 0}, "cost": 0}], Usage(0, 0, 0, 0.0)),
        ([{"tokens": TOKENS, "cost": 0.5}, {"cost": 0.25}], Usage(None, None, None, 0.75)),
    ],
)
def test_figures_that_an_agent_does_not_count_are_unknown(parts: list[dict[str, Any]], usage: Usage) -> None:
    transcript = Transcript(Path())
    for part in parts:
        list(read_opencode(finish(**part), transcript))
    assert transcript.usage == usage


# --- parts of a count, and calls that failed -----------------------------------------------------


@pytest.mark.usefixtures("transport")
def test_cached_written_and_thinking_tokens_are_wherever_tokens_are(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = tmp_path / "out.md"
    words = ["--preset", "review-existing-diff", "--model", "openai:gpt-6-sol", TASK]
    reply = Reply((PASS,), usage=(2000, 900), cached=1500, written=200, thought=700)
    with serving(monkeypatch, reply):
        done = aethr("run", "--json", "--report", str(report), *words)
    parts = {"cached_tokens": 1500, "written_tokens": 200, "reasoning_tokens": 700}
    for counted in (done.record["totals"], done.record["steps"][0]["usage"]):
        assert {name: counted[name] for name in parts} == parts
    # 300 tokens at 2 dollars a million, 1,500 read at a tenth, 200 written at 1.25 times, 900 at 10 dollars
    assert done.record["totals"]["cost_usd"] == pytest.approx((300 * 2 + 1500 * 0.2 + 200 * 2.5 + 9000) / 1e6)
    said = "2,900{} (1,500 cached, 200 written to the cache, 700 thinking)"
    assert f"| {said.format('')} |" in report.read_text()
    assert f"1 step, {said.format(' tokens')}, \\$0.01, " in report.read_text()
    with serving(monkeypatch, reply):
        shown = aethr("run", "-v", *words)
    assert shown.out.count(said.format(" tokens")) == 2


def test_what_was_not_counted_is_null_and_not_shown(aethr: Aethr, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero is a count: the cache was missed."""
    usage = {"prompt_tokens": 50, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}}
    body = {"choices": [{"message": {"content": PASS}, "finish_reason": "stop"}], "usage": usage}
    with serving(monkeypatch, Reply(body=json.dumps(body))):
        done = aethr("run", "--json", "--preset", "review-existing-diff", "--model", "openai:gpt-4o", TASK)
    totals = done.record["totals"]
    assert (totals["cached_tokens"], totals["written_tokens"], totals["reasoning_tokens"]) == (0, None, None)
    assert "1 step, 55 tokens, " in done.err


ALL_THOUGHT = Reply((), "length", usage=(3000, 12_000), thought=12_000)


@pytest.mark.usefixtures("transport")
def test_a_failed_call_is_in_record_checkpoint_and_the_resumed_run(
    aethr: Aethr, temp: Path, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", LIMITED)
    with serving(monkeypatch, text("An idea."), ALL_THOUGHT):
        failed = aethr("run", "--json", TASK)
    assert failed.code == 3
    assert failed.record["totals"]["reasoning_tokens"] == 12_000
    (file,) = temp.iterdir()
    [used] = json.loads(file.read_text().splitlines()[0])["failed"]
    assert (used["prompt_tokens"], used["completion_tokens"], used["reasoning_tokens"]) == (
        3000,
        12_000,
        12_000,
    )
    with serving(monkeypatch, ALL_THOUGHT):
        again = aethr(*resume_words(failed.err), "--json")
    assert len(json.loads(file.read_text().splitlines()[0])["failed"]) == 2
    with serving(monkeypatch, text(PASS)):
        done = aethr(*resume_words(again.err), "--json")
    assert (done.code, done.record["totals"]["calls"]) == (0, 4)
    assert done.record["totals"]["prompt_tokens"] == 2 * 3000 + 10 + 10
    assert done.record["totals"]["reasoning_tokens"] == 24_000


def test_a_failed_call_reduces_the_budget_of_the_resumed_run(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", LIMITED)
    with serving(monkeypatch, ALL_THOUGHT):
        failed = aethr("run", "--max-tokens", "16000", TASK)
    assert failed.code == 3
    with serving(monkeypatch) as server:
        stopped = aethr(*resume_words(failed.err))
    assert (stopped.code, server.bodies) == (5, [])
    assert "1,000 are left" in stopped.err
    lower = ["9000" if word == "16000" else word for word in resume_words(failed.err)]
    with serving(monkeypatch) as server:
        over = aethr(*lower)
    assert (over.code, server.bodies) == (5, [])
    assert (
        "a call of the run that this one resumes used more than was estimated before the call: " in over.err
    )
    assert "6,000 tokens over --max-tokens 9000" in over.err


def test_a_failed_call_without_a_cost_makes_a_budget_in_dollars_impossible(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", LIMITED)
    with serving(monkeypatch, Reply((), "length", usage=(3000, 0))):
        failed = aethr("run", TASK)
    with serving(monkeypatch) as server:
        stopped = aethr(*resume_words(failed.err), "--max-cost", "1")
    assert (stopped.code, server.bodies) == (5, [])
    assert "a call of the run that this one resumes did not report its cost" in stopped.err


@pytest.mark.parametrize("failed", ["x", [1], [{}], [{"prompt_tokens": -1}]])
def test_a_forged_count_of_failed_calls_is_refused(
    aethr: Aethr, temp: Path, project: Repo, monkeypatch: pytest.MonkeyPatch, failed: object
) -> None:
    project.write(".aethr.yaml", LIMITED)
    with serving(monkeypatch, ALL_THOUGHT):
        stopped = aethr("run", TASK)
    (file,) = temp.iterdir()
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(first), "failed": failed}), *rest]) + "\n")
    refused = aethr(*resume_words(stopped.err))
    assert refused.code == 2
    assert "failed" in refused.err
