"""Every git call of Aethr: tiny functions, machine formats only, bytes in and out.

A repository may be hostile: its configuration, attributes, refs and file names are not trusted to
run anything: ``git_call`` sees to it. What the operator configured for the user, the system or in the
environment (a clean filter such as git-lfs) stays in force.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aethr.errors import GitError, GitMissingError, UsageError
from aethr.git import call
from aethr.process import Finished
from aethr.records import Scope

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


def toplevel(root: Path) -> Path | None:
    """The work tree that ``root`` lies in; None when it lies in none.

    Raises ``GitError`` for a repository that git refuses or cannot read, and ``GitMissingError``.
    """
    return _checkout(root)[0]


def head_sha(root: Path) -> str | None:
    """The id of the commit checked out; None before the first commit, and in no work tree.

    Raises as ``toplevel`` does.
    """
    return _checkout(root)[1]


def _checkout(root: Path) -> tuple[Path | None, str | None]:
    """The work tree that ``root`` lies in, and the commit that is checked out in it."""
    done = call.run(root, "rev-parse", "--show-toplevel", "--verify", "--quiet", "HEAD")
    if not done.stdout:
        _explain(root, done)
        return None, None
    lines = done.stdout.removesuffix(b"\n")
    name, _, head = lines.rpartition(b"\n") if done.code == 0 else (lines, b"", b"")
    top = Path(os.fsdecode(name))
    if not root.resolve().is_relative_to(top.resolve()) or call.repository(top) != call.repository(root):
        raise GitError(
            f"{root}: core.worktree of this repository points elsewhere",
            "Run in the folder of the work tree, or remove core.worktree from .git/config.",
        )
    return top, head.decode() or None


def branch(root: Path) -> str | None:
    """The branch checked out, also before its first commit; None when HEAD is detached."""
    done = call.run(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    return os.fsdecode(done.stdout).strip() or None if done.code == 0 else None


def empty_tree(root: Path) -> str:
    """The id of the tree without files, in this repository's hash."""
    return call.checked(root, "hash-object", "-t", "tree", "--stdin", stdin=b"").decode().strip()


def commit_or_tree(root: Path, name: str) -> str:
    """The full id of the commit (or tree) that a name stands for. Raises ``UsageError``."""
    found = None if name.startswith("-") else _name(root, name + "^{commit}") or _name(root, name + "^{tree}")
    if found is None:
        raise UsageError(
            f"--diff: no commit is called {name!r} here",
            "`git branch --all` and `git tag` list names; fetch the one you mean if it is not here yet.",
        )
    return found


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


def resolve_scope(root: Path, text: str) -> Scope:
    """What ``--diff TEXT`` means here: a keyword, ``A..B`` or ``BASE...HEAD``; an empty side is HEAD.

    The keywords are accepted without a repository (the context then says that there is none).
    Raises ``UsageError`` for anything unknown, ``GitError`` where there is no common commit.
    """
    for kind in ("worktree", "staged", "head"):
        if text == kind:
            return Scope(kind=kind, text=text, head_sha=_head_if_any(root))
    base, dots, head = text.partition("..")
    if not dots:
        raise UsageError(
            f"--diff: unknown scope {text!r}", "Use worktree, staged, head, A..B or BASE...HEAD."
        )
    if toplevel(root) is None:
        raise UsageError(
            f"--diff {text}: {root} is in no git repository", "Run in a clone, or without --diff."
        )
    three = head.startswith(".")
    first = commit_or_tree(root, base or "HEAD")
    last = commit_or_tree(root, head.removeprefix(".") or "HEAD")
    return Scope(
        kind="range",
        text=text,
        base=merge_base(root, first, last) if three else first,
        head=last,
        head_sha=head_sha(root),
    )


def local_filters(top: Path) -> tuple[str, ...]:
    """The ``filter.*`` drivers that the repository itself configures, submodules included, sorted.

    ``git diff`` would run their commands on changed files. ``diff`` and ``leaving_out`` take this and
    put empty commands in their place; drivers of the user, the system or the environment are not in it.
    """
    folders = _with_submodules(top) if _shows_dirty_submodules(top) else [top]
    return tuple(sorted({name for folder in folders for name in _own_filters(folder)}))


def diff(
    top: Path,
    scope: Scope,
    filters: Sequence[str],
    *,
    as_text: bool = False,
    paths: Sequence[bytes] = (),
) -> Iterator[bytes]:
    """The change of a scope in chunks, byte for byte as ``git diff --no-ext-diff`` by default shows it.

    ``as_text`` shows every file as text, ``paths`` limits it to these. Raises ``GitError`` at the end
    when git failed, so nothing read before is to be trusted without reading to the end.
    """
    options = [*_DIFF_OPTIONS, *(["--text"] if as_text else [])]
    options.append(f"--ignore-submodules={'untracked' if _shows_dirty_submodules(top) else 'dirty'}")
    before = (_LITERAL, *call.settings(_DIFF_SETTINGS), *_without(filters))
    yield from call.streamed(
        top, *before, "diff", *options, *_sides(top, scope), "--", *map(os.fsdecode, paths)
    )


class LeftOut(NamedTuple):
    """Changed files that a scope does not show; a folder without any tracked file ends with ``/``."""

    staged: tuple[bytes, ...] = ()
    untracked: tuple[bytes, ...] = ()


@contextmanager
def leaving_out(top: Path, scope: Scope, filters: Sequence[str]) -> Iterator[Callable[[], LeftOut]]:
    """Look for what ``git diff`` leaves out in this scope: staged changes, and files that git does not know.

    That takes as long as the diff itself, so git does it beside the block, which gets a function that waits
    for what was found. It raises ``GitError`` when git failed.
    """
    if scope.kind not in ("worktree", "head"):
        yield LeftOut
        return
    options = (
        "--porcelain=v1",
        "-z",
        "--no-renames",
        "--untracked-files=normal",
        "--ignore-submodules=dirty",
    )
    with call.begun(top, *_without(filters), "status", *options) as output:
        yield lambda: _left_out(scope, output())


def _left_out(scope: Scope, listed: bytes) -> LeftOut:
    states = [(row[:2], row[3:]) for row in listed.split(b"\0") if row]
    staged = (name for state, name in states if state[:1] in b"MTADRC" and state not in _UNMERGED)
    return LeftOut(
        staged=tuple(staged) if scope.kind == "worktree" else (),
        untracked=tuple(name for state, name in states if state == b"??"),
    )


_UNMERGED = (b"DD", b"AU", b"UD", b"UA", b"DU", b"AA", b"UU")


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
    ``os.fsdecode`` gives them. Raises as ``toplevel`` does.
    """
    # To find what is untracked git walks the whole tree; meanwhile there is time to look at the rest.
    with (
        call.begun(root, "ls-files", "-z", "--others", "--exclude-standard") as untracked,
        call.begun(root, "ls-files", "-z", "--cached") as tracked,
    ):
        if toplevel(root) is None:
            return None
        known = dict.fromkeys(filter(wanted, _names(tracked())))  # each once, also in the midst of a merge
        # An entry that ends with a slash is another repository.
        new = [name for name in filter(wanted, _names(untracked())) if not name.endswith("/")]
        return tuple(sorted([*known, *new]))


def _names(listed: bytes) -> list[str]:
    return os.fsdecode(listed).split("\0")[:-1]


def is_tracked(root: Path, path: str) -> bool:
    """Whether git has this path in its index; False outside of a repository."""
    return toplevel(root) is not None and call.checked(root, _LITERAL, "ls-files", "-z", "--", path) != b""


def is_in_head(root: Path, path: str) -> bool:
    """Whether the commit that is checked out has this path, given relative to ``root``."""
    return head_sha(root) is not None and call.checked(root, _LITERAL, "ls-tree", "HEAD", "--", path) != b""


def had_content(root: Path, contents: Iterable[bytes]) -> bool:
    """Whether a commit that a ref or HEAD leads to has brought a file of one of these contents.

    History is walked only where git knows such an object, as ``git stash`` may have left it.
    """
    # log.showSignature would run the gpg.program of the repository.
    quiet = ("--no-show-signature", "--no-ext-diff", "--no-textconv")
    for content in contents:
        name = call.checked(root, "hash-object", "--stdin", stdin=content).decode().strip()
        if call.run(root, "cat-file", "-e", name).code == 0 and call.checked(
            root, "log", *quiet, "--all", "-m", "-1", "--format=%H", f"--find-object={name}"
        ):
            return True
    return False


def is_ignored(root: Path, path: str) -> bool:
    """Whether git ignores this path; False for a tracked one and outside of a repository."""
    if toplevel(root) is None:
        return False
    done = call.run(root, "check-ignore", "--quiet", "--", f"./{path}")
    if done.code not in (0, 1):
        raise call.failed(done)
    return done.code == 0


def _sides(top: Path, scope: Scope) -> list[str]:
    """What is compared with what; ids only, so nothing here can be taken for an option."""
    if scope.kind == "staged":
        return ["--cached", "--end-of-options"]
    if scope.kind == "head":
        return ["--end-of-options", scope.head_sha or empty_tree(top)]
    if scope.kind == "range":
        assert scope.base is not None
        assert scope.head is not None
        return ["--end-of-options", scope.base, scope.head]
    return ["--end-of-options"]


def _head_if_any(root: Path) -> str | None:
    try:
        return head_sha(root)
    except GitMissingError:
        return None


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


def _name(root: Path, name: str) -> str | None:
    done = call.run(root, "rev-parse", "--verify", "--quiet", "--end-of-options", name)
    return done.stdout.decode().strip() if done.code == 0 else None


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
