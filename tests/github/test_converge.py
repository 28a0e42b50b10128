"""Several pushes to one pull request: what is asked again, what the comment says, and which state counts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aethr.github import comment
from tests.github.conftest import Act, Step
from tests.github.github_server import BODY_LIMIT, GitHubServer, Pull
from tests.github.support import PullRequest, merge, open_pull_request
from tests.live import KEY
from tests.model_server import ModelServer, Reply, error, text

pytestmark = pytest.mark.slow

WORKFLOW = """\
workflow: parts
roles: {{reviewer: "Review."}}
models: {{reviewer: "openai:gpt-4o-mini"}}
limits: {{context_chars: 1500}}
steps:
  - {{id: review, role: reviewer, context: [{context}]}}
"""
FILES = 10
GATE = {"AETHR_RUN_FAIL_ON": "high"}


def review_marks(body: dict[str, Any]) -> str:
    """The answer of a reviewer that finds every line with ``BUG`` and a word."""
    prompt, path, found = body["messages"][0]["content"], "", []
    for line in prompt.splitlines():
        if named := re.match(r"\+\+\+ b/(\S+)", line):
            path = named[1]
        elif mark := re.match(r" *(\d+) \+.*# BUG (\w+)", line):
            found.append(f"- [high] {path}:{mark[1]} — {mark[2]} is wrong here, in every call of it")
    return "\n".join([*found, "", f"Review status: {'revise' if found else 'pass'}"])


def content(number: int, *bugs: str) -> str:
    """A file that is more than half of a part; its bugs are in functions of their own."""
    lines = [f"value_{number}_{at} = {number} * {at}" for at in range(40)]
    return "\n".join([*lines, *(f"def {bug}():\n    return {number}  # BUG {bug}" for bug in bugs), ""])


@pytest.fixture
def large(tmp_path: Path) -> PullRequest:
    """A pull request with a change of ten parts, in which three bugs are to be found."""
    return open_large(tmp_path, "git_diff")


def open_large(folder: Path, context: str) -> PullRequest:
    request = open_pull_request(folder, {".aethr.yaml": WORKFLOW.format(context=context)})
    request.origin.git("checkout", "-q", "feature")
    for number in range(FILES):
        request.origin.write(f"f{number}.py", content(number))
    request.origin.write("f1.py", content(1, "alpha"))
    request.origin.write("f5.py", content(5, "beta"))
    request.push(content(11, "gamma"), "added.py")
    return request


def heading(github: GitHubServer) -> str:
    return next(line for line in github.bodies[0].splitlines() if line.startswith("### Aethr:"))


def findings(step: Step) -> dict[str, str | None]:
    """The states of the findings in the record, by the word that each is about."""
    record = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))
    return {each["message"].split()[0]: each["state"] for each in record["review"]["findings"]}


def steps(step: Step) -> list[dict[str, Any]]:
    record = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = record["steps"]
    return found


def test_three_pushes_with_a_rename_a_rebase_a_force_push_and_a_moved_base(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    origin = large.origin
    with ModelServer(review_marks) as models:
        first = act(large, models, variables=GATE)
        assert first.code == 1, first.log
        asked = len(models.bodies)
        assert asked >= FILES
        assert findings(first) == {"alpha": None, "beta": None, "gamma": None}
        assert " new" not in heading(github)

        # Main moves on, and the branch is rebased onto it: a file that it added has another name now.
        origin.git("checkout", "-q", "main")
        origin.write("main.py", "y = 2\n")
        large.base = origin.commit("main moves on again")
        origin.git("checkout", "-q", "feature")
        origin.git("mv", "added.py", "renamed.py")
        origin.write("f5.py", content(5))
        origin.write("f7.py", content(7, "delta"))
        origin.commit("fix one, add one")
        origin.git("rebase", "-q", "main")
        large.head = origin.git("rev-parse", "HEAD").strip()
        merge(origin)
        second = act(large, models, variables=GATE, run_id=501)
        assert second.code == 1, second.log
        assert findings(second) == {"alpha": "open", "delta": "new", "gamma": "open"}
        assert "(1 new, 2 still there) · 1 resolved" in heading(github)
        resolved_by = large.head[:12]
        assert re.search(rf"beta is wrong .* \(\w+\); resolved by {resolved_by}", github.bodies[0])
        again, asked = len(models.bodies) - asked, len(models.bodies)
        assert 3 <= again <= 6, "the changed files, and neighbours where a part is cut elsewhere"
        reused = [each for each in steps(second) if each["reused"]]
        assert len(reused) == len(steps(second)) - again
        assert all(each["calls"] == 0 and each["usage"]["cost_usd"] == 0 for each in reused)
        assert "alpha" in "".join(each["content"] for each in reused), "the gate is closed by this one"

        origin.git("checkout", "-q", "feature")
        origin.write("f1.py", content(1))
        origin.write("f7.py", content(7))
        origin.git("commit", "-q", "-a", "--amend", "-m", "one commit instead")
        large.head = origin.git("rev-parse", "HEAD").strip()
        merge(origin)
        third = act(large, models, variables=GATE, run_id=502)
        assert findings(third) == {"gamma": "open"}
        assert "(1 still there) · 2 resolved" in heading(github)
        assert len(models.bodies) - asked == 2
        assert f"resolved by {resolved_by}" in github.bodies[0], "those of earlier pushes stay listed"
        assert github.bodies[0].count("resolved by") == 3

        asked, said = len(models.bodies), heading(github)
        repeated = act(large, models, variables=GATE, run_id=503)
        assert len(models.bodies) == asked, "the same bytes are not asked again"
        assert (repeated.code, heading(github)) == (third.code, said) == (1, said)
    [_] = github.comments


PANEL = """\
workflow: panel
roles: {logic: "Look for wrong results.", security: "Look for holes."}
models: {logic: "openai:gpt-4o-mini", security: "openai:gpt-4o-mini"}
steps:
  - {id: logic, role: logic, review: true, context: [git_diff], history_visibility: none}
  - {id: security, role: security, review: true, context: [git_diff], history_visibility: none}
"""
SAID = "`total` of an empty list of prices is 1, which is a wrong sum"


def test_a_merged_finding_is_still_there_when_the_lines_of_another_reviewer_are_shown(
    act: Act, github: GitHubServer, tmp_path: Path
) -> None:
    request = open_pull_request(tmp_path, {".aethr.yaml": PANEL})
    github.diff, github.permissions["bob"] = {"app.py": [range(1, 3)]}, "write"
    by_push = [
        (f"- [high] app.py:2 — {SAID}", f"- [medium] app.py:1-2 — {SAID}"),
        (f"- [medium] app.py:2 — {SAID}", f"- [high] app.py:1-2 — {SAID}"),
        ("Fine.", f"- [high] app.py:1-2 — {SAID}"),
    ]
    shown: list[str] = []
    for number, (logic, security) in enumerate(by_push):
        own = {"logic": logic, "holes": security}
        if number:
            request.push(f"x = {number}\n", "more.py")

        def answer(body: dict[str, Any], own: dict[str, str] = own) -> str:
            prompt = body["messages"][0]["content"]
            said = own["logic" if "Look for wrong results." in prompt else "holes"]
            return f"{said}\n\nReview status: {'revise' if said.startswith('-') else 'pass'}"

        with ModelServer(answer) as models:
            step = act(
                request, models, run_id=500 + number, variables={**GATE, "AETHR_ACTION_COMMENT": "inline"}
            )
        record = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))
        [found] = record["review"]["findings"]
        assert (step.code, found["state"], record["review"]["resolved"]) == (
            1,
            "open" if number else None,
            [],
        )
        shown.append(found["id"])
    assert shown[0] != shown[1] == shown[2]
    assert len(github.beside) == 1, "whichever lines are shown, it is posted once"
    github.add_comment(f"/aethr answer {shown[0]} there are no empty lists", "bob")
    step = act(request, models, run_id=510, variables=GATE)
    assert step.code == 0, "an answer by the first id covers what only the other reviewer still says"


def test_a_review_on_demand_and_one_of_a_push_continue_each_other(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    github.permissions["ann"] = "write"
    base = large.checkout("base", 1, large.base).root
    with ModelServer(review_marks) as models:
        assert act(large, models, variables=GATE).code == 1
        asked = len(models.bodies)
        github.pulls[7] = Pull("main", large.push(content(5), "f5.py"))
        about = {"name": "issue_comment", "event": large.comment("/aethr review"), "workspace": base}
        ordered = act(large, models, variables=GATE, run_id=501, **about)
        assert ordered.code == 1, ordered.log
        assert findings(ordered) == {"alpha": "open", "gamma": "open"}
        assert "2 high findings (2 still there) · 1 resolved" in heading(github)
        assert f"; resolved by {large.head[:12]}" in github.bodies[0]
        assert 1 <= len(models.bodies) - asked <= 3
        assert [each["description"] for each in github.statuses[1:]] == ["revise: 2 high"]
        asked = len(models.bodies)
        pushed = act(large, models, variables=GATE, run_id=502)
        assert len(models.bodies) == asked, "the command has asked all of it"
        assert findings(pushed) == {"alpha": "open", "gamma": "open"}
    assert len(github.comments) == 1


def test_an_edit_of_one_file_asks_for_its_part(act: Act, github: GitHubServer, large: PullRequest) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
        large.push(content(3).replace("3 * 5", "3 * 6"), "f3.py")
        step = act(large, models, run_id=501, variables=GATE)
        again = len(models.bodies) - asked
    assert 1 <= again <= 2
    assert step.code == 1, "the findings of parts that were not asked for again still close the gate"
    assert findings(step) == {"alpha": "open", "beta": "open", "gamma": "open"}
    notes = [note for each in steps(step) for note in each["notes"]]
    assert notes.count("asked again: git_diff changed") == again
    record = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))
    assert record["totals"]["calls"] == record["estimate"]["about"][0]["calls"] == again
    assert record["estimate"]["most"][0]["calls"] > asked
    assert "asked again: git\\_diff changed" in github.bodies[0]
    assert "not asked again: the answer to the same prompt, of" in github.bodies[0]


def test_fresh_asks_everything_again_and_still_compares(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
        large.push(content(5), "f5.py")
        step = act(large, models, run_id=501, variables={"AETHR_RUN_FRESH": "true"})
        assert len(models.bodies) == 2 * asked
    assert findings(step) == {"alpha": "open", "gamma": "open"}


def test_a_source_that_every_push_changes_is_named(act: Act, github: GitHubServer, tmp_path: Path) -> None:
    request = open_large(tmp_path, "commits, git_diff")
    with ModelServer(review_marks) as models:
        act(request, models)
        asked = len(models.bodies)
        request.push(content(3).replace("3 * 5", "3 * 6"), "f3.py")
        step = act(request, models, run_id=501)
        assert len(models.bodies) == 2 * asked
    notes = [note for each in steps(step) for note in each["notes"]]
    assert sorted(set(notes)) == ["asked again: commits changed", "asked again: commits, git_diff changed"]


@pytest.mark.parametrize(
    ("workflow", "named"),
    [
        (WORKFLOW.format(context="git_diff").replace("4o-mini", "4o"), "model"),
        (WORKFLOW.format(context="git_diff").replace('"Review."', '"Review well."'), "role"),
        (
            WORKFLOW.format(context="git_diff").replace(
                '"openai:gpt-4o-mini"', "{model: openai:gpt-4o-mini, temperature: 0.5}"
            ),
            "model",
        ),
    ],
)
def test_another_model_option_or_role_is_another_question(
    act: Act, github: GitHubServer, large: PullRequest, workflow: str, named: str
) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
        large.origin.git("checkout", "-q", "main")
        large.origin.write(".aethr.yaml", workflow)
        large.base = large.origin.commit("another workflow")
        merge(large.origin)
        step = act(large, models, run_id=501)
        assert len(models.bodies) == 2 * asked, step.log
    assert {note for each in steps(step) for note in each["notes"]} == {f"asked again: {named} changed"}


def test_another_endpoint_is_another_question(act: Act, github: GitHubServer, large: PullRequest) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
    with ModelServer(review_marks) as models:
        act(large, models, run_id=501)
        assert len(models.bodies) == asked


def edit(github: GitHubServer, old: str, new: str) -> None:
    github.comments[0].body = github.comments[0].body.replace(old, new)


def forge(github: GitHubServer, large: PullRequest) -> None:
    """Somebody flips a character in the middle of the state."""
    state = comment.find_state(github.bodies[0])
    at = len(state) // 2
    edit(github, state, state[:at] + ("A" if state[at] != "A" else "B") + state[at + 1 :])


def cut(github: GitHubServer, large: PullRequest) -> None:
    state = comment.find_state(github.bodies[0])
    edit(github, state, state[: len(state) // 2 // 4 * 4])


def replace(github: GitHubServer, large: PullRequest) -> None:
    edit(github, comment.find_state(github.bodies[0]), "not base64!")


@pytest.mark.parametrize("damage", [forge, cut, replace])
def test_a_state_that_was_edited_is_ignored_with_its_reason(
    act: Act, github: GitHubServer, large: PullRequest, damage: Any
) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
        damage(github, large)
        step = act(large, models, run_id=501)
        assert len(models.bodies) == 2 * asked
        assert "The state of earlier reviews in the comment is ignored: it " in step.log
        assert set(findings(step).values()) == {None}
        act(large, models, run_id=502)
        assert len(models.bodies) == 2 * asked, "the state was written anew"


def test_a_state_of_another_pull_request_or_key_is_ignored(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
        stolen = github.bodies[0]
        github.add_comment(stolen, "github-actions[bot]", number=8)
        other = large.event(number=8)
        step = act(large, models, run_id=501, event=other)
        assert len(models.bodies) == 2 * asked
        assert "is ignored: it was made for another pull request" in step.log
        step = act(large, models, run_id=502, key="sk-test-another-0123456789")
        assert len(models.bodies) == 3 * asked
        assert "is ignored: it is not sealed with a key of this run, or was edited" in step.log
        step = act(large, models, run_id=503, variables={"AETHR_ACTION_COMMENT_KEY": "second"})
        assert len(models.bodies) == 4 * asked
    assert len(github.comments) == 3


def test_a_comment_of_somebody_else_has_no_state(act: Act, github: GitHubServer, large: PullRequest) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
        [own] = github.comments
        own.author = "mallory"
        act(large, models, run_id=501)
        assert len(models.bodies) == 2 * asked


def test_without_a_key_that_can_seal_nothing_is_kept(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    with ModelServer(review_marks) as models:
        act(large, models, key="short-key-0123")
        asked = len(models.bodies)
        assert not comment.find_state(github.bodies[0])
        act(large, models, key="short-key-0123", run_id=501)
        assert len(models.bodies) == 2 * asked


def test_a_fork_without_a_key_reads_nothing(act: Act, github: GitHubServer, large: PullRequest) -> None:
    step = act(large, event=large.event(fork=True))
    assert step.code == 0, step.log
    assert not comment.find_state(github.bodies[0])


def test_no_key_is_in_the_state(act: Act, github: GitHubServer, large: PullRequest) -> None:
    import base64
    import zlib

    def leak(body: dict[str, Any]) -> str:
        return f"The key is {KEY}.\n\n{review_marks(body)}"

    with ModelServer(leak) as models:
        act(large, models)
    data = zlib.decompress(base64.b64decode(comment.find_state(github.bodies[0]))).decode()
    assert "alpha is wrong" in data
    assert KEY not in data
    assert "The key is" in data


class Failing:
    """The reviewer of ``review_marks``, which fails at a part with ``delta`` as long as ``fails`` is True."""

    fails = False

    def __call__(self, body: dict[str, Any]) -> Reply | str:
        return error(400, "no") if self.fails and "BUG delta" in str(body) else review_marks(body)


def test_a_failed_run_keeps_the_state_and_what_it_has_finished(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    reviewer = Failing()
    with ModelServer(reviewer) as models:
        act(large, models)
        large.push(content(3, "delta"), "f3.py")
        large.push(content(4, "epsilon"), "f4.py")
        asked, reviewer.fails = len(models.bodies), True
        failed = act(large, models, run_id=501)
        assert failed.code == 3, failed.log
        asked, reviewer.fails = len(models.bodies), False
        step = act(large, models, run_id=502)
        assert len(models.bodies) == asked + 1, "the others were answered"
    assert findings(step) == {
        "alpha": "open", "beta": "open", "gamma": "open", "delta": "new", "epsilon": "new"
    }  # fmt: skip


def test_a_run_that_cannot_start_leaves_the_state(act: Act, github: GitHubServer, large: PullRequest) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
        broken = act(large, models, run_id=501, variables={"AETHR_RUN_CONFIG": "missing.yaml"})
        assert broken.code == 2
        step = act(large, models, run_id=502)
        assert len(models.bodies) == asked
    assert step.outputs["status"] == "revise"


def test_the_checkpoint_of_an_attempt_wins_and_the_state_fills_the_rest(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    reviewer = Failing()
    with ModelServer(reviewer) as models:
        act(large, models)
        large.push(content(3, "delta"), "f3.py")
        reviewer.fails = True
        assert act(large, models, run_id=501).code == 3
        asked, reviewer.fails = len(models.bodies), False
        step = act(large, models, run_id=501, attempt=2)
        assert len(models.bodies) == asked + 1
    assert "Resumed from an earlier attempt, not called again: review." in step.log
    assert findings(step)["delta"] == "new"
    assert all(each["reused"] for each in steps(step) if "delta" not in each["content"])


def test_a_failing_read_is_a_note(act: Act, github: GitHubServer, large: PullRequest) -> None:
    with ModelServer(review_marks) as models:
        act(large, models)
        asked = len(models.bodies)
        github.fail("GET", 404)
        step = act(large, models, run_id=501)
        assert len(models.bodies) == 2 * asked
    assert step.outputs["status"] == "revise"
    assert (
        "The comment of earlier reviews cannot be read, so all is asked again: GitHub answered 404"
        in step.log
    )


def test_a_server_with_a_lower_limit_gets_the_page_alone(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    github.fail("POST", 422, message="body is too long (maximum is 65536 characters)")
    with ModelServer(review_marks) as models:
        step = act(large, models)
    assert step.outputs["status"] == "revise"
    assert not comment.find_state(github.bodies[0])
    assert "GitHub refused the comment with the state" in github.bodies[0]


def test_what_does_not_fit_is_asked_again_and_said(
    act: Act, github: GitHubServer, large: PullRequest
) -> None:
    """Answers of random letters cannot be compressed, so that few of them fit."""
    import random

    chance = random.Random(7)

    def talks(body: dict[str, Any]) -> Reply:
        said = review_marks(body)
        words = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))
        return text(f"{words}\n\n{said}", 10_000)

    with ModelServer(talks) as models:
        act(large, models)
        asked = len(models.bodies)
        body = github.bodies[0]
        assert 200_000 < len(body.encode()) <= comment.COMMENT_BYTES < BODY_LIMIT
        fitting = int(re.findall(r"The comment has room for (\d+) of (\d+) answers", body)[0][0])
        assert 3 <= fitting < asked
        step = act(large, models, run_id=501)
        assert len(models.bodies) == 2 * asked - fitting
    assert findings(step) == {"alpha": "new", "beta": "new", "gamma": "new"}
    kept = "".join(each["content"] for each in steps(step) if each["reused"])
    assert all(bug in kept for bug in ("alpha", "beta", "gamma")), "answers with findings are kept first"
