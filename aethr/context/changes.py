"""The two sources that show a change: ``git_diff`` and ``latest_diff``, as fragments for the packer."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aethr import git
from aethr.base.errors import GitMissingError
from aethr.base.records import (
    Entry,
    Fragment,
    Gap,
    LeftOut,
    Piece,
    Remark,
    Rules,
    Survey,
    View,
    Withhold,
)
from aethr.base.sanitize import reveal, reveal_name
from aethr.base.words import capped
from aethr.config import WORKFLOW_FILE
from aethr.context import exclusion
from aethr.context.diffs import CONTEXT, Hunk, Section, is_combined, narrow, number, parse, rows, split
from aethr.context.files import POINTER
from aethr.context.paths import is_secret
from aethr.git import tracking

NAMED = 20
"""At most this many file names in one remark."""

RESHOWN = 200
"""At most this many files that an attribute hides from the diff are shown as text anyway."""

NAMES_BYTES = 100_000
"""The most that the command line of git gets of names; POSIX has a limit. For more, it shows all files."""

HUNK_BYTES = 8 << 20
"""A larger hunk is not kept, so it is not sent."""

HUNK_HEAD = 160
"""Room for the ``@@`` line of a piece of a hunk: git ends it with at most 80 bytes of the file."""

KEPT_BYTES = 1 << 20
"""A larger diff is read from git each time."""

FUNCTION = "function"
"""The form of ``git_diff`` that shows the whole function around each edit."""

_NOTHING = {
    "worktree": "no changes in the working tree",
    "staged": "no staged changes",
    "head": "no changes since the last commit",
    "all": "no changes since the last commit, and no new files",
    "revision": "no changes since this commit",
    "range": "no changes in this range",
}
_DECIDING: Mapping[tuple[str, ...], str] = {
    (".gitattributes",): "git attributes, which decide what a diff shows and, once merged, what is excluded",
    (WORKFLOW_FILE,): "the workflow file, which decides how changes are reviewed and what is excluded",
    tuple(path.rpartition("/")[2] for path in exclusion.GUIDANCE): (
        "guidance for reviewers and agents, of which only the version before the change guides a review"
    ),
}
_NEITHER = "no changes, staged or unstaged"
"""For a run without ``--diff``."""


class _Form(NamedTuple):
    """How the lines of a change are shown.

    There is ``room`` for this many characters of a file. ``context`` are the options of ``git.diff``; of a
    ``wide`` one, a hunk that does not fit is shown with less.
    """

    room: int
    numbered: bool
    context: tuple[str, ...] = ()
    wide: bool = False


def is_wide(argument: str) -> bool:
    """Whether ``git_diff`` with this argument shows more context than ``git diff`` does by default."""
    return argument == FUNCTION or int(argument or CONTEXT) > CONTEXT


def git_diff(argument: str, view: View, budget_chars: int, /) -> Iterator[Fragment]:
    """The change of the run's scope.

    ``argument`` is empty, a number of lines of context, or ``FUNCTION``. Raises ``GitError`` for a repository
    that git cannot read.
    """
    form = _Form(budget_chars, view.numbered)
    if is_wide(argument) and view.plain:
        yield Remark(
            f"the change does not fit with git_diff:{argument}, so it is shown with three lines of context"
        )
    elif argument == FUNCTION:
        form = form._replace(context=("--function-context",), wide=True)
    elif argument and int(argument) != CONTEXT:
        form = form._replace(context=(f"--unified={argument}",), wide=is_wide(argument))
    try:
        here = None if view.survey else git.checkout(view.root)
        survey = git.survey(here, view.scope) if here else view.survey
    except GitMissingError as error:
        yield Remark(f"no diff: {error}", complete=False, change=True)
        return
    if survey is None:
        yield Remark("no diff: not in a git repository", change=False)
        return
    names: list[str] = []
    with git.other_changes(survey) as wait:
        for fragment in _change(survey, view, form):
            if isinstance(fragment, Entry):
                names += filter(None, (fragment.old_path, fragment.path))
            yield fragment
        # A workflow file that was just saved is not work that waits for a review: see ``run.promotion``.
        left, saved = wait(), view.root / WORKFLOW_FILE
        untracked = tuple(name for name in left.untracked if survey.top / os.fsdecode(name) != saved)
        yield from _remarks(view, left._replace(untracked=untracked), survey.filters, names)
    scope = view.scope
    if scope.looks_at_disk and (view.strict or (scope.chosen and not names)):
        overlooked = tracking.overlooked_files(survey.top)
        if overlooked:  # their changes are unknown, so they count as missing
            yield Remark(
                f"git is set to ignore changes of {_listed(overlooked)} (assume-unchanged or skip-worktree); "
                "to show them: git update-index --no-assume-unchanged --no-skip-worktree FILE",
                complete=False,
            )


def latest_diff(_argument: str, view: View, budget_chars: int, /) -> Iterator[Fragment]:
    """What the most recent step that edits the tree changed."""
    if view.preview:
        yield Remark("the diff of the latest step that edits files will stand here")
        return
    edits = [(result.id, result.artifacts) for result in view.history if result.artifacts is not None]
    if not edits:
        yield Remark("no diff: no step before this one has edited files", complete=False)
        return
    step, artifacts = edits[-1]
    text = artifacts.git_diff
    if text:
        # surrogatepass: JSON may contain lone surrogates; decoding the hunk reports them.
        yield from _read(
            parse([text.encode("utf-8", "surrogatepass")], HUNK_BYTES), _Form(budget_chars, view.numbered)
        )
    elif artifacts.changed_files:
        names = _listed(artifacts.changed_files)
        yield Remark(f"step {step} gives no diff, but changed {names}", complete=False, change=True)
    elif artifacts.generated and not artifacts.unseen:
        yield Remark(f"step {step} changed only files that tools generate", change=False)
    elif not artifacts.unseen:
        yield Remark(f"step {step} changed nothing", change=False)
    for line in artifacts.unseen:
        yield Remark(f"step {step} changed what is not shown here: {line}", complete=False, change=True)
    for line in artifacts.generated:
        yield Remark(f"step {step} changed what is not shown here: {line}")


def _change(survey: Survey, view: View, form: _Form) -> Iterator[Fragment]:
    """All files of the change; those that git calls binary come last, in their original order."""
    binaries: list[tuple[int, Section]] = []
    listed, events = read_change(survey, HUNK_BYTES, context=form.context)
    excluded = excluded_files(listed, survey, view.root, view.rules)
    yield from _read(events, form, binaries, excluded)
    hidden = hidden_texts(survey, [section for _, section in binaries])
    places = {section.path: order for order, section in binaries}
    shown: set[bytes] = set()
    section = None
    for event in _read_as_text(survey, hidden[:RESHOWN], HUNK_BYTES, form.context):
        if isinstance(event, Hunk):
            yield from _hunk(event, section, form)
        else:
            section = event
            shown.add(event.path)
            note = "shown as text although .gitattributes hides it from diffs"
            yield _entry(places.get(event.path, len(places)), event, note)
    texts = {section.path for section in hidden}  # a rule for data does not exclude those over the maximum
    for order, binary in binaries:
        if binary.path not in shown:
            yield _entry(order, binary, reason=None if binary.path in texts else excluded.get(binary.path))


def read_change(
    survey: Survey, limit: int, kept: list[bytes] | None = None, context: Sequence[str] = ()
) -> tuple[Section | None, Iterator[Section | Hunk]]:
    """The list of all files of a change, None if there are none, and then its files and hunks.

    What git prints is added to ``kept``, unless it is much. Beside such a list git does not show files whose
    merge is unfinished, so the change is then read anew. ``context`` is that of ``git.diff``.
    """
    chunks = git.diff(survey, listed=True, context=context)
    events = parse(chunks if kept is None else _keep(chunks, kept), limit)
    listed = next(events, None)
    assert not isinstance(listed, Hunk)
    if listed is not None and is_combined(listed.header):
        return listed, parse(git.diff(survey, context=context), limit)
    return listed, events


def _keep(chunks: Iterator[bytes], kept: list[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        kept.append(chunk)
        if size > KEPT_BYTES:
            kept.clear()
        yield chunk


def excluded_files(
    listed: Section | None, survey: Survey, root: Path, rules: Rules
) -> Mapping[bytes, exclusion.Reason]:
    """The files of a change that rules exclude. ``listed`` is that of ``read_change``.

    Raises ``GitError``, ``DiskError``.
    """
    if listed is None:
        return {}
    return exclusion.find(rows(listed.header), survey, folder_of(root, survey), rules)


def folder_of(root: Path, survey: Survey | None) -> str:
    """The project's folder, relative to the repository's top as the names in a diff are; ``.`` for both."""
    return root.resolve().relative_to(survey.top.resolve()).as_posix() if survey else "."


_NONE: Mapping[bytes, exclusion.Reason] = {}


def _read(
    events: Iterator[Section | Hunk],
    form: _Form,
    binaries: list[tuple[int, Section]] | None = None,
    excluded: Mapping[bytes, exclusion.Reason] = _NONE,
) -> Iterator[Fragment]:
    """Parsed events as fragments. Binary sections go to ``binaries`` instead, if given.

    Of an excluded file only the lines are counted. But a default does not exclude a git-lfs pointer.
    """
    order, section, reason = 0, None, None
    for event in events:
        if isinstance(event, Hunk):
            for part in _hunk(event, section, form):
                if isinstance(part, Piece) or reason is None or (reason.default and isinstance(part, Gap)):
                    yield part
            continue
        order, section = order + 1, event
        reason = excluded.get(event.path)
        if event.binary and binaries is not None and (reason is None or reason.binary):
            binaries.append((order, event))
        else:
            entry = _entry(order, event, reason=reason)
            reason = reason if entry.excluded else None
            yield entry


def hidden_texts(survey: Survey, binaries: Sequence[Section]) -> list[Section]:
    """The files that are text (their change has no NUL byte) and binary only by an attribute.

    Raises ``GitError``.
    """
    if not binaries:
        return []
    attributed = git.binary_by_attribute(survey.top, _both_names(binaries))
    hidden = [section for section in binaries if not attributed.isdisjoint(_both_names([section]))]
    path, binary = b"", set()
    for event in _read_as_text(survey, hidden, 0):
        if isinstance(event, Section):
            path = event.path
        elif event.nul:
            binary.add(path)
    return [section for section in hidden if section.path not in binary]


def _read_as_text(
    survey: Survey, sections: Sequence[Section], limit: int, context: Sequence[str] = ()
) -> Iterator[Section | Hunk]:
    """These files of the change, with their lines even where git calls them binary."""
    if not sections:
        return
    names, wanted = _both_names(sections), {section.path for section in sections}
    few = sum(map(len, names)) + len(names) <= NAMES_BYTES
    is_wanted = False
    for event in parse(git.diff(survey, as_text=True, paths=names if few else (), context=context), limit):
        if isinstance(event, Section):
            is_wanted = event.path in wanted
        if is_wanted:
            yield event


def _entry(
    order: int, section: Section, note: str | None = None, reason: exclusion.Reason | None = None
) -> Entry:
    unseen = None
    if section.unmerged:
        unseen = "unmerged"
    elif section.submodule:  # its lines are not shown
        before, after = section.ids or ("another commit", "another one")
        unseen = f"a submodule, from {before} to {after}: its files are not shown"
        if not after.strip("0"):
            unseen = f"a submodule that was at {before}"
        elif not before.strip("0"):
            unseen = f"a submodule, new at {after}: its files are not shown"
    elif section.binary:
        unseen = "binary"
    withheld = "a file that holds secrets" if holds_secrets(section) else None
    rule = None
    if reason is not None and not (reason.default and (section.unmerged or withheld)):
        rule = reason.rule if section.binary or not reason.binary else None  # other text can be shown
    return Entry(
        path=reveal_name(section.path) or "(text before the first file)",
        order=order,
        header=reveal(section.header.decode("utf-8", "backslashreplace"))[0],
        note=None if rule else unseen or note,
        withheld=rule or withheld,
        complete=unseen is None or (section.deleted and not section.unmerged),
        deleted=section.deleted and not section.unmerged,
        excluded=rule,
        old_path=None if section.old_path is None else reveal_name(section.old_path),
        name=None if unseen or withheld or rule or section.deleted else os.fsdecode(section.path) or None,
    )


def holds_secrets(section: Section) -> bool:
    """Whether the file's name, or its name before a rename, is that of a file that holds secrets."""
    return any(is_secret(os.fsdecode(name)) for name in _both_names([section]))


def _both_names(sections: Collection[Section]) -> list[bytes]:
    return [name for section in sections for name in (section.path, section.old_path) if name]


def _hunk(hunk: Hunk, section: Section | None, form: _Form) -> Iterator[Fragment]:
    """A hunk, in several pieces if it is larger than the room that the file's header leaves.

    The lines of a submodule or a git-lfs pointer name other content, so none counts as shown.
    """
    submodule = section is not None and section.submodule
    # git prints an `index` line for a file, but not for a submodule that is merely dirty.
    dirty = section is not None and section.ids is None and hunk.dirty_submodule
    unread = hunk.pointer or submodule or dirty
    form = form._replace(room=form.room - len(section.header if section else b""))
    for own in narrow(hunk) if form.wide and not _fits(hunk, form) else [hunk]:
        yield from _pieces(own, form, unread)
    if hunk.pointer:
        yield Gap(POINTER)
    if dirty:
        yield Gap("a submodule with uncommitted changes: its files are not shown")


def _pieces(hunk: Hunk, form: _Form, unread: bool) -> Iterator[Piece | Withhold]:
    try:
        for each, text, revealed in _show(hunk, form):
            changed, removed = 0 if unread else each.changed, each.changed - each.added
            yield Piece(text, each.size, changed, revealed, each.added, removed, each.lines)
    except UnicodeDecodeError:
        changed = 0 if unread else hunk.changed
        yield Piece(None, hunk.size, changed, 0, hunk.added, hunk.changed - hunk.added)
        yield Withhold("not UTF-8 text")


def _fits(hunk: Hunk, form: _Form) -> bool:
    """Whether a hunk can be shown in one piece."""
    try:
        text, _ = _text(hunk, form)
    except UnicodeDecodeError:
        return False
    return text is not None and len(text) <= form.room


def _text(hunk: Hunk, form: _Form) -> tuple[str | None, int]:
    """A hunk with invisible characters shown by their codes, and the number of those.

    Raises ``UnicodeDecodeError``.
    """
    if hunk.text is None:
        return None, 0
    text, revealed = reveal(hunk.text.decode())
    return number(text) if form.numbered else text, revealed


def _show(hunk: Hunk, form: _Form) -> Iterator[tuple[Hunk, str | None, int]]:
    """A hunk and its ``_text``.

    If that is larger than the room, the hunk is cut between lines until each piece fits or has one line.
    Raises ``UnicodeDecodeError`` before the first piece.
    """
    text, revealed = _text(hunk, form)
    pieces = [hunk]
    if text is not None and len(text) > form.room:
        pieces = list(split(hunk, max(form.room - HUNK_HEAD, 0) * hunk.size // len(text)))
    if len(pieces) == 1 and pieces[0].size >= hunk.size:
        yield hunk, text, revealed
        return
    for piece in pieces:
        yield from _show(piece, form)


def _remarks(view: View, left: LeftOut, filters: Sequence[str], names: Sequence[str]) -> Iterator[Remark]:
    """Notes on the diff.

    If a review is required and the run has no ``--diff``, the changes that its scope excludes are missing.
    """
    scope = view.scope
    if not names:
        yield Remark(
            _NEITHER if scope.chosen and scope.kind == "worktree" else _NOTHING[scope.kind], change=False
        )
    missing = [f"{word}: {_listed(found)}" for word, found in left._asdict().items() if found]
    if missing:
        remedy = f"--diff {'all' if left.untracked else 'head'} includes it"
        if scope.kind == "revision":
            remedy = "git shows a new file once it is added: git add -N FILE"
        said = f"not part of this diff ({scope.text}): {'; '.join(missing)}; {remedy}"
        yield Remark(said, complete=not (view.strict and scope.chosen))
    for ours, decides in _DECIDING.items():
        if edited := [name for name in names if name.rpartition("/")[2] in ours]:
            yield Remark(f"this change edits {decides}: {_listed(edited)}")
    if filters and scope.reads_disk:  # otherwise git reads objects, without filters
        yield Remark(f"filters of the repository's own configuration were not run: {_listed(filters)}")


def _listed(names: Sequence[str | bytes]) -> str:
    def show(name: str | bytes) -> str:
        shown = reveal_name(name)
        return shown if len(shown) <= 200 else shown[:200] + "…"

    return capped(names, NAMED, show)
