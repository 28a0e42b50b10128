"""Which hosts a run calls, model by model, and which of them its workflow does not name under ``hosts``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from aethr.base.errors import UsageError
from aethr.base.providers import chain
from aethr.base.records import ModelSpec, WorkflowSpec
from aethr.base.sanitize import one_line
from aethr.base.words import capped
from aethr.config import workflow_file
from aethr.llm.routes import Destination
from aethr.workflow.backends import BACKENDS, BackendRow


class Called(NamedTuple):
    """A model that a run may call, the place of its name in the file, and where one of its calls may go."""

    place: str
    model: str
    destination: Destination


def find_called(workflow: WorkflowSpec, environ: Mapping[str, str]) -> Iterator[Called]:
    """Every model of the steps, fallbacks too, in their order; an agent calls only its first one.

    A destination whose variable is not set, or is not an address, is unknown.
    """
    for role, backend in dict.fromkeys((step.role, step.backend) for step in workflow.steps):
        if (model := workflow.models.get(role)) is None:
            continue
        row = BACKENDS[backend]
        for number, each in enumerate((model,) if row.edits_tree else chain(model)):
            place = f"models.{role}.{'endpoint' if each.endpoint else 'model'}"
            if number:
                place = f"models.{role}.fallback.{number - 1}"
            for destination in _find_destinations(row, each, environ):
                yield Called(place, each.name, destination)


def _find_destinations(
    row: BackendRow, model: ModelSpec, environ: Mapping[str, str]
) -> Iterator[Destination]:
    if row.find_destinations is None:
        yield Destination(None, unknown=f"the backend {row.name} does not say where it calls")
        return
    try:
        yield from row.find_destinations(model, environ)
    except UsageError as error:
        yield Destination(None, model.endpoint or "", str(error).removeprefix(f"{model.name}: "))


def require(
    workflow: WorkflowSpec, environ: Mapping[str, str], *, elsewhere: bool = False, unset: bool = True
) -> None:
    """Raises ``ConfigError`` for each model that would be called at a host which ``hosts`` does not name.

    ``elsewhere`` says that the models are not those of the file. Without ``unset``, an endpoint whose
    variable is not set is no mistake.
    """
    if not workflow.hosts:
        return
    problems = [
        ("hosts" if elsewhere else called.place, problem + " (of --model or AETHR_MODEL)" * elsewhere)
        for called in find_called(workflow, environ)
        if (unset or called.destination.address or not called.destination.variable)
        and (problem := _find_problem(workflow, called, environ))
    ]
    if problems:
        raise workflow_file.refuse(workflow, problems)


def _find_problem(workflow: WorkflowSpec, called: Called, environ: Mapping[str, str]) -> str:
    """Why this model must not be called; empty if it may.

    A proxy reads what is sent without encryption, so it is a host that is called, too. Through any other one
    a tunnel leads, of which it sees the name.
    """
    from aethr.base import network  # only a file with hosts needs it

    address, variable, unknown = called.destination
    if address is None:
        return f"{called.model}: {unknown}" + ("" if variable else ", so `hosts` cannot allow it")
    hosts = network.Hosts.of(workflow.hosts)
    if not hosts.allow(address.scheme, address.hostname, address.port):
        by = f" ({variable})" if variable else ""
        return f"{called.model} calls {called.destination.host}{by}, which `hosts` does not name"
    proxy = network.proxies(environ).on_the_way_to(address) if address.scheme == "http" else None
    if proxy is not None and not hosts.allow(*proxy.place):
        sent = f"{called.model}: what goes to {called.destination.host} is not encrypted"
        return f"{sent}, and is read by {proxy.shown}, which `hosts` does not name"
    return ""


def describe(workflow: WorkflowSpec, environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each host, with the models that are called there: ``calls api.openai.com: NAME, …``."""
    models: dict[str, list[str]] = {}
    for each in find_called(workflow, environ):
        host, variable = each.destination.host, each.destination.variable
        where = one_line(host) + (f" ({variable})" if variable else "")
        if not host:
            unknown = f"a host that is not known here: {one_line(each.destination.unknown)}"
            where = f"the address in {variable}" if variable else unknown
        models.setdefault(where, []).append(one_line(each.model))
    for where, names in models.items():
        yield f"calls {where}: {capped(list(dict.fromkeys(names)))}"
