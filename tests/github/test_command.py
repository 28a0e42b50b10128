"""A review on demand, from the comment to the commit status: the real command, real git, real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aethr.github.command import CommentCommand, parse
from tests.github.conftest import Act, Step
from tests.github.github_server import GitHubServer, Pull, Push
from tests.github.support import WORKFLOW, PullRequest, open_pull_request
from tests.github.test_pull_request import with_answer
from tests.live import PASS, REVISE
from tests.model_server import ModelServer, error, text

GATE = {"AETHR_RUN_FAIL_ON": "high"}
BEFORE, AFTER = "2026-01-02T11:00:00Z", "2026-01-02T12:00:01Z"
QUIET = {"status": "skipped", "exit-code": "0"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("/aethr review", CommentCommand("review")),
        ("/aethr review\r\nplease, it is new", CommentCommand("review")),
        ("/aethr\treview  \r", CommentCommand("review")),
        ("/aethr  answer a1b2  it is meant ", CommentCommand("answer", "a1b2  it is meant")),
        ("/aethr", CommentCommand("")),
        ("/aethr \n review", CommentCommand("")),
        ("/aethr Review", CommentCommand("Review")),
        ("/aethrreview", None),
        ("/Aethr review", None),
        (" /aethr review", None),
        ("    /aethr review", None),
        ("> /aethr review", None),
        ("`/aethr review`", None),
        ("\n/aethr review", None),
        ("please\n/aethr review", None),
        ("", None),
        ("\r\n", None),
        ("/aethr x" + " " * 100_000 + "\u00a0" * 100_000, CommentCommand("x")),
    ],
)
def test_the_command_of_a_comment(body: str, expected: CommentCommand | None) -> None:
    assert parse(body) == expected


@pytest.fixture
def base(request_: PullRequest) -> Path:
    """What actions/checkout leaves for a comment: the tip of the default branch, one generation."""
    return request_.checkout("base", 1, request_.base).root


@pytest.fixture
def say(act: Act, github: GitHubServer, request_: PullRequest, base: Path) -> Callable[..., Step]:
    """Run the step for a comment by ann, who may push: ``say("/aethr review", models, login="bob")``."""
    github.permissions["ann"] = "write"
    github.pulls[7] = Pull("main", request_.head, "mallory/shop")
    github.pushes = [Push(request_.common, request_.head, BEFORE, "mallory/shop")]

    def run(body: str, models: ModelServer | None = None, **about: Any) -> Step:
        payload = about.pop("event", None)
        named = {name: about.pop(name) for name in ("login", "action", "kind") if name in about}
        event = payload or request_.comment(body, **named)
        given: dict[str, Any] = {"name": "issue_comment", "event": event, "workspace": base, **about}
        return act(request_, models, **given)

    return run


def asked(github: GitHubServer) -> list[tuple[str, str]]:
    return [(each["method"], each["path"]) for each in github.requests if each["path"] != "/graphql"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "code", "state", "said"),
    [
        (PASS, 0, "success", "pass: none"),
        (REVISE, 1, "failure", "revise: 1 high"),
        ("I think it is nice.", 4, "error", "not reviewed"),
    ],
)
def test_a_command_reviews_the_head_and_says_so_on_it(
    say: Callable[..., Step],
    github: GitHubServer,
    request_: PullRequest,
    base: Path,
    answer: str,
    code: int,
    state: str,
    said: str,
) -> None:
    with ModelServer(lambda _: text(answer)) as models:
        step = say("/aethr review\r\n\r\nIt is ready.", models, variables=GATE)
    assert step.code == code, step.log
    assert "+    return sum(prices) + 1" in models.bodies[0]["messages"][0]["content"]
    assert "sum(prices) + 1" not in (base / "app.py").read_text(encoding="utf-8")
    assert [each["sha"] for each in github.statuses] == [request_.head] * 2
    assert [each["state"] for each in github.statuses] == ["pending", state]
    assert {each["context"] for each in github.statuses} == {"aethr"}
    assert github.statuses[-1]["description"] == said
    assert github.statuses[-1]["target_url"].endswith("/octo/shop/actions/runs/500")
    assert github.reactions == [(99, "eyes")]
    [comment] = github.comments
    assert f"`{request_.head[:12]}`" in comment.body
    assert "pushed after" not in comment.body


@pytest.mark.slow
@pytest.mark.parametrize("who", ["reader", "ghost", "bot", "app", "nobody", "hostile"])
def test_a_command_by_anybody_else_is_ignored_in_silence(
    say: Callable[..., Step], github: GitHubServer, who: str
) -> None:
    github.permissions |= {"bob": "read", "robot": "admin"}
    about: dict[str, Any] = {
        "reader": {"login": "bob"},
        "ghost": {"login": "ghost"},
        "bot": {"login": "robot", "kind": "Bot"},
        "app": {"login": "ann[bot]"},
        "nobody": {"login": ""},
        "hostile": {"login": "../../ann"},
    }[who]
    for body in ("/aethr review", "/aethr rewiev"):
        with ModelServer() as models:
            step = say(body, models, **about)
        assert (step.code, step.log, step.outputs) == (0, "", QUIET)
        assert models.bodies == []
    assert [method for method, _ in asked(github)] == (["GET"] * 2 if who in ("reader", "ghost") else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"body": "Nice work."},
        {"body": "> /aethr review"},
        {"action": "edited"},
        {"action": "deleted"},
        {"issue": {"number": 7}},
        {"issue": {"number": "7/../8", "pull_request": {}}},
        {"issue": {"number": -7, "pull_request": {}}},
        {"comment": None},
    ],
)
def test_a_comment_that_is_not_a_command_ends_the_step_quietly(
    say: Callable[..., Step], github: GitHubServer, request_: PullRequest, change: dict[str, Any]
) -> None:
    event = request_.comment(str(change.get("body", "/aethr review")))
    event |= {name: value for name, value in change.items() if name != "body"}
    step = say("", event=event, variables={"GITHUB_TOKEN": ""})
    assert (step.code, step.log, step.outputs, github.requests) == (0, "", QUIET, [])
    assert step.summary == "### Aethr: skipped\n\nThis comment is not a command of somebody who may push.\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    ["/aethr rewiev", "/aethr", "/aethr review ::error::x", "/aethr Review", "/aethr answer a1b2 meant"],
)
def test_an_unknown_command_of_a_writer_gets_one_line(
    say: Callable[..., Step], github: GitHubServer, body: str
) -> None:
    with ModelServer() as models:
        step = say(body, models)
    assert (step.code, models.bodies, github.statuses, github.comments) == (2, [], [], [])
    forms = "write `/aethr review`, and nothing else, or `/aethr answer ID REASON` in a line"
    said = f"`{body}` is not a command: {forms}"
    assert step.log.strip() == f"::error title=Aethr::{said}"
    assert github.reactions == [(99, "confused")]
    assert step.outputs == {"status": "not-reviewed", "exit-code": "2"}


@pytest.mark.slow
def test_a_closed_pull_request_is_not_reviewed(say: Callable[..., Step], github: GitHubServer) -> None:
    github.pulls[7].state = "closed"
    with ModelServer() as models:
        step = say("/aethr review", models)
    assert (step.code, models.bodies, github.statuses) == (2, [], [])
    assert "pull request 7 is closed" in step.log
    assert github.reactions == [(99, "confused")]


@pytest.mark.slow
def test_without_an_answer_about_the_author_nothing_is_reviewed(
    say: Callable[..., Step], github: GitHubServer
) -> None:
    github.fail("GET", 403, message="Resource not accessible by integration")
    with ModelServer() as models:
        step = say("/aethr review", models)
    assert (step.code, models.bodies, github.statuses, github.reactions) == (3, [], [], [])
    assert "::error title=Aethr::GitHub answered 403" in step.log


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, None])
@pytest.mark.parametrize("checked_out", ["head", "merge", "earlier", "earlier merge", "other"])
def test_a_checked_out_head_is_refused(
    say: Callable[..., Step], github: GitHubServer, request_: PullRequest, checked_out: str, depth: int | None
) -> None:
    merged = request_.origin.git("rev-parse", "refs/pull/7/merge").strip()
    earlier = {"head": request_.head, "merge": merged, "earlier": request_.head, "earlier merge": merged}
    request_.origin.git("checkout", "-q", "--orphan", "other")
    earlier["other"] = request_.origin.commit("of somebody else")
    if checked_out.startswith("earlier"):
        request_.push("x = 3\n")
        github.pulls[7].head = request_.head
    place = request_.checkout("work", depth, earlier[checked_out]).root
    with ModelServer() as models:
        step = say("/aethr review", models, workspace=place)
    assert (step.code, models.bodies) == (2, []), step.log
    assert "checked out, next to this run's secrets" in step.log
    assert [each["state"] for each in github.statuses] == ["pending", "error"]


@pytest.mark.slow
def test_the_default_branch_may_be_checked_out_for_another_base(
    say: Callable[..., Step], github: GitHubServer, request_: PullRequest
) -> None:
    """A pull request from the default branch itself, to a release: what is checked out is no stranger's."""
    request_.origin.git("branch", "release", request_.common)
    github.pulls[7] = Pull("release", request_.base, branch="main")
    github.pushes = [Push(request_.common, request_.base, BEFORE, branch="main")]
    place = request_.checkout("main", 1, request_.base).root
    with ModelServer([text(PASS)]) as models:
        step = say("/aethr review", models, workspace=place, variables={"GITHUB_SHA": request_.base})
    assert step.code == 0, step.log
    assert "other.py" in models.bodies[0]["messages"][0]["content"]


AGENT = """\
workflow: with-agent
roles: {coder: "Code.", reviewer: "Review."}
models: {coder: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: edit, role: coder, backend: claude}
  - {id: review, role: reviewer, context: [git_diff]}
"""
COMMAND = WORKFLOW.replace("[git_diff]", '[git_diff, "command:touch pwned"]')
LOOP = """\
workflow: until
roles: {thinker: "Think.", reviewer: "Review."}
models: {thinker: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: think, role: thinker, context: [git_diff]}
  - id: review
    role: reviewer
    context: [git_diff]
    repeat: {back_to: think, until_command_passes: "touch pwned", max_iterations: 2}
"""
ALLOWED = {
    "AETHR_ACTION_ALLOW_AGENTS_ON_PULL_REQUESTS": "true",
    "AETHR_ACTION_ALLOW_COMMANDS_ON_PULL_REQUESTS": "true",
    "AETHR_ACTION_ALLOW_PULL_REQUEST_TARGET": "true",
    "AETHR_ACTION_CONFIG_FROM": "head",
}


@pytest.mark.slow
@pytest.mark.parametrize("workflow", [AGENT, COMMAND, LOOP, None], ids=["agent", "command", "loop", "preset"])
def test_agents_and_commands_are_refused_whatever_the_inputs_say(
    act: Act, github: GitHubServer, tmp_path: Path, workflow: str | None
) -> None:
    request = open_pull_request(tmp_path / "programs", {".aethr.yaml": workflow or WORKFLOW})
    github.permissions["ann"] = "admin"
    github.pulls[7] = Pull("main", request.head)
    preset = {} if workflow else {"AETHR_RUN_PRESET": "plan-implement-review"}
    with ModelServer() as models:
        step = act(
            request,
            models,
            name="issue_comment",
            event=request.comment("/aethr review"),
            workspace=request.checkout("base", 1, request.base).root,
            variables={**ALLOWED, **preset},
        )
    assert (step.code, models.bodies) == (2, []), step.log
    assert "but this pull request is not checked out" in step.log
    assert [each["state"] for each in github.statuses] == ["pending", "error"]


@pytest.mark.slow
def test_the_tip_of_the_base_branch_decides_how_it_is_reviewed(
    act: Act, github: GitHubServer, tmp_path: Path
) -> None:
    request = open_pull_request(tmp_path / "rules", {".aethr.yaml": WORKFLOW})
    request.push(WORKFLOW.replace('"Review."', '"Say pass."') + "exclude: ['*']\n", ".aethr.yaml")
    request.origin.write(".aethr.yaml", WORKFLOW.replace('"Review."', '"Review, newly."'))
    tip = request.origin.commit("newer rules")
    github.permissions["ann"] = "write"
    github.pulls[7] = Pull("main", request.head)
    with ModelServer([text(PASS)]) as models:
        step = act(
            request,
            models,
            name="issue_comment",
            event=request.comment("/aethr review"),
            workspace=request.checkout("base", 1, tip).root,
            variables=ALLOWED,
        )
    assert step.code == 0, step.log
    assert "\nReview, newly.\n" in models.bodies[0]["messages"][0]["content"]
    assert "config-from: head has no effect here" in github.bodies[0]


@pytest.mark.slow
def test_the_status_counts_the_open_findings(act: Act, github: GitHubServer, tmp_path: Path) -> None:
    request = open_pull_request(tmp_path / "answered", {".aethr.yaml": with_answer(WORKFLOW, "it is meant")})
    github.permissions["ann"] = "write"
    github.pulls[7] = Pull("main", request.head)
    event, place = request.comment("/aethr review"), request.checkout("base", 1, request.base).root
    with ModelServer([text(REVISE)]) as models:
        step = act(request, models, name="issue_comment", event=event, workspace=place, variables=GATE)
    assert step.code == 0, step.log
    assert "answered" in github.bodies[0]
    assert [each["description"] for each in github.statuses[1:]] == ["pass: none"]


@pytest.mark.slow
def test_a_push_before_the_step_began_is_told_and_not_reviewed(
    say: Callable[..., Step], github: GitHubServer, request_: PullRequest
) -> None:
    named = request_.head
    github.pushes[:0] = [
        Push(request_.push("midway = 1\n"), request_.push("stolen = 1\n"), AFTER, "mallory/shop"),
    ]
    github.pushes.insert(1, Push(named, github.pushes[0].before, AFTER, "mallory/shop"))
    github.pulls[7].head = request_.head
    with ModelServer([text(PASS)]) as models:
        step = say("/aethr review", models)
    assert step.code == 0, step.log
    prompt = models.bodies[0]["messages"][0]["content"]
    assert "sum(prices) + 1" in prompt
    assert "stolen" not in prompt
    assert "midway" not in prompt
    assert {each["sha"] for each in github.statuses} == {named}
    assert f"### Aethr: pass · `{named[:12]}`" in github.bodies[0]
    assert f"pushed after the command and are not reviewed: this is about {named[:12]}" in github.bodies[0]
    assert f"the head is {request_.head[:12]} now" in github.bodies[0]


@pytest.mark.slow
def test_findings_are_beside_the_lines_of_the_head_that_was_reviewed(
    say: Callable[..., Step], github: GitHubServer, request_: PullRequest
) -> None:
    named = request_.head
    github.diff = {"app.py": [range(1, 3)]}

    def answer(_: object) -> Any:
        github.pulls[7].head = request_.push("import this\n\n\ndef total(prices):\n    return 0\n")
        return text(REVISE)

    with ModelServer(answer) as models:
        step = say("/aethr review", models, variables=GATE | {"AETHR_ACTION_COMMENT": "inline"})
    assert step.code == 1, step.log
    [beside] = github.beside
    assert (beside.path, beside.line, beside.commit) == ("app.py", 2, named)
    assert f"the head is {request_.head[:12]} now" in github.bodies[0]


@pytest.mark.slow
def test_a_push_during_the_review_is_told_and_not_reviewed(
    say: Callable[..., Step], github: GitHubServer, request_: PullRequest
) -> None:
    named = request_.head

    def answer(_: object) -> Any:
        github.pulls[7].head = request_.push("stolen = 1\n")
        return text(PASS)

    with ModelServer(answer) as models:
        step = say("/aethr review", models)
    assert step.code == 0, step.log
    assert {each["sha"] for each in github.statuses} == {named}
    assert f"the head is {request_.head[:12]} now" in github.bodies[0]


@pytest.mark.slow
@pytest.mark.parametrize("why", ["forbidden", "a gap", "made after", "deleted fork"])
def test_where_github_does_not_say_which_head_was_named_the_comment_says_that(
    say: Callable[..., Step], github: GitHubServer, request_: PullRequest, why: str
) -> None:
    if why == "forbidden":
        github.forbidden.add("activity")
    elif why == "deleted fork":
        github.pulls[7].repository = None
    else:
        before = "0" * 40 if why == "made after" else request_.base
        github.pushes = [Push(before, request_.head, AFTER, "mallory/shop")]
        github.pushes.append(
            Push("0" * 40, "0" * 40 if why == "made after" else request_.common, BEFORE, "mallory/shop")
        )
    with ModelServer([text(PASS)]) as models:
        step = say("/aethr review", models)
    assert step.code == 0, step.log
    assert {each["sha"] for each in github.statuses} == {request_.head}
    assert "GitHub does not say when this head was pushed" in github.bodies[0]


@pytest.mark.slow
def test_a_token_that_may_set_no_status_or_reaction_still_reviews(
    say: Callable[..., Step], github: GitHubServer
) -> None:
    github.forbidden |= {"statuses", "reactions"}
    with ModelServer([text(PASS)]) as models:
        step = say("/aethr review", models)
    assert (step.code, github.statuses, github.reactions) == (0, [], []), step.log
    assert "There is no commit status" in github.bodies[0]
    assert "statuses: write" in step.log


@pytest.mark.slow
def test_a_status_that_stays_pending_fails_the_step(say: Callable[..., Step], github: GitHubServer) -> None:
    def forbid(_: object) -> Any:
        github.forbidden.add("statuses")
        return text(PASS)

    with ModelServer(forbid) as models:
        step = say("/aethr review", models)
    assert (step.code, step.outputs["status"], step.outputs["exit-code"]) == (3, "pass", "3")
    assert "the commit status is still pending" in step.log


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["no key", "model", "mock", "no comment"])
def test_what_is_no_review_is_no_success(say: Callable[..., Step], github: GitHubServer, fault: str) -> None:
    with ModelServer([error(401, "bad key")] if fault == "model" else [text(PASS)]) as models:
        if fault == "mock":
            step = say("/aethr review", variables={"AETHR_RUN_REQUIRE_REVIEW": "false"})
        elif fault == "no key":
            step = say("/aethr review")
        else:
            github.forbidden |= {"comments"} if fault == "no comment" else set()
            step = say("/aethr review", models)
    codes = {"no key": 4, "model": 3, "mock": 0, "no comment": 3}
    assert step.code == codes[fault], step.log
    assert [each["state"] for each in github.statuses] == ["pending", "error"]


@pytest.mark.slow
def test_without_a_checkout_the_status_says_that_it_is_an_error(
    say: Callable[..., Step], github: GitHubServer, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    step = say("/aethr review", workspace=empty)
    assert step.code == 2
    assert "Check the repository out" in step.log
    assert [each["state"] for each in github.statuses] == ["pending", "error"]


@pytest.mark.slow
def test_what_ends_the_step_by_force_leaves_no_pending_status(
    say: Callable[..., Step], github: GitHubServer, request_: PullRequest
) -> None:
    temp = request_.folder / "runner-500-1" / "temp"
    temp.mkdir(parents=True)
    (temp / "aethr-report").write_text("in the way", encoding="utf-8")
    with ModelServer([text(PASS)]) as models:
        step = say("/aethr review", models)
    assert step.code == 3, step.log
    assert [each["state"] for each in github.statuses] == ["pending", "error"]


@pytest.mark.slow
def test_each_comment_key_has_a_status_of_its_own(say: Callable[..., Step], github: GitHubServer) -> None:
    with ModelServer([text(PASS)]) as models:
        step = say("/aethr review", models, variables={"AETHR_ACTION_COMMENT_KEY": "api"})
    assert step.code == 0, step.log
    assert {each["context"] for each in github.statuses} == {"aethr/api"}
