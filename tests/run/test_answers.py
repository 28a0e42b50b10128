"""Answers through whole runs: what they cover, when they no longer do, and what does not rest on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.live import PASS, TASK, Aethr, Done, aethr, project, resume_words, serving, temp
from tests.model_server import error
from tests.output.test_report import NASTY
from tests.support import Repo

__all__ = ("aethr", "project", "temp")

WORKFLOW = """\
workflow: one
roles: {reviewer: "Review."}
models: {reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""
BUG = "- [medium] app.py:2 — the total is off by one"
REVISE = f"{BUG}\n\nReview status: revise"
WHY = "the caller subtracts it"
GATE = ("--fail-on", "medium")


@pytest.fixture
def shop(project: Repo) -> Repo:
    """A repository whose change of ``app.py`` is staged; edits of the workflow file are not."""
    project.write(".aethr.yaml", WORKFLOW)
    project.git("add", "-A")
    return project


def review(aethr: Aethr, patch: pytest.MonkeyPatch, answer: str = REVISE, *words: str) -> Done:
    with serving(patch, answer):
        return aethr("run", "--diff", "staged", "--report", "r.json", *GATE, *words, TASK)


def answered(aethr: Aethr, patch: pytest.MonkeyPatch, reason: str = WHY) -> str:
    """The id of the one finding of a review, which is answered now."""
    assert review(aethr, patch).code == 1
    [found] = json.loads(Path("r.json").read_text(encoding="utf-8"))["review"]["findings"]
    done = aethr("answer", found["id"], "--record", "r.json", "--reason", reason)
    assert (done.code, done.err) == (0, "")
    assert found["id"] in done.out
    return str(found["id"])


def test_an_answered_finding_opens_the_gate_and_is_listed_with_its_reason(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = answered(aethr, monkeypatch)
    done = review(
        aethr, monkeypatch, REVISE.replace("the total is off by one", "The total is one too high: off by one")
    )
    assert done.code == 0, done.out
    assert f"({place}); answered: {WHY}" in done.out
    assert "Review status: pass; answered: 1 medium" in done.out
    record = json.loads(Path("r.json").read_text(encoding="utf-8"))
    [found] = record["review"]["findings"]
    assert (record["outcome"], found["state"], found["answer"]) == ("pass", "answered", WHY)


def test_it_comes_back_when_it_is_worse_another_one_or_its_line_changes(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(aethr, monkeypatch)
    assert review(aethr, monkeypatch, REVISE.replace("medium", "high")).code == 1
    assert (
        review(aethr, monkeypatch, REVISE.replace("the total is off by one", "prices may be None")).code == 1
    )
    shop.write("app.py", "# a line above\ndef total(prices):\n    return sum(prices) + 1\n")
    shop.git("add", "app.py")
    assert review(aethr, monkeypatch, REVISE.replace(":2", ":3")).code == 0
    shop.write("app.py", "# a line above\ndef total(prices):\n    return sum(prices) + 2\n")
    shop.git("add", "app.py")
    assert review(aethr, monkeypatch, REVISE.replace(":2", ":3")).code == 1
    done = review(aethr, monkeypatch, PASS)
    assert "covers no finding of this run" in done.out


def test_it_follows_a_renamed_file_but_not_a_copy(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(aethr, monkeypatch)
    shop.git("commit", "-q", "-m", "a bug")
    shop.write("copy.py", "def total(prices):\n    return sum(prices) + 1\n")
    shop.git("add", "copy.py")
    assert review(aethr, monkeypatch, REVISE.replace("app.py", "copy.py")).code == 1
    shop.git("rm", "-q", "-f", "copy.py")
    shop.git("mv", "app.py", "till.py")
    shop.git("commit", "-q", "-m", "rename")
    shop.write("till.py", "def total(prices):\n    return sum(prices) + 1\n\n# more\n")
    shop.git("add", "till.py")
    assert review(aethr, monkeypatch, REVISE.replace("app.py", "till.py")).code == 0
    shop.write("app.py", "x = 1\n")
    assert review(aethr, monkeypatch, REVISE.replace("app.py", "till.py")).code == 1


def test_no_prompt_contract_or_record_of_a_step_depends_on_answers(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = aethr("run", "--diff", "staged", "--show-prompt", TASK).out
    answered(aethr, monkeypatch)
    assert aethr("run", "--diff", "staged", "--show-prompt", TASK).out == before


def test_a_checkpoint_resumes_with_other_answers(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of a live run with a gate, whose seal has to hold."""
    shop.write(
        ".aethr.yaml",
        WORKFLOW.replace('"Review."}', '"Review.", writer: "Sum up."}').replace(
            'mini"}', 'mini", writer: "openai:gpt-4o-mini"}'
        )
        + "  - {id: sum, role: writer}\n",
    )
    with serving(monkeypatch, REVISE, error(400)):
        failed = aethr("run", "--diff", "staged", *GATE, TASK)
    words = resume_words(failed.err)
    [file] = [Path(word[1:]) for word in words if word.startswith("@")]
    kept = file.read_text(encoding="utf-8")
    lines = kept.splitlines()
    [place] = [each["id"] for line in lines for each in json.loads(line).get("step", {}).get("places", ())]
    aethr("answer", place, "--severity", "medium", "--message", "the total is off by one", "--reason", WHY)
    with serving(monkeypatch, "In short.") as server:
        done = aethr(*words, "--json")
    assert (done.code, len(server.bodies)) == (0, 1), done.err
    assert [each["answer"] for each in done.record["review"]["findings"]] == [WHY]
    aethr("answer", "--remove", place)
    file.write_text(kept, encoding="utf-8")
    with serving(monkeypatch, "In short."):
        done = aethr(*words, "--json")
    assert done.code == 1, done.err


LOOP = """\
workflow: loop
roles: {thinker: "Think.", reviewer: "Review.", writer: "Sum up."}
models: {thinker: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini", writer: "openai:gpt-4o-mini"}
steps:
  - {id: think, role: thinker}
  - {id: review, role: reviewer, context: [git_diff],
     repeat: {back_to: think, until_review_pass: true, max_iterations: 3}}
  - {id: sum, role: writer}
"""


def test_a_loop_is_satisfied_by_answers_and_a_checkpoint_keeps_its_passes(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = answered(aethr, monkeypatch)
    answers = (shop.root / ".aethr.yaml").read_text(encoding="utf-8").removeprefix(WORKFLOW)

    def run(*replies: object, words: tuple[str, ...] = ()) -> tuple[Done, int]:
        with serving(monkeypatch, *replies) as server:  # type: ignore[arg-type]
            done = aethr(*(words or ("run", "--diff", "staged", *GATE, TASK)), "--json")
        return done, len(server.bodies)

    shop.write(".aethr.yaml", LOOP + answers)
    done, calls = run("Hm.", REVISE, "In short.")
    assert (done.code, calls) == (0, 3), done.err
    assert done.record["loops"][0]["outcome"] == "satisfied"

    # Without the answer there are two passes; it comes afterwards, and both are kept.
    shop.write(".aethr.yaml", LOOP)
    other = REVISE.replace("the total is off by one", "prices may be None")
    stopped, _ = run("Hm.", REVISE, "Hm.", other, "Hm.", REVISE, error(400))
    words = tuple(resume_words(stopped.err))
    shop.write(".aethr.yaml", LOOP + answers)
    done, calls = run("In short.", words=words)
    assert (done.code, calls) == (0, 1), done.err
    assert [each["iteration"] for each in done.record["steps"] if each["id"] == "review"] == [1, 2, 3]

    # With the answer the loop ends after one pass; it is taken away, and the step after the loop is kept.
    shop.write(".aethr.yaml", LOOP + "  - {id: last, role: writer}\n" + answers)
    stopped, _ = run("Hm.", REVISE, "In short.", error(400))
    words = tuple(resume_words(stopped.err))
    aethr("answer", "--remove", place)
    done, calls = run("The end.", words=words)
    assert (done.code, calls) == (1, 1), done.err
    assert done.record["loops"][0]["outcome"] == "exhausted"


def test_shards_are_merged_with_the_answers_of_now(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(monkeypatch, REVISE):
        aethr("run", "--diff", "staged", "--shard", "1/1", "--report", "s.json", TASK)
    assert aethr("merge", "s.json", *GATE).code == 1
    place = json.loads(Path("s.json").read_text(encoding="utf-8"))["review"]["findings"][0]["id"]
    assert aethr("answer", place, "--record", "s.json", "--reason", WHY).code == 0
    done = aethr("merge", "s.json", *GATE)
    assert done.code == 0, done.out
    assert f"answered: {WHY}" in done.out


HOSTILE = "x <!-- @team ![i](http://x/y) </summary> ::error::x | `a` %0A [z](http://q) \\"


def test_a_hostile_reason_is_only_text_in_every_output(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = aethr("answer", "f2a91c40b7de", "--severity", "low", "--message", "m", "--reason", NASTY)
    assert refused.code == 2
    assert refused.err.isascii()
    place = answered(aethr, monkeypatch, HOSTILE)
    reports = [word for name in ("r.md", "r.txt", "r.sarif") for word in ("--report", name)]
    done = review(aethr, monkeypatch, REVISE, *reports)
    assert done.code == 0
    page = Path("r.md").read_text(encoding="utf-8")
    assert "<!--" not in page
    assert "@team" not in page
    assert "![i](" not in page
    assert page.count("</summary>") == page.count("<summary>")
    [result] = json.loads(Path("r.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]
    assert result["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": f"answered: {HOSTILE}"}
    ]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert not any(line.startswith("::") for line in review(aethr, monkeypatch, REVISE).out.splitlines())
    assert HOSTILE in aethr("answer", "--list").out
    assert aethr("answer", "--remove", place).code == 0
    assert (shop.root / ".aethr.yaml").read_text(encoding="utf-8") == WORKFLOW
