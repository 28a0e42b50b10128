"""Where findings lie in a change: their path from the repository's top, and if the diff shows their line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from aethr import git
from aethr.context.diffs import Section, parse
from aethr.records import Finding, RunResult, Survey

_HUNK = re.compile(rb"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
MAX_HUNK_BYTES = 10_000_000
"""Of a larger hunk no line is known."""


class Shown(NamedTuple):
    """The lines of the new version that a diff shows, as ranges, by path from the repository's top."""

    ranges: Mapping[str, tuple[range, ...]]

    def holds(self, finding: Finding) -> bool:
        """Whether GitHub can show something beside this finding's line."""
        lines = self.ranges.get(finding.path or "", ())
        return finding.line is not None and any(finding.line in each for each in lines)


NONE = Shown({})


def shown(survey: Survey) -> Shown:
    """What the change of a range shows. Raises ``GitError``."""
    ranges: dict[str, list[range]] = {}
    path = ""
    for part in parse(git.diff(survey), MAX_HUNK_BYTES):
        if isinstance(part, Section):
            path = os.fsdecode(part.path)
            ranges.setdefault(path, [])
        elif part.text is not None and (match := _HUNK.match(part.text)):
            start, count = int(match[1]), int(match[2] or 1)
            ranges[path].append(range(start, start + count))
    return Shown({name: tuple(found) for name, found in ranges.items()})


def placed(result: RunResult, prefix: str, known: Shown) -> RunResult:
    """The result with each finding's path as the repository's top has it.

    A reviewer sees paths from the top in a diff and from the project's folder elsewhere: the diff decides.
    """
    findings = tuple(
        each._replace(path=_from_top(each.path, prefix, known)) for each in result.review.findings
    )
    return result._replace(review=result.review._replace(findings=findings))


def annotated(result: RunResult, known: Shown) -> RunResult:
    """The result with only those findings whose line the diff shows."""
    findings = tuple(each for each in result.review.findings if known.holds(each))
    return result._replace(review=result.review._replace(findings=findings))


def _from_top(path: str | None, prefix: str, known: Shown) -> str | None:
    if not path or not prefix or path in known.ranges:
        return path
    return f"{prefix}/{path}"
