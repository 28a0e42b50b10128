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
