"""GitHub's REST API as far as comments need it: plain httpx, bounded waiting, errors in one line.

Idempotent requests are retried; a POST only when GitHub says that it was not applied. When the answer to a
POST is lost, the caller has to find out whether it was applied (``AmbiguousError``). Rules:
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
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


class Answer(NamedTuple):
    """The JSON of a successful answer, and the address of the next page."""

    value: Any
    following: str | None = None


class Api:
    """A connection with one token. ``sleep`` waits for seconds; httpx sends with ``transport``."""

    def __init__(
        self, url: str, token: str, sleep: Sleep, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Raises ``ApiError`` for a wrong address, proxy or certificate file in the environment."""
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
            raise ApiError(f"cannot connect to GitHub: {said}", "Check GITHUB_API_URL.") from error

    def __enter__(self) -> Api:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Answer:
        return self._send("GET", path)

    def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._send("PATCH", path, body)

    def post(self, path: str, body: Mapping[str, Any], *, reads: bool = False) -> Answer:
        """``reads``: it changes nothing, as a GraphQL query. Raises ``AmbiguousError``."""
        return self._send("POST", path, body, safe=reads)

    def pages(self, path: str) -> Iterator[Any]:
        """The items of a list, from all of its pages."""
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
        """Give GitHub time to show what it has just stored."""
        self._sleep(2 * BACKOFF_S)

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, safe: bool = True
    ) -> Answer:
        """Send a request; ``safe`` is False for one that must not be applied twice."""
        for tried in range(TRIES):
            backoff_s, last = BACKOFF_S * float(2**tried), tried == TRIES - 1
            try:
                response = self._client.request(method, path, json=body)
            except httpx.HTTPError as error:
                _check_lost(error, last=last, safe=safe)
                self._sleep(backoff_s)
                continue
            except (httpx.InvalidURL, ValueError) as error:
                raise ApiError(f"GitHub cannot be asked: {one_line(str(error), 200)}") from error
            if response.is_success:
                return self._answer(response)
            self._sleep(_wait_s(method, response, backoff_s, last=last, safe=safe))
        raise AssertionError("the last try returns or raises")

    def _answer(self, response: httpx.Response) -> Answer:
        try:
            return Answer(json_value(response.content), self._next_page(response))
        except ValueError as error:
            raise ApiError(f"GitHub's answer ({response.status_code}) cannot be read: {error}") from error

    def _next_page(self, response: httpx.Response) -> str | None:
        """The address of the next page. Another server is an ``ApiError``: it must not get the token."""
        url = response.links.get("next", {}).get("url")
        if url is None:
            return None
        if not is_address(url):
            raise ApiError("the next page of GitHub's list is not an address")
        ours, theirs = urlsplit(str(self._client.base_url)), urlsplit(url)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise ApiError("the next page of GitHub's list is on another server")
        return url


def _check_lost(error: httpx.HTTPError, *, last: bool, safe: bool) -> None:
    """Raise ``ApiError`` if a request without an answer must not be sent again."""
    said = one_line(str(error) or type(error).__name__, 200)
    if not safe and not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)):
        raise AmbiguousError(f"GitHub's answer was lost: {said}") from error
    if last:
        raise ApiError(f"GitHub cannot be reached: {said}") from error


def _wait_s(method: str, response: httpx.Response, backoff_s: float, *, last: bool, safe: bool) -> float:
    """Seconds until the request may succeed. Raises ``ApiError`` if it will not."""
    status = response.status_code
    try:
        said = one_line(text(at(json_value(response.content), "message")) or "no message", 300)
    except ValueError:
        said = "no message"
    # A rate limit shares its status with a missing permission.
    limit = "retry-after" in response.headers or "rate limit" in said.lower()
    limited = status == 429 or (status == 403 and limit)
    if status >= 500 and not safe:
        raise AmbiguousError(f"GitHub answered {status}", status=status)
    named = retry_after_s(response.headers.get("retry-after", ""))
    wait = backoff_s if named is None else named
    if last or wait > LONGEST_WAIT_S or not (limited or status >= 500):
        raise _error(method, status, said, limited=limited)
    return wait


def _error(method: str, status: int, said: str, *, limited: bool) -> ApiError:
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
