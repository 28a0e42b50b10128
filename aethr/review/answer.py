"""Reads one reviewer's answer: its status and its findings (pure).

The reader is tolerant of form and strict about meaning: a pass is what a person who reads the rendered
answer would call one. Anything less is not a verdict, and Aethr asks the reviewer once more.
"""

from __future__ import annotations

import functools
import re

from aethr.base.records import Finding, Review
from aethr.base.sanitize import one_line
from aethr.review import findings, thinking
from aethr.review.findings import Unread
from aethr.review.lines import Line
from aethr.review.places import Ground
from aethr.review.rendered import read_lines
from aethr.review.status import read_status, without_end_marks

NO_GROUND = Ground()
LONGEST = 2_000_000
"""In characters. Nobody reads a longer answer, so it counts as an answer without a verdict."""

_SILENT = "it has no findings and no status line"
_UNCLEAR = "its last word on the status is not plainly pass or revise"
_ONE_FENCE = re.compile(
    r"\s*(?P<fence>`{3,}|~{3,})[ \t]*(?:markdown|md|text|txt|plaintext)?[ \t]*\r?\n"
    r"(?P<inner>.*)\n[ \t]{0,3}(?P=fence)\s*",
    re.DOTALL | re.IGNORECASE,
)
"""An answer that is one code block."""
_EXAMPLE = re.compile("path/to/file.py:42|what is wrong and what would be right")


def parse(text: str, ground: Ground = NO_GROUND) -> Review:
    """Read one answer; the places of findings are checked against ``ground`` if it has a change.

    The status is ``none`` for an answer without a readable status and without findings, a pass with a
    condition or beside a severity that cannot be read, and findings that all point to missing files. A pass
    beside a high or medium finding is ``revise``, and so are findings without a status.
    """
    lines = _read_lines(text)
    read = list(dict.fromkeys(findings.read_findings(lines, ground)))
    found = tuple(each for each in read if isinstance(each, Finding))
    unread = next((each for each in read if isinstance(each, Unread)), None)
    gating = [each for each in found if each.severity != "low"]
    status, stated = read_status(lines)
    reason = None if status != "none" else _UNCLEAR if stated else _SILENT
    if status == "pass" and gating:
        status = "revise"
    elif status == "pass" and unread is not None:
        finding = one_line(" ".join(unread.text.split()), 80)
        status, reason = "none", f"the severity of a finding cannot be read: {finding}"
    elif status == "none" and found and (gating or not stated):
        status, reason = "revise", None
    elif status == "revise" and not found and _EXAMPLE.search(text):
        status, reason = "none", "it repeats the example of the instruction"
    if status == "revise" and gating and all(each.place == "nowhere" for each in gating):
        status, reason = "none", "its findings name files that are not there"
    unexplained = status == "revise" and (not gating or unread is not None)
    return Review(status, found, reason=reason, unexplained=unexplained)


def close_blocks(text: str) -> str:
    """An answer with its last open block closed, so that text appended to it is not part of that block."""
    probe = "Review status: revise"
    longest = max((match[0] for match in re.finditer(r"`{3,}|~{3,}", text)), key=len, default="")
    fences = ("```", "~~~", "`" * len(longest), "~" * len(longest))
    for end in ("", "-->", "</pre>", "</script>", "</style>", "</textarea>", "?>", "]]>", ">", *fences):
        ended = f"{text}\n{end}" if end else text
        lines = read_lines(f"{ended}\n\n{probe}")
        if lines and lines[-1].text == probe:
            return ended
    return text


@functools.lru_cache(maxsize=8)  # the loop, the gate and the reports read the same answer
def _read_lines(text: str) -> tuple[Line, ...]:
    if len(text) > LONGEST:
        return ()
    answer = without_end_marks(thinking.split(text).answer)
    match = _ONE_FENCE.fullmatch(answer)
    if match and not any(line.strip().startswith(match["fence"]) for line in match["inner"].split("\n")):
        answer = match["inner"]
    return read_lines(answer)
