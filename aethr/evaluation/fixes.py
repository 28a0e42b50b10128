"""Cases from the bug fixes of a project's own history; nothing is sent anywhere.

The change of such a case brings the bug back: from the files after the fix to the files before it. Its places
are the lines that the fix changed. What the fix says about the bug elsewhere, in tests and on pages, is on
both sides as it was before the fix.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aethr import git
from aethr.base import disk
from aethr.base.errors import GitError, UsageError
from aethr.base.records import Checkout, Lines, Scope, Severity
from aethr.base.sanitize import one_line, reveal_name
from aethr.context import diffs, exclusion, paths
from aethr.git import history, tracking

LARGE = 10
"""A fix of more source files than this is called large: a review of it says little about one defect."""
MESSAGE_BYTES = 2000
"""So much of a commit's message is read."""
_NEAR = 3
"""Places that are so many lines apart are one: scoring accepts a finding that far beside its place."""


class Made(NamedTuple):
    """A case on disk: its ``place`` as ``path:first-last``, and what a person should know about it."""

    folder: Path
    place: str
    notes: tuple[str, ...]


# --- a case --------------------------------------------------------------------------------------

_MOST_FILES = 2000
_MOST_BYTES = 16 << 20
"""What a side of a case may have, and a hunk that is read."""
_COMMENT = re.compile(rb"^-[ \t]*(?:#|//|--|/?\*|;|<!--|\"\"\")", re.MULTILINE)


class _Edit(NamedTuple):
    """Lines that the change of the case edits, in its new version; ``text`` is their hunk."""

    path: str
    lines: Lines
    changed: int
    text: bytes

    @property
    def where(self) -> dict[str, str | int]:
        """Its place, as ``expect.yaml`` has it."""
        first, last = self.lines
        return {"file": self.path, "lines": first if first == last else f"{first}-{last}"}


class _File(NamedTuple):
    mode: str
    content: bytes


class _ChangeBack(NamedTuple):
    """The change that brings a bug back: the files before and after it, and the lines that it edits."""

    base: dict[bytes, _File]
    head: dict[bytes, _File]
    edits: list[_Edit]
    notes: list[str]


def from_fix(root: Path, commit: str, out: Path, severity: Severity = "medium") -> Made:
    """Make a case of a bug fix, as a new folder in ``out``.

    Raises ``UsageError`` for a commit that gives no case, ``GitError``, ``DiskError``.
    """
    here = find_repository(root)
    fix, parent = _fix_and_parent(here.top, commit)
    base, head, edits, notes = _turn_back(here, fix, parent)
    subject = _subject(here.top, fix, parent)
    folder = out / f"{_slug(subject)}-{fix[:12]}".lstrip("-")
    if os.path.lexists(folder):
        raise UsageError(f"{one_line(str(folder))} is already here", "Remove it, or give another --out.")
    with disk.failing_as(f"{one_line(str(out))}: cannot be written"), _new_folder(folder) as part:
        outside = dict.fromkeys((*_write(part / "base", base), *_write(part / "head", head)))
        notes += [f"left out: {reveal_name(link)}, a link to the outside" for link in outside]
        disk.write(part / "expect.yaml", _expect(fix, subject, edits, severity, notes))
    return Made(folder, "{file}:{lines}".format(**edits[0].where), tuple(notes))


def find_repository(root: Path) -> Checkout:
    """The checkout around ``root``. Raises ``UsageError`` if there is none."""
    here = git.checkout(root)
    if here is None:
        raise UsageError(f"{one_line(str(root))}: not in a git repository", "Run in the one with the fix.")
    return here


def find_commit(top: Path, option: str, name: str) -> str:
    """The id of a commit that somebody named. Raises ``UsageError``."""
    found = history.resolve(top, name)[0]
    if found is None or not history.has(top, found):
        raise UsageError(f"{option}: {one_line(name)!r} is not a commit here", "`git log` lists the commits.")
    return found


def _fix_and_parent(top: Path, name: str) -> tuple[str, str]:
    fix = find_commit(top, "--from-fix", name)
    parents = history.parents(top, fix)
    if len(parents) != 1:
        what = "a merge" if parents else "a first commit, with nothing before it"
        raise UsageError(f"{fix[:12]} is {what}", "Name the commit that fixed the bug.")
    if not history.has(top, parents[0]):
        raise GitError(f"the commit before {fix[:12]} is not in this clone", "Run `git fetch --unshallow`.")
    return fix, parents[0]


def _read_change(
    here: Checkout, fix: str, parent: str
) -> tuple[list[diffs.Row], list[tuple[bytes, diffs.Hunk]]]:
    """The change from the fix back to the commit before it: its files, and each hunk with its file's name."""
    seen = git.survey(here, Scope("range", f"{fix}..{parent}", fix, parent, here.head, base_side=fix))
    rows: list[diffs.Row] = []
    hunks: list[tuple[bytes, diffs.Hunk]] = []
    path = b""
    for piece in diffs.parse(git.diff(seen, listed=True, context=("--unified=0",)), _MOST_BYTES):
        if isinstance(piece, diffs.Hunk):
            hunks.append((path, piece))
        elif piece.path:
            path = piece.path
        else:  # the list comes first
            rows += diffs.rows(piece.header)
    return rows, hunks


def _turn_back(here: Checkout, fix: str, parent: str) -> _ChangeBack:
    """Take a fix back, in its source files only. Raises ``UsageError`` if that edits no line of code.

    Tests, pages and data would give the bug away: both sides have them as they were before the fix.
    """
    rows, hunks = _read_change(here, fix, parent)
    if len(rows) > _MOST_FILES:
        raise UsageError(
            f"{fix[:12]} changes {len(rows):,} files, too many for a case", "Name a smaller fix."
        )
    kept = [row for row in rows if not row.is_submodule and not _refused(row)]
    source = {row.path: row for row in kept if _is_source(row)}
    names = tuple({os.fsdecode(name): None for row in kept for name in row.names})
    told = {name for row in kept if not _is_source(row) for name in row.names}
    head, after = _contents(here.top, parent, names), _contents(here.top, fix, names)
    base = {path: file for path, file in after.items() if path not in told}
    base |= {path: file for path, file in head.items() if path in told}
    edited = [(path, hunk) for path, hunk in hunks if path in source and _is_text(source[path])]
    edits = _edits(edited, head)
    if not edits:
        raise UsageError(
            f"{fix[:12]}: {_why_nothing(rows, source.values())}", "Name a commit that fixes code."
        )
    notes = [f"left out: {reveal_name(row.path)}" for row in rows if row not in kept]
    if len(source) > LARGE:
        notes.append(f"large: the fix changes {len(source)} source files; a smaller one says more")
    if any(_COMMENT.search(hunk.text or b"") for _, hunk in edited):
        notes.append("the change removes comments of the fix: check that they do not give the bug away")
    return _ChangeBack(base, head, edits, notes)


def _refused(row: diffs.Row) -> bool:
    """Whether a name is one that no context may have: of a secret, or outside of the repository."""
    return any(paths.refusal(os.fsdecode(name)) is not None for name in row.names)


def _is_source(row: diffs.Row) -> bool:
    return any(exclusion.importance(os.fsdecode(name)) == 0 for name in row.names)


def _is_text(row: diffs.Row) -> bool:
    return set(row.modes) <= {"100644", "100755", "000000"}


def _why_nothing(rows: Sequence[diffs.Row], source: Collection[diffs.Row]) -> str:
    if not rows:
        return "it changes no file"
    if all(row.is_submodule for row in rows):
        return "it changes only submodules, whose files are not here"
    if all(_refused(row) or row.is_submodule for row in rows):
        return "it changes only files that are never sent"
    if not source:
        return "it changes only tests, pages or data"
    if all(row.modes[1] == "000000" for row in source):
        return "it only adds files, so that nothing is left to look at without it"
    return "it changes no lines of code: only names, modes, links or binary files"


def _contents(top: Path, tree: str, names: Sequence[str]) -> dict[bytes, _File]:
    """Those of these files that a commit has. Raises ``UsageError`` if they are too large for a case."""
    if not names:
        return {}
    found = [each for each in tracking.entries(top, tree, *names) if each.mode != "160000"]
    sizes = tracking.sizes(top, dict.fromkeys(each.id for each in found))
    if sum(sizes[each.id] for each in found) > _MOST_BYTES:
        raise UsageError(f"the files of {tree[:12]} are larger than 16 MiB", "Name a smaller fix.")
    read = tracking.contents(top, [(each.id, sizes[each.id]) for each in found])
    return {each.path: _File(each.mode, content) for each, content in zip(found, read, strict=True)}


_NEW_SIDE = re.compile(rb"@@ -[0-9,]+ \+([0-9]+)(?:,([0-9]+))? @@")


def _edits(hunks: Iterable[tuple[bytes, diffs.Hunk]], head: Mapping[bytes, _File]) -> list[_Edit]:
    """The places of the defect, the one with most changed lines first. Those that are near become one.

    Where the fix only added lines, a place is the lines before and after them.
    """
    found: list[_Edit] = []
    for name, hunk in hunks:
        path, ranges = os.fsdecode(name), _NEW_SIDE.match(hunk.text or b"")
        if ranges is None or name not in head or not path.isprintable():
            continue
        content = head[name].content
        length = content.count(b"\n") + (not content.endswith(b"\n"))
        first, many = int(ranges[1]), int(ranges[2] or 1)
        lines = Lines(first, first + many - 1) if many else Lines(max(1, first), min(first + 1, length))
        if not content or lines.last < lines.first:
            continue
        edit = _Edit(path, lines, hunk.changed, hunk.text or b"")
        before = found[-1] if found and found[-1].path == path else None
        if before is not None and lines.first - before.lines.last <= _NEAR:
            found[-1] = _Edit(
                path,
                Lines(before.lines.first, max(before.lines.last, lines.last)),
                before.changed + edit.changed,
                before.text + edit.text,
            )
        else:
            found.append(edit)
    return sorted(found, key=lambda each: -each.changed)


def _subject(top: Path, fix: str, parent: str) -> str:
    listed = history.commits(top, fix, [parent], 1, MESSAGE_BYTES)
    message = listed.newest[0].message if listed is not None and listed.newest else b""
    return message.decode("utf-8", "replace").strip().partition("\n")[0]


def _slug(subject: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", subject.lower()))[:40].strip("-")


# --- its files -----------------------------------------------------------------------------------


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder with another name, which gets this one if the block succeeds, and is deleted otherwise."""
    part = folder.with_name(f".aethr-{os.urandom(8).hex()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _write(folder: Path, files: Mapping[bytes, _File]) -> list[bytes]:
    """Write the files of one side. Returns the links that lead outside of it, which are not written.

    Links come last, so that no file is written through one.
    """
    folder.mkdir()
    outside = []
    for path, file in sorted(files.items(), key=lambda each: each[1].mode == "120000"):
        target = folder / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.mode != "120000":
            target.write_bytes(file.content)
            if file.mode == "100755":
                target.chmod(target.stat().st_mode | 0o111)
        elif _stays_inside(os.fsdecode(path), os.fsdecode(file.content)):
            target.symlink_to(os.fsdecode(file.content))
        else:
            outside.append(path)
    return outside


def _stays_inside(path: str, target: str) -> bool:
    """Whether a link leads to a place below the top, whatever other links there are.

    Only the beginning of its target may go up: from there on, a name may be a link to elsewhere.
    """
    parts = target.split("/")
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return (
        not target.startswith("/") and "\0" not in target and ".." not in parts[up:] and up <= path.count("/")
    )


# --- expect.yaml ---------------------------------------------------------------------------------

_STOPWORDS = frozenset((
    "about", "after", "again", "also", "always", "avoid", "because", "been", "before", "being", "break",
    "bug", "bugs", "bugfix", "case", "cases", "change", "changed", "check", "class", "close", "closed",
    "closes", "const", "correct", "correctly", "does", "don", "each", "elif", "else", "ensure", "error",
    "false", "fix", "fixed", "fixes", "fixing", "from", "func", "function", "handle", "have", "hotfix",
    "import", "instead", "issue", "issues", "make", "merge", "more", "must", "name", "none", "not", "null",
    "only", "patch", "please", "problem", "properly", "pull", "raise", "regression", "request", "resolve",
    "resolves", "return", "revert", "self", "should", "some", "static", "string", "sure", "test", "tests",
    "that", "their", "them", "then", "there", "this", "true", "type", "update", "used", "using", "value",
    "values", "void", "when", "where", "which", "while", "will", "with", "without", "work", "working",
    "works", "wrong",
))  # fmt: skip
"""Words that a report of another defect would have too."""
_WORD = re.compile(r"[^\W\d_][\w]{3,40}")
_IN_CODE = re.compile(r"[^\W\d_]\w{0,40}_\w{1,40}|[^\W\d_]{1,40}[a-z][A-Z]\w{0,40}|[^\W\d_]\w{3,40}(?=\()")
"""A name that is no word of a comment: with an underscore or a capital inside, or called."""
_MOST_WORDS = 6


def _words(subject: str, edit: _Edit) -> list[str]:
    """What a report of the defect may say: words of the fix's subject, and names in its lines."""
    named = Counter(_IN_CODE.findall(edit.text.decode("utf-8", "replace").partition("\n")[2]))
    folders = posixpath.dirname(edit.path).casefold().split("/")
    found: dict[str, str] = {}
    for words in (_WORD.findall(subject), [word for word, _ in named.most_common()]):
        new = {word.casefold(): word for word in reversed(words)}
        useful = [key for key in reversed(new) if key not in (*_STOPWORDS, *folders, *found)]
        found |= {key: new[key] for key in useful[:_MOST_WORDS]}
    return list(found.values()) or [posixpath.basename(edit.path)]


def _expect(fix: str, subject: str, edits: Sequence[_Edit], severity: Severity, notes: Iterable[str]) -> str:
    """``expect.yaml``. The commit message that a reviewer sees names the file, and nothing else."""
    import yaml  # takes longer than the rest

    main, *others = edits
    finding: dict[str, object] = {
        **main.where,
        "severity": severity,
        "words": _words(subject, main),
        "why": one_line(subject) or f"What {fix[:12]} fixed.",
    }
    if others:
        finding["also"] = [each.where for each in others]
    document = {
        "message": f"Change {posixpath.basename(main.path)}",
        "tags": ["from-fix"],
        "findings": [finding],
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
    comments = [
        f"# Made from the fix {fix}; the change of this case brings its bug back.",
        "# The places are the lines that the fix changed.",
        *(f"# {one_line(note)}" for note in notes),
    ]
    ask = (
        "  # Guesses from the fix: keep those that every good report of the bug has one of, and add others.\n"
    )
    return "\n".join(comments) + "\n" + text.replace("\n  words:\n", f"\n{ask}  words:\n", 1)
