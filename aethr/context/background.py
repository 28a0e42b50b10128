"""The sources that say more about a change: its files, its commits, its pull request, the project's guidance.

Nothing of the change is left out for them, and a review does not need them: what does not fit is named, and
is not missing. What people wrote about the change is untrusted, like the change itself.
"""

from __future__ import annotations

import heapq
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aethr import git
from aethr.base.records import (
    CHANGE,
    EMPTY_TREES,
    Checkout,
    Entry,
    Fragment,
    Lines,
    NewVersion,
    Piece,
    Remark,
    View,
    is_git_diff,
)
from aethr.base.sanitize import reveal, reveal_name
from aethr.base.words import counted
from aethr.context import changes, files
from aethr.context.diffs import is_pointer
from aethr.context.exclusion import GUIDANCE, importance
from aethr.context.files import GitTree, Refusal, WorkTree
from aethr.context.packer import Packer
from aethr.git import history, tracking

COMMITS = 50
"""At most this many commits of a change, the newest, are read."""

MESSAGE_CHARS = 10_000
COMMITS_CHARS = 20_000
"""The most of one commit's message, and of all together, so that they take little room from the change."""

REQUEST_CHARS = 20_000
"""The most of a pull request's title and text together; GitHub allows 256 and 65,536."""

_HIDDEN_COMMENT = re.compile(r"<!--(?:-?>|.*?(?:-->|\Z))", re.DOTALL)
"""What Markdown does not show: mostly the questions of a template. One that is not closed hides the rest."""

_OUTSIDE = "not in a git repository"


# --- the files of the change ---------------------------------------------------------------------


def changed_files(_argument: str, view: View, budget_chars: int, /) -> Iterator[Fragment]:
    """The new version of each file that the change edits, unless the diff already shows all of it.

    Whole files only. If not all fit, source is sent before tests and tests before the rest, small files
    first. The paths are those of the diff, from the repository's top. Raises ``GitError``.
    """
    here = _checkout(view)
    if here is None:
        yield Remark(f"no files: {_OUTSIDE}", empty=True)
        return
    changed = view.changed
    if changed is None:  # this step does not see the change, but its files
        packer = Packer(0)
        packer.take(0, changes.git_diff("", view, files.MAX_BYTES))
        changed = packer.changed([CHANGE])
    if not changed:
        yield Remark("no changed file has text to show here", empty=True)
        return
    found = _fit(_read_new_versions(view, here, changed), budget_chars)
    for entry, piece in found:
        yield entry
        yield piece
    if len(found) < len({(is_git_diff(each.source), each.name) for each in changed}):
        yield Remark("files that the change shows completely are not repeated here", empty=True)


def _read_new_versions(
    view: View, here: Checkout, changed: Sequence[NewVersion]
) -> Iterator[tuple[Entry, Piece]]:
    """Each file once, unless the diff shows all of it. What an agent has just changed is read from disk."""
    sent: dict[tuple[bool, str], list[Lines]] = {}
    for each in changed:
        sent.setdefault((is_git_diff(each.source), each.name), []).extend(each.lines)
    of_scope, of_agent = ([name for in_scope, name in sent if in_scope is side] for side in (True, False))
    tree = files.tree_of(view._replace(root=here.top), *of_scope)
    disk = WorkTree(here.top, links=False)
    contents = {
        True: (disk if isinstance(tree, WorkTree) else tree).read(of_scope),
        False: disk.read(of_agent),
    }
    for order, ((in_scope, name), lines) in enumerate(sent.items(), start=1):
        content = next(contents[in_scope])
        if isinstance(content, bytes) and is_pointer(content):
            content = Refusal(files.POINTER)
        elif isinstance(content, bytes) and _shows_all(lines, content):
            continue
        entry, *rest = files.show(name, order, content, labelled=True, extra=True)
        piece = rest[0] if rest else Piece(None, 0)
        assert isinstance(entry, Entry)
        assert isinstance(piece, Piece)
        if piece.text and view.numbered:
            from aethr.context import quotes  # only a reviewer needs it

            entry, piece = entry._replace(numbered=True), piece._replace(text=quotes.number(piece.text))
        yield entry, piece


def _shows_all(sent: Iterable[Lines], content: bytes) -> bool:
    """Whether hunks with these lines of a file leave nothing of it out."""
    next_line = 1
    for first, last in sorted(sent):
        if first > next_line:
            return False
        next_line = max(next_line, last + 1)
    return next_line > content.count(b"\n") + (not content.endswith(b"\n") and content != b"")


def _fit(read: Iterable[tuple[Entry, Piece]], room: int) -> list[tuple[Entry, Piece]]:
    """All of these files, without the text of those for which there is no room."""
    found: list[tuple[Entry, Piece]] = []
    fitting: list[list[tuple[int, int]]] = [[], [], []]  # of each importance: minus the size, and the index
    totals = [0, 0, 0]

    def drop_largest(rank: int, most: int) -> None:
        while totals[rank] > most:
            size, index = heapq.heappop(fitting[rank])
            totals[rank] += size
            entry, piece = found[-index]
            found[-index] = entry, piece._replace(text=None)

    for index, (entry, piece) in enumerate(read):
        found.append((entry, piece))
        if piece.text is not None:
            rank, size = importance(entry.path), len(entry.label) + len(piece.text)
            totals[rank] += size
            heapq.heappush(fitting[rank], (-size, -index))
            drop_largest(rank, room)  # so that memory is bounded, however many files there are
    for rank in range(len(totals)):
        drop_largest(rank, room)
        room -= totals[rank]
    return found


# --- what its author says about it ---------------------------------------------------------------


def commits(_argument: str, view: View, _budget_chars: int, /) -> Iterator[Fragment]:
    """The messages of the commits of the change, oldest first, as ``git log`` shows them, without merges.

    These are the commits of the second side that the first one does not have. Raises ``GitError``.
    """
    found = _find_commits(view)
    if isinstance(found, str):
        yield Remark(f"no commits: {found}", empty=True)
        return
    left = COMMITS_CHARS
    for number, commit in enumerate(found.newest):
        text = commit.message.decode("utf-8", "replace").strip()
        quote = _quote(text, MESSAGE_CHARS, unread=commit.size - len(commit.message))
        withheld = f"over {COMMITS_CHARS:,} characters of messages" if len(quote.text) > left else None
        left -= 0 if withheld else len(quote.text)
        name = f"commit {commit.id[:12]}"
        indented = re.sub("^(?=.)", "    ", quote.text, flags=re.MULTILINE)  # so none passes for a name
        entry = Entry(name, -number, label=f"{name}\n\n", withheld=withheld, extra=True)
        yield from _show(entry, quote._replace(text=indented), MESSAGE_CHARS)
    if not found.newest:
        yield Remark(
            "no commits: the second side has none that the first one lacks, except for merges", empty=True
        )
    if found.more:
        yield Remark(f"only the newest {COMMITS} commits of this change are listed")
    if found.cut:
        yield Remark("this clone is shallow: older commits of this change may be missing here")
    if view.scope.kind == "revision":
        yield Remark("changes that are not committed yet have no message here", empty=True)


def _find_commits(view: View) -> history.Commits | str:
    """The commits of the change, or why it has none."""
    scope, here = view.scope, _checkout(view)
    if here is None:
        return _OUTSIDE
    head = scope.head if scope.kind == "range" else scope.head_sha
    if scope.kind not in ("range", "revision") or head is None:
        return "the change is not committed yet"
    without = [each for each in (scope.base, scope.base_side) if each is not None and each not in EMPTY_TREES]
    # Without the first one in the way, all of the history would count.
    is_known = scope.base in EMPTY_TREES or history.has(here.top, *without[:1])
    found = history.commits(here.top, head, without, COMMITS, 4 * MESSAGE_CHARS) if is_known else None
    return found or "a side of the diff is not a commit"


def pull_request(_argument: str, view: View, _budget_chars: int, /) -> Iterator[Fragment]:
    """Number, title and text of the pull request, without the HTML comments in it."""
    request = view.pull_request
    if request is None:
        yield Remark(
            "no pull request: its title and text are known only in the Action and with --pull-request",
            empty=True,
        )
        return
    body, removed = _HIDDEN_COMMENT.subn("", request.body.replace("\r\n", "\n"))
    text = f"#{request.number} {' '.join(request.title.split())}\n\n{body.strip()}".strip()
    entry = Entry(f"pull request #{request.number}", 1, extra=True)
    yield from _show(entry, _quote(text, REQUEST_CHARS), REQUEST_CHARS)
    if removed:
        said = "which the page of the pull request hides"
        yield Remark(f"left out: {counted(removed, 'HTML comment')}, {said}")


class _Quote(NamedTuple):
    """What somebody wrote, as it is shown: sizes in bytes, as read. ``rest`` is the size of what was cut."""

    text: str
    size: int
    rest: int
    revealed: int


def _quote(text: str, most: int, unread: int = 0) -> _Quote:
    """At most ``most`` characters of a text of which there are ``unread`` more bytes."""
    end = min(most, len(text))
    shown, revealed = reveal(text[:end])
    while len(shown) > most:  # codes are longer than what they stand for
        end = end * most // len(shown)
        shown, revealed = reveal(text[:end])
    size, rest = (len(each.encode("utf-8", "surrogatepass")) for each in (text[:end], text[end:]))
    return _Quote(shown, size, rest + unread, revealed)


def _show(entry: Entry, quote: _Quote, most: int) -> Iterator[Fragment]:
    yield entry
    yield Piece(f"{quote.text}\n", quote.size, revealed=quote.revealed)
    if quote.rest:
        over = f"over {most:,} characters"
        yield Entry(f"the rest of {entry.path}", entry.order, withheld=over, extra=True)
        yield Piece(None, quote.rest)


# --- what the project says about changes ---------------------------------------------------------


def guidance(_argument: str, view: View, _budget_chars: int, /) -> Iterator[Fragment]:
    """The project's guidance as it is on the base side, so that a change cannot write its own.

    It is that of the repository's top, then that of the project's folder; equal files are sent once. Raises
    ``GitError``.
    """
    scope, here = view.scope, _checkout(view)
    if here is None or scope.base_side is None or scope.without_base_side:
        yield Remark(f"no guidance: {'nothing comes before this change' if here else _OUTSIDE}", empty=True)
        return
    names = guidance_paths(view.root.resolve().relative_to(here.top.resolve()).as_posix())
    tree = files.git_tree(here.top, scope.base_side, *names)
    there = [name for name in names if name in tree.entries]
    first: dict[str, str] = {}
    contents = tree.read(there)
    for order, name in enumerate(there, start=1):
        content = next(contents)
        same = _find_target(tree, name) or first.setdefault(tree.entries[name].id, name)
        if same in tree.entries and same != name:
            content = Refusal(f"the same as {reveal_name(same)}")
        yield from files.show(name, order, content, labelled=True, extra=True)
    if not there:
        yield Remark(f"no guidance before this change: none of {', '.join(names)}", empty=True)


def guidance_paths(folder: str) -> tuple[str, ...]:
    """Where guidance may be, from the repository's top. ``folder`` is the project's, relative to it."""
    found = (posixpath.normpath(f"{place}/{name}") for place in (".", folder) for name in GUIDANCE)
    return tuple(dict.fromkeys(found))


def _find_target(tree: GitTree, name: str) -> str | None:
    """The path that a link of a commit leads to; None if this is not a link."""
    entry = tree.entries[name]
    size = tracking.sizes(tree.root, [entry.id]).get(entry.id) if entry.mode == files.LINK else None
    if size is None or size > files.LONGEST_NAME:
        return None
    target = next(tracking.contents(tree.root, [(entry.id, size)]))
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), os.fsdecode(target)))


def _checkout(view: View) -> Checkout | None:
    """The repository of the project; None outside of one, and without git."""
    return git.checkout_if_any(view.root, view.survey.checkout if view.survey else None)
