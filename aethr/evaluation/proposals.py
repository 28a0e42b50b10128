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
"""Where cases are put by default, in the current folder."""
MOST_COMMITS = 2000
"""So many commits may a range have."""


class ProposedFix(NamedTuple):
    """A commit that may be a bug fix. ``subject`` is untrusted; ``reasons`` say why it is proposed."""

    commit: str
    subject: str
    reasons: tuple[str, ...]


def main(cwd: Path, fix: str | None, range_: str | None, out: Path, severity: Severity) -> int:
    """``aethr eval --from-fix`` and ``--from-range``, one of the two: the exit code. Raises ``AethrError``.

    Of a range, a person at a terminal chooses by number; otherwise the command for each is printed.
    """
    top = find_repository(cwd).top
    if fix is not None:
        _report(from_fix(top, fix, out, severity), cwd)
        return 0
    assert range_ is not None
    found = propose(top, range_)
    for number, each in enumerate(found, start=1):
        sys.stdout.write(f"{number:>3}  {each.commit[:12]}  {one_line(each.subject)}\n")
        sys.stdout.write(f"     {'; '.join(each.reasons)}\n")
    if not found:
        sys.stdout.write(f"No commit in {one_line(range_)} looks like a bug fix.\n")
    elif sys.stdin.isatty():
        return max((_make(top, each.commit, out, severity, cwd) for each in _ask(found)), default=0)
    else:  # without a subject beside a command: not every shell reads `#` as the beginning of a comment
        options = [] if severity == "medium" else ["--severity", severity]
        options += [] if out == cwd / FOLDER else ["--out", str(out)]
        lines = (shlex.join(["aethr", "eval", "--from-fix", each.commit[:12], *options]) for each in found)
        sys.stdout.write("\n" + "".join(f"{line}\n" for line in lines))
    return 0


def _make(top: Path, commit: str, out: Path, severity: Severity, cwd: Path) -> int:
    """Make one of several cases: if this one cannot be made, the others can."""
    try:
        _report(from_fix(top, commit, out, severity), cwd)
    except UsageError as error:
        sys.stdout.write(f"Not made: {one_line(str(error))}\n")
        return int(error.exit_code)
    return 0


def _report(made: Made, cwd: Path) -> None:
    inside = made.folder.is_relative_to(cwd)
    where = one_line(str(made.folder.relative_to(cwd) if inside else made.folder), 500)
    lines = [
        f"Made {where}: {one_line(made.place, 500)}",
        *made.notes,
        f"Check the words in {where}/expect.yaml.",
    ]
    sys.stdout.write("\n  ".join(lines) + "\n")


def _ask(found: Sequence[ProposedFix]) -> list[ProposedFix]:
    """The proposals that the person at the terminal chooses. Raises ``UsageError`` for other answers."""
    sys.stdout.write("Which ones? (numbers such as 1,3-5, or all) ")
    sys.stdout.flush()
    chosen: dict[int, None] = {}
    for word in sys.stdin.readline().replace(",", " ").split():
        ends = _RANGE.fullmatch(f"1-{len(found)}" if word == "all" else word)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (0, 0)
        if not 1 <= first <= last <= len(found):
            raise UsageError(
                f"{one_line(word)}: not one of the numbers 1 to {len(found)}", "Write them as in 1,3-5."
            )
        chosen.update(dict.fromkeys(range(first, last + 1)))
    return [found[number - 1] for number in chosen]


_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
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
    r"\b(?:typos?|spelling|lint\w{0,4}|formatting|whitespace|mypy|ruff|changelog|docs?|docstrings?|ci)\b",
    re.IGNORECASE,
)
"""In a subject: what is fixed is no behaviour."""
_A_FEATURE = re.compile(
    r"^(?:\w{1,20}: )?(?:feat|add|support|allow|introduce|implement|refactor|rename|move|bump|update|drop)"
    r"|^(?:remove|deprecate)",
    re.IGNORECASE,
)


def propose(root: Path, text: str) -> tuple[ProposedFix, ...]:
    """The commits of the range ``A..B`` that may be bug fixes, the newest first. Merges are none.

    Raises ``UsageError`` for another text, ``GitError``.
    """
    base, dots, head = text.partition("..")
    if not dots or head.startswith("."):
        raise UsageError(f"--from-range: {one_line(text)!r} is not a range", "Write it as in v1.0..HEAD.")
    ends = [find_commit(root, "--from-range", name or "HEAD") for name in (base, head)]
    listed = history.commits(root, ends[1], [ends[0]], MOST_COMMITS, MESSAGE_BYTES)
    if listed is not None and listed.more:
        raise UsageError(
            f"--from-range: {one_line(text)} has more than {MOST_COMMITS:,} commits", "Name a shorter range."
        )
    newest = listed.newest if listed is not None else ()
    files = dict(history.touched(root, [each.id for each in newest]))
    found = []
    for each in newest:
        subject, _, body = each.message.decode("utf-8", "replace").strip().partition("\n")
        reasons = _reasons(subject, body, files.get(each.id, ()))
        if reasons:
            found.append(ProposedFix(each.id, subject.strip(), reasons))
    return tuple(found)


def _reasons(subject: str, body: str, files: Iterable[history.Touched]) -> tuple[str, ...]:
    """Why a commit may be a bug fix; none if it edits no source, or only what CI and reviewers read.

    What a feature says in its body is about other things, so only its subject counts.
    """
    names = {os.fsdecode(file.path): set(file.modes) <= {"100644", "100755"} for file in files}
    kinds = {
        (exclusion.importance(name), edited)
        for name, edited in names.items()
        if not exclusion.is_protected(name)
    }
    if (0, True) not in kinds or _NO_BUG.search(subject):
        return ()
    is_feature = _A_FEATURE.match(subject) is not None
    text = subject if is_feature else f"{subject}\n{body}"
    said = [reason for reason, sign in _SIGNS.items() if sign.search(text)]
    if not kinds.isdisjoint({(1, True), (1, False)}) and (said or not is_feature):
        said.append("changes a test with the code")
    return tuple(said)
