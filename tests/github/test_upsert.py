"""The comment over real HTTP, on a server with GitHub's limits and faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aethr.github.upsert import (
    AmbiguousError,
    Api,
    ApiError,
    Marker,
    Posted,
    PullRequest,
    ReadOnlyError,
    upsert,
)
from tests.github.github_server import ME, GitHubServer

MARK = Marker("default", 500, 1, "a" * 40, "a" * 40)


class Poster:
    """Posts through a real connection, and records the waits instead of sleeping."""

    def __init__(self, github: GitHubServer) -> None:
        self.github = github
        self.slept: list[float] = []

    def post(self, text: str = "text", mark: Marker = MARK) -> Posted:
        pull = PullRequest("octo/shop", 7, f"{self.github.url}/graphql")
        with Api(self.github.url, "ghs_token", self.slept.append) as api:
            return upsert(api, pull, mark, lambda previous: f"{mark}\n{text}\n{previous is not None}")


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        yield server


@pytest.fixture
def poster(github: GitHubServer) -> Poster:
    return Poster(github)


def test_created_once_then_edited_in_place(poster: Poster, github: GitHubServer) -> None:
    first = poster.post("one")
    second = poster.post("two", Marker("default", 501, 1, "b" * 40))
    assert first == second
    assert [body.split("\n")[1:] for body in github.bodies] == [["two", "True"]]


def test_the_first_run_does_not_ask_who_it_is(poster: Poster, github: GitHubServer) -> None:
    poster.post()
    assert [(each["method"], each["path"].split("?")[0]) for each in github.requests] == [
        ("GET", "/repos/octo/shop/issues/7/comments"),
        ("POST", "/repos/octo/shop/issues/7/comments"),
    ]


def test_each_comment_key_has_its_own_comment(poster: Poster, github: GitHubServer) -> None:
    poster.post("api", Marker("api", 500, 1, "a" * 40))
    poster.post("web", Marker("web", 500, 1, "a" * 40))
    poster.post("api again", Marker("api", 501, 1, "a" * 40))
    assert [body.split("\n")[1] for body in github.bodies] == ["api again", "web"]


@pytest.mark.parametrize("before", [99, 100, 500])
def test_our_comment_is_found_among_hundreds(poster: Poster, github: GitHubServer, before: int) -> None:
    for number in range(before):
        github.add_comment(f"comment {number}")
    github.add_comment(f"{MARK}\nold", ME)
    poster.post("new")
    assert len(github.comments) == before + 1
    assert github.bodies[-1].split("\n")[1] == "new"


def test_a_comment_with_a_copied_marker_is_not_edited(poster: Poster, github: GitHubServer) -> None:
    forged = github.add_comment(f"{MARK}\nReview status: pass", "mallory")
    poster.post("ours")
    poster.post("ours again", Marker("default", 501, 1, "b" * 40))
    assert forged.body == f"{MARK}\nReview status: pass"
    assert [comment.author for comment in github.comments] == ["mallory", ME]
    assert github.bodies[1].split("\n")[1] == "ours again"


@pytest.mark.parametrize("body", ["quoted:\n{}", "> {}", " {}", "{} and more", "```\n{}\n```"])
def test_a_marker_below_the_first_line_does_not_count(
    poster: Poster, github: GitHubServer, body: str
) -> None:
    github.add_comment(body.format(MARK), ME)
    poster.post()
    assert len(github.comments) == 2


@pytest.mark.parametrize("newer", [Marker("default", 501, 1, "b" * 40), Marker("default", 500, 2, "a" * 40)])
def test_an_older_run_does_not_overwrite(poster: Poster, github: GitHubServer, newer: Marker) -> None:
    poster.post("newer", newer)
    posted = poster.post("older")
    assert posted.newer
    assert github.bodies[0].split("\n")[1] == "newer"


def test_a_lost_answer_does_not_post_a_second_comment(poster: Poster, github: GitHubServer) -> None:
    github.fail("POST", 502, done=True)
    posted = poster.post("once")
    assert len(github.comments) == 1
    assert posted.url.endswith("#issuecomment-1")


def test_a_comment_that_was_not_posted_is_posted_again(poster: Poster, github: GitHubServer) -> None:
    github.fail("POST", 502)
    poster.post("once")
    assert len(github.comments) == 1
    assert len(github.sent("POST")) == 2


def test_a_comment_is_posted_at_most_twice(poster: Poster, github: GitHubServer) -> None:
    for _ in range(5):
        github.fail("POST", 502)
    with pytest.raises(ApiError, match="502"):
        poster.post()
    assert len(github.sent("POST")) == 2


@pytest.mark.parametrize(
    ("status", "message", "headers", "slept"),
    [
        (429, "too many", {"Retry_After": "7"}, [7.0]),
        (403, "You have exceeded a secondary rate limit", {"Retry_After": "3"}, [3.0]),
        (403, "API rate limit exceeded", {}, [1.0]),
    ],
)
def test_a_rate_limit_is_waited_for(
    poster: Poster,
    github: GitHubServer,
    status: int,
    message: str,
    headers: dict[str, str],
    slept: list[float],
) -> None:
    github.fail("POST", status, message=message, **headers)
    poster.post()
    assert poster.slept == slept
    assert len(github.comments) == 1


def test_a_rate_limit_of_an_hour_is_an_error(poster: Poster, github: GitHubServer) -> None:
    github.fail("POST", 429, Retry_After="3600")
    with pytest.raises(ApiError, match="429"):
        poster.post()
    assert poster.slept == []


def test_a_failed_list_of_comments_is_retried(poster: Poster, github: GitHubServer) -> None:
    github.fail("GET", 500)
    github.fail("GET", 503)
    poster.post()
    assert poster.slept == [1.0, 2.0]
    assert len(github.comments) == 1


def test_a_server_that_is_down_is_an_error_in_one_line(poster: Poster, github: GitHubServer) -> None:
    for _ in range(4):
        github.fail("GET", 500, message="<html>\nnope")
    with pytest.raises(ApiError, match=r"^GitHub answered 500 to a GET: <html>\\nnope$"):
        poster.post()
    assert poster.slept == [1.0, 2.0, 4.0]


def test_a_token_that_can_only_read_is_named(poster: Poster, github: GitHubServer) -> None:
    github.read_only = True
    with pytest.raises(ReadOnlyError, match="Resource not accessible by integration") as caught:
        poster.post()
    assert "pull-requests: write" in caught.value.fix
    assert github.comments == []


def test_a_comment_that_is_too_long_is_not_retried(poster: Poster, github: GitHubServer) -> None:
    with pytest.raises(ApiError, match="422"):
        poster.post("ü" * 131_073)
    assert len(github.sent("POST")) == 1
    poster.post("ü" * 131_072)


def test_the_token_is_not_sent_to_another_server(poster: Poster, github: GitHubServer) -> None:
    with GitHubServer() as other:
        page = f'<{other.url}/repos/octo/shop/issues/7/comments?page=2>; rel="next"'
        github.link = page
        with pytest.raises(ApiError, match="another server"):
            poster.post()
        assert other.requests == []


# --- a comment that changes meanwhile ----------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410])
def test_a_comment_deleted_meanwhile_is_posted_again(
    poster: Poster, github: GitHubServer, status: int
) -> None:
    github.add_comment(f"{MARK}\nold", ME)
    github.fail("PATCH", status, message="Not Found")
    posted = poster.post("new")
    assert posted.url.endswith("#issuecomment-2")
    assert github.bodies[1].split("\n")[1:] == ["new", "False"]


def test_a_deleted_pull_request_is_an_error(poster: Poster, github: GitHubServer) -> None:
    github.add_comment(f"{MARK}\nold", ME)
    github.fail("PATCH", 404, message="Not Found")
    github.fail("POST", 404, message="Not Found")
    github.fail("POST", 404, message="Not Found")
    with pytest.raises(ApiError, match="404"):
        poster.post("new")


NINES = [str(10**10), "9" * 18, "9" * 17, "9" * 400]


@pytest.mark.parametrize("run", [*NINES, "-1", "\u0661\u0662\u0663", "1e9"])
def test_an_impossible_run_number_does_not_block_the_comment(
    poster: Poster, github: GitHubServer, run: str
) -> None:
    """Whoever may write to the repository can edit the comment."""
    github.add_comment(f"{MARK}\nold".replace("run=500", f"run={run}"), ME)
    assert not poster.post("first").newer
    assert not poster.post("second", Marker("default", 501, 1, "b" * 40)).newer
    assert github.bodies[-1].split("\n")[1] == "second"
    assert len(github.comments) <= 2


def test_an_impossible_attempt_does_not_block_the_comment(poster: Poster, github: GitHubServer) -> None:
    github.add_comment(f"{MARK}\nold".replace("attempt=1", "attempt=999999999"), ME)
    assert not poster.post("new").newer
    assert github.bodies == [f"{MARK}\nnew\nTrue"]


def test_a_comment_without_its_marker_is_not_edited(poster: Poster, github: GitHubServer) -> None:
    poster.post("one")
    github.comments[0].body = "edited by hand"
    poster.post("two", Marker("default", 501, 1, "b" * 40))
    assert github.bodies[0] == "edited by hand"
    assert github.bodies[1].split("\n")[1:] == ["two", "False"]


def test_the_older_of_two_comments_of_ours_is_edited(poster: Poster, github: GitHubServer) -> None:
    github.add_comment(f"{MARK}\nforged", "mallory")
    github.add_comment(f"{MARK}\nfirst", ME)
    github.add_comment(f"{MARK}\nsecond", ME)
    poster.post("new", Marker("default", 501, 1, "b" * 40))
    assert [body.split("\n")[1] for body in github.bodies] == ["forged", "new", "second"]


def test_a_locked_conversation_is_not_a_missing_permission(poster: Poster, github: GitHubServer) -> None:
    github.fail("POST", 403, message="Unable to create comment because issue is locked.")
    with pytest.raises(ApiError, match="the conversation is locked") as caught:
        poster.post()
    assert not isinstance(caught.value, ReadOnlyError)
    assert "Unlock it" in caught.value.fix


def test_an_endless_retry_after_is_an_error(poster: Poster, github: GitHubServer) -> None:
    github.fail("POST", 429, message="slow down", Retry_After="9" * 401)
    with pytest.raises(ApiError, match="429"):
        poster.post()
    assert poster.slept == []


@pytest.mark.parametrize("header", ["\u00b2", "Thu, 01 Jan 100000000000000000000 00:00:00 GMT"])
def test_a_malformed_retry_after_is_ignored(poster: Poster, github: GitHubServer, header: str) -> None:
    github.fail("POST", 429, message="slow down", Retry_After=header)
    poster.post()
    assert poster.slept == [1.0]


# --- the way to GitHub ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_dead_proxy_is_named_and_not_a_lost_comment(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:hunter2222@127.0.0.1:1")
    with Api(github.url, "ghs_token", lambda _: None) as api, pytest.raises(ApiError) as caught:
        api.send(method, "/x", {} if method == "POST" else None)
    assert not isinstance(caught.value, AmbiguousError)
    assert "GitHub cannot be reached: the proxy http://127.0.0.1:1 (HTTP_PROXY)" in str(caught.value)


def test_no_proxy_holds_for_github_as_for_models(
    github: GitHubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "[::1],127.0.0.0/8")
    with Api(github.url, "ghs_token", lambda _: None) as api:
        assert api.send("GET", "/repos/octo/shop/issues/7/comments").value == []
