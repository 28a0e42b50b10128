"""A case with a known answer, and one run of a workflow over it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from aethr.base.records import Finding, Lines, RunOutcome, Severity, Totals


class Where(NamedTuple):
    """Lines of a file in the version under review. ``lines`` None: anywhere in it."""

    path: str
    lines: Lines | None = None


class Expected(NamedTuple):
    """A defect that a review of the case should find.

    ``places`` are where a reviewer may rightly report it; the first is the defect's own. A report has to say
    at least one of ``words``. ``why`` is for people only.
    """

    severity: Severity
    places: tuple[Where, ...]
    words: tuple[str, ...]
    why: str = ""


class Case(NamedTuple):
    """A folder with ``base/``, ``head/`` or ``change.patch``, and ``expect.yaml``.

    Without ``expected`` the change is clean. ``name`` is the folder's; ``message`` is the change's commit
    message.
    """

    name: str
    folder: Path
    expected: tuple[Expected, ...] = ()
    message: str = ""
    tags: tuple[str, ...] = ()


class Trial(NamedTuple):
    """One run over a case, ``number`` 1 to that of ``--repeat``.

    ``findings`` has all of them, also those that a step dropped. ``excluded`` are the paths that rules
    excluded, ``missing`` those that no prompt had as a whole. ``error`` is what ended the run, in one line.
    """

    case: str
    number: int
    outcome: RunOutcome
    findings: tuple[Finding, ...] = ()
    excluded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    totals: Totals = Totals()
    error: str | None = None
