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

from aethr.errors import GitError, GitMissingError, UsageError
from aethr.git import call
from aethr.options import SCOPES
from aethr.process import Finished
from aethr.records import LeftOut, Scope, Survey
from aethr.words import suggest

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
    found = None if name.startswith("-") else _peeled(root, name)
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
    """What ``--diff TEXT`` means here: a word, a revision, ``A..B`` or ``BASE...HEAD``.

    The words go before revisions, and are accepted without a repository (the context then says that there
    is none). Raises ``UsageError`` for anything unknown, ``GitError`` where there is no common commit.
    """
    for kind in SCOPES:
        if text == kind:
            return Scope(kind=kind, text=text, head_sha=_head_if_any(root))
    base, dots, rest = text.partition("..")
    head = rest.removeprefix(".")
    if dots and not (base.strip() and head.strip()):
        raise UsageError(
            f"--diff {text}: a side of the range is empty",
            "Write HEAD for the commit that is checked out; a variable in the range may not be set.",
        )
    top, checked_out = _checkout(root)
    if top is None:
        raise UsageError(
            f"--diff {text}: {root} is in no git repository", "Run in a clone, or without --diff."
        )
    if not dots:
        return Scope("revision", text, base=_revision(root, text), head_sha=checked_out)
    first, last = commit_or_tree(root, base), commit_or_tree(root, head)
    return Scope(
        kind="range",
        text=text,
        base=merge_base(root, first, last) if rest.startswith(".") else first,
        head=last,
        head_sha=checked_out,
    )


def choose_scope(root: Path) -> tuple[Scope, Survey | None]:
    """The scope of a run without ``--diff``: what is not staged, and where that is empty what is staged.

    No survey without a repository. Raises ``GitError``.
    """
    try:
        top, head = _checkout(root)
    except GitMissingError:
        top, head = None, None
    scope = Scope(head_sha=head, chosen=True)
    if top is None:
        return scope, None
    survey = Survey(top, local_filters(top))
    if _differs(top, scope, survey.filters):
        return scope, survey
    # The same question answers what a staged change leaves out.
    staged = scope._replace(kind="staged", text="staged")
    states = _states(call.checked(top, *_without(survey.filters), "status", *_STATUS))
    if not _staged_names(states):
        return scope, survey._replace(left_out=_left_out(scope, states))
    return staged, survey._replace(left_out=_left_out(staged, states))


def survey(root: Path) -> Survey | None:
    """The repository that ``root`` lies in, as it is now; None for none. Raises as ``toplevel`` does."""
    top = toplevel(root)
    return None if top is None else Survey(top, local_filters(top))


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
    try:
        return commit_or_tree(root, text)
    except UsageError:
        words = ", ".join(SCOPES)
        raise UsageError(
            f"--diff: {text!r} is neither a scope nor a commit here{suggest(text, SCOPES)}",
            f"Use {words}, a revision, A..B or BASE...HEAD.",
        ) from None


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
    words = [*_diff_words(top, filters), *(["--text"] if as_text else []), *_sides(top, scope), "--"]
    words += map(os.fsdecode, paths)
    if scope.kind != "all":
        yield from call.streamed(top, *words)
        return
    from aethr.git.spare_index import with_new_files  # makes a temporary folder: only where it is wanted

    with with_new_files(top) as index:
        yield from call.streamed(top, *words, index=index)


def _diff_words(top: Path, filters: Sequence[str]) -> list[str]:
    """``git diff`` with the options that every look at a change has in common."""
    submodules = "untracked" if _shows_dirty_submodules(top) else "dirty"
    before = (_LITERAL, *call.settings(_DIFF_SETTINGS), *_without(filters))
    return [*before, "diff", *_DIFF_OPTIONS, f"--ignore-submodules={submodules}"]


def _differs(top: Path, scope: Scope, filters: Sequence[str]) -> bool:
    """Whether a scope's change is not empty: git stops at the first difference."""
    done = call.run(top, *_diff_words(top, filters), "--quiet", *_sides(top, scope), "--")
    if done.code not in (0, 1):
        raise call.failed(done)
    return done.code == 1


@contextmanager
def leaving_out(top: Path, scope: Scope, filters: Sequence[str]) -> Iterator[Callable[[], LeftOut]]:
    """Look for what this scope leaves out: what is staged, what is not, and files that git does not know.

    That takes as long as the diff itself, so git does it beside the block, which gets a function that waits
    for what was found. It raises ``GitError`` when git failed. Whoever names ``staged`` means no more.
    """
    if scope.kind in ("all", "range") or (scope.kind == "staged" and not scope.chosen):
        yield LeftOut
        return
    with call.begun(top, *_without(filters), "status", *_STATUS) as output:
        yield lambda: _left_out(scope, _states(output()))


_STATUS = (
    "--porcelain=v1",
    "-z",
    "--no-renames",
    "--untracked-files=normal",
    "--ignore-submodules=dirty",
)
_UNMERGED = (b"DD", b"AU", b"UD", b"UA", b"DU", b"AA", b"UU")


def _states(listed: bytes) -> list[tuple[bytes, bytes]]:
    """Each changed file with its two letters: beside HEAD in the index, beside the index on disk."""
    return [(row[:2], row[3:]) for row in listed.split(b"\0") if row]


def _left_out(scope: Scope, states: Sequence[tuple[bytes, bytes]]) -> LeftOut:
    unstaged = (name for state, name in states if state[1:] in (b"M", b"T", b"A", b"D", b"R", b"C"))
    return LeftOut(
        staged=_staged_names(states) if scope.kind == "worktree" else (),
        unstaged=tuple(unstaged) if scope.kind == "staged" else (),
        untracked=tuple(name for state, name in states if state == b"??"),
    )


def _staged_names(states: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    return tuple(name for state, name in states if state[:1] in b"MTADRC" and state not in _UNMERGED)


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


def _peeled(root: Path, name: str) -> str | None:
    """The commit, else the tree, that a name leads to. A text to search (``:/x``) takes nothing behind it."""
    ends = ("^{commit}", "^{tree}")
    found = next(filter(None, (_name(root, name + end) for end in ends)), None)
    if found is None and (plain := _name(root, name)) is not None:
        found = next(filter(None, (_name(root, plain + end) for end in ends)), None)
    return found


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
