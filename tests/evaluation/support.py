"""Cases and trials that tests of an evaluation are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aethr.base.records import Check, Finding, Lines, Quote, Severity
from aethr.evaluation.trials import Case, Expected, Trial, Where

PATH = "app/pages.py"
PLACE = Where(PATH, Lines(12, 14))
DEFECT = Expected("high", (PLACE,), ("off by one", "race"))
CASE = Case("last-page", Path(), (DEFECT,))
CLEAN = Case("tempting", Path())
DROPPED = Check("verify", "the loop ends before", Quote("x = 1", "git_diff", PATH, 12, 12))


def finding(
    message: str = "An off-by-one in the loop.",
    line: int | None = 13,
    severity: Severity = "high",
    path: str | None = PATH,
    **more: Any,
) -> Finding:
    return Finding(severity, path, line, message, by=("review",), **more)


def trial(*findings: Finding, case: str = CASE.name, **more: Any) -> Trial:
    return Trial(**{"case": case, "number": 1, "outcome": "revise", "findings": findings, **more})
