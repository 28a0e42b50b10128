"""GitHub's API as far as the Action uses it: a real HTTP server on loopback that stores comments.

In a test::

    with GitHubServer() as github:
        github.add_comment("text", author="somebody")
        github.fail("POST", status=502, done=True)   # the next POST is done, and its answer lost
        github.comments, github.requests

Paths, fields and limits follow docs.github.com, "REST API endpoints for issue comments"; when it is closed,
every exchange is checked against GitHub's own description (``contract``).
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.github import contract
from tests.loopback import Handler, HttpServer, Loopback

ME = "github-actions[bot]"
BODY_LIMIT = 65_536
TIME = "2026-01-02T03:04:05Z"

_LIST = re.compile(r"/repos/([\w.-]+/[\w.-]+)/issues/(\d+)/comments")
_ONE = re.compile(r"/repos/([\w.-]+/[\w.-]+)/issues/comments/(\d+)")


@dataclass(frozen=True)
class Fault:
    """What happens to one request. ``done``: it is carried out, and only its answer is this one."""

    method: str
    status: int
    done: bool = False
    message: str = "it failed"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Comment:
    id: int
    number: int
    author: str
    body: str


class GitHubServer(Loopback):
    """The server, in threads of this process. ``read_only`` is what the token of a fork gets."""

    def __init__(self, *, read_only: bool = False) -> None:
        super().__init__(_Handler)
        self.comments: list[Comment] = []
        self.requests: list[dict[str, Any]] = []
        self.read_only = read_only
        self.link: str | None = None
        """What the header ``Link`` of a list says instead of the next page."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.origin

    @property
    def bodies(self) -> list[str]:
        return [comment.body for comment in self.comments]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        if value is None:
            for exchange in self.requests:
                contract.check(exchange)

    def add_comment(self, body: str, author: str = "somebody", number: int = 7) -> Comment:
        comment = Comment(len(self.comments) + 1, number, author, body)
        self.comments.append(comment)
        return comment

    def fail(
        self, method: str, status: int, *, done: bool = False, message: str = "", **headers: str
    ) -> None:
        """Let the next request with this method fail; ``Retry_After="1"`` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(method, status, done, message or "it failed", named))

    def sent(self, method: str) -> list[dict[str, Any]]:
        """The requests with this method, without the question who we are."""
        return [each for each in self.requests if each["method"] == method and each["path"] != "/graphql"]

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers for one request; the state changes as GitHub's would."""
        with self._lock:
            status, value, headers = self._answer(method, url, body)
            self.requests.append(
                {"method": method, "path": url, "body": body, "status": status, "answer": value}
            )
            return status, value, headers

    def _answer(self, method: str, url: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        fault = next((each for each in self._faults if each.method == method), None)
        if fault is None:
            return self._carry_out(method, url, body)
        self._faults.remove(fault)
        if fault.done:
            self._carry_out(method, url, body)
        return fault.status, {"message": fault.message}, fault.headers

    def _carry_out(self, method: str, url: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(url)
        if (method, parts.path) == ("POST", "/graphql"):
            return 200, {"data": {"viewer": {"login": ME}}}, {}
        if method == "GET" and (match := _LIST.fullmatch(parts.path)):
            return self._page(parts.path, int(match[2]), parse_qs(parts.query))
        if self.read_only:
            return 403, {"message": "Resource not accessible by integration"}, {}
        if not isinstance(body, dict) or len(body.get("body", "")) > BODY_LIMIT:
            return 422, {"message": "Validation Failed: body is too long (maximum is 65536 characters)"}, {}
        if method == "POST" and (match := _LIST.fullmatch(parts.path)):
            return 201, self._shown(self.add_comment(body["body"], ME, int(match[2]))), {}
        if method == "PATCH" and (match := _ONE.fullmatch(parts.path)):
            return self._edited(int(match[2]), body["body"])
        return 404, {"message": "Not Found"}, {}

    def _page(self, path: str, number: int, query: dict[str, list[str]]) -> tuple[int, Any, dict[str, str]]:
        size, page = int(query.get("per_page", ["30"])[0]), int(query.get("page", ["1"])[0])
        all_of_it = [comment for comment in self.comments if comment.number == number]
        start = (page - 1) * size
        following = f'<{self.url}{path}?per_page={size}&page={page + 1}>; rel="next"'
        headers = {"Link": self.link or following} if self.link or len(all_of_it) > start + size else {}
        return 200, [self._shown(comment) for comment in all_of_it[start : start + size]], headers

    def _edited(self, number: int, body: str) -> tuple[int, Any, dict[str, str]]:
        comment = next((each for each in self.comments if each.id == number), None)
        if comment is None:
            return 404, {"message": "Not Found"}, {}
        comment.body = body
        return 200, self._shown(comment), {}

    def _shown(self, comment: Comment) -> dict[str, Any]:
        page = f"{self.url}/octo/shop/pull/{comment.number}#issuecomment-{comment.id}"
        return {
            "id": comment.id,
            "node_id": f"IC_{comment.id}",
            "url": f"{self.url}/repos/octo/shop/issues/comments/{comment.id}",
            "html_url": page,
            "issue_url": f"{self.url}/repos/octo/shop/issues/{comment.number}",
            "body": comment.body,
            "user": _user(comment.author),
            "created_at": TIME,
            "updated_at": TIME,
            "author_association": "NONE",
        }


def _user(login: str) -> dict[str, Any]:
    """A ``simple-user`` of the description: all that it requires, most of it an address."""
    page = f"https://api.github.com/users/{login}"
    names = (
        "avatar_url", "events_url", "followers_url", "following_url", "gists_url", "html_url", "url",
        "organizations_url", "received_events_url", "repos_url", "starred_url", "subscriptions_url",
    )  # fmt: skip
    return {
        **dict.fromkeys(names, page),
        "login": login,
        "id": 1,
        "node_id": "U_1",
        "gravatar_id": "",
        "site_admin": False,
        "type": "Bot" if login == ME else "User",
    }


class _Server(HttpServer):
    owner: GitHubServer


class _Handler(Handler):
    server: _Server

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    do_PATCH = do_POST

    def _serve(self, body: Any) -> None:
        if not self.headers.get("Authorization", "").startswith("Bearer "):
            status, value, headers = 401, {"message": "Bad credentials"}, {}
        else:
            status, value, headers = self.server.owner.answer(self.command, self.path, body)
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
