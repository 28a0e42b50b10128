"""GitHub's REST API as far as comments need it: plain httpx, bounded waiting, errors in one line.

A request that changes nothing when it is repeated is repeated; a POST is only where GitHub says that it did
not do it. What a POST did whose answer was lost, its caller has to find out (``AmbiguousError``).
Rules: docs.github.com, "Best practices for using the REST API".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from aethr import __version__
from aethr.base.errors import AethrError
from aethr.base.network import is_address
from aethr.base.outside import at, json_value, retry_after_s, text
from aethr.base.sanitize import one_line
from aethr.llm import connection

VERSION = "2022-11-28"
TRIES = 4
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60.0
"""Longer than this is not waited for; all waiting together stays under ``TRIES`` times it."""
TIMEOUT_S = 20.0
PAGES = 100
"""Pages of 100 comments that are looked through."""

Sleep = Callable[[float], None]


class ApiError(AethrError):
    """GitHub refused or could not be reached. ``status`` is 0 without an answer."""

    def __init__(self, message: str, fix: str = "", status: int = 0) -> None:
        super().__init__(message, fix)
        self.status = status


class ReadOnlyError(ApiError):
    """The token may not write: that of a fork's or Dependabot's run, or one without the permission."""


class AmbiguousError(ApiError):
    """The answer to a POST was lost: it may have been done."""


class Answer(NamedTuple):
    """A good answer: its JSON, and where the next page is."""

    value: Any
    following: str | None = None


class Api:
    """A connection with one token. ``sleep`` waits for so many seconds; httpx sends with ``transport``."""

    def __init__(
        self, url: str, token: str, sleep: Sleep, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Raises ``ApiError`` where an address, a proxy or a certificate file of the environment is wrong."""
        self._sleep = sleep
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": VERSION,
            "User-Agent": f"aethr/{__version__}",
        }
        try:
            way = transport or connection.transport(
                connection.trusted() if url.startswith("https:") else False
            )
            self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=headers, transport=way)
        except (httpx.InvalidURL, ImportError, ValueError, OSError) as error:
            said = one_line(str(error), 200)
            raise ApiError(f"no connection to GitHub can be made: {said}", "Check GITHUB_API_URL.") from error

    def __enter__(self) -> Api:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Answer:
        return self._repeated("GET", path)

    def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._repeated("PATCH", path, body)

    def post(self, path: str, body: Mapping[str, Any], *, reads: bool = False) -> Answer:
        """``reads`` is a POST that changes nothing, as a GraphQL query. Raises ``AmbiguousError``."""
        return self._repeated("POST", path, body, safe=reads)

    def pages(self, path: str) -> Iterator[Any]:
        """The items of a list, over all of its pages."""
        following: str | None = path
        for _ in range(PAGES):
            if following is None:
                return
            answer = self.get(following)
            if not isinstance(answer.value, list):
                raise ApiError("GitHub answered with something that is not a list")
            yield from answer.value
            following = answer.following

    def pause(self) -> None:
        """Give GitHub the time to show what it has just done."""
        self._sleep(2 * BACKOFF_S)

    def _repeated(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, safe: bool = True
    ) -> Answer:
        for tried in range(TRIES):
            answer = self._once(_Try(method, path, tried, safe), body)
            if isinstance(answer, Answer):
                return answer
            self._sleep(answer)
        raise AssertionError("the last try returns or raises")

    def _once(self, this: _Try, body: Mapping[str, Any] | None) -> Answer | float:
        """The answer, or how many seconds to wait before the same is tried again."""
        try:
            response = self._client.request(this.method, this.path, json=body)
        except httpx.HTTPError as error:
            return _unanswered(this, error)
        except (httpx.InvalidURL, ValueError) as error:
            raise ApiError(f"GitHub cannot be asked: {one_line(str(error), 200)}") from error
        if response.is_success:
            return Answer(_json(response), self._following(response))
        return _refused(this, response)

    def _following(self, response: httpx.Response) -> str | None:
        """The next page, if it is on the same server: the token goes nowhere else."""
        url = response.links.get("next", {}).get("url")
        if url is None:
            return None
        if not is_address(url):
            raise ApiError("GitHub's list goes on at something that is not an address")
        ours, theirs = urlsplit(str(self._client.base_url)), urlsplit(url)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise ApiError("GitHub's list goes on at another server")
        return url


class _Try(NamedTuple):
    """One request; ``tried`` counts those before it, ``safe`` is False where it must not be done twice."""

    method: str
    path: str
    tried: int
    safe: bool

    @property
    def last(self) -> bool:
        return self.tried == TRIES - 1

    @property
    def backoff_s(self) -> float:
        return BACKOFF_S * float(2**self.tried)


def _unanswered(this: _Try, error: httpx.HTTPError) -> float:
    said = one_line(str(error) or type(error).__name__, 200)
    if not this.safe and not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)):
        raise AmbiguousError(f"GitHub's answer was lost: {said}") from error
    if this.last:
        raise ApiError(f"GitHub cannot be reached: {said}") from error
    return this.backoff_s


def _refused(this: _Try, response: httpx.Response) -> float:
    """Seconds until the same request may work. Raises ``ApiError`` where it will not."""
    status = response.status_code
    limited = status == 429 or (status == 403 and _is_limit(response))
    if status >= 500 and not this.safe:
        raise AmbiguousError(f"GitHub answered {status}", status=status)
    named = retry_after_s(response.headers.get("retry-after", ""))
    wait = this.backoff_s if named is None else named
    if this.last or wait > LONGEST_WAIT_S or not (limited or status >= 500):
        raise _error(this.method, response, limited=limited)
    return wait


def _is_limit(response: httpx.Response) -> bool:
    """The limits that share the status of a missing permission."""
    return "retry-after" in response.headers or "rate limit" in _message(response).lower()


def _error(method: str, response: httpx.Response, *, limited: bool) -> ApiError:
    status, said = response.status_code, _message(response)
    if status == 403 and "is locked" in said.lower():
        return ApiError(
            f"the conversation is locked (403: {said})", "Unlock it, or set `comment: false`.", status
        )
    if status == 403 and method != "GET" and not limited:
        return ReadOnlyError(
            f"GitHub does not let this token comment (403: {said})",
            "Give the job `permissions: pull-requests: write`.",
            status,
        )
    if status == 401:
        return ApiError(
            f"GitHub does not know this token (401: {said})", "Check the input github-token.", status
        )
    return ApiError(f"GitHub answered {status} to a {method}: {said}", status=status)


def _message(response: httpx.Response) -> str:
    try:
        value = json_value(response.content)
    except ValueError:
        value = None
    return one_line(text(at(value, "message")) or "no message", 300)


def _json(response: httpx.Response) -> Any:
    try:
        return json_value(response.content)
    except ValueError as error:
        raise ApiError(f"GitHub's answer ({response.status_code}) cannot be read: {error}") from error
