"""One comment per key on a pull request: created once, edited in place, never somebody else's.

A comment is ours if its first line is our marker **and** we wrote it: anybody can copy a marker, and a
token that may write comments may edit everybody's. The marker says which run wrote the comment, and what its
review is of.
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
"""All of github.com starts fewer runs in the 30 days in which a run can be repeated; it is at 2*10**10."""
MOST_ATTEMPTS = 1000


class Marker(NamedTuple):
    """``reviewed`` is the commit whose review the comment holds; None where it holds none."""

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
        """Runs are numbered in the order of their start; a repeated one keeps its number.

        Not by so much that ``other`` can be of no run that exists: somebody has edited it.
        """
        if other.run - self.run > LATER_RUNS or other.attempt > MOST_ATTEMPTS:
            return False
        return (self.run, self.attempt) < (other.run, other.attempt)


def read(body: str) -> Marker | None:
    """The marker on a comment's first line."""
    match = _LINE.fullmatch(body.split("\n", 1)[0].rstrip("\r"))
    if match is None:
        return None
    key, run, attempt, head, reviewed = match.groups()
    return Marker(key, int(run), int(attempt), head, None if reviewed == "none" else reviewed)


Write = Callable[["str | None"], str]
"""From what the comment says now (None: there is none) to what it shall say."""

LONGEST_URL = 2000
POSTS = 2
"""How often at most a comment is posted whose fate is not known."""

_GONE = (404, 410)

_WHO = "query { viewer { login } }"


class Posted(NamedTuple):
    """Where the comment is. ``newer`` is True when a later run had written it, and it was left alone."""

    url: str
    newer: bool = False


class Place(NamedTuple):
    """The pull request, and the address that says who the token belongs to."""

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


def upsert(api: Api, place: Place, mark: Marker, write: Write) -> Posted:
    """Create or edit the comment of ``mark.key``. Raises ``ApiError``."""
    ours = _ours(api, place, mark.key)
    if ours is None:
        return _created(api, place, mark, write(None))
    if mark.is_older_than(ours.mark):
        return Posted(ours.url, newer=True)
    path = f"/repos/{place.repository}/issues/comments/{ours.id}"
    try:
        return Posted(_url(api.patch(path, {"body": write(ours.body)}).value))
    except ApiError as error:
        if error.status not in _GONE:
            raise
    return _created(api, place, mark, write(None))  # deleted since it was listed


def _created(api: Api, place: Place, mark: Marker, body: str, posts: int = POSTS) -> Posted:
    """A POST whose answer was lost is looked for before the comment is posted once more."""
    try:
        return Posted(_url(api.post(place.comments, {"body": body}).value))
    except AmbiguousError:
        api.pause()
        ours = _ours(api, place, mark.key)
        if ours is None and posts == 1:
            raise
    return Posted(ours.url) if ours is not None else _created(api, place, mark, body, posts - 1)


def _ours(api: Api, place: Place, key: str) -> _Comment | None:
    """The oldest comment with this key that the token's owner wrote; all pages are looked at."""
    candidates = []
    for value in api.pages(f"{place.comments}?per_page=100"):
        comment = _comment(value)
        if comment is not None and comment.mark.key == key:
            candidates.append((comment, at(value, "user", "login")))
    if not candidates:
        return None
    me = _login(api, place)
    return next((comment for comment, author in candidates if author == me), None)


def _login(api: Api, place: Place) -> str:
    """Who we are. ``GET /user`` is closed to a job's own token, GraphQL's ``viewer`` is not."""
    login = at(api.post(place.graphql_url, {"query": _WHO}, reads=True).value, "data", "viewer", "login")
    if not isinstance(login, str):
        raise ApiError("GitHub does not say who this token belongs to", "Check the input github-token.")
    return login


def _comment(value: Any) -> _Comment | None:
    body, number = at(value, "body"), count(at(value, "id"))
    if not isinstance(body, str) or not 0 < number < MOST:
        return None
    mark = read(body)
    return None if mark is None else _Comment(number, _url(value), body, mark)


def _url(value: Any) -> str:
    """The page of a comment; empty where GitHub names none."""
    url = text(at(value, "html_url"))
    return url if len(url) <= LONGEST_URL and is_address(url) else ""
