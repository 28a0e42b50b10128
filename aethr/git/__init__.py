"""Git questions about a change: the checkout, the scope under review, its diff, and what the scope excludes.

Machine formats only, bytes in and out. A repository may be hostile: ``call`` keeps its configuration,
attributes, refs and file names from running anything. What the operator configured for the user, the system
or in the environment (a clean filter such as git-lfs) stays in force. Beside it: ``history`` (commits and
names), ``tracking`` (the files that git knows, and their contents), ``fetch`` (the only calls that use the
network).
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
from aethr.git import call, history

_LITERAL = "--literal-pathspecs"
"""Paths are names, not patterns."""

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
"""The form of every diff shown, whatever the configuration says."""

_DIFF_OPTIONS = (
    *PLAIN_DIFF,
    "--inter-hunk-context=0",
    "--no-relative",
    "--diff-algorithm=default",
    "--find-renames",
    "-l1000",
)
"""git's own defaults: no setting of the user or the repository changes the bytes."""

# DOTALL: the name of a folder may contain line feeds.
_CHECKOUT = re.compile(rb"(.+?)(?:\n([0-9a-f]{40,64})(?:\n(?:refs/heads/)?([^\n]+))?)?\n", re.DOTALL)


def checkout(root: Path) -> Checkout | None:
    """The work tree around ``root`` and what is checked out there; None outside of any work tree.

    Raises ``GitError`` for a repository that git refuses or cannot read, and ``GitMissingError``.
    """
    done = call.run(
        root, "rev-parse", "--revs-only", "--show-toplevel", "HEAD", "--symbolic-full-name", "HEAD"
    )
    found = _CHECKOUT.fullmatch(done.stdout)
    if found is None:
        _raise_unless_outside(root, done)
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
    """``checkout``, but None also without git on this machine. A ``known`` checkout saves the call."""
    if known is not None and call.repository(root) == call.repository(known.root):
        return known._replace(root=root)
    try:
        return checkout(root)
    except GitMissingError:
        return None


def version(root: Path) -> str:
    """The version of git, in its own words without its name. Raises ``GitMissingError``."""
    return call.checked(root, "version").decode().removeprefix("git version").strip()


def hooks_folder(here: Checkout) -> Path:
    """Where git looks for the hooks of a repository. Raises ``GitError``."""
    # The last value is that of the call itself, which runs no hooks.
    asked = ("config", "--type=path", "--null", "--get-all", "core.hooksPath")
    *values, _own, _ = call.checked(here.top, *asked).split(b"\0")
    if values:
        return here.top / os.fsdecode(values[-1])
    return here.top / os.fsdecode(call.checked(here.top, "rev-parse", "--git-common-dir")[:-1]) / "hooks"


def unborn_branch(root: Path) -> str | None:
    """The current branch of a repository without commits."""
    done = call.run(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    return os.fsdecode(done.stdout).strip() or None if done.code == 0 else None


def empty_tree(root: Path) -> str:
    """The id of the tree without files, in this repository's hash algorithm."""
    return call.checked(root, "hash-object", "-t", "tree", "--stdin", stdin=b"").decode().strip()


def resolve_scope(root: Path, text: str, here: Checkout | None = None) -> Scope:
    """What ``--diff TEXT`` means in ``root``: a word, a revision, ``A..B`` or ``BASE...HEAD``.

    ``here`` is the checkout of ``root``, if known. The words take precedence over revisions, and are accepted
    without a repository (the context then says that there is none). Raises ``UsageError`` for unknown text,
    ``GitError`` without a common commit.
    """
    for kind in SCOPES:
        if text == kind:
            here = here or checkout_if_any(root)
            head_sha = here.head if here else None
            return Scope(kind=kind, text=text, head_sha=head_sha, base_side=head_sha)
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
            f"--diff {text}: {root} is not in a git repository", "Run in a clone, or without --diff."
        )
    if not dots:
        (commit,) = history.resolve(root, text)
        if commit is None:
            raise UsageError(
                f"--diff: {text!r} is neither a scope nor a commit here{suggest(text, SCOPES)}",
                f"Use {', '.join(SCOPES)}, a revision, A..B or BASE...HEAD.",
            )
        return Scope("revision", text, base=commit, head_sha=here.head, base_side=commit)
    first, last = history.commits_or_trees(root, base, head)
    return Scope(
        kind="range",
        text=text,
        base=history.merge_base(root, first, last) if rest.startswith(".") else first,
        head=last,
        head_sha=here.head,
        base_side=first,
    )


def choose_scope(here: Checkout) -> Survey:
    """The change of a run without ``--diff``: what is unstaged or, if nothing is, what is staged.

    Raises ``GitError``.
    """
    found = survey(here, Scope(head_sha=here.head, chosen=True, base_side=here.head))
    with _status(found) as wait:
        states = wait()
    if _staged_names(states) and not _unstaged_names(found, states):
        found = found._replace(scope=found.scope._replace(kind="staged", text="staged"))
    return found._replace(left_out=_left_out(found, states))


def survey(here: Checkout, scope: Scope) -> Survey:
    """A scope in this repository as it is now. Raises ``GitError``."""
    # A diff between commits, or from a commit to the index, reads objects: git runs no filter.
    return Survey(scope, here, local_filters(here.top) if scope.looks_at_disk else ())


def moved(root: Path, scope: Scope) -> str | None:
    """What changed since the scope was resolved: HEAD, or the commit of a name in it. None if nothing did.

    A range does not depend on HEAD, only on its own names.
    """
    try:
        now = resolve_scope(root, scope.text)
    except UsageError:
        return f"{scope.text} is not a commit any more"
    if scope.kind != "range" and now.head_sha != scope.head_sha:
        before, now_at = (each[:12] if each else "no commit" for each in (scope.head_sha, now.head_sha))
        return f"HEAD moved from {before} to {now_at}"
    if (now.base, now.head) != (scope.base, scope.head):
        return f"{scope.text} means other commits now"
    return None


def local_filters(top: Path) -> tuple[str, ...]:
    """The ``filter.*`` drivers that the repository itself configures, submodules included, sorted.

    ``git diff`` would run their commands on changed files, so ``diff`` and ``other_changes`` replace them
    with empty ones. Drivers of the user, the system or the environment are not listed, and run.
    """
    if not _may_have_filters(top):
        return ()
    filters = set()
    for folder in _with_submodules(top) if _enters_submodules(top) else [top]:
        done = call.run(folder, "config", "-z", "--show-scope", "--get-regexp", r"^filter\.")
        if done.code not in (0, 1):
            raise call.failure(done)
        fields = done.stdout.split(b"\0")
        for scope, entry in zip(fields[0::2], fields[1::2], strict=False):
            if scope not in (b"system", b"global", b"command"):
                key = entry.partition(b"\n")[0]
                filters.add(os.fsdecode(key.removeprefix(b"filter.").rpartition(b".")[0]))
    return tuple(sorted(filters))


def _may_have_filters(top: Path) -> bool:
    """Whether the repository's own configuration may have a filter, without a call of git.

    It has none if neither this word nor that for another file is in it. Where the configuration is in several
    places (submodules, linked work trees), git has to say it.
    """
    found = call.repository(top)
    if found is None or _enters_submodules(top) or (found.git_folder / "config.worktree").exists():
        return True
    try:
        text = (found.git_folder / "config").read_bytes().lower()
    except OSError:
        return True
    return b"filter" in text or b"include" in text


def _with_submodules(folder: Path) -> Iterator[Path]:
    """A work tree and the submodules checked out in it, at any depth, without following links."""
    yield folder
    for row in call.checked(folder, "ls-files", "-z", "--stage").split(b"\0"):
        if row.startswith(b"160000 "):
            module = folder.resolve() / os.fsdecode(row.partition(b"\t")[2])
            if module.resolve() == module and (module / ".git").exists():
                yield from _with_submodules(module)


def diff(
    seen: Survey,
    *,
    as_text: bool = False,
    listed: bool = False,
    paths: Sequence[bytes] = (),
    context: Sequence[str] = (),
) -> Iterator[bytes]:
    """The change of a scope in chunks, byte for byte as ``git diff --no-ext-diff`` by default shows it.

    ``as_text`` shows every file as text, ``paths`` limits the diff to these. ``listed`` puts the lines of
    ``git diff --raw`` first, which name all files before the content of any. ``context`` are git's options
    for other context than three lines around each edit. Raises ``GitError`` after the last chunk if git
    failed: read to the end before you trust what came before.
    """
    if listed and not context and seen.listed_diff is not None:
        yield seen.listed_diff
        return
    top, scope = seen.top, seen.scope
    words = [
        *_diff_words(seen),
        *context,
        *(["--text"] if as_text else []),
        *(["--raw", "--patch"] if listed else []),
        *_sides(top, scope),
        "--",
    ]
    words += map(os.fsdecode, paths)
    if scope.kind != "all":
        yield from call.streamed(top, *words)
        return
    from aethr.git.tracking import with_new_files  # which imports this module

    with with_new_files(top, _without(seen.filters)) as index:
        yield from call.streamed(top, *words, index=index)


def _diff_words(seen: Survey) -> list[str]:
    """``git diff`` with the options common to every call that compares."""
    before = (_LITERAL, *call.settings(_DIFF_SETTINGS), *_without(seen.filters))
    return [*before, "diff", *_DIFF_OPTIONS, _ignored_submodules(seen.top)]


def _ignored_submodules(top: Path) -> str:
    """The same for `git status` and `git diff`, which have to agree."""
    return f"--ignore-submodules={'untracked' if _enters_submodules(top) else 'dirty'}"


@contextmanager
def other_changes(seen: Survey) -> Iterator[Callable[[], LeftOut]]:
    """Find the changes that this scope excludes: staged, unstaged, and untracked files.

    That takes as long as the diff itself, so git runs in parallel with the block; the block gets a function
    that waits for the result, and raises ``GitError`` if git failed. Nothing is missing from a range, from
    ``all``, or from a ``staged`` that somebody asked for.
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
    """Each changed file with its two letters: index against HEAD, then disk against index."""
    words = ("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal")
    before, after = _without(seen.filters), _ignored_submodules(seen.top)
    with call.background(seen.top, *before, *words, after) as output:
        yield lambda: [(row[:2], row[3:]) for row in output().split(b"\0") if row]


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
    """Empty if ``git diff`` shows nothing; it stops at the first difference.

    ``git status`` also lists files of another size whose only difference is converted line ends.
    """
    names = tuple(name for state, name in states if state[1:] not in b" ?")
    if not names:
        return ()
    done = call.run(seen.top, *_diff_words(seen), "--quiet", "--")
    if done.code not in (0, 1):
        raise call.failure(done)
    return names if done.code == 1 else ()


def binary_by_attribute(top: Path, paths: Iterable[bytes]) -> frozenset[bytes]:
    """The paths whose ``diff`` attribute keeps git from showing them as text."""
    output = call.checked(
        top, "check-attr", "-z", "--stdin", "diff", stdin=b"".join(path + b"\0" for path in paths)
    )
    fields = output.split(b"\0")
    values = zip(fields[0::3], fields[2::3], strict=False)
    return frozenset(path for path, value in values if value not in (b"unspecified", b"set"))


def _sides(top: Path, scope: Scope) -> list[str]:
    """The two sides of the comparison. Full ids only, so git cannot take one for an option."""
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


def _without(filters: Sequence[str]) -> tuple[str, ...]:
    """Options that leave each of these drivers without a command."""
    if any("=" in name for name in filters):
        raise GitError(
            "the repository's configuration has a filter with '=' in its name, which cannot be switched off",
            "Remove that filter.* section from .git/config.",
        )
    nothing = {"clean": "", "smudge": "", "process": "", "required": "false"}
    return call.settings(
        {f"filter.{name}.{key}": value for name in filters for key, value in nothing.items()}
    )


def _enters_submodules(top: Path) -> bool:
    """Whether git may look into submodules: only where some are declared."""
    return (top / ".gitmodules").is_file()


def _raise_unless_outside(root: Path, done: Finished) -> None:
    """Raise for a repository that git cannot use; return if there is no repository at all."""
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
        raise call.failure(done)
    if call.repository(root) is not None:
        raise GitError(
            f"{root}: the git repository is damaged", "`git status` and `git fsck` say what is wrong."
        )
