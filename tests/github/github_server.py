"""GitHub's API as far as Aethr uses it: a real HTTP server on loopback.

It has comments, reviews with their comments and threads, pull requests, and artifacts.

In a test::

    with GitHubServer() as github:
        github.add_comment("text", author="somebody")
        github.fail("POST", status=502, done=True)   # the next POST is done, and its answer lost
        github.diff = {"app.py": [range(1, 8)]}      # the lines that the pull request shows, by hunk
        github.permissions["ann"] = "write"
        github.pulls[7] = Pull("main", head)
    github.comments, github.beside, github.statuses, github.requests

With ``serve_git(folder)`` it is an Enterprise Server, with its API below ``/api/v3`` and the repositories of
the folder behind git's own ``http-backend``; ``private`` ones need a token for both.

Paths, fields and limits follow docs.github.com, "REST API endpoints for issue comments", "… for pull request
reviews" and "… for GitHub Actions artifacts"; when it is closed, every exchange is checked against GitHub's
own descriptions (``contract``). The content of artifacts is in a store that, as GitHub's, refuses the API's
token; it takes uploads (``rig/upload-artifact``).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.github import contract
from tests.loopback import Handler, HttpServer, Loopback

ME = "github-actions[bot]"
BODY_LIMIT = 262_144
"""In bytes of UTF-8, for a comment. The message of github.com about it says 65,536 characters."""
TIME = "2026-01-02T03:04:05Z"

_LIST = re.compile(r"/repos/([\w.-]+/[\w.-]+)/issues/(\d+)/comments")
_ONE = re.compile(r"/repos/([\w.-]+/[\w.-]+)/issues/comments/(\d+)")
_REVIEWS = re.compile(r"/repos/([\w.-]+/[\w.-]+)/pulls/(\d+)/reviews")
_BESIDE = re.compile(r"/repos/([\w.-]+/[\w.-]+)/pulls/(\d+)/comments")
_ONE_BESIDE = re.compile(r"/repos/([\w.-]+/[\w.-]+)/pulls/comments/(\d+)")
_PULL = re.compile(r"/repos/([\w.-]+/[\w.-]+)/pulls/(\d+)")
_PERMISSION = re.compile(r"/repos/([\w.-]+/[\w.-]+)/collaborators/([\w-]+)/permission")
_STATUSES = re.compile(r"/repos/([\w.-]+/[\w.-]+)/statuses/([0-9a-f]{40})")
_REACTIONS = re.compile(r"/repos/([\w.-]+/[\w.-]+)/issues/comments/(\d+)/reactions")
_ACTIVITY = re.compile(r"/repos/([\w.-]+/[\w.-]+)/activity")
_GIT = re.compile(r"/([\w.-]+/[\w.-]+?)(?:\.git)?(/info/refs|/git-upload-pack)")
_ARTIFACTS = re.compile(r"/repos/([\w.-]+/[\w.-]+)/actions/runs/(\d+)/artifacts")
_ZIP = re.compile(r"/repos/([\w.-]+/[\w.-]+)/actions/artifacts/(\d+)/zip")
_CONTENT = re.compile(r"/content/(\d+)")
_UPLOAD = re.compile(r"/upload/(\d+)/([^/]+)")
FORBIDDEN: tuple[int, Any, dict[str, str]] = (403, {"message": "Resource not accessible by integration"}, {})
NOT_FOUND: tuple[int, Any, dict[str, str]] = (404, {"message": "Not Found"}, {})
_FORBIDDEN = set('":<>|*?\\/\r\n')
"""In the name of an artifact."""


@dataclass(frozen=True)
class Fault:
    """What happens to one request. ``done``: it is carried out, and only its answer is this one.

    ``on`` is a part of its path or body.
    """

    method: str
    status: int
    done: bool = False
    on: str = ""
    message: str = "it failed"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Comment:
    id: int
    number: int
    author: str
    body: str
    edited: str | None = None


@dataclass
class Beside:
    """A comment of a review, which begins a thread. Its line is None once the diff no longer shows it."""

    id: int
    number: int
    author: str
    body: str
    path: str = "app.py"
    line: int | None = 1
    start_line: int | None = None
    commit: str = "a" * 40
    resolved: bool = False


@dataclass
class Pull:
    """A pull request: the branch that it goes to, and its head. ``repository`` is None for a deleted fork."""

    base: str
    head: str
    repository: str | None = "octo/shop"
    branch: str = "feature"
    state: str = "open"
    title: str = "$(touch pwned) ::error::title"
    body: str | None = None
    author: str = "mallory"


@dataclass(frozen=True)
class Push:
    """A push to a branch, as the list of a repository's activities shows it."""

    before: str
    after: str
    time: str
    repository: str = "octo/shop"
    branch: str = "feature"


@dataclass(frozen=True)
class Artifact:
    id: int
    run: int
    name: str
    data: bytes
    expired: bool = False


class GitHubServer(Loopback):
    """The server, in threads of this process. ``read_only`` is what the token of a fork gets.

    ``diff`` are the lines of each hunk by path, and ``commits`` those of the pull request, None for any.
    ``pending`` is True while a review of the token's owner waits to be submitted, ``locked`` while nobody may
    comment. ``may_resolve`` is what ``contents: write`` gives, ``forbids_resolving`` contradicts it, and
    ``points`` are what is left of GraphQL's quota.
    """

    def __init__(self, *, read_only: bool = False) -> None:
        super().__init__(_Handler)
        self.comments: list[Comment] = []
        self.beside: list[Beside] = []
        self.reviews: list[dict[str, Any]] = []
        self.diff: dict[str, list[range]] = {}
        self.commits: set[str] | None = None
        self.pending = self.locked = False
        self.may_resolve = self.forbids_resolving = False
        self.points = 5000
        self.artifacts: list[Artifact] = []
        self.permissions: dict[str, str] = {}
        self.pulls: dict[int, Pull] = {}
        self.pushes: list[Push] = []
        """The newest first, as GitHub lists them."""
        self.statuses: list[dict[str, Any]] = []
        self.reactions: list[tuple[int, str]] = []
        self.forbidden: set[str] = set()
        """What the token may not do: ``statuses``, ``reactions``, ``activity``, ``comments``."""
        self.git_folder: Path | None = None
        self.private = True
        self.on_request: Callable[[str, str], object] = lambda *_: None
        """Called before each request, to change the world between two of them."""
        self._ids = itertools.count(1000)
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

    def serve_git(self, folder: Path, *, private: bool = False) -> None:
        """Serve the repositories below a folder, ``owner/name``, by git's smart protocol."""
        self.git_folder, self.private = folder, private

    def add_comment(self, body: str, author: str = "somebody", number: int = 7) -> Comment:
        comment = Comment(len(self.comments) + 1, number, author, body)
        self.comments.append(comment)
        return comment

    def add_beside(self, body: str, author: str = "somebody", number: int = 7, **about: Any) -> Beside:
        # Ids of today do not fit into 32 bits.
        beside = Beside(2**32 + len(self.beside), number, author, body, **about)
        self.beside.append(beside)
        return beside

    def add_artifact(self, name: str, data: bytes, run: int = 500, **about: Any) -> Artifact:
        artifact = Artifact(about.pop("id", None) or next(self._ids), run, name, data, **about)
        self.artifacts.append(artifact)
        return artifact

    def fail(
        self, method: str, status: int, *, done: bool = False, on: str = "", message: str = "", **headers: str
    ) -> None:
        """Let the next request with this method fail; ``Retry_After="1"`` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(method, status, done, on, message or "it failed", named))

    def sent(self, method: str) -> list[dict[str, Any]]:
        """The requests with this method, without the question who we are."""
        return [each for each in self.requests if each["method"] == method and each["path"] != "/graphql"]

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers for one request; the state changes as GitHub's would."""
        self.on_request(method, url)
        with self._lock:
            status, value, headers = self._answer(method, url, body)
            self.requests.append(
                {"method": method, "path": url, "body": body, "status": status, "answer": value}
            )
            return status, value, headers

    def _answer(self, method: str, url: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        sent = f"{url} {body}"
        fault = next((each for each in self._faults if each.method == method and each.on in sent), None)
        if fault is None or fault.done:
            parts = urlsplit(url)
            answer = self._about_pulls(method, parts.path, parse_qs(parts.query), body)
            answer = answer or self._carry_out(method, url, body)
        if fault is None:
            return answer
        self._faults.remove(fault)
        return fault.status, {"message": fault.message}, fault.headers

    def _carry_out(self, method: str, url: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(url)
        if (method, parts.path) == ("POST", "/graphql"):
            return 200, self._graphql(body["query"], body.get("variables", {})), {}
        if method == "GET":
            return self._read(parts.path, parse_qs(parts.query))
        if self.read_only or "comments" in self.forbidden:
            return FORBIDDEN
        if self.locked and method == "POST":
            return 403, {"message": "Unable to create comment because issue is locked."}, {}
        if not isinstance(body, dict) or len(body.get("body", "").encode()) > BODY_LIMIT:
            return 422, {"message": "Validation Failed: body is too long (maximum is 65536 characters)"}, {}
        if method == "POST" and (match := _LIST.fullmatch(parts.path)):
            return 201, self._shown(self.add_comment(body["body"], ME, int(match[2]))), {}
        if method == "POST" and (match := _REVIEWS.fullmatch(parts.path)):
            return self._reviewed(int(match[2]), body)
        return self._edited(parts.path, body["body"]) if method == "PATCH" else NOT_FOUND

    def _read(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any, dict[str, str]]:
        if match := _LIST.fullmatch(path):
            comments = [self._shown(each) for each in self.comments if each.number == int(match[2])]
            return 200, *self._page(path, comments, query)
        if match := _BESIDE.fullmatch(path):
            beside = [self._shown_beside(each) for each in self.beside if each.number == int(match[2])]
            return 200, *self._page(path, beside, query)
        if match := _ARTIFACTS.fullmatch(path):
            found = [self._listed(each) for each in self.artifacts if each.run == int(match[2])]
            page, headers = self._page(path, found, query)
            return 200, {"total_count": len(found), "artifacts": page}, headers
        if match := _ZIP.fullmatch(path):
            artifact = next((each for each in self.artifacts if each.id == int(match[2])), None)
            if artifact is None or artifact.expired:
                return 410 if artifact else 404, {"message": "Gone"}, {}
            return 302, None, {"Location": f"{self.url}/content/{artifact.id}"}
        return NOT_FOUND

    def _reviewed(self, number: int, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        """All comments of a review, or none of them, and nobody says which one was wrong."""
        comments = body.get("comments", [])
        errors = [error for each in comments if (error := find_error(each, self.diff))]
        if self.commits is not None and body["commit_id"] not in self.commits:
            errors = ["The commitOID is not part of the pull request"]
        if self.pending:
            errors = ["User can only have one pending review per pull request"]
        if body["event"] != "COMMENT":
            errors = ["GitHub Actions is not permitted to approve pull requests."]
        if errors:
            return 422, {"message": "Unprocessable Entity", "errors": list(dict.fromkeys(errors))}, {}
        for each in comments:
            about = {"line": each["line"], "start_line": each.get("start_line"), "path": each["path"]}
            self.add_beside(each["body"], ME, number, commit=body["commit_id"], **about)
        self.reviews.append(body)
        page = f"{self.url}/octo/shop/pull/{number}"
        links = {name: {"href": page} for name in ("html", "pull_request")}
        shown = {
            "id": next(self._ids), "node_id": "PRR_1", "user": _user(ME), "body": body["body"],
            "state": "COMMENTED", "commit_id": body["commit_id"], "html_url": page, "pull_request_url": page,
            "author_association": "NONE", "submitted_at": TIME, "_links": links,
        }  # fmt: skip
        return 200, shown, {}

    def _graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        self.points -= 1
        if self.points < 0:
            return _refused("RATE_LIMITED", "API rate limit already exceeded")
        if "viewer {" in query:
            return {"data": {"viewer": {"login": ME}}}
        if query.startswith("mutation"):
            if not self.may_resolve or self.forbids_resolving or self.read_only:
                return _refused("FORBIDDEN", "Resource not accessible by integration")
            beside = next(each for each in self.beside if f"PRRT_{each.id}" == variables["thread"])
            beside.resolved = True
            return {"data": {"resolveReviewThread": {"thread": {"isResolved": True}}}}
        start = int(variables["after"] or 0)
        threads = [each for each in self.beside if each.number == variables["number"]]
        page = {"hasNextPage": len(threads) > start + 100, "endCursor": str(start + 100)}
        nodes = [
            {
                "id": f"PRRT_{each.id}",
                "isResolved": each.resolved,
                "viewerCanResolve": self.may_resolve and not each.resolved,
                "comments": {"nodes": [{"fullDatabaseId": str(each.id)}]},
            }
            for each in threads[start : start + 100]
        ]
        return {
            "data": {"repository": {"pullRequest": {"reviewThreads": {"pageInfo": page, "nodes": nodes}}}}
        }

    def _about_pulls(
        self, method: str, path: str, query: dict[str, list[str]], body: Any
    ) -> tuple[int, Any, dict[str, str]] | None:
        """Pull requests, permissions, pushes, statuses and reactions; None for any other address."""
        if method == "GET" and (match := _PULL.fullmatch(path)):
            pull = self.pulls.get(int(match[2]))
            return (200, self._pull(path, pull), {}) if pull else NOT_FOUND
        if method == "GET" and (match := _PERMISSION.fullmatch(path)):
            permission = self.permissions.get(match[2], "none" if match[2] == "ghost" else "read")
            if permission == "none":
                return 404, {"message": f"{match[2]} is not a user"}, {}
            return 200, {"permission": permission, "role_name": permission, "user": None}, {}
        if method == "GET" and (match := _ACTIVITY.fullmatch(path)):
            if "activity" in self.forbidden:
                return NOT_FOUND
            wanted = (match[1], query["ref"][0])
            found = [each for each in self.pushes if (each.repository, f"refs/heads/{each.branch}") == wanted]
            start = int(query.get("after", ["c0"])[0][1:])
            link = f'<{self.url}{path}?ref={quote(wanted[1], safe="")}&after=c{start + 2}>; rel="next"'
            shown = [self._push(each) for each in found[start : start + 2]]
            return 200, shown, {"Link": link} if len(found) > start + 2 else {}
        if method == "POST" and (match := _STATUSES.fullmatch(path)):
            if self.read_only or "statuses" in self.forbidden:
                return FORBIDDEN
            self.statuses.append({**body, "sha": match[2]})
            return 201, {**contract.example(method, path, 201), **body}, {}
        if method == "POST" and (match := _REACTIONS.fullmatch(path)):
            if self.read_only or "reactions" in self.forbidden:
                return FORBIDDEN
            self.reactions.append((int(match[2]), body["content"]))
            return 201, {**contract.example(method, path, 201), **body}, {}
        return None

    def _pull(self, path: str, pull: Pull) -> dict[str, Any]:
        whole: dict[str, Any] = contract.example("GET", path, 200)
        fork = {**whole["base"]["repo"], "full_name": pull.repository} if pull.repository else None
        return {
            **whole,
            "state": pull.state,
            "title": pull.title,
            "body": pull.body,
            "user": _user(pull.author),
            "base": {**whole["base"], "ref": pull.base},
            "head": {**whole["head"], "ref": pull.branch, "sha": pull.head, "repo": fork},
        }

    def _push(self, push: Push) -> dict[str, Any]:
        return {
            "id": 1,
            "node_id": "PSH_1",
            "before": push.before,
            "after": push.after,
            "ref": f"refs/heads/{push.branch}",
            "timestamp": push.time,
            "activity_type": "push",
            "actor": None,
        }

    def _page(
        self, path: str, values: list[Any], query: dict[str, list[str]]
    ) -> tuple[list[Any], dict[str, str]]:
        size, page = int(query.get("per_page", ["30"])[0]), int(query.get("page", ["1"])[0])
        start = (page - 1) * size
        following = f'<{self.url}{path}?per_page={size}&page={page + 1}>; rel="next"'
        headers = {"Link": self.link or following} if self.link or len(values) > start + size else {}
        return values[start : start + size], headers

    def store(self, method: str, path: str, data: bytes, authorized: bool) -> tuple[int, bytes]:
        """Status and content of a request to the store of artifacts."""
        with self._lock:
            if authorized:
                return 400, b"this address has a signature, and takes no token"
            if method == "GET" and (match := _CONTENT.fullmatch(path)):
                return 200, next(each.data for each in self.artifacts if each.id == int(match[1]))
            if method == "PUT" and (match := _UPLOAD.fullmatch(path)):
                run, name = int(match[1]), unquote(match[2])
                if _FORBIDDEN & set(name):
                    return 400, b"the artifact name is not valid"
                if any((each.run, each.name) == (run, name) for each in self.artifacts):
                    return 409, b"an artifact with this name already exists on the workflow run"
                self.add_artifact(name, data, run)
                return 201, b""
            return 404, b""

    def _listed(self, artifact: Artifact) -> dict[str, Any]:
        address = f"{self.url}/repos/octo/shop/actions/artifacts/{artifact.id}"
        return {
            "id": artifact.id,
            "node_id": f"A_{artifact.id}",
            "name": artifact.name,
            "size_in_bytes": len(artifact.data),
            "url": address,
            "archive_download_url": f"{address}/zip",
            "expired": artifact.expired,
            "created_at": TIME,
            "expires_at": TIME,
            "updated_at": TIME,
            "digest": f"sha256:{hashlib.sha256(artifact.data).hexdigest()}",
            "workflow_run": {"id": artifact.run, "head_sha": "a" * 40},
        }

    def _edited(self, path: str, body: str) -> tuple[int, Any, dict[str, str]]:
        if match := _ONE.fullmatch(path):
            comment = next((each for each in self.comments if each.id == int(match[2])), None)
            if comment is not None:
                comment.body = body
                return 200, self._shown(comment), {}
        if match := _ONE_BESIDE.fullmatch(path):
            beside = next((each for each in self.beside if each.id == int(match[2])), None)
            if beside is not None:
                beside.body = body
                return 200, self._shown_beside(beside), {}
        return NOT_FOUND

    def _shown_beside(self, beside: Beside) -> dict[str, Any]:
        page = f"{self.url}/octo/shop/pull/{beside.number}"
        address = f"{self.url}/repos/octo/shop/pulls/comments/{beside.id}"
        links = {"self": address, "html": page, "pull_request": page}
        return {
            "id": beside.id,
            "node_id": f"PRRC_{beside.id}",
            "pull_request_review_id": 1,
            "url": address,
            "html_url": f"{page}#discussion_r{beside.id}",
            "pull_request_url": page,
            "_links": {name: {"href": href} for name, href in links.items()},
            "diff_hunk": "@@ -1 +1 @@",
            "path": beside.path,
            "line": beside.line,
            "start_line": beside.start_line,
            "side": "RIGHT",
            "commit_id": beside.commit,
            "original_commit_id": beside.commit,
            "body": beside.body,
            "user": _user(beside.author),
            "created_at": TIME,
            "updated_at": TIME,
            "author_association": "NONE",
        }

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
            "updated_at": comment.edited or TIME,
            "author_association": "NONE",
        }


def find_error(comment: Mapping[str, Any], diff: Mapping[str, Sequence[range]]) -> str | None:
    """Why GitHub refuses a review with this comment."""
    line, start = comment["line"], comment.get("start_line", comment["line"])
    hunks = diff.get(comment["path"])
    if hunks is None:
        return "Path could not be resolved"
    hunk = next((each for each in hunks if line in each), None)
    if hunk is None or comment["side"] != "RIGHT":
        return "Line could not be resolved"
    if "start_line" in comment and start >= line:
        return "Pull request review thread start line must precede the end line."
    if start not in hunk:
        return "Pull request review thread start line must be part of the same hunk as the line."
    too_long = len(comment["body"].encode()) > BODY_LIMIT
    return "Body is too long (maximum is 65536 characters)" if too_long else None


def _refused(kind: str, message: str) -> dict[str, Any]:
    """An error of GraphQL, which comes with status 200."""
    return {"data": None, "errors": [{"type": kind, "message": message}]}


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
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    do_PATCH = do_PUT = do_POST

    def _serve(self, sent: bytes) -> None:
        token = self.headers.get("Authorization", "")
        owner = self.server.owner
        if owner.git_folder is not None and (match := _GIT.fullmatch(urlsplit(self.path).path)):
            if owner.private and not token:
                self.send_error(401)
            else:
                self._serve_git(owner.git_folder / match[1], match[2], sent)
            return
        self.path = self.path.removeprefix("/api/v3")
        headers: dict[str, str] = {}
        if self.path.startswith(("/content/", "/upload/")):
            status, data = self.server.owner.store(self.command, self.path, sent, bool(token))
        else:
            value: Any = {"message": "Bad credentials"}
            status = 401
            if not token and not owner.private:
                token = "Bearer of a public repository"
            if not token and owner.git_folder is not None:
                status, value = 404, {"message": "Not Found"}
            if token.startswith("Bearer "):
                body = json.loads(sent) if sent else None
                status, value, headers = self.server.owner.answer(self.command, self.path, body)
            data = json.dumps(value).encode()
        self._send(status, data, headers)

    def _serve_git(self, repository: Path, service: str, sent: bytes) -> None:
        """One request by git's own CGI program: https://git-scm.com/docs/git-http-backend."""
        variables = {
            "GIT_PROJECT_ROOT": str(repository),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": service,
            "QUERY_STRING": urlsplit(self.path).query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(sent)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"],
            env={**os.environ, **variables},
            input=sent,
            stdout=subprocess.PIPE,
            check=True,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self._send(int(headers.pop("Status", "200 OK").split()[0]), content, headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
