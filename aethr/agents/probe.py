"""What an agent that is installed here can do, learned from the agent itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from aethr.agents import Agent
from aethr.agents.environment import find_program
from aethr.errors import AgentError, ProcessError
from aethr.process import run
from aethr.sanitize import one_line

ROOT = Path("/")
"""Where an agent is asked: a folder that is nobody's project."""

PROBE_S = 60.0
"""Seconds for an agent to tell its version or its options: a first start may unpack files."""


class Installed(NamedTuple):
    """``program`` is its absolute path, ``options`` the long options that its help names."""

    program: str
    version: str
    options: frozenset[str]


def probe(agent: Agent, env: Mapping[str, str]) -> Installed:
    """Find the agent and ask for its version and options. Raises ``AgentError`` with the install hint."""
    program, unusable = find_program(agent.name, env)
    if program is None:
        problem = f"{unusable} is not executable" if unusable else "not found on PATH"
        raise AgentError(f"{agent.name}: {problem}", _hint(agent))
    said = _ask(agent, program, ("--version",), env)
    version = re.search(r"\d+\.\d+\.\d+\S*", said)
    if version is None:
        raise AgentError(f"{agent.name}: {program} tells no version: {one_line(said)!r}", _hint(agent))
    options = frozenset(re.findall(r"--[a-z][a-z-]+", _ask(agent, program, agent.help, env)))
    missing = [option for option in agent.needs if option not in options]
    if missing:
        raise AgentError(
            f"{agent.name} {version[0]} is too old: it has no {', '.join(missing)}", _hint(agent)
        )
    return Installed(program, version[0], options)


def skip_flag(agent: Agent, installed: Installed) -> str:
    """The option of this version that skips permission checks. Raises ``AgentError`` where it has none."""
    found = next((flag for flag in agent.skip_flags if flag in installed.options), None)
    if found is None:
        raise AgentError(
            f"{agent.name} {installed.version} has no option that skips permission checks", _hint(agent)
        )
    return found


def _ask(agent: Agent, program: str, args: tuple[str, ...], env: Mapping[str, str]) -> str:
    try:
        # Not in the project: OpenCode loads plugins of the tree even to print its help.
        done = run((program, *args), cwd=ROOT, env={**env, "PWD": str(ROOT)}, timeout_s=PROBE_S)
    except ProcessError as error:
        raise AgentError(str(error), _hint(agent)) from error
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    if done.code != 0:
        raise AgentError(
            f"{agent.name}: `{' '.join(args)}` failed (code {done.code}): {one_line(said.strip())}",
            _hint(agent),
        )
    return said


def _hint(agent: Agent) -> str:
    return f"Install or update it: {agent.install}"
