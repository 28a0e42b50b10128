"""Answers in comments, ``/aethr answer ID REASON``: who gives them, what they cover, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aethr.base.records import Answer, Finding
from aethr.github import comment_answers as answers
from aethr.github.comment_answers import Collector, Rights, Written, judge
from aethr.review.identity import place_id
from aethr.run.kept import AnsweredIn, KeptState, Known
from tests.github.conftest import Act, Step
from tests.github.github_server import GitHubServer, Pull
from tests.github.support import WORKFLOW, PullRequest, open_pull_request
from tests.live import REVISE
from tests.model_server import ModelServer, text

GATE = {"AETHR_RUN_FAIL_ON": "medium"}
ID = place_id("app.py", ["def total(prices):", "    return sum(prices) + 1"], 2)
OTHER_ID = "0123456789ab"
MEDIUM = REVISE.replace("[high]", "[medium]")
NO_KEY = "sk-short"


@pytest.fixture
def base(tmp_path: Path) -> PullRequest:
    """A pull request by ann, whose base has the workflow."""
    return open_pull_request(tmp_path, {".aethr.yaml": WORKFLOW})


@pytest.fixture
def review(act: Act, github: GitHubServer, base: PullRequest) -> Callable[..., Step]:
    """Review a push: ``review(models, run_id=501)``. Bob may push."""
    github.permissions |= {"bob": "write", "ann": "write"}
    return lambda models, **about: act(base, models, **{"variables": GATE, **about})


def answered(step: Step) -> list[tuple[str | None, str | None]]:
    record = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))
    return [(each["state"], each["answer"]) for each in record["review"]["findings"]]


def asked_about(github: GitHubServer) -> list[str]:
    return [each["path"].split("/")[-2] for each in github.requests if each["path"].endswith("/permission")]


@pytest.mark.slow
def test_an_answer_opens_the_gate_without_a_call_and_survives_a_push(
    review: Callable[..., Step], github: GitHubServer, base: PullRequest
) -> None:
    with ModelServer(lambda _: text(MEDIUM)) as models:
        assert review(models).code == 1
        assert len(models.bodies) == 1
        github.add_comment(f"/aethr answer {ID} it is a fee\r\n\r\nMore words.", "bob")
        second = review(models, run_id=501)
        assert (second.code, second.outputs["status"]) == (0, "pass"), second.log
        assert answered(second) == [("answered", "it is a fee (@bob)")]
        assert len(models.bodies) == 1, "the prompt is the same"
        assert "<summary>Answered: 1 medium</summary>" in github.bodies[0]
        assert asked_about(github) == ["bob"]

        base.push("x = 1\n", "more.py")
        third = review(models, run_id=502)
        assert (third.code, len(models.bodies)) == (0, 2), third.log
        assert answered(third) == [("answered", "it is a fee (@bob)")]

        base.push("def total(prices):\n    return sum(prices) + 2\n")
        fourth = review(models, run_id=503)
        assert fourth.code == 1
        assert answered(fourth) == [("new", None)], "its line is another one"

        base.push("def total(prices):\n    return sum(prices) + 1\n")
        assert review(models, run_id=504).code == 0
        del github.comments[1]
        assert review(models, run_id=505).code == 1, "without the comment nobody answers"


@pytest.mark.slow
def test_a_more_severe_finding_is_not_covered_until_it_is_answered_itself(
    review: Callable[..., Step], github: GitHubServer, base: PullRequest
) -> None:
    with ModelServer(lambda _: text(MEDIUM)) as models:
        review(models)
        github.add_comment(f"/aethr answer {ID} it is a fee", "bob")
        assert review(models, run_id=501).code == 0
    base.push("x = 1\n", "more.py")
    with ModelServer(lambda _: text(REVISE)) as models:
        worse = review(models, run_id=502)
        again = review(models, run_id=503)
        assert (worse.code, again.code, answered(again)) == (1, 1, [("new", None)])
        github.add_comment(f"/aethr answer {ID.upper()} it is still a fee", "bob")
        last = review(models, run_id=504)
    assert (last.code, answered(last)) == (0, [("answered", "it is still a fee (@bob)")])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "author", "edited", "why", "asked"),
    [
        (f"/aethr answer {ID} ok", "carol", None, answers.NO_RIGHTS, ["carol"]),
        (f"/aethr answer {ID} ok", "ghost", None, answers.NO_RIGHTS, ["ghost"]),
        (f"/aethr answer {ID} ok", "github-actions[bot]", None, answers.NO_RIGHTS, []),
        (f"/aethr answer {ID} ok", "robot[bot]", None, answers.NO_RIGHTS, []),
        (f"/aethr answer {ID} ok", "../../bob", None, answers.NO_RIGHTS, []),
        (f"/aethr answer {ID} ok", "ann", None, answers.BY_AUTHOR, []),
        (f"/aethr answer {ID} ok", "Ann", None, answers.BY_AUTHOR, []),
        (f"/aethr answer {ID} ok", "bob", "2027-01-01T00:00:00Z", answers.EDITED, []),
        (f"/aethr answer {OTHER_ID} ok", "bob", None, answers.UNKNOWN, []),
        (f"/aethr answer {OTHER_ID} ok", "bob", "2027-01-01T00:00:00Z", answers.EDITED, []),
        (f"/aethr answer {ID}", "bob", None, None, []),
        (f"/aethr answer {ID[:11]} ok", "bob", None, None, []),
        (f"/aethr answer {ID}0 ok", "bob", None, None, []),
        (f"> /aethr answer {ID} ok", "bob", None, None, []),
        (f"Thanks.\n/aethr answer {ID} ok", "bob", None, None, []),
        (f"/aethr answered {ID} ok", "bob", None, None, []),
    ],
)
def test_a_comment_that_does_not_count_is_named_with_its_reason(
    review: Callable[..., Step],
    github: GitHubServer,
    body: str,
    author: str,
    edited: str | None,
    why: str | None,
    asked: list[str],
) -> None:
    with ModelServer(lambda _: text(MEDIUM)) as models:
        review(models)
        github.add_comment(body, author).edited = edited
        step = review(models, run_id=501)
    assert (step.code, answered(step)) == (1, [("new", None)])
    notes = [line for line in step.log.splitlines() if "`/aethr answer` is ignored" in line]
    assert len(notes) == (why is not None)
    assert all(line.endswith(f"is ignored for {body.split()[2]}: {why}.") for line in notes)
    assert asked_about(github) == asked


@pytest.mark.slow
@pytest.mark.parametrize("where", ["base", "head", "config-from"])
def test_only_the_file_of_the_base_lets_the_author_answer(
    act: Act, github: GitHubServer, tmp_path: Path, where: str
) -> None:
    allowing = f"{WORKFLOW}answers_by_author: true\n"
    request = open_pull_request(tmp_path, {".aethr.yaml": allowing if where == "base" else WORKFLOW})
    github.permissions["ann"] = "write"
    variables = {**GATE, **({"AETHR_ACTION_CONFIG_FROM": "head"} if where == "config-from" else {})}
    if where != "base":
        request.push(allowing, ".aethr.yaml")
    with ModelServer(lambda _: text(MEDIUM)) as models:
        assert act(request, models, variables=variables).code == 1
        github.add_comment(f"/aethr answer {ID} ok", "ann")
        step = act(request, models, variables=variables, run_id=501)
    assert step.code == (0 if where == "base" else 1), step.log
    assert (answers.BY_AUTHOR in step.log) == (where != "base")


@pytest.mark.slow
def test_the_newest_answer_counts_and_each_writer_is_asked_about_once(
    review: Callable[..., Step], github: GitHubServer
) -> None:
    github.permissions["dora"] = "admin"
    with ModelServer(lambda _: text(MEDIUM)) as models:
        review(models)
        for author, reason in [("bob", "first"), ("bob", "second"), ("dora", "third"), ("carol", "fourth")]:
            github.add_comment(f"/aethr answer {ID} {reason}", author)
        github.add_comment(f"/aethr answer {ID} fifth", "carol")
        step = review(models, run_id=501)
        assert answered(step) == [("answered", "third (@dora)")]
        assert asked_about(github) == ["carol", "dora"]
        assert step.log.count("is ignored for") == 1
        del github.comments[3]
        assert answered(review(models, run_id=502)) == [("answered", "second (@bob)")]


@pytest.mark.slow
def test_a_hostile_reason_is_text_everywhere(review: Callable[..., Step], github: GitHubServer) -> None:
    hostile = "x <!-- aethr --> @octo/team ::error::y \x1b[31m [a](http://b) | #1 " + "w" * 5000
    with ModelServer(lambda _: text(MEDIUM)) as models:
        review(models)
        github.add_comment(f"/aethr answer {ID} {hostile}", "bob")
        step = review(models, run_id=501)
    assert step.code == 0
    [(_, reason)] = answered(step)
    assert reason is not None
    assert len(reason) < 600
    assert "\x1b" not in reason + step.log
    for page in (github.bodies[0], step.summary):
        assert "@octo" not in page
        assert "@bob" not in page
        assert "@\u200cbob" in page
        assert "[a](http" not in page
        assert "<!-- aethr -->" not in page
    assert not any(line.startswith("::error") for line in step.log.splitlines())


@pytest.mark.slow
def test_a_forged_state_answers_nothing_also_in_later_runs(
    review: Callable[..., Step], github: GitHubServer
) -> None:
    with ModelServer(lambda _: text(MEDIUM)) as models:
        review(models)
        github.add_comment(f"/aethr answer {ID} ok", "bob")
        page, _, state = github.comments[0].body.rpartition("<!-- aethr:state ")
        assert page
        github.comments[
            0
        ].body = f"{page}<!-- aethr:state {state[:50]}{'A' if state[50] != 'A' else 'B'}{state[51:]}"
        forged = review(models, run_id=501)
        assert forged.code == 1
        assert "is ignored: " in forged.log
        later = review(models, run_id=502)
        assert (later.code, answers.UNKNOWN in later.log) == (1, True), "nobody knows what it was about"
        github.add_comment(f"/aethr answer {ID} ok", "bob")
        assert review(models, run_id=503).code == 0


@pytest.mark.slow
def test_without_a_key_that_seals_no_comment_answers(
    review: Callable[..., Step], github: GitHubServer
) -> None:
    with ModelServer(lambda _: text(MEDIUM)) as models:
        review(models, key=NO_KEY)
        github.add_comment(f"/aethr answer {ID} ok", "bob")
        step = review(models, run_id=501, key=NO_KEY)
    assert step.code == 1
    assert f"is ignored for all comments: {answers.UNSEALED}." in step.log


@pytest.mark.slow
def test_comments_that_cannot_be_listed_answer_nothing_and_the_state_stays(
    review: Callable[..., Step], github: GitHubServer
) -> None:
    with ModelServer(lambda _: text(MEDIUM)) as models:
        review(models)
        github.add_comment(f"/aethr answer {ID} ok", "bob")
        assert review(models, run_id=501).code == 0
        state = github.bodies[0].rpartition("<!-- aethr:state ")[2]
        github.fail("GET", status=404, on="/issues/7/comments")
        step = review(models, run_id=502)
        assert (step.code, "cannot be read" in step.log) == (1, True)
        assert github.bodies[0].rpartition("<!-- aethr:state ")[2] == state
        assert review(models, run_id=503).code == 0


@pytest.mark.slow
def test_without_an_answer_about_a_writer_their_comment_does_not_count(
    review: Callable[..., Step], github: GitHubServer
) -> None:
    with ModelServer(lambda _: text(MEDIUM)) as models:
        review(models)
        github.add_comment(f"/aethr answer {ID} ok", "bob")
        github.fail("GET", status=403, on="/permission")
        step = review(models, run_id=501)
        assert (step.code, answers.NOT_ASKED in step.log) == (1, True), step.log
        assert review(models, run_id=502).code == 0


# --- the event of such a comment -----------------------------------------------------------------------


@pytest.fixture
def say(
    act: Act, github: GitHubServer, base: PullRequest, review: Callable[..., Step]
) -> Iterator[Callable[..., Step]]:
    """Run the step of a comment on ann's pull request, which was reviewed: ``say("/aethr …", "bob")``."""
    github.pulls[7] = Pull("main", base.head, branch="feature", author="ann")

    def run(body: str, login: str = "bob", **about: Any) -> Step:
        written = github.add_comment(body, login)
        event = base.comment(body, login=login)
        event["comment"]["id"] = written.id
        place = base.checkout(f"base-{written.id}", 1, base.base).root
        given = {"name": "issue_comment", "event": event, "workspace": place, "run_id": 600 + written.id}
        step = act(base, models, **{"variables": GATE, **given, **about})
        assert len(models.bodies) == 1, "nothing is asked again"
        return step

    with ModelServer(lambda _: text(MEDIUM)) as models:
        assert review(models).code == 1
        yield run


@pytest.mark.slow
def test_the_comment_itself_reviews_again(
    say: Callable[..., Step], github: GitHubServer, base: PullRequest
) -> None:
    step = say(f"/aethr answer {ID} it is a fee")
    assert (step.code, step.outputs["status"]) == (0, "pass"), step.log
    assert answered(step) == [("answered", "it is a fee (@bob)")]
    assert [each["state"] for each in github.statuses] == ["pending", "success"]
    assert {each["sha"] for each in github.statuses} == {base.head}
    assert github.reactions == [(2, "eyes")]
    assert asked_about(github) == ["bob"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "login", "said"),
    [
        (f"/aethr answer {OTHER_ID} ok", "bob", f"the answer does not count: {answers.UNKNOWN}"),
        (f"/aethr answer {ID} ok", "ann", f"the answer does not count: {answers.BY_AUTHOR}"),
        (f"/aethr answer {ID}", "bob", f"`/aethr answer {ID}` is not a command: "),
        ("/aethr answer", "bob", "`/aethr answer` is not a command: "),
    ],
)
def test_a_mistake_of_a_writer_gets_one_line_and_changes_nothing(
    say: Callable[..., Step], github: GitHubServer, body: str, login: str, said: str
) -> None:
    before = github.bodies[0]
    step = say(body, login)
    assert step.code == 2
    assert step.log.startswith(f"::error title=Aethr::{said}")
    assert len(step.log.splitlines()) == 1
    assert (github.statuses, github.reactions, github.bodies[0]) == ([], [(2, "confused")], before)


@pytest.mark.slow
def test_an_answer_by_anybody_else_is_ignored_in_silence(
    say: Callable[..., Step], github: GitHubServer
) -> None:
    step = say(f"/aethr answer {ID} ok", "carol")
    assert (step.code, step.log, step.outputs["status"]) == (0, "", "skipped")
    assert (github.statuses, github.reactions) == ([], [])


@pytest.mark.slow
def test_without_a_key_or_comment_an_answer_is_a_mistake(say: Callable[..., Step]) -> None:
    for about in ({"key": NO_KEY}, {"variables": {**GATE, "AETHR_ACTION_COMMENT": "false"}}):
        step = say(f"/aethr answer {ID} ok", **about)
        assert (step.code, answers.UNSEALED in step.log) == (2, True), step.log


# --- the rule alone --------------------------------------------------------------------------------------


def written(comment: int, login: str = "bob", *, place: str = ID, edited: bool = False) -> Written:
    return Written(comment, place, f"r{comment}", {"login": login}, edited)


def found(severity: Any = "medium", message: str = "the total is off by one") -> Finding:
    return Finding(severity, "app.py", 2, message, id=ID)


def anybody(_: Written) -> None:
    return None


def test_a_comment_stays_with_the_finding_that_it_was_about() -> None:
    first = judge([written(5)], KeptState(findings=(Known(found(), "a"),)), anybody)
    assert first.answers == (Answer(ID, "medium", "the total is off by one", "r5 (@bob)"),)
    assert first.state.answered == (AnsweredIn(5, found()),)
    worse = first.state._replace(findings=(Known(found("high", "it deletes the file"), "b"),))
    second = judge([written(5)], worse, anybody)
    assert second.answers == first.answers
    third = judge([written(6), written(5)], worse, anybody)
    assert third.answers == (Answer(ID, "high", "it deletes the file", "r6 (@bob)"),)
    again = judge([written(5), written(7)], first.state._replace(findings=()), anybody)
    assert again.answers == (Answer(ID, "medium", "the total is off by one", "r7 (@bob)"),)


def test_any_id_of_a_merged_finding_answers_it_by_all_of_them() -> None:
    merged = found()._replace(ids=(OTHER_ID, ID))
    [answer] = judge([written(5, place=OTHER_ID)], KeptState(findings=(Known(merged, "a"),)), anybody).answers
    assert (answer.id, answer.also) == (OTHER_ID, (ID,))


def test_a_comment_that_was_read_without_its_finding_never_counts() -> None:
    first = judge([written(5)], KeptState(), anybody)
    assert (first.answers, dict(first.refused)) == ((), {5: answers.UNKNOWN})
    later = judge(
        [written(5), written(6)], first.state._replace(findings=(Known(found("high"), "a"),)), anybody
    )
    assert [each.reason for each in later.answers] == ["r6 (@bob)"]
    assert dict(later.refused) == {5: answers.UNKNOWN}


def test_two_findings_at_one_place_are_not_answered_by_its_id() -> None:
    state = KeptState(findings=(Known(found(), "a"), Known(found(message="it is slow"), "a")))
    assert dict(judge([written(5)], state, anybody).refused) == {5: answers.AMBIGUOUS}


def test_at_most_so_many_people_are_asked_about() -> None:
    asked: list[object] = []
    rights = Rights("ann", lambda user: bool(asked.append(user)), "eve")
    for number in range(2 * answers.MOST_WRITERS):
        rights(written(number, f"user{number}"))
    assert len(asked) == answers.MOST_WRITERS
    assert (rights(written(1, "EVE")), rights(written(1, "ANN"))) == (None, answers.BY_AUTHOR)


@pytest.mark.parametrize("value", [None, [], 3, {"body": 3}, {"body": f"/aethr answer {ID} x", "id": "7"}])
def test_what_is_not_a_comment_is_not_read(value: object) -> None:
    collector = Collector()
    collector.see(value)
    assert not collector.written
