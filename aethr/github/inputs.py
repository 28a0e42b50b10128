"""The Action's inputs, typed, and the environment of its run: live or mock, and whose key ``api-key`` is.

``action.yml`` maps inputs to environment variables. They are text, and a missing one is an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

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
"""The default of the input ``task``."""

_OF_RUN = ("config", "preset", "model", "fail_on", "require_review", "max_cost", "max_tokens")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,60}")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The ``with:`` of a workflow. ``run`` has the inputs that are options of ``aethr run`` too."""

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
    """Read the inputs of this step. Raises ``UsageError`` that names the input."""
    # Any other AETHR_RUN_… is an option that is not an input.
    given = {name: value for name, value in from_environment(environ).items() if name in _OF_RUN}
    side = _text(environ, "config-from") or "base"
    if side not in ("base", "head"):
        raise UsageError(f"input config-from: {side[:60]!r} is not one of base, head")
    key = _text(environ, "comment-key") or "default"
    if _KEY.fullmatch(key) is None:
        raise UsageError(
            f"input comment-key: {key[:60]!r} is not a short name",
            "Use at most 60 letters, digits, dots, dashes and underscores.",
        )
    return Inputs(
        run=RunOptions(**given, task=_text(environ, "task") or TASK),
        comment=_switch(environ, "comment", default=True),
        comment_key=key,
        config_from_base=side == "base",
        working_directory=_text(environ, "working-directory") or ".",
        allow_agents=_switch(environ, "allow-agents-on-pull-requests"),
        allow_commands=_switch(environ, "allow-commands-on-pull-requests"),
        allow_target=_switch(environ, "allow-pull-request-target"),
        api_key=_text(environ, "api-key"),
        token=environ.get("GITHUB_TOKEN", "").strip(),
    )


def variable(name: str) -> str:
    """The environment variable of an input that is not an option of ``aethr run``."""
    return PREFIX + name.upper().replace("-", "_")


def _text(environ: Mapping[str, str], name: str) -> str:
    return environ.get(variable(name), "").strip()


def _switch(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    value = _text(environ, name).lower()
    if value not in ("", "true", "false"):
        raise UsageError(f"input {name}: {value[:60]!r} is neither true nor false")
    return default if value == "" else value == "true"


def environment(inputs: Inputs, workflow: WorkflowSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the run, with ``api-key`` under its provider's name. Raises ``UsageError``.

    Models are called if a review or a gate is required, or if there is a key or a model; else it is a mock.
    """
    settings = {name: value for name, value in environ.items() if value or name not in KEYS}
    if inputs.api_key:
        settings[_key_variable(inputs, workflow, environ)] = inputs.api_key
    if not environ.get("AETHR_LIVE"):
        required = inputs.run.require_review or inputs.run.fail_on != "never"
        live = required or inputs.run.model or settings.get("AETHR_MODEL") or secrets(settings)
        settings["AETHR_LIVE"] = "1" if live else "0"
    return settings


def secrets(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the providers' keys that this run has."""
    return tuple(sorted({value for name in KEYS if (value := settings.get(name, "").strip())}))


def _key_variable(inputs: Inputs, workflow: WorkflowSpec, environ: Mapping[str, str]) -> str:
    override = inputs.run.model or environ.get("AETHR_MODEL")
    roles = {step.role for step in workflow.steps}
    names = [override] if override else [workflow.models[role].name for role in roles & set(workflow.models)]
    try:
        providers = [provider_of(name) for name in names]
    except ValueError as error:
        raise UsageError(f"input model: {error}", "Name a model as provider:model.") from error
    variables = sorted({each.keys[0] for each in providers if each.needs_key and each.keys})
    if len(variables) != 1:
        which = f"keys of {' and '.join(variables)}" if variables else "no key"
        raise UsageError(
            f"input api-key: the models of this workflow take {which}",
            "Pass each key under its own name with `env:`.",
        )
    return variables[0]
