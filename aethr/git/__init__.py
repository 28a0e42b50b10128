"""Every git call of Aethr: tiny functions, machine formats only, bytes in and out.

A repository may be hostile: its configuration, attributes, refs and file names are not trusted to
run anything: ``git_call`` sees to it. What the operator configured for the user, the system or in the
environment (a clean filter such as git-lfs) stays in force.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aethr.base.errors import GitError, GitMissingError, UsageError
from aethr.base.options import SCOPES
from aethr.base.process import Finished
from aethr.base.records import Checkout, LeftOut, Scope, Survey
from aethr.base.words import suggest
from aethr.git import call

_LITERAL = "--literal-pathspecs"
"""Paths are names, not patterns. Not for every call: check-ignore does not know it."""

_DIFF_SETTINGS = {
    "diff.suppressBlankEmpty": "false",
    "diff.autoRefreshIndex": "true",
    "core.abbrev": "auto",
    "core.bigFileThreshold": "512m",
}

PLAIN_DIFF = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "--submodule=short",
    "--indent-heuristic",
)
"""The form of every diff that is shown, whatever the configuration says."""

_DIFF_OPTIONS = (
    *PLAIN_DIFF,
    "--inter-hunk-context=0",
    "--no-relative",
    "--diff-algorithm=default",
    "--find-renames",
    "-l1000",
)
"""git's own defaults, so that no setting of the user or the repository changes the bytes."""


_NO_NAME = re.compile(r"[\0\r\n]")
"""What no name of a commit holds, and what would end one that is written in a line."""

# `.` is anything here: the name of a folder may hold line feeds.
_CHECKOUT = re.compile(rb"(.+?)(?:\n([0-9a-f]{40,64})(?:\n(?:refs/heads/)?([^\n]+))?)?\n", re.DOTALL)


def checkout(root: Path) -> Checkout | None:
    """The work tree that ``root`` lies in, and what is checked out there; None when it lies in none.

    Raises ``GitError`` for a repository that git refuses or cannot read, and ``GitMissingError``.
    """
    done = call.run(
        root, "rev-parse", "--revs-only", "--show-toplevel", "HEAD", "--symbolic-full-name", "HEAD"
    )
    found = _CHECKOUT.fullmatch(done.stdout)
    if found is None:
        _explain(root, done)
        return None
    top, head, branch = (None if each is None else os.fsdecode(each) for each in found.groups())
    assert top is not None
    if not root.resolve().is_relative_to(Path(top).resolve()) or call.repository(
        Path(top)
    ) != call.repository(root):
        raise GitError(
            f"{root}: core.worktree of this repository points elsewhere",
            "Run in the folder of the work tree, or remove core.worktree from .git/config.",
        )
    return Checkout(root, Path(top), head, None if branch == "HEAD" else branch)


def checkout_if_any(root: Path, known: Checkout | None = None) -> Checkout | None:
    """The same; None also where there is no git on this machine. git is not asked about a ``known`` one."""
    if known is not None and call.repository(root) == call.repository(known.root):
        return known._replace(root=root)
    try:
        return checkout(root)
    except GitMissingError:
        return None


def unborn_branch(root: Path) -> str | None:
    """The branch that the first commit will begin."""
    done = call.run(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    return os.fsdecode(done.stdout).strip() or None if done.code == 0 else None


def empty_tree(root: Path) -> str:
    """The id of the tree without files, in this repository's hash."""
    return call.checked(root, "hash-object", "-t", "tree", "--stdin", stdin=b"").decode().strip()


def commits_or_trees(root: Path, *names: str) -> tuple[str, ...]:
    """The full ids of the commits (or trees) that these names stand for. Raises ``UsageError``."""
    found = resolve(root, *names)
    for name, id_ in zip(names, found, strict=True):
        if id_ is None:
            raise UsageError(
                f"--diff: no commit is called {name!r} here",
                "`git branch --all` and `git tag` list names; fetch the one you mean if it is not here yet.",
            )
    return tuple(filter(None, found))


def resolve(root: Path, *names: str) -> tuple[str | None, ...]:
    """The id of the commit, else of the tree, that each name leads to; None where it leads to neither."""
    found = _objects(root, [name + "^{commit}" for name in names])
    if None in found:
        # Not asked before: a partial clone may lack the trees of its commits, and git stops at one. A text to
        # search (`:/x`) and a path (`HEAD:x`) take nothing behind them.
        others = _objects(root, [name + end for name in names for end in ("^{tree}", "")])
        found = [commit or others[2 * n] or others[2 * n + 1] for n, commit in enumerate(found)]
    return tuple(found)


def _objects(root: Path, names: Sequence[str]) -> list[str | None]:
    """The id of the commit or tree of each name, None for anything else."""
    done = None
    if not any(name.startswith("-") or _NO_NAME.search(name) for name in names):
        lines = b"".join(os.fsencode(name) + b"\n" for name in names)
        done = call.run(root, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=lines)
    if done is None or done.code != 0:  # such as for @{upstream}, where there is none: git stops at it
        return [None] if len(names) == 1 else [_objects(root, [name])[0] for name in names]
    rows = (row.split(b" ") for row in done.stdout.splitlines())
    return [row[0].decode() if row[1:] in ([b"commit"], [b"tree"]) else None for row in rows]


def merge_base(root: Path, base: str, head: str) -> str:
    """The best common ancestor of two ids. Raises ``GitError``, also when the clone is too shallow."""
    done = call.run(root, "merge-base", "--end-of-options", base, head)
    if done.code == 0:
        return done.stdout.decode().split("\n", 1)[0]
    if done.code == 1 and call.checked(root, "rev-parse", "--is-shallow-repository") == b"true\n":
        raise GitError(
            f"no common commit of {base[:12]} and {head[:12]}: this clone is shallow",
            "Run `git fetch --unshallow`; in GitHub Actions, check out with `fetch-depth: 0`.",
        )
    if done.code == 1:
        raise GitError(f"{base[:12]} and {head[:12]} have no common commit", "Compare them with A..B.")
    raise call.failed(done)


def resolve_scope(root: Path, text: str, here: Checkout | None = None) -> Scope:
    """What ``--diff TEXT`` means in ``root``: a word, a revision, ``A..B`` or ``BASE...HEAD``.

    ``here`` is the checkout of ``root``, where it is known. The words go before revisions, and are accepted
    without a repository (the context then says that there is none). Raises ``UsageError`` for anything
    unknown, ``GitError`` where there is no common commit.
    """
    for kind in SCOPES:
        if text == kind:
            here = here or checkout_if_any(root)
            return Scope(kind=kind, text=text, head_sha=here.head if here else None)
    base, dots, rest = text.partition("..")
    head = rest.removeprefix(".")
    if dots and not (base.strip() and head.strip()):
        raise UsageError(
            f"--diff {text}: a side of the range is empty",
            "Write HEAD for the commit that is checked out; a variable in the range may not be set.",
        )
    here = here or checkout(root)
    if here is None:
        raise UsageError(
            f"--diff {text}: {root} is in no git repository", "Run in a clone, or without --diff."
        )
    if not dots:
        return Scope("revision", text, base=_revision(root, text), head_sha=here.head)
    first, last = commits_or_trees(root, base, head)
    return Scope(
        kind="range",
        text=text,
        base=merge_base(root, first, last) if rest.startswith(".") else first,
        head=last,
        head_sha=here.head,
    )


def choose_scope(here: Checkout) -> Survey:
    """The change of a run without ``--diff``: what is not staged, and where that is empty what is staged.

    Raises ``GitError``.
    """
    found = survey(here, Scope(head_sha=here.head, chosen=True))
    with _status(found) as answer:
        states = answer()
    if _staged_names(states) and not _unstaged_names(found, states):
        found = found._replace(scope=found.scope._replace(kind="staged", text="staged"))
    return found._replace(left_out=_left_out(found, states))


def survey(here: Checkout, scope: Scope) -> Survey:
    """A scope in this repository as it is now. Raises ``GitError``."""
    # Between commits, and from a commit to the index, git reads objects and runs no filter.
    return Survey(scope, here, local_filters(here.top) if scope.looks_at_disk else ())


def moved(root: Path, scope: Scope) -> str | None:
    """What is no longer as it was when the scope was resolved: the commit checked out, or a name in it.

    A range does not depend on what is checked out, only on what its names stand for.
    """
    try:
        now = resolve_scope(root, scope.text)
    except UsageError:
        return f"{scope.text} stands for no commit any more"
    if scope.kind != "range" and now.head_sha != scope.head_sha:
        return f"HEAD moved from {_short(scope.head_sha)} to {_short(now.head_sha)}"
    if (now.base, now.head) != (scope.base, scope.head):
        return f"{scope.text} stands for other commits now"
    return None


def _short(commit: str | None) -> str:
    return commit[:12] if commit else "no commit"


def local_filters(top: Path) -> tuple[str, ...]:
    """The ``filter.*`` drivers that the repository itself configures, submodules included, sorted.

    ``git diff`` would run their commands on changed files. ``diff`` and ``leaving_out`` take this and
    put empty commands in their place; drivers of the user, the system or the environment are not in it.
    """
    folders = _with_submodules(top) if _shows_dirty_submodules(top) else [top]
    return tuple(sorted({name for folder in folders for name in _own_filters(folder)}))


def _revision(root: Path, text: str) -> str:
    """The id of a revision that stands alone, where a misspelt word may be meant."""
    (found,) = resolve(root, text)
    if found is None:
        words = ", ".join(SCOPES)
        raise UsageError(
            f"--diff: {text!r} is neither a scope nor a commit here{suggest(text, SCOPES)}",
            f"Use {words}, a revision, A..B or BASE...HEAD.",
        )
    return found


def diff(seen: Survey, *, as_text: bool = False, paths: Sequence[bytes] = ()) -> Iterator[bytes]:
    """The change of a scope in chunks, byte for byte as ``git diff --no-ext-diff`` by default shows it.

    ``as_text`` shows every file as text, ``paths`` limits it to these. Raises ``GitError`` at the end
    when git failed, so nothing read before is to be trusted without reading to the end.
    """
    top, scope = seen.top, seen.scope
    words = [*_diff_words(seen), *(["--text"] if as_text else []), *_sides(top, scope), "--"]
    words += map(os.fsdecode, paths)
    if scope.kind != "all":
        yield from call.streamed(top, *words)
        return
    from aethr.git.objects import with_new_files  # makes a temporary folder: only where it is wanted

    with with_new_files(top, _without(seen.filters)) as index:
        yield from call.streamed(top, *words, index=index)


def _diff_words(seen: Survey) -> list[str]:
    """``git diff`` with the options that every look at a change has in common."""
    before = (_LITERAL, *call.settings(_DIFF_SETTINGS), *_without(seen.filters))
    return [*before, "diff", *_DIFF_OPTIONS, _submodules(seen.top)]


def _submodules(top: Path) -> str:
    """What every look at a change ignores of submodules: `git status` and `git diff` have to agree."""
    return f"--ignore-submodules={'untracked' if _shows_dirty_submodules(top) else 'dirty'}"


@contextmanager
def leaving_out(seen: Survey) -> Iterator[Callable[[], LeftOut]]:
    """Look for what this scope leaves out: what is staged, what is not, and files that git does not know.

    That takes as long as the diff itself, so git does it beside the block, which gets a function that waits
    for what was found. It raises ``GitError`` when git failed. Whoever names ``staged`` means no more.
    """
    scope, known = seen.scope, seen.left_out
    if scope.kind in ("all", "range") or (scope.kind == "staged" and not scope.chosen):
        known = LeftOut()
    if known is not None:
        yield lambda: known
        return
    with _status(seen) as states:
        yield lambda: _left_out(seen, states())


@contextmanager
def _status(seen: Survey) -> Iterator[Callable[[], list[tuple[bytes, bytes]]]]:
    """Each changed file with its two letters: beside HEAD in the index, beside the index on disk."""
    words = (*_without(seen.filters), "status", *_STATUS, _submodules(seen.top))
    with call.begun(seen.top, *words) as output:
        yield lambda: [(row[:2], row[3:]) for row in output().split(b"\0") if row]


_STATUS = (
    "--porcelain=v1",
    "-z",
    "--no-renames",
    "--untracked-files=normal",
)
_UNMERGED = (b"DD", b"AU", b"UD", b"UA", b"DU", b"AA", b"UU")


def _left_out(seen: Survey, states: Sequence[tuple[bytes, bytes]]) -> LeftOut:
    return LeftOut(
        staged=_staged_names(states) if seen.scope.kind == "worktree" else (),
        unstaged=_unstaged_names(seen, states) if seen.scope.kind == "staged" else (),
        untracked=tuple(name for state, name in states if state == b"??"),
    )


def _staged_names(states: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    return tuple(name for state, name in states if state[:1] in b"MTADRC" and state not in _UNMERGED)


def _unstaged_names(seen: Survey, states: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """None where ``git diff`` has nothing to show; it stops at the first difference.

    ``git status`` names every file whose size is another one, also where only its line ends are converted.
    """
    names = tuple(name for state, name in states if state[1:] not in b" ?")
    if not names:
        return ()
    done = call.run(seen.top, *_diff_words(seen), "--quiet", "--")
    if done.code not in (0, 1):
        raise call.failed(done)
    return names if done.code == 1 else ()


def overlooked(top: Path) -> tuple[bytes, ...]:
    """Files whose changes git does not see, because it was told not to look. Raises ``GitError``.

    In ``git ls-files -v`` they have a letter in lower case (assume-unchanged) or an S (skip-worktree). Of
    those outside of a sparse checkout, which are not there, nothing is hidden.
    """
    rows = call.checked(top, "ls-files", "-v", "-z").split(b"\0")
    marked = [row for row in rows if row[:1].islower() or row[:1] == b"S"]
    return tuple(
        row[2:] for row in marked if row[:1] not in b"Ss" or os.path.lexists(top / os.fsdecode(row[2:]))
    )


def suppressed(top: Path, paths: Iterable[bytes]) -> frozenset[bytes]:
    """Those of these paths whose ``diff`` attribute keeps git from showing them as text."""
    output = call.checked(
        top, "check-attr", "-z", "--stdin", "diff", stdin=b"".join(path + b"\0" for path in paths)
    )
    fields = output.split(b"\0")
    values = zip(fields[0::3], fields[2::3], strict=False)
    return frozenset(path for path, value in values if value not in (b"unspecified", b"set"))


def files(root: Path, wanted: Callable[[str], object]) -> tuple[str, ...] | None:
    """Tracked files, and untracked ones that git does not ignore, relative to ``root``, sorted.

    Only those of which ``wanted`` gives something true; None outside of any work tree. Names are as
    ``os.fsdecode`` gives them. Raises as ``checkout`` does.
    """
    # To find what is untracked git walks the whole tree; meanwhile there is time to look at the rest.
    with (
        call.begun(root, "ls-files", "-z", "--others", "--exclude-standard") as untracked,
        call.begun(root, "ls-files", "-z", "--cached") as tracked,
    ):
        if checkout(root) is None:
            return None
        known = dict.fromkeys(filter(wanted, _names(tracked())))  # each once, also in the midst of a merge
        # An entry that ends with a slash is another repository.
        new = [name for name in filter(wanted, _names(untracked())) if not name.endswith("/")]
        return tuple(sorted([*known, *new]))


def _names(listed: bytes) -> list[str]:
    return os.fsdecode(listed).split("\0")[:-1]


def is_tracked(root: Path, path: str) -> bool:
    """Whether git has this path in its index. Raises ``GitError``, also outside of a repository."""
    return call.checked(root, _LITERAL, "ls-files", "-z", "--", path) != b""


def is_known(here: Checkout, path: str) -> bool:
    """Whether git has this path, relative to ``here.root``, in its index or in the commit checked out."""
    with_head = [] if here.head is None else [f"--with-tree={here.head}"]
    return call.checked(here.root, _LITERAL, "ls-files", "-z", *with_head, "--", path) != b""


def had_content(root: Path, contents: Iterable[bytes]) -> bool:
    """Whether a commit that a ref or HEAD leads to has brought a file of one of these contents.

    History is walked only where git knows such an object, as ``git stash`` may have left it.
    """
    # log.showSignature would run the gpg.program of the repository.
    quiet = ("--no-show-signature", "--no-ext-diff", "--no-textconv")
    names = "".join(f"{name}\n" for content in dict.fromkeys(contents) for name in _blob_ids(content))
    listed = call.checked(root, "cat-file", "--batch-check", stdin=names.encode()).decode()
    known = (row.partition(" ") for row in listed.splitlines())
    return any(
        call.checked(root, "log", *quiet, "--all", "-m", "-1", "--format=%H", f"--find-object={name}")
        for name, _, kind in known
        if kind.startswith("blob ")
    )


def _blob_ids(content: bytes) -> tuple[str, str]:
    """The id of a file of this content, in a repository of either hash."""
    import hashlib

    data = b"blob %d\0%b" % (len(content), content)
    return hashlib.sha1(data, usedforsecurity=False).hexdigest(), hashlib.sha256(data).hexdigest()


def is_ignored(root: Path, path: str) -> bool:
    """Whether git ignores this path; False for a tracked one."""
    done = call.run(root, "check-ignore", "--quiet", "--", f"./{path}")
    if done.code not in (0, 1):
        raise call.failed(done)
    return done.code == 0


def _sides(top: Path, scope: Scope) -> list[str]:
    """What is compared with what; ids only, so nothing here can be taken for an option."""
    if scope.kind == "staged":
        return ["--cached", "--end-of-options"]
    if scope.kind in ("head", "all"):
        return ["--end-of-options", scope.head_sha or empty_tree(top)]
    if scope.kind == "revision":
        assert scope.base is not None
        return ["--end-of-options", scope.base]
    if scope.kind == "range":
        assert scope.base is not None
        assert scope.head is not None
        return ["--end-of-options", scope.base, scope.head]
    return ["--end-of-options"]


def _own_filters(folder: Path) -> set[str]:
    done = call.run(folder, "config", "-z", "--show-scope", "--get-regexp", r"^filter\.")
    if done.code not in (0, 1):
        raise call.failed(done)
    fields = done.stdout.split(b"\0")
    keys = [
        key.partition(b"\n")[0]
        for scope, key in zip(fields[0::2], fields[1::2], strict=False)
        if scope not in (b"system", b"global", b"command")
    ]
    return {os.fsdecode(key[len(b"filter.") :].rpartition(b".")[0]) for key in keys}


def _without(filters: Sequence[str]) -> tuple[str, ...]:
    """Options that give each of these drivers nothing to run."""
    if any("=" in name for name in filters):
        raise GitError(
            "the repository's configuration has a filter with '=' in its name, which cannot be switched off",
            "Remove that filter.* section from .git/config.",
        )
    nothing = {"clean": "", "smudge": "", "process": "", "required": "false"}
    return call.settings(
        {f"filter.{name}.{key}": value for name in filters for key, value in nothing.items()}
    )


def _shows_dirty_submodules(top: Path) -> bool:
    """Whether git may look inside of submodules: only where some are declared."""
    return (top / ".gitmodules").is_file()


def _with_submodules(folder: Path) -> Iterator[Path]:
    """A work tree and the submodules checked out in it, at any depth; links are not followed."""
    yield folder
    for row in call.checked(folder, "ls-files", "-z", "--stage").split(b"\0"):
        if row.startswith(b"160000 "):
            module = folder.resolve() / os.fsdecode(row.partition(b"\t")[2])
            if module.resolve() == module and (module / ".git").exists():
                yield from _with_submodules(module)


def _explain(root: Path, done: Finished) -> None:
    """Outside of any work tree: nothing to say, unless there is a repository that git cannot use."""
    said = done.stderr.decode("utf-8", "replace")
    if "dubious ownership" in said:
        raise GitError(
            f"{root}: git refuses this repository, because it belongs to another user",
            "If you trust it: git config --global --add safe.directory <its folder>",
        )
    if "bare repository" in said or "must be run in a work tree" in said:
        raise GitError(
            f"{root}: a git repository without a work tree", "Run in a work tree, such as a clone of it."
        )
    if "not a git repository" not in said:
        raise call.failed(done)
    if call.repository(root) is not None:
        raise GitError(
            f"{root}: the git repository is damaged", "`git status` and `git fsck` say what is wrong."
        )
