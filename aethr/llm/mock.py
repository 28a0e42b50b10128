"""The mock backend: no model, no network; the same prompt gives the same answer.

Its answers have the shape that the step's role asks for, and say in their first line what they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Sequence

from aethr.records import NO_USAGE, Completion, Notice, Request, TextDelta
from aethr.words import path_line

FIRST_LINE = "Mock answer {digest}: no model was called."
PIECE = 24

_FILE = re.compile(r"^\+\+\+ (?:b/)?([^\t\n]+)", re.MULTILINE)
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)", re.MULTILINE)


class MockBackend:
    """Stands in for every backend in mock mode."""

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def complete(self, request: Request) -> Generator[TextDelta | Notice, None, Completion]:
        content = answer(request)
        for start in range(0, len(content), PIECE):
            yield TextDelta(content[start : start + PIECE])
        return Completion(
            content=content,
            model=request.model.name if request.model is not None else "mock",
            finish_reason="stop",
            usage=NO_USAGE,
            transport="mock",
        )


def answer(request: Request) -> str:
    """The whole mock answer; a function of the prompt and the step's role alone."""
    digest = hashlib.sha256(request.prompt.encode("utf-8", "replace")).hexdigest()[:12]
    first = FIRST_LINE.format(digest=digest)
    if request.reviewing:
        body = f"{_finding(request.prompt)}\n\nReview status: pass"
    elif request.role == "planner":
        body = (
            "1. Read the task and the context.\n2. Make the smallest change that does it.\n3. Run the tests."
        )
    else:
        body = f"Here a live model would answer as {request.role}."
    return f"{first}\n\n{body}\n"


def _finding(prompt: str) -> str:
    changed = _first_change(prompt)
    where = f" {changed} —" if changed else ""
    return f"- [low]{where} an example of a finding, made up by the mock."


def _first_change(prompt: str) -> str:
    """``path:line`` of the first changed file in a diff, as far as the prompt has one."""
    file = _FILE.search(prompt)
    if file is None or file.group(1).strip() == "/dev/null":
        return ""
    hunk = _HUNK.search(prompt, file.end())
    line = max(1, int(hunk.group(1))) if hunk is not None and len(hunk.group(1)) < 9 else 1
    return path_line(file.group(1).strip(), line)
