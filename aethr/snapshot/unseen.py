"""What moved between two looks at a project and is not in the difference of their records, as plain lines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aethr.base.sanitize import reveal_name
from aethr.snapshot import gitdir, listing
from aethr.snapshot.shadow import AGENTS_OWN, Shadow

if TYPE_CHECKING:
    from aethr.snapshot import Look

_NAMED = 10
"""Files named in one line; of more the number is given."""

_LONGEST = 200
"""Characters of a name in such a line."""

_EMPTY = frozenset(
    {
        b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
        b"473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
    }
)
"""The ids of an empty file, which ``git add --intent-to-add`` stages in place of what is to come."""

_Entries = dict[bytes, bytes]
"""What an index or a tree has: path to mode and id."""


ANOTHER = "the project's own repository (.git) is gone, or is another one"


class Unseen(NamedTuple):
    """Lines on what a reviewer would have to see (``unseen``), and on what tools make again."""

    unseen: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()


def listed(what: str, names: Sequence[str]) -> Iterator[str]:
    """One line, or none; of more than a few names the rest is counted."""
    if names:
        shown = (name if len(name) <= _LONGEST else name[:_LONGEST] + "…" for name in names[:_NAMED])
        more = len(names) - _NAMED
        yield f"{what}: {', '.join(shown)}" + (f" and {more:,} more" if more > 0 else "")


def is_another(before: Look, after: Look) -> bool:
    """Whether the project's own repository is no longer the one it was."""
    return before.repository.identity != after.repository.identity or after.head.lost


def find(shadow: Shadow, before: Look, after: Look) -> Unseen:
    """All that moved without being in a record. Raises ``GitError``."""
    files, generated = _files(shadow, before, after)
    lines = [
        *files,
        *listed("git could not read it", [line for line in after.skipped if line not in before.skipped]),
        *_repository(before, after),
        *listed("in a repository that was made", list(_oddities(shadow, before, after))),
    ]
    if not (before.walk.whole and after.walk.whole):
        lines.append(f"not all was looked at: there are more than {listing.MOST:,} files")
    if not is_another(before, after):
        lines += listed("committed or staged, and not what lies in the tree", _held(shadow, before, after))
    return Unseen(tuple(lines), tuple(generated))


def _files(shadow: Shadow, before: Look, after: Look) -> tuple[list[str], list[str]]:
    """Lines on files that no record has, and on what of them tools make again."""
    old, new = before.rest.files, after.rest.files
    gone = (name for name in old if name not in new and not _exists(shadow, name))
    moved = [*(name for name, state in new.items() if old.get(name) != state), *gone]
    others = [name for name in moved if not _is_tools(name)]
    marked = _marked_generated(shadow, before.record, others)
    repositories = before.walk.repositories | after.walk.repositories
    kinds: dict[str, list[str]] = {"ignored by git": [], "in another repository": [], "cannot be shown": []}
    for name in others:
        special = after.walk.special.get(name) or ("not readable" if name in after.walk.closed else None)
        if special or name.rpartition(b"/")[2] == b".git":
            kinds["cannot be shown"].append(f"{reveal_name(name)} ({special or 'leads git elsewhere'})")
        elif name not in marked:
            nested = any(folder in repositories for folder in _folders(name))
            kinds["in another repository" if nested else "ignored by git"].append(reveal_name(name))
    tools = [
        folder
        for folder in {**before.rest.tools, **after.rest.tools}
        if before.rest.tools.get(folder) != after.rest.tools.get(folder)
    ]
    again = sorted({*tools, *marked, *(name for name in moved if _is_tools(name))})
    return (
        [line for kind, names in kinds.items() for line in listed(kind, sorted(names))],
        list(listed("made again by tools, so not reviewed", [reveal_name(name) for name in again])),
    )


def _is_tools(name: bytes) -> bool:
    """Whether a file belongs to a package manager, a cache or the agent itself by its name alone."""
    return (
        name.endswith(listing.TOOLS_FILES)
        or not listing.TOOLS_FOLDERS.isdisjoint(name.split(b"/")[:-1])
        or f"/{os.fsdecode(name)}".startswith(AGENTS_OWN)
    )


def _marked_generated(shadow: Shadow, record: str, names: Sequence[bytes]) -> frozenset[bytes]:
    """Those that the project itself calls generated, by its attributes as they were before the step."""
    if not names:
        return frozenset()
    asked = b"".join(name + b"\0" for name in names)
    words = ("check-attr", "--cached", "-z", "--stdin", "linguist-generated")
    fields = shadow.checked(*words, stdin=asked, index=record).split(b"\0")
    values = zip(fields[0::3], fields[2::3], strict=False)
    return frozenset(name for name, value in values if value in (b"set", b"true"))


def _folders(name: bytes) -> Iterator[bytes]:
    """The folders that a file lies in, without the top."""
    while name := name.rpartition(b"/")[0]:
        yield name


def _exists(shadow: Shadow, name: bytes) -> bool:
    return os.path.lexists(os.fsencode(shadow.top) + b"/" + name)


def _repository(before: Look, after: Look) -> Iterator[str]:
    """What moved in the project's own repository and decides what git runs, ignores and shows."""
    old, new = before.repository, after.repository
    if is_another(before, after):
        if old.identity[0] or len(old.identity) > 2:
            yield ANOTHER
        return
    names = [name for name in {**old.files, **new.files} if old.files.get(name) != new.files.get(name)]
    yield from listed("in the project's repository", [reveal_name(f".git/{name}") for name in names])
    yield from listed("commits that are not checked out", list(_other_commits(before, after)))


def _oddities(shadow: Shadow, before: Look, after: Look) -> Iterator[str]:
    for folder in sorted(after.repositories() - before.repositories()):
        for name in gitdir.oddities(shadow.top / os.fsdecode(folder) / ".git"):
            yield reveal_name(f"{os.fsdecode(folder)}/.git/{name}")


def moved_refs(before: Look, after: Look) -> dict[str, str]:
    """Branches, tags and notes that are new, gone or moved, with what they stand for now.

    Without the branch that is checked out, whose commit is that of HEAD.
    """
    if (before.repository.packed, before.repository.loose) == (
        after.repository.packed,
        after.repository.loose,
    ):
        return {}
    old, new = before.repository.refs(), after.repository.refs()
    moved = {name: new.get(name, "") for name in {**old, **new} if old.get(name) != new.get(name)}
    moved.pop(f"refs/heads/{after.head.branch}", None)
    return moved


def _other_commits(before: Look, after: Look) -> Iterator[str]:
    """Refs that lead to what was not there before."""
    known = {"", *before.repository.refs().values(), before.head.commit, after.head.commit}
    for name, value in moved_refs(before, after).items():
        if value not in known:
            yield reveal_name(name)
    if after.head.stash not in ("", before.head.stash):
        yield "the stash"


def _held(shadow: Shadow, before: Look, after: Look) -> list[str]:
    """Files of which the index, or the commit checked out, got something that does not lie in the tree."""
    came = {**_came_to_head(shadow, before, after), **_came_to_index(shadow, before, after)}
    if not came:
        return []
    recorded = _entries(shadow.checked("ls-files", "-s", "-z", index=after.record))
    hidden = {path for path, entry in came.items() if recorded.get(path, b"") != entry}
    if hidden:  # what the user had staged or committed before is not the agent's
        known = [_index(shadow, before.head.index_copy), _tree(shadow, before.head.commit)]
        hidden = {path for path in hidden if all(each.get(path, b"") != came[path] for each in known)}
    return [reveal_name(path) for path in sorted(hidden)]


def _came_to_index(shadow: Shadow, before: Look, after: Look) -> _Entries:
    old, new = before.head.index_copy, after.head.index_copy
    if not old and not new:
        return {}
    if old and new and (shadow.folder / old).read_bytes() == (shadow.folder / new).read_bytes():
        return {}
    was, now = _index(shadow, old), _index(shadow, new)
    came = {path: now.get(path, b"") for path in {**was, **now} if was.get(path) != now.get(path)}
    return {path: entry for path, entry in came.items() if entry.partition(b" ")[2] not in _EMPTY}


def _came_to_head(shadow: Shadow, before: Look, after: Look) -> _Entries:
    if before.head.commit == after.head.commit or not after.head.commit:
        return {}
    was, now = _tree(shadow, before.head.commit), _tree(shadow, after.head.commit)
    return {path: now.get(path, b"") for path in {**was, **now} if was.get(path) != now.get(path)}


def _index(shadow: Shadow, copy: str) -> _Entries:
    return _entries(shadow.checked("ls-files", "-s", "-z", index=copy)) if copy else {}


def _tree(shadow: Shadow, commit: str) -> _Entries:
    """All files of a commit, in the form of ``_entries``."""
    rows = shadow.project_git("ls-tree", "-r", "-z", commit).stdout.split(b"\0") if commit else []
    heads = ((row.partition(b"\t")[2], row.partition(b"\t")[0].split(b" ")) for row in rows if row)
    return {path: head[0] + b" " + head[2] for path, head in heads}


def _entries(rows: bytes) -> _Entries:
    """What ``git ls-files -s -z`` lists; of a conflict no side."""
    heads = (row.partition(b"\t") for row in rows.split(b"\0") if row)
    return {path: head[:-2] for head, _, path in heads if head.endswith(b" 0")}
