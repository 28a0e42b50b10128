"""What one step changed: a snapshot of the work tree, and what a later look finds changed, as artifacts.

What was dirty before is in the snapshot, so only the step's own part is in the difference. Of files that git
ignores, and of those in repositories that were inside of this one before, it has no content; ``unseen``
tells which of them moved.
"""

from __future__ import annotations

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
from aethr.snapshot.shadow import Shadow, copy_index, failed, opened, quoted
from aethr.snapshot.treediff import ChangedFile
from aethr.snapshot.unseen import listed

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

_SUBMODULE = (0o160000).to_bytes(4, "big")
"""The mode of a submodule as an index file of any version has it: where it is not found, there is none."""

_BASELINE = "baseline"
"""The index of a restored snapshot's files."""

_ERROR = b"error: "
_NESTED = re.compile(rb"warning: adding embedded git repository: (.*)")
_NO_COMMIT = re.compile(rb"error: '(.*)/' does not have a commit checked out")
_NOT_READ = re.compile(rb"error: unable to index file '(.*)'")
_RULES = (b".gitignore", b".gitattributes")


class Head(NamedTuple):
    """Where the project's own repository stands. Empty strings: no commit yet, no branch, no stash.

    ``index_copy`` is the name of a copy of its index file in the shadow. ``lost`` is True where the commit of
    an earlier look is no longer there.
    """

    branch: str = ""
    commit: str = ""
    stash: str = ""
    index_copy: str = ""
    lost: bool = False


class Look(NamedTuple):
    """The work tree at one moment. ``record`` names an index file of the shadow that lists its files.

    ``began_ns`` is the wall clock when it was begun. ``skipped`` are git's own words for what it could
    not read, ``nested`` the submodules and other repositories whose content is not seen. ``walk`` names all
    that lies in the tree, ``rest`` tells the state of what is in no record. ``restored`` is a look that an
    earlier shadow had: it has no copy of the project's index.
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
        """The folders that are repositories, the project's own among them."""
        return self.walk.repositories | ({b"."} if self.repository.identity[0] else set())


class Snapshot(NamedTuple):
    """What a later look is compared with: a look, and the id of the tree of its files."""

    look: Look
    tree: str


class Change(NamedTuple):
    """What has changed since a snapshot, and plain lines on what that does not show.

    ``moved`` is False where nothing at all has changed, seen or not.
    """

    artifacts: Artifacts
    notes: tuple[str, ...] = ()
    moved: bool = False


def take(shadow: Shadow) -> Snapshot:
    """Record the work tree as it is now. Raises ``GitError``."""
    look = _look(shadow)
    with ThreadPoolExecutor(1) as beside:
        tree = beside.submit(shadow.write_tree, look.record)
        look = look._replace(rest=_rest(shadow, look))
    return Snapshot(look, tree.result())


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


def restored(shadow: Shadow, found: Baseline) -> tuple[Snapshot, Snapshot]:
    """The snapshot of an earlier shadow, for ``since``, and one of now; this shadow has not been looked at.

    Files that were recorded then are looked at, also where they are ignored by now or no longer tracked. Of
    what is in no record, whatever has not been written since then is taken to be as it was. Raises
    ``GitError``.
    """
    known = frozenset(shadow.checked("ls-files", "-z").split(b"\0"))
    rows = shadow.checked("ls-tree", "-r", "-z", "--full-tree", found.tree).split(b"\0")
    gone = b"".join(row + b"\0" for row in rows if row and row.partition(b"\t")[2] not in known)
    shadow.checked("update-index", "--add", "--replace", "-z", "--index-info", stdin=gone)
    shadow.checked("read-tree", found.tree, index=_BASELINE)
    own = take(shadow)
    now, began_ns = own.look, found.began_us * 1000
    look = Look(
        record=_BASELINE,
        head=Head(found.branch, found.commit, found.stash),
        repository=gitdir.older(now.repository, shadow.git_dir, shadow.common, began_ns),
        began_ns=began_ns,
        walk=now.walk._replace(repositories=set(_known_repositories(now.walk, found))),
        rest=listing.older(os.fsencode(shadow.top), now.rest, began_ns),
        skipped=found.skipped,
        nested=found.nested,
        restored=True,
    )
    return Snapshot(look, found.tree), own


def _known_repositories(walk: Walk, found: Baseline) -> Iterator[bytes]:
    for folder in walk.repositories:
        name = reveal_name(folder)
        if name in found.nested or f"'{name}/' does not have a commit checked out" in found.skipped:
            yield folder


def follows(shadow: Shadow, commit: str) -> bool:
    """Whether this commit (empty: none) is the one checked out, or among those that it was made from."""
    if not commit:
        return True
    if shadow.git_dir is None:
        return False
    return shadow.project_git("merge-base", "--is-ancestor", commit, "HEAD").code == 0


def since(shadow: Shadow, snapshot: Snapshot, who: str = "the agent") -> Change:
    """What has changed since a snapshot, and what ``who`` did to the repository.

    Where the files cannot be recorded any more, because of what was done to them or to the repository, those
    that were written since are named, and nothing is shown. Raises ``GitError``, also where a restored
    snapshot cannot be compared.
    """
    try:
        after = _look(shadow, snapshot.look)
        return _compared(shadow, snapshot, after, who)
    except GitError as error:
        if snapshot.look.restored:
            raise
        return _by_time(shadow, snapshot.look, error)


def _compared(shadow: Shadow, snapshot: Snapshot, after: Look, who: str) -> Change:
    before = snapshot.look
    with ThreadPoolExecutor(1) as beside:
        rest = beside.submit(_rest, shadow, after)
        files, patch = treediff.difference(shadow, snapshot.tree, after.record)
    after = after._replace(rest=rest.result())
    ignored_before = _not_new(shadow, files, before.began_ns)
    if ignored_before:
        shadow.forget(ignored_before, after.record)
    as_written = _record_as_written(shadow, before, after, files)
    if ignored_before or as_written:
        files, patch = treediff.difference(shadow, snapshot.tree, after.record)
    text, foreign = _decoded(patch.sections)
    lines = unseen.find(shadow, before, after)
    own = tuple(_head_notes(shadow, before, after, who))
    notes = (
        *own,
        *_sizes(shadow, [file for file in files if file.binary]),
        *listed("not shown, the diff is too long", [reveal_name(file.path) for file in patch.left_out]),
        *listed("bytes that are not UTF-8 are shown as \N{REPLACEMENT CHARACTER}", foreign),
        *listed("ignored before and no longer, so not taken for new", list(map(reveal_name, ignored_before))),
        *_limits(shadow, before, after),
    )
    names = tuple(_name(file.path) for file in files)
    artifacts = Artifacts(names, patch.stat, text, lines.unseen, lines.generated)
    return Change(artifacts, notes, moved=bool(files or own or lines.unseen or lines.generated))


def _by_time(shadow: Shadow, before: Look, error: GitError) -> Change:
    """The files written or deleted since a look, as their times tell, where nothing of them can be shown."""
    found = listing.walk(os.fsencode(shadow.top), os.fsencode(shadow.folder))
    was = shadow.checked("ls-files", "-z", index=before.record).split(b"\0")[:-1]
    top = os.fsencode(shadow.top)
    gone = (name for name in was if not os.path.lexists(top + b"/" + name))
    names = sorted({*gone, *listing.written(top, found, before.began_ns)})
    lines = [f"{error}: files are named by the time of their last change, and not shown"]
    if before.repository.identity != gitdir.state(shadow.top, shadow.git_dir, shadow.common).identity:
        lines.insert(0, unseen.ANOTHER)
    return Change(Artifacts(tuple(map(_name, names)), unseen=tuple(lines)), moved=True)


def _look(shadow: Shadow, before: Look | None = None) -> Look:
    """Look at the work tree. The files of a repository that was none ``before`` are recorded one by one."""
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
    """List all files in an index of this name; gives what git said of those it could not read, and a walk."""
    submodules = _submodules(shadow)
    walk = _walked(shadow) if submodules else None
    if submodules:
        shadow.forget(submodules)
    with shadow.begun("add", "--all", "--ignore-errors", "--", ".") as add:
        walk = walk or _walked(shadow)
        added = add()
    said = added.stderr.splitlines()
    if added.code not in (0, 1) or (added.code == 1 and not any(line.startswith(_ERROR) for line in said)):
        raise failed(added)
    with suppress(FileNotFoundError):  # without any file git writes no index
        shutil.copyfile(shadow.folder / "index", shadow.folder / name)
    walk.closed.update(match[1] for line in said if (match := _NOT_READ.fullmatch(line)))
    if stale := [*walk.special, *walk.closed]:  # git keeps what it had of them
        shadow.forget(stale, name)
    return said, walk


def _walked(shadow: Shadow) -> Walk:
    walk = listing.walk(os.fsencode(shadow.top), os.fsencode(shadow.folder))
    for path, kind in walk.special.items():
        if path.rpartition(b"/")[2] in _RULES:  # git would wait for somebody to write into a FIFO
            raise GitError(
                f"cannot record the state of the files: {reveal_name(path)} is {kind}", "Remove it."
            )
    return walk


def _record_inside(shadow: Shadow, record: str, folders: Sequence[bytes]) -> None:
    """Record the files of other repositories as if they lay in plain folders, without ignored ones."""
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
    """Where git attributes changed: record what was written since byte for byte, and give the names.

    ``ident``, ``working-tree-encoding`` and line endings would change it on its way into the record.
    """
    rest, was = after.rest.files, before.rest.files
    moved = [*(file.path for file in files), *(name for name in rest if rest[name] != was.get(name))]
    if not any(name.rpartition(b"/")[2] == b".gitattributes" for name in moved):
        return []
    top = os.fsencode(shadow.top)
    written = {*listing.written(top, after.walk, before.began_ns)}
    rows = shadow.checked("ls-files", "-s", "-z", index=after.record).split(b"\0")
    modes = {path: head[:6] for head, _, path in (row.partition(b"\t") for row in rows)}
    names = [path for path, mode in modes.items() if mode.startswith(b"100") and path in written]
    asked = b"".join(quoted(top + b"/" + name) + b"\n" for name in names)
    ids = shadow.checked("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=asked).split()
    lines = (b"%s %s\t%s\0" % (modes[name], each, name) for name, each in zip(names, ids, strict=True))
    shadow.checked("update-index", "-z", "--index-info", stdin=b"".join(lines), index=after.record)
    return names


def _rest(shadow: Shadow, look: Look) -> Rest:
    recorded = shadow.checked("ls-files", "-z", index=look.record).split(b"\0")[:-1]
    return listing.rest(os.fsencode(shadow.top), look.walk, recorded)


def _submodules(shadow: Shadow) -> list[bytes]:
    """The submodules in the index, to be forgotten, so that ``git add`` looks into no other repository.

    For one in the index git runs ``git status`` inside of it, with its configuration and whatever that
    starts; without an entry only its HEAD is read.
    """
    indexes = (*shadow.folder.glob("index"), *shadow.folder.glob("sharedindex.*"))
    if not any(_SUBMODULE in file.read_bytes() for file in indexes):
        return []
    rows = shadow.checked("ls-files", "-s", "-z").split(b"\0")
    return [row.partition(b"\t")[2] for row in rows if row.startswith(b"160000 ")]


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
    yield from listed("binary or too large to show", lines)


def _limits(shadow: Shadow, before: Look, after: Look) -> Iterator[str]:
    if shadow.git_dir is None:
        yield f"{reveal_name(str(shadow.top))} is in no git repository: all files in it were compared"
    skipped = dict.fromkeys((*before.skipped, *after.skipped))
    yield from listed("not seen, git could not read it", list(skipped))
    nested = dict.fromkeys((*before.nested, *after.nested))
    yield from listed("content of other repositories inside this one is not seen", list(nested))


def _head(shadow: Shadow, index: str, before: Look | None) -> Head:
    if shadow.git_dir is None:
        return Head()
    branch = shadow.project_git("symbolic-ref", "--quiet", "HEAD").stdout.decode("utf-8", "replace")
    earlier = "" if before is None else before.head.commit
    commit, stash, still = _ids(shadow, "HEAD", "refs/stash", earlier or "HEAD")
    return Head(
        branch=branch.strip().removeprefix("refs/heads/"),
        commit=commit,
        stash=stash,
        index_copy=index if copy_index(shadow, index) else "",
        lost=bool(earlier) and not still,
    )


def _ids(shadow: Shadow, *names: str) -> list[str]:
    """The ids that these names stand for in the project's repository, empty where there is none."""
    asked = "".join(f"{name}\n" for name in names).encode()
    done = shadow.project_git("cat-file", "--batch-check=%(objectname)", stdin=asked)
    answers = done.stdout.decode("utf-8", "replace").splitlines()
    if len(answers) != len(names):
        return [""] * len(names)
    return ["" if answer.endswith(" missing") else answer for answer in answers]


def _head_notes(shadow: Shadow, earlier: Look, later: Look, who: str) -> Iterator[str]:
    """What was done to the repository itself, and to others, said plainly."""
    made = [reveal_name(folder) for folder in sorted(later.repositories() - earlier.repositories())]
    yield from listed(f"{who} made a repository", made)
    if unseen.is_another(earlier, later):
        return
    before, after = earlier.head, later.head
    moved = f"HEAD moved from {_short(before.commit)} to {_short(after.commit)}"
    if before.branch != after.branch:
        old, new = (reveal_name(head.branch) or "a detached HEAD" for head in (before, after))
        yield f"{who} switched from {old} to {new}" + (f" ({moved})" if before.commit != after.commit else "")
    elif before.commit != after.commit:
        yield f"{who} {'committed' if _follows(shadow, before, after) else 'moved the branch'} ({moved})"
    elif not earlier.restored and _staged(shadow, before, after):
        yield f"{who} changed the index (git add, git rm or git reset)"
    if before.stash != after.stash:
        yield f"{who} changed the stash"
    refs = unseen.moved_refs(earlier, later)
    yield from listed(f"{who} changed branches or tags", [reveal_name(name) for name in refs])


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
    return shadow.checked("ls-files", "-s", "-v", "-z", index=head.index_copy) if head.index_copy else b""


def _short(commit: str) -> str:
    return commit[:7] or "no commit"
