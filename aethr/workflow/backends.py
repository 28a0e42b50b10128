"""The table of backends, which run the steps. To add one, add a file and a row; an agent: see ``AGENTS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aethr.agents import AGENTS, Agent
from aethr.base.records import Backend


class BackendRow(NamedTuple):
    """``build`` makes the backend from the environment; ``edits_tree`` is True if it changes files."""

    name: str
    help: str
    build: Callable[[Mapping[str, str]], Backend]
    edits_tree: bool


def _build_model(environ: Mapping[str, str]) -> Backend:
    from aethr.llm.model import ModelBackend
    from aethr.llm.routes import route

    return ModelBackend(environ, route(environ))


def _make_row(agent: Agent) -> BackendRow:
    def build(environ: Mapping[str, str]) -> Backend:
        from aethr.agents.agent import AgentBackend

        return AgentBackend(agent, environ)

    return BackendRow(agent.name, f"the {agent.name} CLI edits the working tree", build, edits_tree=True)


_TABLE = (
    BackendRow("model", "a language model answers; nothing is edited", _build_model, edits_tree=False),
    *map(_make_row, AGENTS.values()),
)

BACKENDS: Mapping[str, BackendRow] = {row.name: row for row in _TABLE}
