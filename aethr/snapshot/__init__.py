"""What one step changed: a snapshot of the work tree, and what a later look finds changed, as artifacts.

What was dirty before is in the snapshot, so only the step's own part is in the difference. Content
inside submodules and nested repositories, and files that git ignores, are not seen.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from aethr.invisible import reveal_name
from aethr.records import Artifacts, Baseline
from aethr.sanitize import redact
from aethr.snapshot import treediff
from aethr.snapshot.shadow import Shadow, copy_index, failed, opened
from aethr.snapshot.treediff import ChangedFile
from aethr.words import capped

__all__ = [
    "Change",
    "Head",
    "Look",
    "Shadow",
    "Snapshot",
    "baseline",
    "follows",
    "opened",
    "restored",
    "since",
    "take",
]

_NAMED = 10
"""Files named in one note; of more the number is given."""

_SUBMODULE = (0o160000).to_bytes(4, "big")
"""The mode of a submodule as an index file of any version has it: where it is not found, there is none."""

_ERROR = b"error: "
_NESTED = re.compile(rb"warning: adding embedded git repository: (.*)")


class Head(NamedTuple):
    """Where the project's own repository stands. Empty strings: no commit yet, no branch, no stash.

    ``index_copy`` is the name of a copy of its index file in the shadow.
    """

    branch: str = ""
    commit: str = ""
    stash: str = ""
    index_copy: str = ""


class Look(NamedTuple):
    """The work tree at one moment. ``record`` names an index file of the shadow that lists its files.

    ``began_ns`` is the wall clock when it was begun. ``skipped`` are git's own words for what it could
    not read, ``nested`` the submodules and other repositories whose content is not seen.
    """

    record: str
    head: Head
    began_ns: int
    skipped: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """What a later look is compared with: a look, and the id of the tree of its files."""

    look: Look
    tree: str


class Change(NamedTuple):
    """What has changed since a snapshot, and plain lines on what that does not show."""

    artifacts: Artifacts
    notes: tuple[str, ...] = ()


def take(shadow: Shadow) -> Snapshot:
    """Record the work tree as it is now. Raises ``GitError``."""
    look = _look(shadow)
    return Snapshot(look, shadow.write_tree(look.record))


def baseline(shadow: Shadow, snapshot: Snapshot) -> Baseline:
    """What of a snapshot outlives its shadow, beside the objects of its tree."""
    look, head = snapshot.look, snapshot.look.head
    return Baseline(
        tree=snapshot.tree,
        top=redact(str(shadow.top)),
        branch=head.branch,
        commit=head.commit,
        stash=head.stash,
        began_us=look.began_ns // 1000,
        skipped=look.skipped,
        nested=look.nested,
        rules=shadow.rules,
    )


def restored(shadow: Shadow, found: Baseline) -> Snapshot:
    """The snapshot of an earlier shadow, for ``since``; to be called before this one is looked at.

    Files that were recorded then are looked at, also where they are ignored by now or no longer tracked.
    There is no copy of the project's index as it was. Raises ``GitError``.
    """
    known = frozenset(shadow.checked("ls-files", "-z").split(b"\0"))
    rows = shadow.checked("ls-tree", "-r", "-z", "--full-tree", found.tree).split(b"\0")
    gone = b"".join(row + b"\0" for row in rows if row and row.partition(b"\t")[2] not in known)
    shadow.checked("update-index", "--add", "--replace", "-z", "--index-info", stdin=gone)
    head = Head(found.branch, found.commit, found.stash)
    return Snapshot(Look("", head, found.began_us * 1000, found.skipped, found.nested), found.tree)


def follows(shadow: Shadow, commit: str) -> bool:
    """Whether this commit (empty: none) is the one checked out, or among those that it was made from."""
    if not commit:
        return True
    if shadow.git_dir is None:
        return False
    return shadow.project_git("merge-base", "--is-ancestor", commit, "HEAD").code == 0


def since(shadow: Shadow, snapshot: Snapshot, who: str = "the agent") -> Change:
    """What has changed since a snapshot, and what ``who`` did to the repository. Raises ``GitError``."""
    before, after = snapshot.look, _look(shadow)
    files, patch = treediff.difference(shadow, snapshot.tree, after.record)
    ignored_before = _not_new(shadow, files, before.began_ns)
    if ignored_before:
        shadow.forget(ignored_before, after.record)
        files, patch = treediff.difference(shadow, snapshot.tree, after.record)
    text, foreign = _decoded(patch.sections)
    notes = (
        *_head_notes(shadow, before.head, after.head, who),
        *_sizes(shadow, [file for file in files if file.binary]),
        *_listed("not shown, the diff is too long", [reveal_name(file.path) for file in patch.left_out]),
        *_listed("bytes that are not UTF-8 are shown as \N{REPLACEMENT CHARACTER}", foreign),
        *_listed(
            "ignored before and no longer, so not taken for new", list(map(reveal_name, ignored_before))
        ),
        *_limits(shadow, before, after),
    )
    return Change(Artifacts(tuple(_name(file.path) for file in files), patch.stat, text), notes)


def _look(shadow: Shadow) -> Look:
    began_ns = time.time_ns()
    with ThreadPoolExecutor(1) as beside:
        head = beside.submit(_head, shadow, f"index-{began_ns}")
        said = _record(shadow, f"record-{began_ns}")
    skipped = (line.removeprefix(_ERROR) for line in said if line.startswith(_ERROR))
    nested = (match[1].rstrip(b"/") for line in said if (match := _NESTED.fullmatch(line)))
    return Look(
        record=f"record-{began_ns}",
        head=head.result(),
        began_ns=began_ns,
        skipped=tuple(reveal_name(line) for line in skipped),
        nested=tuple(reveal_name(name) for name in nested),
    )


def _record(shadow: Shadow, name: str) -> list[bytes]:
    """List all files in an index of this name; gives what git said about those it could not read."""
    _forget_submodules(shadow)
    added = shadow.tree_git("add", "--all", "--ignore-errors", "--", ".")
    said = added.stderr.splitlines()
    if added.code not in (0, 1) or (added.code == 1 and not any(line.startswith(_ERROR) for line in said)):
        raise failed(added)
    with suppress(FileNotFoundError):  # without any file git writes no index
        shutil.copyfile(shadow.folder / "index", shadow.folder / name)
    return said


def _forget_submodules(shadow: Shadow) -> None:
    """Let ``git add`` look into no other repository.

    For a submodule in the index git runs ``git status`` inside of it, with its configuration and whatever
    that starts; without an entry only its HEAD is read.
    """
    indexes = (*shadow.folder.glob("index"), *shadow.folder.glob("sharedindex.*"))
    if any(_SUBMODULE in file.read_bytes() for file in indexes):
        rows = shadow.checked("ls-files", "-s", "-z").split(b"\0")
        shadow.forget([row.partition(b"\t")[2] for row in rows if row.startswith(b"160000 ")])


def _decoded(sections: Sequence[bytes]) -> tuple[str, list[str]]:
    """The diff as text, and the files in it that are not UTF-8."""
    foreign = []
    texts = []
    for section in sections:
        text = section.decode("utf-8", "replace")
        texts.append(text)
        if text.encode() != section:
            foreign.append(text.partition("\n")[0].removeprefix("diff --git "))
    return "".join(texts), foreign


def _name(path: bytes) -> str:
    r"""A path for people and JSON; a byte that is not UTF-8 shows as ``\xe9``."""
    return path.decode("utf-8", "backslashreplace")


def _not_new(shadow: Shadow, files: Sequence[ChangedFile], since_ns: int) -> list[bytes]:
    """Files that were there before and come into sight because a ``.gitignore`` changed.

    The time of a file's last change of status cannot be set by a program.
    """
    if not any(file.path.rpartition(b"/")[2] == b".gitignore" for file in files):
        return []
    return [file.path for file in files if file.status == "A" and _older(shadow, file.path, since_ns)]


def _older(shadow: Shadow, path: bytes, since_ns: int) -> bool:
    try:
        return (shadow.top / os.fsdecode(path)).lstat().st_ctime_ns < since_ns
    except OSError:
        return False


def _sizes(shadow: Shadow, files: Sequence[ChangedFile]) -> Iterator[str]:
    """How the size of each file that is not shown as text changed, in bytes."""
    pairs = zip(files, treediff.sizes(shadow, files), strict=True)
    lines = [f"{reveal_name(file.path)} ({old} -> {new} bytes)" for file, (old, new) in pairs]
    yield from _listed("binary or too large to show", lines)


def _listed(what: str, names: Sequence[str]) -> Iterator[str]:
    """One note, or none; of more than a few names the rest is counted."""
    if names:
        yield f"{what}: {capped(names, _NAMED)}"


def _limits(shadow: Shadow, before: Look, after: Look) -> Iterator[str]:
    if shadow.git_dir is None:
        yield f"{reveal_name(str(shadow.top))} is in no git repository: all files in it were compared"
    skipped = dict.fromkeys((*before.skipped, *after.skipped))
    yield from _listed("not seen, git could not read it", list(skipped))
    nested = dict.fromkeys((*before.nested, *after.nested))
    yield from _listed("content of other repositories inside this one is not seen", list(nested))


def _head(shadow: Shadow, index: str) -> Head:
    if shadow.git_dir is None:
        return Head()
    branch = shadow.project_git("symbolic-ref", "--quiet", "HEAD").stdout.decode("utf-8", "replace")
    commit, stash = _ids(shadow, "HEAD", "refs/stash")
    return Head(
        branch=branch.strip().removeprefix("refs/heads/"),
        commit=commit,
        stash=stash,
        index_copy=index if copy_index(shadow, index) else "",
    )


def _ids(shadow: Shadow, *names: str) -> list[str]:
    """The ids that these names stand for in the project's repository, empty where there is none."""
    asked = "".join(f"{name}\n" for name in names).encode()
    done = shadow.project_git("cat-file", "--batch-check=%(objectname)", stdin=asked)
    answers = done.stdout.decode("utf-8", "replace").splitlines()
    if len(answers) != len(names):
        return [""] * len(names)
    return ["" if answer.endswith(" missing") else answer for answer in answers]


def _head_notes(shadow: Shadow, before: Head, after: Head, who: str) -> Iterator[str]:
    """What was done to the repository itself, said plainly."""
    moved = f"HEAD moved from {_short(before.commit)} to {_short(after.commit)}"
    if before.branch != after.branch:
        old, new = (reveal_name(head.branch) or "a detached HEAD" for head in (before, after))
        yield f"{who} switched from {old} to {new}" + (f" ({moved})" if before.commit != after.commit else "")
    elif before.commit != after.commit:
        yield f"{who} {'committed' if _follows(shadow, before, after) else 'moved the branch'} ({moved})"
    elif _staged(shadow, before, after):
        yield f"{who} changed the index (git add, git rm or git reset)"
    if before.stash != after.stash:
        yield f"{who} changed the stash"


def _follows(shadow: Shadow, before: Head, after: Head) -> bool:
    if not before.commit:
        return True
    return shadow.project_git("merge-base", "--is-ancestor", before.commit, after.commit).code == 0


def _staged(shadow: Shadow, before: Head, after: Head) -> bool:
    """Whether another set of files is staged; the index file also changes when git only refreshes it."""
    old, new = (
        (shadow.folder / head.index_copy).read_bytes() if head.index_copy else b"" for head in (before, after)
    )
    return old != new and _listing(shadow, before) != _listing(shadow, after)


def _listing(shadow: Shadow, head: Head) -> bytes:
    return shadow.checked("ls-files", "-s", "-z", index=head.index_copy) if head.index_copy else b""


def _short(commit: str) -> str:
    return commit[:7] or "no commit"
