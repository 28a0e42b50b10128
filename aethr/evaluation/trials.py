"""A case with a known answer, and one run of a workflow over it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from aethr.base.records import Finding, Lines, Mode, RunOutcome, Severity, Totals


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
    message. ``sha256`` is that of the change, so that another one under the same name is noticed; empty if it
    is not known.
    """

    name: str
    folder: Path
    expected: tuple[Expected, ...] = ()
    message: str = ""
    tags: tuple[str, ...] = ()
    sha256: str = ""


class Renamed(NamedTuple):
    """A file that the change renames: its name in the base, and that in the version under review."""

    old: str
    new: str


class Trial(NamedTuple):
    """One run over a case, ``number`` 1 to that of ``--repeat``.

    ``findings`` has all of them, also those that a step dropped. ``excluded`` are the paths that rules
    excluded, ``missing`` those that no prompt had as a whole. ``error`` is what ended the run, in one line.
    ``renamed`` are the files that the change renames: a finding may name one as it was.
    """

    case: str
    number: int
    outcome: RunOutcome
    findings: tuple[Finding, ...] = ()
    excluded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    totals: Totals = Totals()
    error: str | None = None
    renamed: tuple[Renamed, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it says anything: a run that failed or gave no verdict does not."""
        return self.error is None and self.outcome != "not-reviewed"


class Basis(NamedTuple):
    """What an evaluation ran, and with what.

    ``aethr`` is the version, ``date`` the start in UTC as ISO 8601 has it. ``workflow`` is the name in the
    file and ``workflow_sha256`` the hash of the file; ``models`` are those that the steps name. Each case was
    to be run ``repeat`` times. ``seconds`` is how long all of it took.
    """

    aethr: str
    date: str
    workflow: str
    workflow_sha256: str
    models: tuple[str, ...]
    mode: Mode
    repeat: int
    seconds: float = 0.0


class Evaluation(NamedTuple):
    """All trials of some cases: what the record holds. Scores and figures follow from it."""

    about: Basis
    cases: tuple[Case, ...]
    trials: tuple[Trial, ...]
