"""``aethr check``: is the workflow file right, what does it do, what will it cost? And ``aethr schema``."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from aethr import engine
from aethr.base import sanitize
from aethr.base.errors import ConfigError, UsageError
from aethr.base.options import RunOptions
from aethr.base.providers import PROVIDERS, split
from aethr.base.records import Plan, Scope
from aethr.base.words import suggest
from aethr.config import workflow_file
from aethr.llm import prices
from aethr.output import columns
from aethr.output.render import Output
from aethr.workflow import overview, planning, terms
from aethr.workflow.overview import Overview


def main(paths: Sequence[str], *, mermaid: bool = False, today: datetime.date | None = None) -> int:
    """Print the map of each workflow file. Raises ``ConfigError`` with the mistakes of all of them."""
    today = today or datetime.date.today()
    mistakes: list[str] = []
    out = Output(sys.stdout)
    for path in paths or (None,):
        try:
            plan = _plan(path)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        for line in _flowchart(plan) if mermaid else _map(plan):
            out.write(sanitize.terminal(line) + "\n")
        for doubt in _doubts(plan, today):
            sys.stderr.write(f"note: {sanitize.one_line(doubt)}\n")
    if mistakes:
        raise ConfigError(mistakes)
    return 0


def _plan(path: str | None) -> Plan:
    """The plan of a mock run: what is checked does not depend on keys, or on whether git is there."""
    project = planning.open_project(Path.cwd(), path, None)
    agreed = terms.read(RunOptions(), {**os.environ, "AETHR_LIVE": "0"}, ())
    return planning.plan(planning.bind(project, agreed, {}), "", Scope())


def _map(plan: Plan) -> Iterator[str]:
    return overview.lines(Overview.of(plan, list(engine.preview(plan))), columns.width(sys.stdout))


def _flowchart(plan: Plan) -> Sequence[str]:
    chart = overview.flowchart(plan)
    if not chart:
        raise UsageError(f"{plan.workflow.origin}: too many steps for a chart", "`aethr check` lists them.")
    return chart.splitlines()


def _doubts(plan: Plan, today: datetime.date) -> Iterator[str]:
    """Models that retire soon, and those of a provider that neither Aethr nor LiteLLM's prices know."""
    known = {*PROVIDERS, *prices.providers()}
    for name in dict.fromkeys(step.model.name for step in plan.steps if step.model):
        provider = split(name)[0]
        if provider not in known:
            yield f"{name}: no provider '{provider}' is known here{suggest(provider, sorted(known))}"
        if (retirement := prices.retirement(name, today)) is not None:
            yield retirement


def print_schema() -> int:
    """Print the JSON Schema of the workflow file."""
    sys.stdout.write(json.dumps(workflow_file.json_schema(planning.vocabulary()), indent=2) + "\n")
    return 0
