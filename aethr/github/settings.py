"""Under which environment a run of the Action is made: live or mock, and whose key ``api-key`` is (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from aethr.credentials import KEYS
from aethr.errors import UsageError
from aethr.github.inputs import Inputs
from aethr.providers import provider_of
from aethr.records import WorkflowSpec


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
