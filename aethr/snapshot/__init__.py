"""What one step changed: a snapshot of the work tree before it, and the difference after it, as artifacts.

What was dirty before is in the snapshot, so the difference has only the step's own part. It does not have the
content of files that git ignores, or of files in repositories that were inside this one before; ``unseen``
says which of those changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from aethr.base.errors import GitError
from aethr.base.records import Artifacts, Baseline
from aethr.base.sanitize import redact, reveal_name
from aethr.snapshot import gitdir, listing, treediff, unseen
from aethr.snapshot.listing import Rest, Walk
from aethr.snapshot.shadow import Shadow, copy_index, failure, open_shadow, quote
from aethr.snapshot.treediff import ChangedFile
from aethr.snapshot.unseen import list_names

__all__ = [
    "Difference",
    "Head",
    "Look",
    "Shadow",
    "Snapshot",
    "baseline",
    "follows",
    "open_shadow",
    "restore",
    "since",
    "take",
]

_SUBMODULE = (0o160000).to_bytes(4, "big")
"""The mode of a submodule in an index file of any version: a file without it does not have submodules."""

_BASELINE, _STAGED = "baseline", "staged"
"""The indexes of a restored snapshot: its files, and what was staged then."""

_ERROR = b"error: "
_NESTED = re.compile(rb"warning: adding embedded git repository: (.*)")
_NO_COMMIT = re.compile(rb"error: '(.*)/' does not have a commit checked out")
_NOT_READ = re.compile(rb"error: unable to index file '(.*)'")
_RULES = (b".gitignore", b".gitattributes")


class Head(NamedTuple):
    """What is checked out. Empty strings: no commit yet, no branch, no stash.

    ``index_copy`` is the name of a copy of the project's index in the shadow. ``lost`` is True if the commit
    of an earlier look no longer exists.
    """

    branch: str = ""
    commit: str = ""
    stash: str = ""
    index_copy: str = ""
    lost: bool = False


class Look(NamedTuple):
    """The work tree at one moment. ``record`` names an index file of the shadow that lists its files.

    ``began_ns`` is the wall clock at its start. ``skipped`` is git's own words for what it could not read,
    ``nested`` the submodules and other repositories whose content is not read. ``walk`` names everything in
    the tree, ``rest`` has the state of what is not in the record. ``restored``: the look is from an earlier
    shadow; its walk has only the repositories, and its copy of the project's index no marks or conflicts.
    """

    record: str
    head: Head
    repository: gitdir.State
    began_ns: int
    walk: Walk
    rest: Rest = Rest({}, {})
    skipped: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    restored: bool = False

    def repositories(self) -> set[bytes]:
        """The folders that are repositories, including the project's own."""
        return self.walk.repositories | ({b"."} if self.repository.identity[0] else set())


class Snapshot(NamedTuple):
    """What a later look is compared with: a look, and the id of the git tree with its files."""

    look: Look
    tree: str


class Difference(NamedTuple):
    """What has changed since a snapshot, and notes on what that does not show.

    ``moved`` is False if nothing at all has changed, shown or not.
    """

    artifacts: Artifacts
    notes: tuple[str, ...] = ()
    moved: bool = False


def take(shadow: Shadow) -> Snapshot:
    """Record the work tree as it is now. Raises ``GitError``."""
    look = _look(shadow)
    with ThreadPoolExecutor(1) as beside:
        tree = beside.submit(shadow.checked, "write-tree", "--missing-ok", index=look.record)
        look = look._replace(rest=_rest(shadow, look))
    return Snapshot(look, tree.result().decode().strip())


def baseline(shadow: Shadow, snapshot: Snapshot) -> Baseline:
    """The part of a snapshot that outlives its shadow, beside the objects of its trees and its blob.

    Raises ``GitError``.
    """
    look, head = snapshot.look, snapshot.look.head
    blind = {
        "files": {os.fsdecode(name): state for name, state in look.rest.files.items()},
        "tools": {os.fsdecode(name): state for name, state in look.rest.tools.items()},
        "repositories": sorted(map(os.fsdecode, look.walk.repositories)),
        "complete": look.walk.complete,
        "settings": dict(look.repository.files),
        "refs": look.repository.refs(),
    }
    stored = shadow.checked("hash-object", "-w", "--stdin", stdin=json.dumps(blind).encode())
    return Baseline(
        tree=snapshot.tree,
        top=redact(str(shadow.top)),
        staged=_write_staged(shadow, head.index_copy),
        blind=stored.decode().strip(),
        branch=head.branch,
        commit=head.commit,
        stash=head.stash,
        began_us=look.began_ns // 1000,
        skipped=look.skipped,
        nested=look.nested,
        rules=shadow.rules,
    )


def restore(shadow: Shadow, found: Baseline) -> tuple[Snapshot, Snapshot]:
    """The snapshot of an earlier shadow, for ``since``, and one of now. ``shadow`` must not have one yet.

    Files that were recorded then are recorded again, even if they are ignored by now or no longer tracked.
    Raises ``GitError``, also if what is kept is missing or damaged.
    """
    known = frozenset(shadow.checked("ls-files", "-z").split(b"\0"))
    rows = shadow.checked("ls-tree", "-r", "-z", "--full-tree", found.tree).split(b"\0")
    gone = b"".join(row + b"\0" for row in rows if row and row.partition(b"\t")[2] not in known)
    shadow.checked("update-index", "--add", "--replace", "-z", "--index-info", stdin=gone)
    shadow.checked("read-tree", found.tree, index=_BASELINE)
    if found.staged:
        shadow.checked("read-tree", found.staged, index=_STAGED)
    text = shadow.checked("cat-file", "blob", found.blind)
    if shadow.checked("hash-object", "--stdin", stdin=text).decode().strip() != found.blind:
        raise _damaged()  # git does not check the id of an object that it reads, and an agent may rewrite one
    own = take(shadow)
    try:
        blind = json.loads(text)
        look = Look(
            record=_BASELINE,
            head=Head(found.branch, found.commit, found.stash, _STAGED if found.staged else ""),
            # Another repository in its place has another commit, or else the same content.
            repository=own.look.repository._replace(
                files=dict(blind["settings"]),
                packed=b"",
                loose={name.encode(): value.encode() for name, value in blind["refs"].items()},
            ),
            began_ns=found.began_us * 1000,
            walk=Walk([], {}, set(map(os.fsencode, blind["repositories"])), set(), {}, blind["complete"]),
            rest=Rest(*({os.fsencode(name): blind[of][name] for name in blind[of]} for of in Rest._fields)),
            skipped=found.skipped,
            nested=found.nested,
            restored=True,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged() from error
    return Snapshot(look, found.tree), own


def _damaged() -> GitError:
    return GitError("what was kept of the state of the files is damaged", "Start over.")


def _write_staged(shadow: Shadow, copy: str) -> str:
    """The id of a tree with the files of an index, except conflicted ones; empty without an index."""
    if not copy:
        return ""
    rows = shadow.checked("ls-files", "-u", "-z", index=copy).split(b"\0")[:-1]
    if rows:
        shutil.copyfile(shadow.folder / copy, shadow.folder / _STAGED)
        shadow.forget([row.partition(b"\t")[2] for row in rows], _STAGED)
        copy = _STAGED
    return shadow.checked("write-tree", "--missing-ok", index=copy).decode().strip()


def follows(shadow: Shadow, commit: str, later: str = "HEAD") -> bool:
    """Whether a commit is ``later`` or an ancestor of it; true for an empty ``commit`` (none yet)."""
    if not commit:
        return True
    if shadow.git_dir is None:
        return False
    return shadow.project_git("merge-base", "--is-ancestor", commit, later).code == 0


def since(shadow: Shadow, snapshot: Snapshot, who: str = "the agent") -> Difference:
    """What has changed since a snapshot, and what ``who`` did to the repository.

    If the files can no longer be recorded, because of what was done to them or to the repository, the files
    written since are named and none is shown. Raises ``GitError``, also if a restored snapshot cannot be
    compared.
    """
    try:
        after = _look(shadow, snapshot.look)
        return _compare(shadow, snapshot, after, who)
    except GitError as error:
        if snapshot.look.restored:
            raise
        return _name_written(shadow, snapshot.look, error)


def _compare(shadow: Shadow, snapshot: Snapshot, after: Look, who: str) -> Difference:
    before = snapshot.look
    with ThreadPoolExecutor(1) as beside:
        rest = beside.submit(_rest, shadow, after)
        files, patch = treediff.difference(shadow, snapshot.tree, after.record)
    after = after._replace(rest=rest.result())
    ignored_before = _find_not_new(shadow, files, before.began_ns)
    if ignored_before:
        shadow.forget(ignored_before, after.record)
    as_written = _record_as_written(shadow, before, after, files)
    if ignored_before or as_written:
        files, patch = treediff.difference(shadow, snapshot.tree, after.record)
    lines = unseen.find(shadow, before, after)
    own = tuple(_describe_repository(shadow, before, after, who))
    notes = (
        *own,
        *_describe_diff(shadow, files, patch, ignored_before),
        *_describe_gaps(shadow, before, after),
    )
    text = "".join(section.decode("utf-8", "replace") for section in patch.sections)
    artifacts = Artifacts(
        tuple(_escape(file.path) for file in files), patch.stat, text, lines.unseen, lines.generated
    )
    return Difference(artifacts, notes, moved=bool(files or own or lines.unseen or lines.generated))


def _name_written(shadow: Shadow, before: Look, error: GitError) -> Difference:
    """Only the names of the files written or deleted since a look, found by their times."""
    found = listing.walk(os.fsencode(shadow.top), os.fsencode(shadow.folder))
    was = shadow.checked("ls-files", "-z", index=before.record).split(b"\0")[:-1]
    top = os.fsencode(shadow.top)
    gone = (name for name in was if not os.path.lexists(top + b"/" + name))
    names = sorted({*gone, *listing.list_written(top, found, before.began_ns)})
    lines = [f"{error}: the files written since are named, but not shown"]
    if before.repository.identity != gitdir.state(shadow.top, shadow.git_dir, shadow.common).identity:
        lines.insert(0, unseen.ANOTHER)
    return Difference(Artifacts(tuple(map(_escape, names)), unseen=tuple(lines)), moved=True)


def _look(shadow: Shadow, before: Look | None = None) -> Look:
    """Look at the work tree. Files in a repository made since ``before`` are recorded one by one."""
    began_ns = time.time_ns()
    name = f"record-{began_ns}"
    repository = gitdir.state(shadow.top, shadow.git_dir, shadow.common)
    replaced = before is not None and before.repository.identity != repository.identity
    with ThreadPoolExecutor(1) as beside:
        head = None if replaced else beside.submit(_head, shadow, f"index-{began_ns}", before)
        said, walk = _record(shadow, name)
    nested = [match[1].rstrip(b"/") for line in said if (match := _NESTED.fullmatch(line))]
    made: list[bytes] = []
    if before is not None:
        empty = [match[1] for line in said if (match := _NO_COMMIT.fullmatch(line))]
        made = [each for each in (*nested, *empty) if each not in before.walk.repositories]
        _record_inside(shadow, name, made)
    skipped = (line.removeprefix(_ERROR) for line in said if line.startswith(_ERROR))
    named = {b"'%s/' does not have a commit checked out" % each for each in made}
    named |= {
        b"%s: can only add regular files, symbolic links or git-directories" % each for each in walk.special
    }
    return Look(
        record=name,
        head=Head() if head is None else head.result(),
        repository=repository,
        began_ns=began_ns,
        walk=walk,
        skipped=tuple(reveal_name(line) for line in skipped if line not in named),
        nested=tuple(reveal_name(each) for each in nested if each not in made),
    )


def _record(shadow: Shadow, name: str) -> tuple[list[bytes], Walk]:
    """List all files in an index called ``name``. Returns git's lines on unreadable files, and a walk."""
    # `git add` would run `git status` inside a submodule that is in the index, and whatever its configuration
    # starts. For one without an entry git reads only HEAD.
    submodules: list[bytes] = []
    indexes = (*shadow.folder.glob("index"), *shadow.folder.glob("sharedindex.*"))
    if any(_SUBMODULE in file.read_bytes() for file in indexes):
        rows = shadow.checked("ls-files", "-s", "-z").split(b"\0")
        submodules = [row.partition(b"\t")[2] for row in rows if row.startswith(b"160000 ")]
    walk = _walk(shadow) if submodules else None
    if submodules:
        shadow.forget(submodules)
    with shadow.start("add", "--all", "--ignore-errors", "--", ".") as finish:
        walk = walk or _walk(shadow)
        added = finish()
    said = _without_repeats(added.stderr.splitlines())
    if added.code not in (0, 1) or (added.code == 1 and not any(line.startswith(_ERROR) for line in said)):
        raise failure(added)
    with suppress(FileNotFoundError):  # git does not write an index without files
        shutil.copyfile(shadow.folder / "index", shadow.folder / name)
    walk.closed.update(match[1] for line in said if (match := _NOT_READ.fullmatch(line)))
    if stale := [*walk.special, *walk.closed]:  # git keeps their old entries
        shadow.forget(stale, name)
    return said, walk


def _without_repeats(said: list[bytes]) -> list[bytes]:
    """Without what git 2.55 says once more about a repository that has no commit."""
    empty = {match[1] + b"/" for line in said if (match := _NO_COMMIT.fullmatch(line))}
    return [line for line in said if not ((match := _NOT_READ.fullmatch(line)) and match[1] in empty)]


def _walk(shadow: Shadow) -> Walk:
    walk = listing.walk(os.fsencode(shadow.top), os.fsencode(shadow.folder))
    for path, kind in walk.special.items():
        if path.rpartition(b"/")[2] in _RULES:  # git would wait for a writer of the FIFO
            raise GitError(
                f"cannot record the state of the files: {reveal_name(path)} is {kind}", "Remove it."
            )
    return walk


def _record_inside(shadow: Shadow, record: str, folders: Sequence[bytes]) -> None:
    """Record the files of other repositories as if in plain folders, except ignored ones."""
    left = list(folders)
    names: list[bytes] = []
    while left:
        folder = left.pop()
        for name in shadow.untracked(folder):
            if name.endswith(b"/"):
                left.append(folder + b"/" + name.rstrip(b"/"))
            else:
                names.append(folder + b"/" + name)
    if folders:
        shadow.forget(folders, record)
    if names:
        asked = b"".join(name + b"\0" for name in names)
        ignored = shadow.tree_git("check-ignore", "--no-index", "-z", "--stdin", stdin=asked, index=record)
        kept = sorted({*names} - {*ignored.stdout.split(b"\0")})
        asked = b"".join(name + b"\0" for name in kept)
        shadow.checked("update-index", "--add", "--replace", "-z", "--stdin", stdin=asked, index=record)


def _record_as_written(
    shadow: Shadow, before: Look, after: Look, files: Collection[ChangedFile]
) -> list[bytes]:
    """If git attributes changed, record what was written since byte for byte. Returns the names.

    ``ident``, ``working-tree-encoding`` and line endings would change the bytes on their way into the record.
    """
    rest, was = after.rest.files, before.rest.files
    moved = [*(file.path for file in files), *(name for name in rest if rest[name] != was.get(name))]
    if not any(name.rpartition(b"/")[2] == b".gitattributes" for name in moved):
        return []
    top = os.fsencode(shadow.top)
    written = {*listing.list_written(top, after.walk, before.began_ns)}
    rows = shadow.checked("ls-files", "-s", "-z", index=after.record).split(b"\0")
    modes = {path: head[:6] for head, _, path in (row.partition(b"\t") for row in rows)}
    names = [path for path, mode in modes.items() if mode.startswith(b"100") and path in written]
    asked = b"".join(quote(top + b"/" + name) + b"\n" for name in names)
    ids = shadow.checked("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=asked).split()
    lines = (b"%s %s\t%s\0" % (modes[name], each, name) for name, each in zip(names, ids, strict=True))
    shadow.checked("update-index", "-z", "--index-info", stdin=b"".join(lines), index=after.record)
    return names


def _rest(shadow: Shadow, look: Look) -> Rest:
    recorded = shadow.checked("ls-files", "-z", index=look.record).split(b"\0")[:-1]
    return listing.rest(os.fsencode(shadow.top), look.walk, recorded)


def _escape(path: bytes) -> str:
    r"""A path for people and JSON; a byte that is not UTF-8 shows as ``\xe9``."""
    return path.decode("utf-8", "backslashreplace")


def _find_not_new(shadow: Shadow, files: Sequence[ChangedFile], since_ns: int) -> list[bytes]:
    """Files that existed before, and are seen now because a ``.gitignore`` changed.

    A program cannot set the time of a file's last status change (ctime).
    """
    if not any(file.path.rpartition(b"/")[2] == b".gitignore" for file in files):
        return []
    top = os.fsencode(shadow.top)
    added = [file.path for file in files if file.status == "A"]
    return [path for path in added if 0 < gitdir.changed_ns(top + b"/" + path) < since_ns]


def _describe_diff(
    shadow: Shadow, files: Sequence[ChangedFile], patch: treediff.Patch, ignored_before: Sequence[bytes]
) -> Iterator[str]:
    """What the diff does not show of the changed files."""
    binary = [file for file in files if file.binary]
    pairs = zip(binary, treediff.sizes(shadow, binary), strict=True)
    sizes = [f"{reveal_name(file.path)} ({old} -> {new} bytes)" for file, (old, new) in pairs]
    yield from list_names("binary or too large to show", sizes)
    yield from list_names(
        "not shown, the diff is too long", [reveal_name(file.path) for file in patch.excluded]
    )
    texts = ((section, section.decode("utf-8", "replace")) for section in patch.sections)
    headers = [text.partition("\n")[0] for section, text in texts if text.encode() != section]
    yield from list_names(
        "bytes that are not UTF-8 are shown as \N{REPLACEMENT CHARACTER}",
        [header.removeprefix("diff --git ") for header in headers],
    )
    not_new = list(map(reveal_name, ignored_before))
    yield from list_names("ignored before and no longer, so not counted as new", not_new)


def _describe_gaps(shadow: Shadow, before: Look, after: Look) -> Iterator[str]:
    """What could not be compared."""
    if shadow.git_dir is None:
        yield f"{reveal_name(str(shadow.top))} is not in a git repository: all files in it were compared"
    skipped = dict.fromkeys((*before.skipped, *after.skipped))
    yield from list_names("not compared, git could not read it", list(skipped))
    nested = dict.fromkeys((*before.nested, *after.nested))
    yield from list_names("content of other repositories inside this one is not compared", list(nested))


def _head(shadow: Shadow, index: str, before: Look | None) -> Head:
    if shadow.git_dir is None:
        return Head()
    branch = shadow.project_git("symbolic-ref", "--quiet", "HEAD").stdout.decode("utf-8", "replace")
    earlier = "" if before is None else before.head.commit
    asked = f"HEAD\nrefs/stash\n{earlier or 'HEAD'}\n".encode()
    answers = shadow.project_git("cat-file", "--batch-check=%(objectname)", stdin=asked).stdout.splitlines()
    ids = ["" if answer.endswith(b" missing") else answer.decode("utf-8", "replace") for answer in answers]
    commit, stash, still = ids if len(ids) == 3 else ("", "", "")
    return Head(
        branch=branch.strip().removeprefix("refs/heads/"),
        commit=commit,
        stash=stash,
        index_copy=index if copy_index(shadow, index) else "",
        lost=bool(earlier) and not still,
    )


def _describe_repository(shadow: Shadow, earlier: Look, later: Look, who: str) -> Iterator[str]:
    """What ``who`` did to the repository itself, and which repositories it made."""
    made = [reveal_name(folder) for folder in sorted(later.repositories() - earlier.repositories())]
    yield from list_names(f"{who} made a repository", made)
    if unseen.is_another(earlier, later):
        return
    before, after = earlier.head, later.head
    moved = f"HEAD moved from {_short(before.commit)} to {_short(after.commit)}"
    if before.branch != after.branch:
        old, new = (reveal_name(head.branch) or "a detached HEAD" for head in (before, after))
        yield f"{who} switched from {old} to {new}" + (f" ({moved})" if before.commit != after.commit else "")
    elif before.commit != after.commit:
        how = "committed" if follows(shadow, before.commit, after.commit) else "moved the branch"
        yield f"{who} {how} ({moved})"
    elif not earlier.restored and unseen.index_moved(shadow, before.index_copy, after.index_copy):
        # The index file also changes when git only refreshes it.
        old_rows, new_rows = (
            shadow.checked("ls-files", "-s", "-v", "-z", index=copy) if copy else b""
            for copy in (before.index_copy, after.index_copy)
        )
        if old_rows != new_rows:
            yield f"{who} changed the index (git add, git rm or git reset)"
    if before.stash != after.stash:
        yield f"{who} changed the stash"
    refs = unseen.moved_refs(earlier, later)
    yield from list_names(f"{who} changed branches or tags", [reveal_name(name) for name in refs])


def _short(commit: str) -> str:
    return commit[:7] or "no commit"
