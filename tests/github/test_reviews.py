"""Findings beside their lines over real HTTP, on a server that checks a review as GitHub does."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base.errors import ExitCode
from aethr.base.options import RunOptions
from aethr.base.records import Finding, Receipt, Review, RunOutcome, RunResult, Scope, StepResult, Totals
from aethr.github import reviews
from aethr.github.delivery import Delivered, Done, Job, ShownLines, deliver
from aethr.github.event import EventChange
from aethr.github.inputs import Inputs
from aethr.github.reviews import LIMIT, Anchor, find_anchor, identify, write_body
from aethr.github.runner import Runner
from aethr.output.markdown import BREAK
from tests.github.github_server import ME, GitHubServer, find_error
from tests.live import KEY
from tests.support import many

HEAD, NEXT = "a" * 40, "b" * 40
SHOWN = {"app.py": (range(1, 8), range(20, 30)), "lib/tax.py": (range(5, 9),)}
OFF_BY_ONE = Finding("high", "app.py", 2, "the total is off by one", "change", id="00aa11bb22cc")
NO_TEST = Finding("low", "app.py", 25, "no test", "change", id="0123456789ab")
UNUSED = Finding("medium", "lib/tax.py", 6, "unused", "change", 7, id="ba9876543210")
ALL = (NO_TEST, OFF_BY_ONE, UNUSED)


class Pushes:
    """Delivers what a run found on each push. ``meanwhile`` happens in each wait, which takes no time."""

    def __init__(self, github: GitHubServer, folder: Path) -> None:
        self.github = github
        self.folder = folder
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.log = ""
        github.diff = {path: list(ranges) for path, ranges in SHOWN.items()}

    def push(
        self,
        *findings: Finding,
        head: str = HEAD,
        outcome: RunOutcome = "revise",
        run: int = 500,
        limit: int | None = 15,
        key: str = "default",
        outside: bool = False,
        secrets: tuple[str, ...] = (),
    ) -> Delivered:
        url = self.github.url
        runner = Runner(
            "octo/shop", "pull_request", {}, head, "refs/pull/7/merge", "ann", run, 1, "review", self.folder,
            self.folder, "https://github.com", url, f"{url}/graphql", summary=self.folder / "summary.md",
        )  # fmt: skip
        inputs = Inputs(RunOptions(), max_inline=limit, comment_key=key, token="ghs_token")
        change = EventChange(head, "c" * 40, number=7, proposed=True, outside=outside)
        receipt = Receipt("git_diff", "app.py", 120, changed_lines=4, sent_lines=4)
        step = StepResult(
            "review", "reviewer", "model", "openai:gpt-4o-mini", 1, "0" * 64, "Look.", context=(receipt,)
        )
        result = RunResult(
            "task", "review", "live", Scope("range", "a...b", "c" * 40, head, head), (step,), (),
            Review("revise", findings, 1.0), Totals(1), ExitCode.OK, outcome=outcome,
        )  # fmt: skip
        log = io.StringIO()
        done = Done(result, shown=ShownLines(SHOWN), secrets=secrets)
        delivered = deliver(Job(runner, inputs, change), done, log, self._sleep)
        self.log = log.getvalue()
        return delivered

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.meanwhile()

    @property
    def comment(self) -> str:
        """The one comment, as a reader sees it."""
        [body] = self.github.bodies
        return body.replace("\\", "").replace(BREAK, "")

    @property
    def beside(self) -> list[tuple[str, int | None, str]]:
        """Path, line and first line of our comments."""
        ours = [each for each in self.github.beside if each.author == ME]
        return [(each.path, each.line, each.body.split("\n")[0]) for each in ours]


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        yield server


@pytest.fixture
def pushes(github: GitHubServer, tmp_path: Path) -> Pushes:
    return Pushes(github, tmp_path)


def posted(github: GitHubServer) -> list[dict[str, Any]]:
    return [each["body"] for each in github.sent("POST") if each["path"].endswith("/reviews")]


def test_the_most_severe_findings_are_beside_their_lines(pushes: Pushes, github: GitHubServer) -> None:
    assert pushes.push(*ALL) == Delivered(ExitCode.OK, pushes.push(*ALL).posted)
    assert pushes.beside == [
        ("app.py", 2, "**high:** the total is off by one"),
        ("lib/tax.py", 7, "**medium:** unused"),
        ("app.py", 25, "**low:** no test"),
    ]
    [review] = github.reviews
    assert (review["event"], review["commit_id"]) == ("COMMENT", HEAD)
    assert [each.get("start_line") for each in review["comments"]] == [None, 6, None]
    assert github.beside[0].body.endswith("\n\n<!-- aethr:finding key=default id=00aa11bb22cc -->")
    assert "Beside the code: 1 high, 1 medium, 1 low." in pushes.comment
    assert "off by one" not in pushes.comment
    assert "off by one" in (pushes.folder / "summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "finding",
    [
        NO_TEST._replace(line=None),
        NO_TEST._replace(line=12),
        NO_TEST._replace(path="other.py"),
        NO_TEST._replace(path=None),
        NO_TEST._replace(place="nowhere"),
        NO_TEST._replace(path="a\udce4.py"),
    ],
    ids=["no line", "a line that is not shown", "not in the change", "no path", "nowhere", "not UTF-8"],
)
def test_what_the_diff_does_not_show_is_in_the_comment(
    pushes: Pushes, github: GitHubServer, finding: Finding
) -> None:
    pushes.push(OFF_BY_ONE, finding)
    assert [line for _, line, _ in pushes.beside] == [2]
    assert "no test" in pushes.comment


def test_a_name_that_json_cannot_hold_has_no_place_at_github() -> None:
    named = NO_TEST._replace(path="a\udce4.py")
    assert find_anchor(named, {"a\udce4.py": (range(1, 30),)}) is None
    assert find_anchor(named._replace(path="ä.py"), {"ä.py": (range(1, 30),)}) is not None


def test_without_inline_there_is_only_the_comment(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(*ALL, limit=None)
    assert not [each for each in github.requests if "/pulls/" in each["path"]]
    assert "off by one" in pushes.comment


def test_at_most_so_many_and_the_rest_is_in_the_comment(pushes: Pushes, github: GitHubServer) -> None:
    for run in (500, 501):
        pushes.push(*ALL, limit=2, run=run)
    assert [said for *_, said in pushes.beside] == ["**high:** the total is off by one", "**medium:** unused"]
    assert "no test" in pushes.comment
    pushes.push(*ALL, OFF_BY_ONE._replace(line=3, message="worse", id="c" * 12), limit=2, run=502)
    assert [said for *_, said in pushes.beside[2:]] == ["**high:** worse"]


@pytest.mark.parametrize(
    ("first", "last", "anchor"),
    [
        (2, 5, Anchor("app.py", 2, 5, True)),
        (2, 2, Anchor("app.py", 2, 2, True)),
        (2, None, Anchor("app.py", 2, 2, True)),
        (7, 8, Anchor("app.py", 7, 7, False)),
        (6, 21, Anchor("app.py", 6, 6, False)),
        (5, 2, Anchor("app.py", 5, 5, False)),
        (0, 3, None),
        (-1, None, None),
    ],
)
def test_a_range_is_posted_only_within_one_hunk(
    pushes: Pushes, github: GitHubServer, first: int, last: int | None, anchor: Anchor | None
) -> None:
    finding = OFF_BY_ONE._replace(line=first, end_line=last)
    assert find_anchor(finding, SHOWN) == anchor
    pushes.push(finding)
    assert [each.line for each in github.beside] == ([anchor.last] if anchor else [])


LINES = st.one_of(st.none(), st.integers(-1, 35))


@many(200)
@given(
    st.sampled_from([*SHOWN, "other.py", "a\udce4.py", None]), LINES, LINES, st.sampled_from(["x", "", None])
)
def test_whatever_is_posted_is_at_a_place_that_github_takes(
    path: str | None, line: int | None, end: int | None, suggestion: str | None
) -> None:
    finding = OFF_BY_ONE._replace(path=path, line=line, end_line=end, suggestion=suggestion)
    anchor = find_anchor(finding, SHOWN)
    assert (anchor is not None) == (
        line is not None and any(line in each for each in SHOWN.get(path or "", ()))
    )
    if anchor is None:
        return
    sent = reviews._comment(finding, anchor, "default")
    assert find_error(sent, SHOWN) is None
    replaced = (sent.get("start_line", sent["line"]), sent["line"])
    assert ("```suggestion" in sent["body"]) == (suggestion is not None and replaced == (line, end or line))


def test_a_second_push_posts_only_what_is_new(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(OFF_BY_ONE)
    moved = OFF_BY_ONE._replace(line=4, severity="medium", message="one too many in the total", state="open")
    pushes.push(moved, NO_TEST._replace(state="new"), head=NEXT, run=501)
    assert [line for _, line, _ in pushes.beside] == [2, 25]
    assert [each["commit_id"] for each in posted(github)] == [HEAD, NEXT]
    assert "Beside the code: 1 medium, 1 low." in pushes.comment


def test_the_words_identify_a_finding_without_an_id(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(OFF_BY_ONE._replace(id=None))
    pushes.push(OFF_BY_ONE._replace(id=None, line=4, message="The total is off by one!"), run=501)
    pushes.push(OFF_BY_ONE._replace(id=None, message="another defect"), run=502)
    assert [said for *_, said in pushes.beside] == [
        "**high:** the total is off by one",
        "**high:** another defect",
    ]


@pytest.mark.parametrize("made", ["--> <!-- x", "", "00AA11BB22CC", "0" * 13])
def test_an_id_of_another_form_is_not_written(made: str) -> None:
    assert re.fullmatch("[0-9a-f]{12}", identify(OFF_BY_ONE._replace(id=made)))


def test_two_findings_of_one_place_have_a_comment_each(pushes: Pushes, github: GitHubServer) -> None:
    one, two = (OFF_BY_ONE._replace(message=said) for said in ("off by one", "wrong type"))
    for run in (500, 501):
        pushes.push(one, two, run=run)
    assert len(pushes.beside) == 2
    pushes.push(two, run=502)
    assert not [each for each in github.beside if "No longer" in each.body], "which one is gone is not known"
    third = OFF_BY_ONE._replace(message="and slow", state="new")
    pushes.push(third, one._replace(state="open"), two._replace(state="open"), run=503)
    assert [said for *_, said in pushes.beside[2:]] == ["**high:** and slow"]


def test_a_merged_finding_keeps_its_comment_whichever_of_its_ids_is_shown(
    pushes: Pushes, github: GitHubServer
) -> None:
    both = ("00aa11bb22cc", "99aa11bb22cc")
    pushes.push(OFF_BY_ONE._replace(ids=both))
    other = OFF_BY_ONE._replace(id=both[1], line=3, ids=both, state="open")
    pushes.push(other, head=NEXT, run=501)
    assert [line for _, line, _ in pushes.beside] == [2]
    assert not [each for each in github.beside if "No longer" in each.body]
    assert "Beside the code: 1 high." in pushes.comment
    pushes.push(NO_TEST, head="d" * 40, run=502)
    assert [each.line for each in github.beside if "No longer" in each.body] == [2]


def test_a_finding_that_is_gone_is_said_to_be_once(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(*ALL)
    pushes.push(OFF_BY_ONE, NO_TEST, head=NEXT, run=501)
    edits = github.sent("PATCH")
    pushes.push(OFF_BY_ONE, NO_TEST, head="d" * 40, run=502)
    gone = [each.body for each in github.beside if "No longer reported" in each.body]
    assert gone == [
        f"**medium:** unused\n\n*No longer reported at `{NEXT[:12]}`.*\n\n"
        f"<!-- aethr:finding key=default id=ba9876543210 gone={NEXT[:12]} -->"
    ]
    assert [each["path"] for each in edits if "/pulls/" in each["path"]] == [
        f"/repos/octo/shop/pulls/comments/{github.beside[1].id}"
    ]
    assert len([each for each in github.sent("PATCH") if "/pulls/" in each["path"]]) == 1


def test_a_finding_that_is_back_is_not_posted_twice(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(UNUSED)
    before = github.beside[0].body
    pushes.push(head=NEXT, outcome="pass", run=501)
    assert github.beside[0].body != before
    pushes.push(UNUSED, run=502)
    assert [each.body for each in github.beside] == [before]


def test_the_thread_of_a_finding_that_is_gone_is_resolved_where_the_token_may(
    pushes: Pushes, github: GitHubServer
) -> None:
    github.may_resolve = True
    pushes.push(*ALL)
    before = [each.body for each in github.beside]
    for run in (501, 502):
        pushes.push(OFF_BY_ONE, outcome="revise", head=NEXT, run=run)
    assert [each.resolved for each in github.beside] == [False, True, True]
    assert [each.body for each in github.beside] == before
    assert sum("mutation" in str(each["body"]) for each in github.requests) == 2
    pushes.push(OFF_BY_ONE, UNUSED, run=503)
    assert len(github.beside) == 3
    assert "unused" in pushes.comment, "a resolved thread is folded"


@pytest.mark.parametrize("outcome", ["incomplete", "not-reviewed"])
def test_what_was_not_reviewed_again_is_not_gone(
    pushes: Pushes, github: GitHubServer, outcome: RunOutcome
) -> None:
    github.may_resolve = True
    pushes.push(*ALL)
    before = [(each.body, each.resolved) for each in github.beside]
    pushes.push(NO_TEST, outcome=outcome, run=501)
    assert [(each.body, each.resolved) for each in github.beside] == before


def test_without_a_verdict_no_review_is_posted(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(*ALL, outcome="not-reviewed")
    assert not [each for each in github.requests if "/pulls/" in each["path"]]
    assert all(each.message in pushes.comment for each in ALL)
    pushes.push(*ALL, outcome="incomplete", run=501)
    assert len(github.beside) == 3


def test_an_answered_finding_is_neither_posted_nor_gone(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(UNUSED)
    answered = [each._replace(state="answered") for each in (UNUSED, NO_TEST)]
    pushes.push(*answered, outcome="pass", run=501)
    assert [said for *_, said in pushes.beside] == ["**medium:** unused"]
    assert "No longer" not in github.beside[0].body


def test_a_resolved_finding_is_gone(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(UNUSED)
    pushes.push(UNUSED._replace(state="resolved"), outcome="pass", run=501)
    assert "No longer reported" in github.beside[0].body


@pytest.mark.parametrize("became", [{"line": None}, {"resolved": True}], ids=["outdated", "resolved"])
def test_a_thread_that_is_folded_is_not_posted_again(
    pushes: Pushes, github: GitHubServer, became: dict[str, Any]
) -> None:
    pushes.push(OFF_BY_ONE)
    for name, value in became.items():
        setattr(github.beside[0], name, value)
    pushes.push(OFF_BY_ONE, head=NEXT, run=501)
    assert len(github.reviews) == 1
    assert "off by one" in pushes.comment, "nobody sees it beside its line"


def test_a_resolved_thread_is_left_alone_when_its_finding_is_gone(
    pushes: Pushes, github: GitHubServer
) -> None:
    pushes.push(OFF_BY_ONE)
    github.beside[0].resolved = True
    before = github.beside[0].body
    pushes.push(outcome="pass", run=501)
    assert github.beside[0].body == before


def test_three_hundred_threads(pushes: Pushes, github: GitHubServer) -> None:
    github.may_resolve = True
    ids = [f"{number:012x}" for number in range(300)]
    for made in ids:
        github.add_beside(f"**low:** x\n\n<!-- aethr:finding key=default id={made} -->", ME)
    still = [NO_TEST._replace(id=made, line=1 + number % 7) for number, made in enumerate(ids[:250])]
    pushes.push(*still, OFF_BY_ONE)
    assert [each.resolved for each in github.beside] == [False] * 250 + [True] * 50 + [False]
    assert [said for *_, said in pushes.beside[300:]] == ["**high:** the total is off by one"]


def test_a_new_finding_after_a_page_of_comments(pushes: Pushes, github: GitHubServer) -> None:
    for number in range(100):
        github.add_beside(f"comment {number}")
    pushes.push(OFF_BY_ONE)
    pushes.push(OFF_BY_ONE, UNUSED, run=501)
    assert len(github.beside) == 102
    pushes.push(OFF_BY_ONE, run=502)
    assert "No longer" in github.beside[101].body


@pytest.mark.parametrize("points", [2, 3])
def test_a_graphql_quota_that_runs_dry_fails_nothing(
    pushes: Pushes, github: GitHubServer, points: int
) -> None:
    """One request each asks who we are for the comment and for the review; then come the threads."""
    github.may_resolve = True
    pushes.push(*ALL)
    github.points = points
    delivered = pushes.push(OFF_BY_ONE, NO_TEST, head=NEXT, run=501)
    assert (delivered.exit_code, delivered.error, delivered.note) == (0, None, "")
    assert "No longer reported" in github.beside[1].body
    assert len(github.beside) == 3


@pytest.mark.parametrize("status", [200, 403, 502])
def test_a_thread_that_cannot_be_resolved_after_all(
    pushes: Pushes, github: GitHubServer, status: int
) -> None:
    github.may_resolve = True
    pushes.push(UNUSED)
    if status == 200:
        github.forbids_resolving = True
    else:
        github.fail("POST", status, on="resolveReviewThread")
    assert pushes.push(outcome="pass", run=501).exit_code == 0
    assert "No longer reported" in github.beside[0].body
    github.forbids_resolving = False
    pushes.push(outcome="pass", run=502)
    assert github.beside[0].resolved
    assert github.beside[0].body.count("No longer reported") == 1


def test_a_copied_hidden_line_does_not_count(pushes: Pushes, github: GitHubServer) -> None:
    line = f"<!-- aethr:finding key=default id={OFF_BY_ONE.id} -->"
    github.add_beside(f"Fine.\n\n{line}", "mallory")
    github.add_beside(f"> {line}", ME)
    github.add_beside(f"In another project.\n\n{line.replace('default', 'web')}", ME)
    before = [each.body for each in github.beside]
    pushes.push(OFF_BY_ONE)
    assert len(github.beside) == 4
    pushes.push(outcome="pass", run=501)
    assert [each.body for each in github.beside[:3]] == before


def test_a_comment_that_a_person_edited_is_still_ours(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(OFF_BY_ONE)
    github.beside[0].body = github.beside[0].body.replace("\n", "\r\n") + "\r\n\r\nDiscussed: we keep it.\r\n"
    pushes.push(OFF_BY_ONE, run=501)
    assert len(github.beside) == 1
    pushes.push(outcome="pass", run=502)
    assert "Discussed: we keep it." in github.beside[0].body
    pushes.push(outcome="pass", run=503)
    assert github.beside[0].body.count("No longer") == 1


# --- faults ------------------------------------------------------------------------------------


def all_in_the_comment(pushes: Pushes, said: str) -> None:
    assert all(each.message in pushes.comment for each in ALL)
    assert pushes.comment.count("could not be posted beside the line") == 1
    assert said in pushes.comment
    assert "could not be posted beside the line" in pushes.log


@pytest.mark.parametrize(
    "said",
    [
        "Line could not be resolved",
        "Pull request review thread line must be part of the diff",
        "Pull request review thread start line must be part of the same hunk as the line.",
        "The commitOID is not part of the pull request",
        "User can only have one pending review per pull request",
        "was submitted too quickly",
    ],
)
def test_a_refused_review_is_in_the_comment(pushes: Pushes, github: GitHubServer, said: str) -> None:
    github.fail("POST", 422, on="/reviews", message=said)
    assert pushes.push(*ALL).exit_code == 0
    assert len(posted(github)) == 1
    all_in_the_comment(pushes, said)
    assert pushes.push(*ALL, run=501).note == ""
    assert len(pushes.beside) == 3


def test_a_line_that_github_does_not_show_loses_nothing(pushes: Pushes, github: GitHubServer) -> None:
    github.diff["app.py"] = [range(1, 8)]
    assert pushes.push(*ALL).exit_code == 0
    assert github.beside == []
    all_in_the_comment(pushes, "Line could not be resolved")


def test_a_pending_review_is_left_alone(pushes: Pushes, github: GitHubServer) -> None:
    github.pending = True
    assert pushes.push(*ALL).exit_code == 0
    all_in_the_comment(pushes, "one pending review")
    assert {each["method"] for each in github.requests} == {"GET", "POST"}


def test_a_head_that_was_forced_away(pushes: Pushes, github: GitHubServer) -> None:
    github.commits = {NEXT}
    assert pushes.push(*ALL).exit_code == 0
    all_in_the_comment(pushes, "The commitOID is not part of the pull request")
    assert pushes.push(*ALL, head=NEXT, run=501).note == ""


@pytest.mark.parametrize(("status", "said"), [(403, "Resource not accessible"), (404, "Not Found")])
def test_a_token_that_may_comment_but_not_review(
    pushes: Pushes, github: GitHubServer, status: int, said: str
) -> None:
    github.fail("POST", status, on="/reviews", message=said)
    assert pushes.push(*ALL).exit_code == 0
    all_in_the_comment(pushes, said)
    assert len(posted(github)) == 1


@pytest.mark.parametrize(("outside", "code"), [(True, 0), (False, 3)])
def test_a_token_that_can_only_read(tmp_path: Path, outside: bool, code: int) -> None:
    with GitHubServer(read_only=True) as github:
        pushes = Pushes(github, tmp_path)
        delivered = pushes.push(*ALL, outside=outside)
        assert (delivered.exit_code, github.comments, github.beside) == (code, [], [])
        assert len(github.sent("POST")) == 2, "neither is tried again"
    assert all(each.message in (tmp_path / "summary.md").read_text(encoding="utf-8") for each in ALL)
    assert "off by one" in pushes.log


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("done", [True, False])
def test_a_lost_answer_posts_nothing_twice(
    pushes: Pushes, github: GitHubServer, status: int, done: bool
) -> None:
    github.fail("POST", status, on="/reviews", done=done)
    assert pushes.push(*ALL) == Delivered(ExitCode.OK, pushes.push(*ALL, run=501).posted)
    assert len(pushes.beside) == 3
    assert pushes.slept == [2.0]
    assert "could not" not in pushes.comment


def test_a_review_of_which_a_part_was_posted(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(OFF_BY_ONE)
    [first] = github.beside
    github.beside.clear()
    github.fail("POST", 502, on="/reviews")
    pushes.meanwhile = lambda: github.beside.append(first)
    pushes.push(*ALL, run=501)
    assert sorted(line for _, line, _ in pushes.beside if line) == [2, 7, 25]


def test_a_review_is_posted_at_most_twice(pushes: Pushes, github: GitHubServer) -> None:
    for _ in range(4):
        github.fail("POST", 502, on="/reviews")
    assert pushes.push(*ALL).exit_code == 0
    assert len(posted(github)) == 2
    all_in_the_comment(pushes, "502")


def test_without_the_list_no_review_is_posted(pushes: Pushes, github: GitHubServer) -> None:
    github.fail("GET", 400, on="/pulls/7/comments", message="no")
    assert pushes.push(*ALL).exit_code == 0
    assert posted(github) == []
    assert "No finding could be posted beside its line: GitHub answered 400 to a GET: no" in pushes.comment
    assert all(each.message in pushes.comment for each in ALL)
    github.fail("GET", 400, on="/pulls/7/comments", message="no")
    assert pushes.push(outcome="pass", run=501).note == "", "there was nothing to post"


@pytest.mark.parametrize("done", [True, False])
def test_a_review_that_cannot_be_looked_for_is_not_posted_again(
    pushes: Pushes, github: GitHubServer, done: bool
) -> None:
    github.fail("POST", 502, on="/reviews", done=done)
    pushes.meanwhile = lambda: github.fail("GET", 400, on="/pulls/7/comments", message="no")
    assert pushes.push(*ALL).exit_code == 0
    assert len(posted(github)) == 1
    assert all(each.message in pushes.comment for each in ALL)
    pushes.push(*ALL, run=501)
    assert len(pushes.beside) == 3


def test_a_rate_limit_is_waited_for(pushes: Pushes, github: GitHubServer) -> None:
    said = "You have exceeded a secondary rate limit"
    github.fail("POST", 403, on="/reviews", message=said, Retry_After="7")
    assert pushes.push(*ALL).note == ""
    assert (pushes.slept, len(pushes.beside)) == ([7.0], 3)


def test_a_rate_limit_of_an_hour_leaves_it_to_the_comment(pushes: Pushes, github: GitHubServer) -> None:
    github.fail("POST", 429, on="/reviews", message="secondary rate limit", Retry_After="3600")
    assert pushes.push(*ALL).exit_code == 0
    all_in_the_comment(pushes, "secondary rate limit")


def test_a_comment_that_cannot_be_edited_fails_nothing(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(*ALL)
    github.fail("PATCH", 403, on="/pulls/comments", message="Resource not accessible by integration")
    assert pushes.push(OFF_BY_ONE, run=501).exit_code == 0
    pushes.push(OFF_BY_ONE, run=502)
    assert sum("No longer" in each.body for each in github.beside) == 2


def test_a_locked_conversation_fails_as_it_does_without_inline(pushes: Pushes, github: GitHubServer) -> None:
    github.locked = True
    for run, limit in enumerate((15, None)):
        delivered = pushes.push(*ALL, run=500 + run, limit=limit)
        assert delivered.exit_code == 3
        assert "the conversation is locked" in str(delivered.error)
    assert github.beside == []


def test_an_older_run_posts_no_review(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(OFF_BY_ONE, run=501)
    requests = len(github.requests)
    delivered = pushes.push(*ALL, run=500)
    assert delivered.posted is not None
    assert delivered.posted.newer
    assert not [each for each in github.requests[requests:] if "/pulls/" in each["path"]]


def test_a_comment_that_was_deleted_meanwhile_posts_no_second_review(
    pushes: Pushes, github: GitHubServer
) -> None:
    pushes.push()
    github.fail("PATCH", 404, on="/issues/comments")
    assert pushes.push(*ALL, run=501).exit_code == 0
    assert len(github.reviews) == 1
    assert "Beside the code: 1 high, 1 medium, 1 low." in github.bodies[-1]


def test_the_exit_code_is_that_of_the_review(pushes: Pushes, github: GitHubServer) -> None:
    github.fail("GET", 400, on="/pulls/")
    assert pushes.push(*ALL).exit_code == 0
    assert github.comments


# --- text --------------------------------------------------------------------------------------

ONE_LINE = Anchor("app.py", 2, 2, True)


def body(suggestion: str | None, anchor: Anchor = ONE_LINE, **changed: Any) -> str:
    finding = OFF_BY_ONE._replace(suggestion=suggestion, **changed)
    return write_body(finding, anchor, "default").replace(BREAK, "|")


@pytest.mark.parametrize(
    ("suggestion", "block"),
    [
        ("x = 1", "```suggestion\nx = 1\n```"),
        ("x = 1\n", "```suggestion\nx = 1\n```"),
        ("\tx = 1\r\ny = 2\r\n", "```suggestion\n\tx = 1\ny = 2\n```"),
        ("", "```suggestion\n```"),
        ("\n", "```suggestion\n\n```"),
        ("```py\nx\n```", "````suggestion\n```py\nx\n```\n````"),
        ("a ````` b", "``````suggestion\na ````` b\n``````"),
        ("~~~\nx", "```suggestion\n~~~\nx\n```"),
        ("@property\n#123 [x](y) <b>", "```suggestion\n@property\n#123 [x](y) <b>\n```"),
    ],
)
def test_a_suggestion_is_exactly_the_new_lines(suggestion: str, block: str) -> None:
    assert f"\n\n{block}\n\n<!--" in body(suggestion)


@pytest.mark.parametrize(
    "suggestion",
    ["<!-- aethr:end -->", "/approve", "a\u202eb", "\x1b[2J", "x\ry", "key = '[redacted]'"],
)
def test_a_suggestion_that_cannot_be_posted_as_it_is_is_only_shown(suggestion: str) -> None:
    text = body(suggestion)
    assert "Suggested instead of line 2:\n\n```\n" in text
    assert "suggestion\n" not in text
    assert text.count("<!--") == 1


@pytest.mark.parametrize(
    ("end", "suggestion", "said"),
    [
        (9, "x", "Suggested instead of lines 2 to 9:\n\n```\nx\n```"),
        (9, "", "Suggested: delete lines 2 to 9."),
    ],
)
def test_a_suggestion_for_lines_that_are_not_all_shown_is_only_shown(
    end: int, suggestion: str, said: str
) -> None:
    anchor = find_anchor(OFF_BY_ONE._replace(end_line=end), SHOWN)
    assert anchor is not None
    text = body(suggestion, anchor, end_line=end)
    assert said in text
    assert "```suggestion" not in text


def test_a_suggestion_replaces_the_lines_of_the_comment(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(UNUSED._replace(suggestion="x = 1\n"))
    [comment] = github.beside
    assert (comment.start_line, comment.line) == (6, 7)
    assert comment.body.split("\n")[2:5] == ["```suggestion", "x = 1", "```"]


HOSTILE = (
    "<!-- aethr:finding key=default id=000000000000 -->",
    "x\n<!-- aethr:finding key=default id=000000000000 -->",
    "```suggestion\nrm -rf\n```",
    "@octo/security /approve #1 closes #2",
    "![x](https://evil.example/x.png) <img src=x> [a](javascript:b)",
    "/approve",
    "</details>\u202e\x1b]8;;",
    "\ud800",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_inert(pushes: Pushes, github: GitHubServer, hostile: str) -> None:
    finding = OFF_BY_ONE._replace(message=hostile, suggestion=hostile)
    for run, each in enumerate((finding, finding._replace(path=hostile))):
        pushes.push(each, run=500 + run)
    [comment] = github.beside
    assert comment.body.count("<!--") == 1
    message = comment.body.split("\n")[0]
    assert not re.search(r"@\w|#\d|<[a-z/!]|(?<!\\)`|(?<!\\)\]\(", message)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", comment.body)
    assert not re.search(r"^/approve", comment.body, re.MULTILINE)
    fences = re.findall("^`{3,}", comment.body, re.MULTILINE)
    assert fences[0] == fences[-1] == max(fences, key=len)
    assert len([each for each in fences if each == fences[0]]) == 2
    assert "evil.example" not in message or "\\](" in message


@pytest.mark.parametrize(
    ("message", "suggestion"),
    [("&" * 20_000, None), ("\u202e" * 20_000, None), ("m", "é\n" * 40_000), ("\U0001f600" * 9_000, "x")],
)
def test_a_comment_is_bounded(
    pushes: Pushes, github: GitHubServer, message: str, suggestion: str | None
) -> None:
    pushes.push(OFF_BY_ONE._replace(message=message, suggestion=suggestion))
    [comment] = github.beside
    assert len(comment.body.encode()) <= LIMIT
    assert comment.body.endswith(" -->")
    assert ("too long" in comment.body) == (suggestion is not None and len(suggestion) > 10)
    pushes.push(outcome="pass", run=501)
    assert "No longer reported" in github.beside[0].body


def test_no_key_is_beside_a_line(pushes: Pushes, github: GitHubServer) -> None:
    pushes.push(OFF_BY_ONE._replace(message=f"the key {KEY}", suggestion=f"x = '{KEY}'"), secrets=(KEY,))
    assert KEY not in str(github.requests)
    assert "```suggestion" not in github.beside[0].body


def test_the_hidden_line_of_each_comment_is_read_again() -> None:
    """Whatever is in a comment, it has exactly one hidden line, its own."""
    for message, suggestion in itertools.product(HOSTILE, HOSTILE):
        text = write_body(OFF_BY_ONE._replace(message=message, suggestion=suggestion), ONE_LINE, "a-b")
        assert reviews._MARK.findall(text) == [("a-b", OFF_BY_ONE.id, "")]
