"""Folders of cases, and what a reviewer says about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support import Repo

CLEAN = "clean: true\n"
DEFECT = "findings:\n  - {file: app.py, lines: 2, severity: high, words: [off by one]}\n"
REVISE = "- [high] app.py:2 — off by one\n\nReview status: revise"
PASS = "Review status: pass"
BASE = {"app.py": "def total(prices):\n    return sum(prices)\n"}
WORKFLOW = """\
workflow: one
roles: {reviewer: "Review."}
models: {reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""
PAIR = """\
workflow: pair
roles: {thinker: "Think.", reviewer: "Review."}
models: {thinker: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: think, role: thinker, context: [git_diff]}
  - {id: review, role: reviewer, context: [git_diff]}
"""


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def make_case(
    folder: Path,
    expect: str = DEFECT,
    head: Mapping[str, str | bytes] | None = None,
    base: Mapping[str, str | bytes] = BASE,
) -> Path:
    """A case that adds its own name to the sum, so that a server can tell whose prompt arrives."""
    added = head or {"app.py": f"def total(prices):\n    return sum(prices) + {folder.name}\n"}
    write_files(folder / "base", base)
    write_files(folder / "head", {**base, **added})
    (folder / "expect.yaml").write_text(expect, encoding="utf-8")
    return folder


def make_cases(repo: Repo, *names: str, workflow: str = WORKFLOW) -> Path:
    """A project with a workflow, and a folder of cases beside it; every second one is clean."""
    repo.write(".aethr.yaml", workflow)
    folder = repo.root.parent / "cases"
    for number, name in enumerate(names):
        make_case(folder / name, CLEAN if number % 2 else DEFECT)
    return folder


def name_of(body: Mapping[str, Any]) -> str:
    """The case that the prompt in the body of a request is about."""
    found = re.search(r"sum\(prices\) \+ (\w+)", str(body))
    assert found, body
    return found[1]


def per_case(says: Mapping[str, str], otherwise: str = PASS) -> Callable[[dict[str, Any]], str]:
    """A server's script: an answer for each case."""
    return lambda body: says.get(name_of(body), otherwise)
