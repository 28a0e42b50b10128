"""One comment per key on a pull request: created once, edited in place, never somebody else's.

A comment is ours if its first line is our marker **and** the token's owner wrote it: anybody can copy a
marker, and a token that can write comments can edit everybody's. The marker names the run that wrote the
comment, and the commit that it reviews.

``Api`` is GitHub's REST API as far as the Action needs it: plain httpx, bounded waiting, errors in one line.
Idempotent requests are retried; a POST only when GitHub says that it was not applied. When the answer to a
POST is lost, the caller has to find out whether it was applied (``AmbiguousError``). Rules:
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from aethr import __version__
from aethr.base.errors import AethrError
from aethr.base.network import is_address
from aethr.base.outside import MOST, at, count, json_value, retry_after_s, text
from aethr.base.sanitize import one_line
from aethr.llm import connection

VERSION = "2022-11-28"
TRIES = 4
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60.0
"""The longest wait before a retry; all waits together stay under ``TRIES`` times it."""
TIMEOUT_S = 20.0
PAGES = 100
"""At most so many pages of a list are read, of 100 comments each."""

Sleep = Callable[[float], None]


class ApiError(AethrError):
    """GitHub refused, or could not be reached. ``status`` is 0 without an answer."""

    def __init__(self, message: str, fix: str = "", status: int = 0) -> None:
        super().__init__(message, fix)
        self.status = status


class ReadOnlyError(ApiError):
    """The token cannot write: the run is a fork's or Dependabot's, or lacks the permission."""


class AmbiguousError(ApiError):
    """The answer to a POST was lost, so it may have been applied."""


class ApiAnswer(NamedTuple):
    """The JSON of a successful answer, and the address of the next page."""

    value: Any
    following: str | None = None


class Api:
    """A connection with one token, or none. ``sleep`` waits for seconds; httpx sends with ``transport``."""

    def __init__(
        self,
        url: str,
        token: str,
        sleep: Sleep,
        transport: httpx.BaseTransport | None = None,
        tries: int = TRIES,
    ) -> None:
        """Raises ``ApiError`` for a wrong address, proxy or certificate file in the environment."""
        self.sleep = sleep
        self._tries = tries
        headers = {
            **({"Authorization": f"Bearer {token}"} if token else {}),
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": VERSION,
            "User-Agent": f"aethr/{__version__}",
        }
        try:
            way = transport or connection.transport(
                connection.trusted() if url.startswith("https:") else False
            )
            self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=headers, transport=way)
            self._bare = httpx.Client(timeout=TIMEOUT_S, transport=way)
        except (httpx.InvalidURL, ImportError, ValueError, OSError) as error:
            said = one_line(str(error), 200)
            raise ApiError(f"cannot connect to GitHub: {said}", "Check GITHUB_API_URL.") from error

    def __enter__(self) -> Api:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def pages(self, path: str, name: str | None = None) -> Iterator[Any]:
        """The items of a list, from all of its pages; ``name`` is its entry, if the list is in an object."""
        following: str | None = path
        for _ in range(PAGES):
            if following is None:
                return
            answer = self.send("GET", following)
            items = answer.value if name is None else at(answer.value, name)
            if not isinstance(items, list):
                raise ApiError("GitHub answered with something that is not a list")
            yield from items
            following = answer.following

    def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, reads: bool = False
    ) -> ApiAnswer:
        """Send a request; ``reads`` is True for a POST that may be repeated, such as a GraphQL query.

        Raises ``ApiError``, and ``AmbiguousError`` for a POST that may have been applied.
        """
        safe = reads or method != "POST"
        return self._read(
            self._retry(method, lambda: self._client.request(method, path, json=body), safe=safe)
        )

    def download(self, path: str, limit: int) -> bytes:
        """The content that an address of the API redirects to, at most ``limit`` bytes. Raises ``ApiError``.

        It is on another server, which must not get the token, and refuses it.
        """
        found = self._retry("GET", lambda: self._client.get(path), redirects=True)
        url = found.headers.get("location", "")
        if not is_address(url) or (self._client.base_url.scheme == "https" and not url.startswith("https:")):
            raise ApiError("GitHub redirects a download to something that is not an https address")

        def fetch() -> httpx.Response:
            content = bytearray()
            with self._bare.stream("GET", url) as response:
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > limit:
                        raise ApiError(f"a download is larger than {limit >> 20} MiB")
            return httpx.Response(response.status_code, content=bytes(content))

        return self._retry("GET", fetch).content

    def _retry(
        self,
        method: str,
        request: Callable[[], httpx.Response],
        *,
        safe: bool = True,
        redirects: bool = False,
    ) -> httpx.Response:
        """The response to a request that is sent again while that may help. ``safe``: it may be repeated."""
        for tried in range(self._tries):
            wait_s, last = BACKOFF_S * float(2**tried), tried == self._tries - 1
            try:
                response = request()
            except httpx.HTTPError as error:
                said = one_line(str(error) or type(error).__name__, 200)
                unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError))
                if not safe and not unsent:
                    raise AmbiguousError(f"GitHub's answer was lost: {said}") from error
                if last:
                    raise ApiError(f"GitHub cannot be reached: {said}") from error
            except (httpx.InvalidURL, ValueError) as error:
                raise ApiError(f"GitHub cannot be asked: {one_line(str(error), 200)}") from error
            else:
                if response.is_success or (redirects and response.has_redirect_location):
                    return response
                wait_s = _find_wait_s(method, response, wait_s, last=last, safe=safe)
            self.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    def _read(self, response: httpx.Response) -> ApiAnswer:
        """The answer. A next page on another server is an ``ApiError``: it must not get the token."""
        try:
            value = json_value(response.content)
        except ValueError as error:
            raise ApiError(f"GitHub's answer ({response.status_code}) cannot be read: {error}") from error
        url = response.links.get("next", {}).get("url")
        if url is not None:
            if not is_address(url):
                raise ApiError("the next page of GitHub's list is not an address")
            ours, theirs = urlsplit(str(self._client.base_url)), urlsplit(url)
            if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
                raise ApiError("the next page of GitHub's list is on another server")
        return ApiAnswer(value, url)


def _find_wait_s(method: str, response: httpx.Response, backoff_s: float, *, last: bool, safe: bool) -> float:
    """Seconds until the request may succeed. Raises ``ApiError`` if it will not."""
    status = response.status_code
    said = _read_message(response)
    # A rate limit shares its status with a missing permission.
    limit = "retry-after" in response.headers or "rate limit" in said.lower()
    limited = status == 429 or (status == 403 and limit)
    if status >= 500 and not safe:
        raise AmbiguousError(f"GitHub answered {status}", status=status)
    named = retry_after_s(response.headers.get("retry-after", ""))
    wait = backoff_s if named is None else named
    if not last and wait <= LONGEST_WAIT_S and (limited or status >= 500):
        return wait
    if status == 403 and "is locked" in said.lower():
        title, fix = f"the conversation is locked (403: {said})", "Unlock it, or set `comment: false`."
        raise ApiError(title, fix, status)
    if status == 403 and method != "GET" and not limited:
        title = f"GitHub does not let this token comment (403: {said})"
        raise ReadOnlyError(title, "Give the job `permissions: pull-requests: write`.", status)
    if status == 401:
        title = f"GitHub does not know this token (401: {said})"
        raise ApiError(title, "Check the input github-token.", status)
    raise ApiError(f"GitHub answered {status} to a {method}: {said}", status=status)


def _read_message(response: httpx.Response) -> str:
    """What GitHub says about an error; that of a review is only in the list ``errors``, as plain text."""
    try:
        value = json_value(response.content)
    except ValueError:
        return "no message"
    errors = at(value, "errors")
    details = filter(None, map(text, errors)) if isinstance(errors, list) else ()
    return one_line(
        ": ".join(filter(None, (text(at(value, "message")), ", ".join(details)))) or "no message", 300
    )


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
"""From the comment's present text, None without a comment, to its new text.

It is called right before the text is sent, and never by a run that is older than the comment.
"""

See = Callable[[object], None]
"""Takes a comment as the API lists it."""

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
        return Posted(_url(api.send("PATCH", path, {"body": write(ours.body)}).value))
    except ApiError as error:
        if error.status not in _GONE:
            raise
    return _create(api, pull, mark, write(None))  # deleted since it was listed


def find_body(api: Api, pull: PullRequest, key: str, see: See) -> str | None:
    """The text of the comment with this key, None without one; ``see`` gets all. Raises ``ApiError``."""
    ours = _find_ours(api, pull, key, see)
    return ours.body if ours is not None else None


def _create(api: Api, pull: PullRequest, mark: Marker, body: str, posts: int = POSTS) -> Posted:
    """Post the comment; after a lost answer, look for it before posting it again."""
    try:
        return Posted(_url(api.send("POST", pull.comments, {"body": body}).value))
    except AmbiguousError:
        api.sleep(2 * BACKOFF_S)  # GitHub may need a moment to show what it has just stored
        ours = _find_ours(api, pull, mark.key)
        if ours is None and posts == 1:
            raise
    return Posted(ours.url) if ours is not None else _create(api, pull, mark, body, posts - 1)


def _find_ours(api: Api, pull: PullRequest, key: str, see: See = lambda _: None) -> _Comment | None:
    """The oldest comment with this key that the token's owner wrote, on any page."""
    candidates = []
    for value in api.pages(f"{pull.comments}?per_page=100"):
        see(value)
        body, number = at(value, "body"), count(at(value, "id"))
        if not isinstance(body, str) or not 0 < number < MOST:
            continue
        mark = read(body)
        if mark is not None and mark.key == key:
            candidates.append((_Comment(number, _url(value), body, mark), at(value, "user", "login")))
    if not candidates:
        return None
    me = find_owner(api, pull)
    return next((comment for comment, author in candidates if author == me), None)


def find_owner(api: Api, pull: PullRequest) -> str:
    """The login of the token's owner. Raises ``ApiError``."""
    # ``GET /user`` is closed to a job's own token, GraphQL's ``viewer`` is not.
    me = at(api.send("POST", pull.graphql_url, {"query": _WHO}, reads=True).value, "data", "viewer", "login")
    if not isinstance(me, str):
        raise ApiError("GitHub does not name the owner of this token", "Check the input github-token.")
    return me


def _url(value: Any) -> str:
    """The page of a comment; empty if GitHub does not name one."""
    url = text(at(value, "html_url"))
    return url if len(url) <= LONGEST_URL and is_address(url) else ""
