"""The two sources that are a change: ``git_diff`` and ``latest_diff``, as parts for the packer."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from aethr import git
from aethr.base.errors import GitMissingError
from aethr.base.records import (
    Artifacts,
    Entry,
    Gap,
    LeftOut,
    Part,
    Piece,
    Remark,
    Scope,
    Survey,
    View,
    Withhold,
)
from aethr.base.sanitize import reveal, reveal_name
from aethr.base.words import capped
from aethr.config import WORKFLOW_FILE
from aethr.context.diffs import Hunk, Section, parse
from aethr.context.secretnames import is_secret
from aethr.git import tracking

NAMED = 20
"""File names in one remark."""

RESHOWN = 200
"""Files that an attribute hides from the diff and that are shown as text anyway."""

UTF8_MAX = 4
"""Bytes of one character at most: a hunk of more bytes than this times the budget cannot fit it."""

POINTER = "a pointer of git-lfs; the file itself is not looked at"

_NOTHING = {
    "worktree": "no changes in the working tree",
    "staged": "no staged changes",
    "head": "no changes since the last commit",
    "all": "no changes since the last commit, and no new files",
    "revision": "no changes since this commit",
    "range": "no changes in this range",
}
_NEITHER = "no changes, staged or unstaged"
"""Of a scope that nobody named."""


def git_diff(_argument: str, view: View, budget_chars: int, /) -> Iterator[Part]:
    """The change of the run's scope. Raises ``GitError`` for a repository that git cannot read."""
    try:
        survey = view.survey or _survey(view)
    except GitMissingError as error:
        yield Remark(f"no diff: {error}", complete=False, change=True)
        return
    if survey is None:
        yield Remark("no diff: not in a git repository", change=False)
        return
    names: list[str] = []
    with git.other_changes(survey) as left_out:
        for part in _change(survey, budget_chars * UTF8_MAX):
            if isinstance(part, Entry):
                names.append(part.path)
            yield part
        yield from _remarks(view, _without_saved(survey.top, view, left_out()), survey.filters, names)
    scope = view.scope
    if scope.looks_at_disk and (view.strict or (scope.chosen and not names)):
        yield from _overlooked(survey.top)


def _survey(view: View) -> Survey | None:
    here = git.checkout(view.root)
    return git.survey(here, view.scope) if here else None


def latest_diff(_argument: str, view: View, budget_chars: int, /) -> Iterator[Part]:
    """What the most recent step that edits the tree has changed."""
    if view.preview:
        yield Remark("the diff of the latest step that edits files will stand here")
        return
    for result in reversed(view.history):
        if result.artifacts is not None:
            break
    else:
        yield Remark("no diff: no step before this one has edited files", complete=False)
        return
    yield from _latest(result.id, result.artifacts, budget_chars)


def _latest(step: str, artifacts: Artifacts, budget_chars: int) -> Iterator[Part]:
    text = artifacts.git_diff
    if text:
        # surrogatepass: a record read from JSON may hold any surrogate; decoding then finds and names it.
        yield from _parts(parse([text.encode("utf-8", "surrogatepass")], budget_chars * UTF8_MAX))
    elif artifacts.changed_files:
        names = _listed(artifacts.changed_files)
        yield Remark(f"step {step} gives no diff, but changed {names}", complete=False, change=True)
    elif artifacts.generated and not artifacts.unseen:
        yield Remark(f"step {step} changed no file but what tools make", change=False)
    elif not artifacts.unseen:
        yield Remark(f"step {step} changed nothing", change=False)
    for line in artifacts.unseen:
        yield Remark(f"step {step} changed what is not shown here: {line}", complete=False, change=True)
    for line in artifacts.generated:
        yield Remark(f"step {step} changed what is not shown here: {line}")


def _change(survey: Survey, limit: int) -> Iterator[Part]:
    """All files of the change; those that git calls binary come last, with the place they had."""
    binaries: list[tuple[int, Section]] = []
    yield from _parts(parse(git.diff(survey), limit), binaries)
    hidden = hidden_texts(survey, [section for _, section in binaries])
    shown: set[bytes] = set()
    if hidden:
        again = parse(git.diff(survey, as_text=True, paths=_both_names(hidden)), limit)
        places = {section.path: order for order, section in binaries}
        yield from _reshown(again, places, shown)
    for order, section in binaries:
        if section.path not in shown:
            yield _entry(order, section)


def _parts(
    events: Iterator[Section | Hunk], binaries: list[tuple[int, Section]] | None = None
) -> Iterator[Part]:
    """Parsed events as parts. Binary sections go to ``binaries`` instead, when that is given."""
    order, section = 0, None
    for event in events:
        if isinstance(event, Hunk):
            yield from _hunk(event, section)
            continue
        order, section = order + 1, event
        if event.binary and binaries is not None:
            binaries.append((order, event))
        else:
            yield _entry(order, event)


def hidden_texts(survey: Survey, binaries: Sequence[Section]) -> list[Section]:
    """The files that are text (no NUL byte in their change) and binary only by an attribute.

    Raises ``GitError``.
    """
    if not binaries:
        return []
    attributed = git.binary_by_attribute(survey.top, _both_names(binaries))
    hidden = [section for section in binaries if not attributed.isdisjoint(_both_names([section]))][:RESHOWN]
    if not hidden:
        return []
    path, binary = b"", set()
    for event in parse(git.diff(survey, as_text=True, paths=_both_names(hidden)), 0):
        if isinstance(event, Section):
            path = event.path
        elif event.nul:
            binary.add(path)
    return [section for section in hidden if section.path not in binary]


def _reshown(events: Iterator[Section | Hunk], places: dict[bytes, int], shown: set[bytes]) -> Iterator[Part]:
    """The text of files that an attribute hides, in their places; ``shown`` collects their names."""
    section = None
    for event in events:
        if isinstance(event, Hunk):
            yield from _hunk(event, section)
        else:
            section = event
            shown.add(event.path)
            note = "shown as text although .gitattributes hides it from diffs"
            yield _entry(places.get(event.path, len(places)), event, note)


def _entry(order: int, section: Section, note: str | None = None) -> Entry:
    unseen = "unmerged" if section.unmerged else _submodule(section) or ("binary" if section.binary else None)
    return Entry(
        path=reveal_name(section.path) or "(text before the first file)",
        order=order,
        header=reveal(section.header.decode("utf-8", "backslashreplace"))[0],
        note=unseen or note,
        withheld="a file that holds secrets" if holds_secrets(section) else None,
        complete=unseen is None or (section.deleted and not section.unmerged),
    )


def _submodule(section: Section) -> str | None:
    """What is known of a submodule's change, of which no line is shown: from which commit to which."""
    if not section.submodule:
        return None
    before, after = section.ids or ("another commit", "another one")
    if not after.strip("0"):
        return f"a submodule that was at {before}"
    if not before.strip("0"):
        return f"a submodule, new at {after}: its files are not looked at"
    return f"a submodule, from {before} to {after}: its files are not looked at"


def holds_secrets(section: Section) -> bool:
    """Whether the file has, or had before a rename, the name of a file that holds secrets."""
    return any(is_secret(os.fsdecode(name)) for name in _both_names([section]))


def _both_names(sections: Collection[Section]) -> list[bytes]:
    return [name for section in sections for name in (section.path, section.old_path) if name]


def _hunk(hunk: Hunk, section: Section | None) -> Iterator[Part]:
    """A hunk; one that only names another repository's commit, or a file of git-lfs, shows no line of it."""
    decoded = None if hunk.text is None else _decoded(hunk.text)
    text, revealed = decoded or (None, 0)
    submodule = section is not None and section.submodule
    # Of one that is merely dirty, git prints no header that says what it is; of a file it prints its ids.
    dirty = section is not None and section.ids is None and hunk.dirty_submodule
    changed = 0 if hunk.pointer or submodule or dirty else hunk.changed
    yield Piece(text, hunk.size, changed, revealed, hunk.added, hunk.changed - hunk.added)
    if hunk.pointer:
        yield Gap(POINTER)
    if dirty:
        yield Gap("a submodule with uncommitted changes: its files are not looked at")
    if hunk.text is not None and decoded is None:
        yield Withhold("not UTF-8 text")


def _decoded(raw: bytes) -> tuple[str, int] | None:
    try:
        return reveal(raw.decode())
    except UnicodeDecodeError:
        return None


def _without_saved(top: Path, view: View, left: LeftOut) -> LeftOut:
    """A workflow file that has just been saved is not work that waits for a review: see ``promotion``."""
    saved = view.root / WORKFLOW_FILE
    return left._replace(untracked=tuple(name for name in left.untracked if top / os.fsdecode(name) != saved))


def _remarks(view: View, left: LeftOut, filters: Sequence[str], names: Sequence[str]) -> Iterator[Remark]:
    """What to know beside the diff itself.

    Where a review is required and nobody has named the scope, what it leaves out is missing.
    """
    scope = view.scope
    if not names:
        yield Remark(
            _NEITHER if scope.chosen and scope.kind == "worktree" else _NOTHING[scope.kind], change=False
        )
    missing = [f"{word}: {_listed(found)}" for word, found in left._asdict().items() if found]
    if missing:
        said = f"not part of this diff ({scope.text}): {'; '.join(missing)}; {_including(scope, left)}"
        yield Remark(said, complete=not (view.strict and scope.chosen))
    attributes = [name for name in names if PurePosixPath(name).name == ".gitattributes"]
    if attributes:
        yield Remark(
            f"this change edits git attributes, which decide what a diff shows: {_listed(attributes)}"
        )
    if filters and scope.reads_disk:  # only there git reads files that a filter changes
        yield Remark(f"filters of the repository's own configuration were not run: {_listed(filters)}")


def _including(scope: Scope, left: LeftOut) -> str:
    """How to get what a scope leaves out."""
    if scope.kind == "revision":
        return "git shows a new file once it is added: git add -N FILE"
    return f"--diff {'all' if left.untracked else 'head'} includes it"


def _overlooked(top: Path) -> Iterator[Remark]:
    """Nothing says what is in these files, so they count as missing."""
    names = tracking.overlooked_files(top)
    if names:
        yield Remark(
            f"git was told not to look at {_listed(names)} (assume-unchanged or skip-worktree); "
            "it does after git update-index --no-assume-unchanged --no-skip-worktree FILE",
            complete=False,
        )


def _listed(names: Sequence[str | bytes]) -> str:
    def show(name: str | bytes) -> str:
        shown = reveal_name(name)
        return shown if len(shown) <= 200 else shown[:200] + "…"

    return capped(names, NAMED, show)
