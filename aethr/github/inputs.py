"""The Action's inputs, typed, and the environment of its run: live or mock, whose key ``api-key`` is.

``action.yml`` maps inputs to environment variables. A composite action's inputs arrive as text, an empty one
as an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aethr.base.errors import UsageError
from aethr.base.options import RunOptions, from_environment
from aethr.base.providers import provider_of
from aethr.base.records import WorkflowSpec
from aethr.config.credentials import KEYS

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


def environment(inputs: Inputs, workflow: WorkflowSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """What the run gets to see, ``api-key`` under the name of its provider. Raises ``UsageError``.

    The Action is live, unless nothing demands a review and there is neither a key nor a model for one.
    """
    settings = {name: value for name, value in environ.items() if value or name not in KEYS}
    if inputs.api_key:
        settings[_variable(inputs, workflow, environ)] = inputs.api_key
    if not environ.get("AETHR_LIVE"):
        settings["AETHR_LIVE"] = "1" if _wants_live(inputs, settings) else "0"
    return settings


def secrets(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The providers' keys that this run has."""
    return tuple(sorted({value for name in KEYS if (value := settings.get(name, "").strip())}))


def _wants_live(inputs: Inputs, settings: Mapping[str, str]) -> bool:
    demanded = inputs.run.require_review or inputs.run.fail_on != "never"
    model = inputs.run.model or settings.get("AETHR_MODEL")
    return demanded or bool(model) or bool(secrets(settings))


def _variable(inputs: Inputs, workflow: WorkflowSpec, environ: Mapping[str, str]) -> str:
    override = inputs.run.model or environ.get("AETHR_MODEL")
    roles = {step.role for step in workflow.steps}
    names = [override] if override else [workflow.models[role].name for role in roles & set(workflow.models)]
    variables = sorted({keys[0] for name in names if (keys := _keys(name))})
    if len(variables) != 1:
        which = f"keys of {' and '.join(variables)}" if variables else "no key"
        raise UsageError(
            f"input api-key: the models of this workflow take {which}",
            "Pass each key under its own name with `env:`.",
        )
    return variables[0]


def _keys(model: str) -> tuple[str, ...]:
    try:
        provider = provider_of(model)
    except ValueError as error:
        raise UsageError(f"input model: {error}", "Name a model as provider:model.") from error
    return provider.keys if provider.needs_key else ()
