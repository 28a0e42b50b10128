"""The table of what can run a step. A new backend is one file and one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aethr.records import Backend


class BackendRow(NamedTuple):
    """``build`` makes the backend from the environment; ``edits_tree`` says whether it changes files."""

    name: str
    help: str
    build: Callable[[Mapping[str, str]], Backend]
    edits_tree: bool


def _model(environ: Mapping[str, str]) -> Backend:
    from aethr.llm.backend import ModelBackend
    from aethr.llm.routes import route

    return ModelBackend(environ, route(environ))


def _opencode(environ: Mapping[str, str]) -> Backend:
    from aethr.agents import build_opencode

    return build_opencode(environ)


def _claude(environ: Mapping[str, str]) -> Backend:
    from aethr.agents import build_claude

    return build_claude(environ)


def _codex(environ: Mapping[str, str]) -> Backend:
    from aethr.agents import build_codex

    return build_codex(environ)


_TABLE = (
    BackendRow("model", "a language model answers; nothing is edited", _model, edits_tree=False),
    BackendRow("opencode", "the opencode CLI edits the working tree", _opencode, edits_tree=True),
    BackendRow("claude", "the claude CLI edits the working tree", _claude, edits_tree=True),
    BackendRow("codex", "the codex CLI edits the working tree", _codex, edits_tree=True),
)

BACKENDS: Mapping[str, BackendRow] = {row.name: row for row in _TABLE}
