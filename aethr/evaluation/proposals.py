"""Commits of a range that may be bug fixes, for a person to choose from; nothing is sent anywhere."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aethr.base.errors import UsageError
from aethr.base.records import Severity
from aethr.base.sanitize import one_line
from aethr.context import exclusion
from aethr.evaluation.fixes import MESSAGE_BYTES, Made, find_commit, find_repository, from_fix
from aethr.git import history

FOLDER = Path("cases")
"""Where cases are put by default, relative to the current folder."""
MOST_COMMITS = 2000
"""So many commits of a range are read, the newest ones."""


class Proposal(NamedTuple):
    """A commit that may be a bug fix. ``subject`` is untrusted; ``reasons`` say why it is proposed."""

    commit: str
    subject: str
    reasons: tuple[str, ...]


def main(fix: str | None, range_: str | None, out: Path | None, severity: Severity) -> int:
    """``aethr eval --from-fix`` and ``--from-range``: exactly one of the two is given."""
    top = find_repository(Path.cwd()).top
    folder = FOLDER if out is None else out
    if fix is not None:
        _report(from_fix(top, fix, folder, severity))
        return 0
    assert range_ is not None
    found = propose(top, range_)
    if not found:
        sys.stdout.write(f"No commit in {one_line(range_)} looks like a bug fix.\n")
        return 0
    if not sys.stdin.isatty():
        more = "".join(f" {shlex.quote(word)}" for word in (() if out is None else ("--out", str(out))))
        for each in found:
            why = f"{one_line(each.subject)} ({'; '.join(each.reasons)})"
            sys.stdout.write(f"aethr eval --from-fix {each.commit[:12]}{more}  # {why}\n")
        return 0
    return max((_make(top, each.commit, folder, severity) for each in _ask(found)), default=0)


def _make(top: Path, commit: str, folder: Path, severity: Severity) -> int:
    """Make one of several cases: if this one cannot be made, the others can."""
    try:
        _report(from_fix(top, commit, folder, severity))
    except UsageError as error:
        sys.stdout.write(f"Not made: {one_line(str(error))}\n")
        return int(error.exit_code)
    return 0


def _report(made: Made) -> None:
    notes = "".join(f"  {note}\n" for note in made.notes)
    where = one_line(str(made.folder))
    sys.stdout.write(f"Made {where}: {made.place}\n{notes}  Check the words in {where}/expect.yaml.\n")


def _ask(found: Sequence[Proposal]) -> list[Proposal]:
    """The proposals that the person at the terminal chooses. Raises ``UsageError`` for other answers."""
    for number, each in enumerate(found, start=1):
        sys.stdout.write(f"{number:>3}  {each.commit[:12]}  {one_line(each.subject)}\n")
        sys.stdout.write(f"     {'; '.join(each.reasons)}\n")
    sys.stdout.write("Which ones? (numbers such as 1,3-5, or all) ")
    sys.stdout.flush()
    chosen: dict[int, None] = {}
    for word in sys.stdin.readline().replace(",", " ").split():
        first, dash, last = ("1", "-", str(len(found))) if word == "all" else word.partition("-")
        ends = [
            int(end) if re.fullmatch("[0-9]{1,6}", end) else 0 for end in (first, last if dash else first)
        ]
        if not 1 <= ends[0] <= ends[1] <= len(found):
            raise UsageError(
                f"{one_line(word)}: not one of the numbers 1 to {len(found)}", "Write them as in 1,3-5."
            )
        chosen.update(dict.fromkeys(range(ends[0], ends[1] + 1)))
    return [found[number - 1] for number in chosen]


_SIGNS: Mapping[str, re.Pattern[str]] = {
    reason: re.compile(words, re.IGNORECASE)
    for reason, words in {
        "says fix": r"\b(?:bug|hot)?-?fix(?:e[sd]|ing)?\b",
        "closes an issue": r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):? (?:[\w./-]{1,100})?#[0-9]",
        "names a bug": r"\bbug(?:s|gy)?\b",
        "names a regression": r"\bregress(?:ed|ions?)?\b",
        "reverts a change": r"\brevert(?:s|ed)?\b",
        "names a failure": r"\b(?:crash(?:e[sd]|ing)?|panic(?:s|ked)?|segfaults?|deadlocks?|hangs?)\b"
        r"|\b(?:leak(?:s|ed|ing)?|corrupt(?:s|ed|ion)?)\b",
        "names a vulnerability": r"\b(?:cve-[0-9]{4}-[0-9]+|ghsa-[0-9a-z]{4}-|vulnerabilit(?:y|ies))",
    }.items()
}  # fmt: skip
_NO_BUG = re.compile(
    r"\b(?:typos?|spelling|lint\w{0,4}|format(?:ting)?|whitespace|mypy|flake8|ruff|changelog|docs?|docstrings?|ci)\b",
    re.IGNORECASE,
)
"""In a subject: what is fixed is no behaviour."""
_A_FEATURE = re.compile(
    r"^(?:\w{1,20}: )?(?:feat|add|support|allow|introduce|implement|refactor|rename|move|bump|update|drop)"
    r"|^(?:remove|deprecate)",
    re.IGNORECASE,
)


def propose(root: Path, text: str) -> tuple[Proposal, ...]:
    """The commits of the range ``A..B`` that may be bug fixes, the newest first. Merges are none.

    Raises ``UsageError`` for another text, ``GitError``.
    """
    base, dots, head = text.partition("..")
    if not dots or head.startswith("."):
        raise UsageError(f"--from-range: {one_line(text)!r} is not a range", "Write it as in v1.0..HEAD.")
    ends = [find_commit(root, "--from-range", name or "HEAD") for name in (base, head)]
    listed = history.commits(root, ends[1], [ends[0]], MOST_COMMITS, MESSAGE_BYTES)
    newest = listed.newest if listed is not None else ()
    files = dict(history.touched(root, [each.id for each in newest]))
    found = []
    for each in newest:
        subject, _, body = each.message.decode("utf-8", "replace").strip().partition("\n")
        reasons = _reasons(subject, body, files.get(each.id, ()))
        if reasons:
            found.append(Proposal(each.id, subject.strip(), reasons))
    return tuple(found)


def _reasons(subject: str, body: str, files: Iterable[history.Touched]) -> tuple[str, ...]:
    """Why a commit may be a bug fix; none if it edits no source, or only what CI and reviewers read.

    What a feature says in its body is about other things, so only its subject counts.
    """
    edited = [os.fsdecode(file.path) for file in files if set(file.modes) <= {"100644", "100755"}]
    kinds = {exclusion.importance(path) for path in edited if not exclusion.is_protected(path)}
    if 0 not in kinds or _NO_BUG.search(subject):
        return ()
    is_feature = _A_FEATURE.match(subject) is not None
    text = subject if is_feature else f"{subject}\n{body}"
    said = [reason for reason, sign in _SIGNS.items() if sign.search(text)]
    if 1 in kinds and (said or not is_feature):
        said.append("changes a test with the code")
    return tuple(said)
