"""The Action's inputs, from the environment variables that ``action.yml`` maps them to, typed.

A composite action's inputs arrive as text, an empty one as an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aethr.errors import UsageError
from aethr.options import RunOptions, from_environment

PREFIX = "AETHR_ACTION_"
TASK = (
    "Review this change as if you had to approve it for the main branch. "
    "Report what it breaks or makes worse, and nothing else."
)
"""The task where a workflow gives none."""

_OF_RUN = ("config", "preset", "model", "fail_on", "require_review", "max_cost", "max_tokens")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,60}")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a workflow's ``with:`` says. ``run`` has those that mean what an option of ``aethr run`` means."""

    run: RunOptions
    comment: bool = True
    comment_key: str = "default"
    config_from_base: bool = True
    working_directory: str = "."
    allow_agents: bool = False
    allow_commands: bool = False
    allow_target: bool = False
    api_key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def read(environ: Mapping[str, str]) -> Inputs:
    """The inputs of this step. Raises ``UsageError`` that names the input."""
    given = {"task": TASK, **_run_options(environ)}
    return Inputs(
        run=RunOptions(**given),
        comment=_switch(environ, "comment", default=True),
        comment_key=_comment_key(environ),
        config_from_base=_choice(environ, "config-from", ("base", "head")) == "base",
        working_directory=_text(environ, "working-directory") or ".",
        allow_agents=_switch(environ, "allow-agents-on-pull-requests"),
        allow_commands=_switch(environ, "allow-commands-on-pull-requests"),
        allow_target=_switch(environ, "allow-pull-request-target"),
        api_key=_text(environ, "api-key"),
        token=environ.get("GITHUB_TOKEN", "").strip(),
    )


def variable(name: str) -> str:
    """The environment variable of an input that is no option of ``aethr run``."""
    return PREFIX + name.upper().replace("-", "_")


def _run_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """Only what is an input: nothing else of ``AETHR_RUN_…`` makes sense here."""
    given = {name: value for name, value in from_environment(environ).items() if name in _OF_RUN}
    task = _text(environ, "task")
    return {**given, "task": task} if task else given


def _text(environ: Mapping[str, str], name: str) -> str:
    return environ.get(variable(name), "").strip()


def _switch(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    value = _text(environ, name).lower()
    if value not in ("", "true", "false"):
        raise UsageError(f"input {name}: {value[:60]!r} is neither true nor false")
    return default if value == "" else value == "true"


def _choice(environ: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    value = _text(environ, name) or known[0]
    if value not in known:
        raise UsageError(f"input {name}: {value[:60]!r} is not one of {', '.join(known)}")
    return value


def _comment_key(environ: Mapping[str, str]) -> str:
    value = _text(environ, "comment-key") or "default"
    if _KEY.fullmatch(value) is None:
        raise UsageError(
            f"input comment-key: {value[:60]!r} is not a short name",
            "Use at most 60 letters, digits, dots, dashes and underscores.",
        )
    return value
