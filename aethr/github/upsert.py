"""One comment per key on a pull request: created once, edited in place, never somebody else's.

A comment is ours if its first line is our marker **and** the token's owner wrote it: anybody can copy a
marker, and a token that can write comments can edit everybody's. The marker names the run that wrote the
comment, and the commit that it reviews.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from aethr.base.network import is_address
from aethr.base.outside import MOST, at, count, text
from aethr.github.api import AmbiguousError, Api, ApiError

_LINE = re.compile(
    r"<!-- aethr:comment key=([A-Za-z0-9._-]{1,60}) run=([0-9]{1,18}) attempt=([0-9]{1,9})"
    r" head=([0-9a-f]{40,64}) reviewed=([0-9a-f]{40,64}|none) -->"
)

LATER_RUNS = 10**9
"""All of github.com starts fewer runs (ids are at 2*10**10) in the 30 days in which a run can be repeated."""
MOST_ATTEMPTS = 1000


class Marker(NamedTuple):
    """The first line of our comment. ``reviewed`` is the commit of the review in it, if it holds one."""

    key: str
    run: int
    attempt: int
    head: str
    reviewed: str | None = None

    def __str__(self) -> str:
        return (
            f"<!-- aethr:comment key={self.key} run={self.run} attempt={self.attempt}"
            f" head={self.head} reviewed={self.reviewed or 'none'} -->"
        )

    def is_older_than(self, other: Marker) -> bool:
        """Whether a later run wrote ``other``: runs are numbered as they start, and keep it when repeated.

        A number too far ahead was edited by somebody, and must not block the comment forever.
        """
        if other.run - self.run > LATER_RUNS or other.attempt > MOST_ATTEMPTS:
            return False
        return (self.run, self.attempt) < (other.run, other.attempt)


def read(body: str) -> Marker | None:
    """Read the marker on a comment's first line."""
    match = _LINE.fullmatch(body.split("\n", 1)[0].rstrip("\r"))
    if match is None:
        return None
    key, run, attempt, head, reviewed = match.groups()
    return Marker(key, int(run), int(attempt), head, None if reviewed == "none" else reviewed)


Write = Callable[["str | None"], str]
"""From the comment's present text, None without a comment, to its new text."""

LONGEST_URL = 2000
POSTS = 2
"""How often a comment is posted at most, while the answers to it are lost."""

_GONE = (404, 410)

_WHO = "query { viewer { login } }"


class Posted(NamedTuple):
    """The comment's address. ``newer`` is True when a later run wrote it, so it was not changed."""

    url: str
    newer: bool = False


class PullRequest(NamedTuple):
    """A pull request, and the GraphQL address that names the token's owner."""

    repository: str
    number: int
    graphql_url: str

    @property
    def comments(self) -> str:
        return f"/repos/{self.repository}/issues/{self.number}/comments"


class _Comment(NamedTuple):
    id: int
    url: str
    body: str
    mark: Marker


def upsert(api: Api, pull: PullRequest, mark: Marker, write: Write) -> Posted:
    """Create or edit the comment of ``mark.key``. Raises ``ApiError``."""
    ours = _find_ours(api, pull, mark.key)
    if ours is None:
        return _create(api, pull, mark, write(None))
    if mark.is_older_than(ours.mark):
        return Posted(ours.url, newer=True)
    path = f"/repos/{pull.repository}/issues/comments/{ours.id}"
    try:
        return Posted(_url(api.patch(path, {"body": write(ours.body)}).value))
    except ApiError as error:
        if error.status not in _GONE:
            raise
    return _create(api, pull, mark, write(None))  # deleted since it was listed


def _create(api: Api, pull: PullRequest, mark: Marker, body: str, posts: int = POSTS) -> Posted:
    """Post the comment; after a lost answer, look for it before posting it again."""
    try:
        return Posted(_url(api.post(pull.comments, {"body": body}).value))
    except AmbiguousError:
        api.pause()
        ours = _find_ours(api, pull, mark.key)
        if ours is None and posts == 1:
            raise
    return Posted(ours.url) if ours is not None else _create(api, pull, mark, body, posts - 1)


def _find_ours(api: Api, pull: PullRequest, key: str) -> _Comment | None:
    """The oldest comment with this key that the token's owner wrote, on any page."""
    candidates = []
    for value in api.pages(f"{pull.comments}?per_page=100"):
        body, number = at(value, "body"), count(at(value, "id"))
        if not isinstance(body, str) or not 0 < number < MOST:
            continue
        mark = read(body)
        if mark is not None and mark.key == key:
            candidates.append((_Comment(number, _url(value), body, mark), at(value, "user", "login")))
    if not candidates:
        return None
    # ``GET /user`` is closed to a job's own token, GraphQL's ``viewer`` is not.
    me = at(api.post(pull.graphql_url, {"query": _WHO}, reads=True).value, "data", "viewer", "login")
    if not isinstance(me, str):
        raise ApiError("GitHub does not name the owner of this token", "Check the input github-token.")
    return next((comment for comment, author in candidates if author == me), None)


def _url(value: Any) -> str:
    """The page of a comment; empty if GitHub does not name one."""
    url = text(at(value, "html_url"))
    return url if len(url) <= LONGEST_URL and is_address(url) else ""
