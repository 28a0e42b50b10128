"""Reading files of the project out of git: from the index or from a commit, never from the work tree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from aethr import git
from aethr.context.files import MAX_BYTES, Listing, Refusal, Tree, Wanted, WorkTree, too_large
from aethr.context.paths import refusal
from aethr.errors import GitError, ProcessError
from aethr.git import objects
from aethr.git.objects import TreeEntry
from aethr.records import Survey, View

LONGEST_NAME = 4096
"""In characters; a file system takes no more."""

_NO_FILE = {"120000": "a link; in a commit links are not followed", "160000": "a submodule"}


class GitTree(NamedTuple):
    """The files of the index or of a commit. ``entries`` maps a path, relative to ``root``, to its entry."""

    root: Path
    entries: Mapping[str, TreeEntry]

    def read(self, paths: Sequence[str]) -> Iterator[bytes | Refusal]:
        """See ``Tree``. Links are not followed; what git has as an object is given as it is there."""
        found = [self._find(path) for path in paths]
        sizes = objects.sizes(self.root, {each.id for each in found if isinstance(each, TreeEntry)})
        checked = [_measured(each, sizes) for each in found]
        given = objects.contents(self.root, [each for each in checked if not isinstance(each, Refusal)])
        for each in checked:
            yield each if isinstance(each, Refusal) else next(given)

    def names(self, wanted: Wanted) -> Listing:
        """See ``Tree``."""
        return Listing(tuple(sorted(filter(wanted, self.entries))))

    def _find(self, path: str) -> TreeEntry | Refusal:
        refused = refusal(path)
        if refused is not None:
            return Refusal(refused)
        plain = _plain(path)
        entry = self.entries.get(plain)
        if entry is None:
            below = "" if plain == "." else f"{plain}/"
            folder = any(name.startswith(below) for name in self.entries)
            return Refusal("a folder" if folder else "no such file", absent=True)
        if entry.stage != "0":
            return Refusal("unmerged")
        reason = _NO_FILE.get(entry.mode)
        return entry if reason is None else Refusal(reason)


def tree_of(view: View, path: str | None = None) -> Tree:
    """Where a run of this scope reads files: beside a staged change the index, beside a range its head.

    ``path`` is the only one that will be read, None for all. Where there is no repository, staging
    means nothing and the files on disk are read. Raises ``GitError`` for one that git cannot read.
    """
    root, scope = view.root, view.scope
    below = "." if path is None or refusal(path) else _plain(path)
    if scope.kind == "range" and scope.head is not None:
        return GitTree(root, _by_path(objects.tree_entries(root, scope.head, below)))
    known = view.survey.checkout if view.survey else None
    if scope.kind == "staged" and git.checkout_if_any(root, known):
        return GitTree(root, _by_path(objects.index_entries(root, below)))
    return WorkTree(root)


def holds(root: Path, survey: Survey | None, path: str) -> bool:
    """Whether the tree under review, or the work tree, has a file or a folder of this name.

    The name is relative to ``root``, or to the top of its repository. True where git cannot say.
    """
    plain = PurePosixPath(path)
    if not path or "\0" in path or plain.is_absolute() or ".." in plain.parts or len(path) > LONGEST_NAME:
        return False
    try:
        folders = {root, survey.top} if survey else {root}
        if any(os.path.lexists(folder / path) for folder in folders):
            return True
        if survey is None or survey.scope.reads_disk:
            return False
        if head := survey.scope.head:
            return any(any(objects.tree_entries(folder, head, path)) for folder in folders)
        return any(any(objects.index_entries(folder, path)) for folder in folders)
    except (GitError, ProcessError, OSError, ValueError):
        return True


def _measured(found: TreeEntry | Refusal, sizes: Mapping[str, int]) -> tuple[str, int] | Refusal:
    if isinstance(found, Refusal):
        return found
    size = sizes.get(found.id)
    if size is None:
        return Refusal("not in this clone")
    return (found.id, size) if size <= MAX_BYTES else too_large(size)


def _by_path(entries: Iterator[TreeEntry]) -> dict[str, TreeEntry]:
    return {os.fsdecode(entry.path): entry for entry in entries}


def _plain(path: str) -> str:
    """Without the ``./`` and doubled slashes that a workflow may have and git does not."""
    return PurePosixPath(path).as_posix()
