"""The table of what can run a step. A new backend is one file and one row, an agent a row of ``AGENTS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aethr.agents import AGENTS, Agent
from aethr.base.records import Backend


class BackendRow(NamedTuple):
    """``build`` makes the backend from the environment; ``edits_tree`` says whether it changes files."""

    name: str
    help: str
    build: Callable[[Mapping[str, str]], Backend]
    edits_tree: bool


def _model(environ: Mapping[str, str]) -> Backend:
    from aethr.llm.model import ModelBackend
    from aethr.llm.routes import route

    return ModelBackend(environ, route(environ))


def _agent(agent: Agent) -> BackendRow:
    def build(environ: Mapping[str, str]) -> Backend:
        from aethr.agents.agent import AgentBackend

        return AgentBackend(agent, environ)

    return BackendRow(agent.name, f"the {agent.name} CLI edits the working tree", build, edits_tree=True)


_TABLE = (
    BackendRow("model", "a language model answers; nothing is edited", _model, edits_tree=False),
    *map(_agent, AGENTS.values()),
)

BACKENDS: Mapping[str, BackendRow] = {row.name: row for row in _TABLE}
