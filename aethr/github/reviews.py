"""Findings beside their lines: one review with a comment for each, and never the same one twice.

Such a comment ends with a line that a reader does not see: the comment key and the finding's id. It is ours
if it has that line **and** the token's owner wrote it. One line that GitHub's diff does not show loses the
whole review, and GitHub does not say which (https://github.com/QwenLM/qwen-code/issues/6771), so places are
checked against the diff before. What is not beside its line is in the one comment.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, NamedTuple

from aethr.base.outside import MOST, at, count, text
from aethr.base.records import RELIABLE, SEVERITIES, Finding, RunResult
from aethr.base.sanitize import REDACTED
from aethr.base.words import counted
from aethr.github.upsert import (
    BACKOFF_S,
    PAGES,
    POSTS,
    AmbiguousError,
    Api,
    ApiError,
    Marker,
    PullRequest,
    ReadOnlyError,
    find_owner,
)
from aethr.output.markdown import markdown_block, markdown_inline

LIMIT = 65_536 - 200
"""Bytes of a comment beside a line, with room for the line that says that its finding is gone."""
MESSAGE = 4_000
"""Characters of a finding's message. Escaped for Markdown, one takes at most ten bytes."""

Ranges = Mapping[str, tuple[range, ...]]
"""The lines of the new version that each hunk shows, by path from the repository's top folder."""

_ID = re.compile(r"[0-9a-f]{12}")
_MARK = re.compile(
    r"^<!-- aethr:finding key=([A-Za-z0-9._-]{1,60}) id=([0-9a-f]{12})(?: gone=([0-9a-f]{12}))? -->$",
    re.MULTILINE,
)
_GONE = re.compile(r"\n\n\*No longer reported at `[0-9a-f]{12}`\.\*$")


class Beside(NamedTuple):
    """The findings that a reader sees beside their lines, and why others could not be posted, or empty."""

    findings: tuple[Finding, ...] = ()
    note: str = ""


class Anchor(NamedTuple):
    """Lines of one hunk. ``whole`` is False if the finding has more of them, which the hunk does not show."""

    path: str
    first: int
    last: int
    whole: bool


class _Comment(NamedTuple):
    """One of ours; ``text`` is that without the hidden line.

    ``shown`` is False if the diff no longer has its line, ``gone`` is True if it says that its finding is.
    """

    id: int
    key: str
    finding: str
    text: str
    shown: bool
    gone: bool


class _Thread(NamedTuple):
    """The thread that one of ours began, and whether the token may resolve it."""

    id: str
    resolved: bool
    resolvable: bool


def place(api: Api, pull: PullRequest, mark: Marker, result: RunResult, ranges: Ranges, limit: int) -> Beside:
    """Post those of the most severe ``limit`` findings that are not there yet, and close what is gone.

    A finding is gone if a review that left nothing out no longer reports it. Raises nothing: whatever
    GitHub refuses is in the note, and not among the findings.
    """
    if result.outcome == "not-reviewed":
        return Beside()
    reported = sorted(dict.fromkeys(result.review.findings), key=lambda each: SEVERITIES.index(each.severity))
    current = [each for each in reported if each.state != "resolved"]
    unsettled = [each for each in current if each.is_open]
    fitting = [each for each in unsettled if find_anchor(each, ranges) is not None][:limit]
    try:
        there = _list_ours(api, pull, mark.key)
        paired = _pair(current, there)
        fresh = [each for each in fitting if each not in paired]
        posted, failed = _post(api, pull, mark, fresh, ranges, there)
    except ApiError as error:
        return Beside((), f"No finding could be posted beside its line: {error}" if fitting else "")
    threads = _read_threads(api, pull) if there else {}
    if not isinstance(failed, ReadOnlyError):
        ids = {own for each in current for own in (identify(each), *each.ids)}
        gone = [each for each in there if each.finding not in ids and result.outcome in RELIABLE]
        with suppress(ApiError):  # a later run does the rest
            _close(api, pull, mark.head, gone, threads)
            for each in paired.values():
                if each.gone:
                    _edit(api, pull, each)
    resolved = {number for number, thread in threads.items() if thread.resolved}
    seen = (f for f, each in paired.items() if each.shown and not each.gone and each.id not in resolved)
    lacking = counted(len(fresh) - len(posted), "finding")
    note = f"{lacking} could not be posted beside the line: {failed}" if failed is not None else ""
    return Beside((*seen, *posted), note)


def identify(finding: Finding) -> str:
    """The finding's id, or one that stays as long as it has this path and these words."""
    if finding.id is not None and _ID.fullmatch(finding.id):
        return finding.id
    words = " ".join(re.findall(r"\w+", (finding.id or finding.message).lower()))
    return sha256(f"{finding.path}\n{words}".encode("utf-8", "surrogatepass")).hexdigest()[:12]


def find_anchor(finding: Finding, ranges: Ranges) -> Anchor | None:
    """Where GitHub can show this finding, if the diff shows its line."""
    path, first = finding.path or "", finding.line
    hunk = next((each for each in ranges.get(path, ()) if first in each), None)
    encodable = path.encode("utf-8", "replace").decode() == path
    if first is None or hunk is None or finding.place == "nowhere" or not encodable:
        return None
    last = first if finding.end_line is None else finding.end_line
    whole = last in hunk and last >= first
    return Anchor(path, first, last if whole else first, whole)


def write_body(finding: Finding, anchor: Anchor, key: str) -> str:
    """The comment's text, within ``LIMIT``, all that is untrusted in it made harmless."""
    said = f"**{finding.severity}:** {markdown_inline(finding.message, MESSAGE)}"
    suggested = "" if finding.suggestion is None else _suggest(finding, finding.suggestion, anchor)
    last_line = f"<!-- aethr:finding key={key} id={identify(finding)} -->"
    body = _join(said, suggested, last_line)
    if len(body.encode()) > LIMIT:
        body = _join(said, "*The suggested replacement is too long for a comment.*", last_line)
    return body


def _suggest(finding: Finding, suggestion: str, anchor: Anchor) -> str:
    """A suggestion block if GitHub can apply exactly this, else the same as code to read."""
    code = suggestion.replace("\r\n", "\n")
    code += "\n" if code and not code.endswith("\n") else ""
    longer = "`" * (len(code) + 3)
    shown = markdown_block(f"{longer}\n{code}{longer}")
    fence = shown.partition("\n")[0]
    if anchor.whole and shown == f"{fence}\n{code}{fence}\n" and REDACTED not in code:
        return f"{fence}suggestion\n{code}{fence}"
    last = max(anchor.first, finding.end_line or 0)
    lines = f"line {last}" if last == anchor.first else f"lines {anchor.first} to {last}"
    return _join(f"Suggested instead of {lines}:", shown) if code else f"Suggested: delete {lines}."


def _join(*parts: str) -> str:
    """Paragraphs. GitHub takes an HTML comment for one only after an empty line."""
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _post(
    api: Api,
    pull: PullRequest,
    mark: Marker,
    fresh: Sequence[Finding],
    ranges: Ranges,
    there: Collection[_Comment],
) -> tuple[Sequence[Finding], ApiError | None]:
    """Post these findings as one review. Returns those that are posted, and what failed.

    GitHub may answer 502 and have posted (https://github.com/reviewdog/reviewdog/issues/355): only what is
    still missing is posted again. Raises ``ApiError`` if the comments cannot be listed.
    """
    known = {each.id for each in there}
    missing, failed = list(fresh), None
    for _ in range(POSTS):
        if not missing:
            return fresh, None
        anchors = [(each, anchor) for each in missing if (anchor := find_anchor(each, ranges)) is not None]
        review = {
            "commit_id": mark.head,  # as reviewed, even if the head has moved since
            "event": "COMMENT",
            "body": f"{counted(len(anchors), 'finding')} beside the code; the verdict is in Aethr's comment.",
            "comments": [_comment(each, anchor, mark.key) for each, anchor in anchors],
        }
        try:
            api.send("POST", f"{_path(pull)}/reviews", review)
            return fresh, None
        except ApiError as error:
            failed = error
        lost = isinstance(failed, AmbiguousError)
        if lost:
            api.sleep(2 * BACKOFF_S)  # GitHub may need a moment to show what it has just stored
        appeared = _pair(fresh, [each for each in _list_ours(api, pull, mark.key) if each.id not in known])
        missing = [each for each in fresh if each not in appeared]
        if not lost:
            break
    posted = [each for each in fresh if each not in missing]
    return posted, failed if missing else None


def _comment(finding: Finding, anchor: Anchor, key: str) -> dict[str, Any]:
    """A comment as the API takes it. GitHub refuses a ``start_line`` that is the line."""
    start = {"start_line": anchor.first, "start_side": "RIGHT"} if anchor.first < anchor.last else {}
    body = write_body(finding, anchor, key)
    return {"path": anchor.path, "line": anchor.last, "side": "RIGHT", **start, "body": body}


def _path(pull: PullRequest) -> str:
    return f"/repos/{pull.repository}/pulls/{pull.number}"


def _list_ours(api: Api, pull: PullRequest, key: str) -> list[_Comment]:
    """Our comments with this key, oldest first, whatever became of their threads. Raises ``ApiError``."""
    found = []
    for value in api.pages(f"{_path(pull)}/comments?per_page=100"):
        body, number = text(at(value, "body")).replace("\r\n", "\n"), count(at(value, "id"))
        match = _MARK.search(body)
        if match is not None and match[1] == key and 0 < number < MOST:
            said, shown = _MARK.sub("", body).strip(), at(value, "line") is not None
            comment = _Comment(number, key, match[2], said, shown, gone=match[3] is not None)
            found.append((comment, at(value, "user", "login")))
    me = find_owner(api, pull) if found else None
    return [comment for comment, author in found if author == me]


def _pair(findings: Iterable[Finding], comments: Iterable[_Comment]) -> dict[Finding, _Comment]:
    """The findings that have a comment, each with its own: findings in one place have the same id.

    The comment of a merged finding has any of its ids. Those that an earlier review did not have come last,
    so that one without a comment is one of them.
    """
    left: dict[str, list[_Comment]] = defaultdict(list)
    for each in comments:
        left[each.finding].append(each)
    in_order = sorted(findings, key=lambda each: each.state == "new")
    pairs = {}
    for found in in_order:
        own = next((left[one] for one in (identify(found), *found.ids) if left[one]), None)
        if own is not None:
            pairs[found] = own.pop(0)
    return pairs


_THREADS = """\
query($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    pullRequest(number: $number) {
      reviewThreads(first: 100, after: $after) {
        pageInfo { hasNextPage endCursor }
        nodes { id isResolved viewerCanResolve comments(first: 1) { nodes { fullDatabaseId } } }
      }
    }
  }
}"""
"""``databaseId`` has 32 bits, too few for the ids of today."""
_RESOLVE = """\
mutation($thread: ID!) {
  resolveReviewThread(input: {threadId: $thread}) { thread { isResolved } }
}"""


def _read_threads(api: Api, pull: PullRequest) -> dict[int, _Thread]:
    """The threads by the id of their first comment; only some of them where GraphQL stops answering."""
    found: dict[int, _Thread] = {}
    owner, _, name = pull.repository.partition("/")
    variables: dict[str, Any] = {"owner": owner, "name": name, "number": pull.number, "after": None}
    with suppress(ApiError):
        for _ in range(PAGES):
            data = _ask(api, pull, _THREADS, variables, reads=True)
            threads = at(data, "repository", "pullRequest", "reviewThreads")
            for node in _items(at(threads, "nodes")):
                thread = _Thread(
                    text(at(node, "id")), at(node, "isResolved") is True, at(node, "viewerCanResolve") is True
                )
                for first in _items(at(node, "comments", "nodes")):
                    number = str(at(first, "fullDatabaseId"))  # a BigInt, which is text in JSON
                    if re.fullmatch(r"[0-9]{1,15}", number):
                        found[int(number)] = thread
            variables["after"] = at(threads, "pageInfo", "endCursor")
            if at(threads, "pageInfo", "hasNextPage") is not True or not variables["after"]:
                break
    return found


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _ask(api: Api, pull: PullRequest, query: str, variables: Mapping[str, Any], *, reads: bool) -> Any:
    """The data of a GraphQL answer. Errors, which come with status 200, raise ``ApiError``."""
    body = {"query": query, "variables": variables}
    value = api.send("POST", pull.graphql_url, body, reads=reads).value
    if at(value, "errors") or not isinstance(at(value, "data"), dict):
        raise ApiError("GitHub refused a GraphQL request")
    return at(value, "data")


def _close(
    api: Api, pull: PullRequest, sha: str, gone: Iterable[_Comment], threads: Mapping[int, _Thread]
) -> None:
    """Resolve the threads of these comments where the token may, else say it in the comment, once.

    Resolving takes ``contents: write`` (https://github.com/github/gh-aw/issues/35726). Raises ``ApiError``.
    """
    for comment in gone:
        thread = threads.get(comment.id)
        if thread is not None and thread.resolved:
            continue
        if thread is not None and thread.resolvable:
            with suppress(ApiError):
                _ask(api, pull, _RESOLVE, {"thread": thread.id}, reads=False)
                continue
        if not comment.gone:
            _edit(api, pull, comment, sha[:12])


def _edit(api: Api, pull: PullRequest, comment: _Comment, gone: str | None = None) -> None:
    """Let a comment say at which commit its finding is gone, or that no longer. Raises ``ApiError``."""
    said = f"*No longer reported at `{gone}`.*" if gone else ""
    last_line = (
        f"<!-- aethr:finding key={comment.key} id={comment.finding}{f' gone={gone}' if gone else ''} -->"
    )
    body = _join(_GONE.sub("", comment.text), said, last_line)
    api.send("PATCH", f"/repos/{pull.repository}/pulls/comments/{comment.id}", {"body": body})
