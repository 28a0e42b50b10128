"""``aethr check``: is the workflow file valid, what does it do, what can it cost? And ``aethr schema``."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from aethr import git
from aethr.base import providers, sanitize
from aethr.base.errors import AethrError, ConfigError, UsageError
from aethr.base.options import RunOptions
from aethr.base.providers import PROVIDERS, split
from aethr.base.records import Checkout, Plan, Scope
from aethr.base.words import capped, suggest, terminal_width
from aethr.config import WORKFLOW_FILE, workflow_file
from aethr.git import history, tracking
from aethr.llm import catalog, routes, spending
from aethr.output.render import Output
from aethr.workflow import egress, overview, planning


def main(
    paths: Sequence[str],
    *,
    mermaid: bool = False,
    against: str | None = None,
    no_fallback: bool = False,
    today: datetime.date | None = None,
) -> int:
    """Print the map of each workflow file, or the project's. Raises ``ConfigError`` with all mistakes.

    With ``against``, a revision, print what has changed in the file since.
    """
    if against is not None and mermaid:
        raise UsageError("--against and --mermaid exclude each other", "Give one of them.")
    options, doubts = RunOptions(no_fallback=no_fallback), list[str]()
    mistakes: list[str] = []
    out = Output(sys.stdout)
    for path in paths or (None,):
        try:
            if against is not None:
                lines: Iterable[str] = _compare(path, against, options)
            else:
                project = planning.open_project(Path.cwd(), path, None)
                here = git.checkout_if_any(project.root)
                settings, warnings = _read_settings(project, here)
                plan = _plan(project, here, options, settings)
                lines = _draw(plan, settings, mermaid=mermaid)
                doubts = [*warnings, *_doubts(plan, settings, today or datetime.date.today())]
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        for line in lines:
            out.write(sanitize.terminal(line) + "\n")
        for doubt in doubts:
            sys.stderr.write(f"note: {sanitize.one_line(doubt)}\n")
    if mistakes:
        raise ConfigError(mistakes)
    return 0


def _read_settings(
    project: planning.Project, here: Checkout | None
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """The environment of a run, with what the project's ``.env`` adds, and why that is not read, if so."""
    if not os.path.lexists(project.root / ".env"):
        return os.environ, ()
    from aethr.run import load_dotenv  # it loads what a check without the file does not need

    dotenv = load_dotenv(project, here, os.environ)
    return {**dotenv.values, **os.environ}, dotenv.warnings


def _draw(plan: Plan, settings: Mapping[str, str], *, mermaid: bool) -> Iterable[str]:
    """The map or the chart. Raises ``ConfigError`` for a host that the file itself does not allow."""
    egress.require(plan.workflow, settings, elsewhere=bool(settings.get("AETHR_MODEL")), unset=False)
    if not mermaid:
        return overview.lines(plan, terminal_width(sys.stdout), settings)
    if lines := overview.flowchart(plan).splitlines():
        return lines
    raise UsageError(f"{plan.workflow.origin}: too many steps for a chart", "`aethr check` lists them.")


def _plan(
    project: planning.Project, here: Checkout | None, options: RunOptions, settings: Mapping[str, str]
) -> Plan:
    """The plan of a mock run of the present change: the check depends neither on keys nor on git."""
    agreed = planning.read_terms(options, {**settings, "AETHR_LIVE": "0"}, ())
    bound = planning.bind(project, agreed, {})
    survey = git.choose_scope(here) if here else None
    return planning.plan(bound, "", survey.scope if survey else Scope(), survey)


def _compare(path: str | None, revision: str, options: RunOptions) -> Sequence[str]:
    """What has changed in a workflow file, or in the project's own, since a revision.

    The file may be missing on one side. Raises ``ConfigError`` with the mistakes of both, ``UsageError``.
    """
    from aethr.workflow import difference  # the map does without it

    cwd = Path.cwd()
    paths = [Path(cwd, path)] if path else [folder / WORKFLOW_FILE for folder in planning.folders(cwd)]
    place = next(each for each in paths[0].parents if each.is_dir())
    here = git.checkout(place)
    if here is None:
        raise UsageError(
            f"--against {revision}: {place} is not in a git repository", "Name a file that is in a clone."
        )
    (tree,) = history.resolve(here.top, revision)
    if tree is None:
        raise UsageError(f"--against: {revision!r} is not a commit here", "Name a branch, a tag or a commit.")
    top = here.top.resolve()
    names = {each: os.path.relpath(each.parent.resolve() / each.name, top) for each in paths}
    there = [each for each in paths if tracking.plain_file(top, tree, names[each]) is not None]
    file = next(filter(os.path.lexists, paths), None) or next(iter(there), None)
    file = file or planning.find_file(cwd, path)
    vocabulary, mistakes = planning.vocabulary(), list[str]()
    old = new = None
    try:
        then = f"{names[file]} (at {revision})"
        old = workflow_file.load_from_commit(top, tree, names[file], then, vocabulary)
    except ConfigError as error:
        mistakes += error.mistakes
    try:
        if os.path.lexists(file) or file not in there:
            new = workflow_file.load(file, vocabulary)
    except ConfigError as error:
        mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    root = file.parent.resolve() if file.parent.is_dir() else top
    folder = root.relative_to(top).as_posix()
    found = difference.compare(
        difference.Version(old, difference.read_guidance(top, folder, tree)),
        difference.Version(new, difference.read_guidance(top, folder, None)),
        root,
        git.choose_scope(here),
        fallback=not options.no_fallback,
    )
    said = "what has changed" if found.lines else "nothing that a run rests on has changed"
    return [f"{names[file]}: {said} since {revision}", *(f"  {line}" for line in found.lines)]


def _doubts(plan: Plan, settings: Mapping[str, str], today: datetime.date) -> Iterator[str]:
    """What may go wrong with the models of a plan: they retire, lack a package, or settings do not fit."""
    known = {*PROVIDERS, *spending.priced_providers()}
    for name in dict.fromkeys(model.name for step in plan.steps for model in providers.called(step)):
        provider = split(name)[0]
        if provider not in known:
            yield f"{name}: the provider '{provider}' is not known here{suggest(provider, sorted(known))}"
        if (package := routes.missing_package(name, settings)) is not None:
            yield f"{name}: the package {package.name} is not installed; run `{package.command}`"
        if (retirement := spending.retirement(name, today)) is not None:
            yield retirement
    called = [model for step in plan.steps if not step.edits_tree for model in providers.called(step)]
    yield from catalog.find_doubts(called, settings)
    yield from _settings_without_effect(plan)
    yield from _answers_in_doubt(plan)


def _settings_without_effect(plan: Plan) -> Iterator[str]:
    """What agents do not get of their models' settings: they make their own requests."""
    for step in plan.steps:
        if step.edits_tree and step.model is not None:
            names = ("reasoning_effort", "options", "fallback")
            given = [name for name in names if getattr(step.model, name)]
            if given:
                yield f"step '{step.spec.id}': {step.spec.backend} does not get {capped(given)} of its model"


def _answers_in_doubt(plan: Plan) -> Iterator[str]:
    """Answers whose file or lines are gone, and those that another one includes.

    Whether one still covers a finding only a review can tell.
    """
    given = plan.workflow.answers
    if not given:
        return
    from aethr.review.answered import find_repeated

    lines = [plan.workflow.places[f"answers.{number}"].line for number in range(len(given))]
    for number, each in enumerate(given):
        if all(map(plan.is_gone, each.every_id)):
            where = f"{plan.workflow.origin}:{lines[number]}: the answer {each.id}"
            yield f"{where}: no file has its path any more; it only covers the same code in a renamed file"
        elif all(_has_lost_its_lines(plan, place) for place in each.every_id):
            where = f"{plan.workflow.origin}:{lines[number]}: the answer {each.id}"
            yield f"{where}: its lines are not there any more; it only covers lines that a change removes"
    for number, other in find_repeated(given):
        where = f"{plan.workflow.origin}:{lines[number]}: the answer {given[number].id}"
        yield f"{where} says no more than the one on line {lines[other]}"


def _has_lost_its_lines(plan: Plan, place: str) -> bool:
    """Whether no file with the path of this id has its lines any more."""
    from aethr.base.records import NamedFile
    from aethr.git import tracking
    from aethr.review import identity
    from aethr.review.answered import path_digits

    if plan.survey is None or not identity.has_code(place):
        return False
    digits = place[: identity.PATH_DIGITS]
    try:
        names = tracking.files(plan.survey.top, lambda name: path_digits(name) == digits) or ()
        asked = [NamedFile(name, from_top=True, on_disk=True) for name in names]
        read = [identity.read_code(each.lines) for each in plan.read_files(asked)]
    except AethrError:  # then nothing is known about it
        return False
    return bool(read) and not any(identity.has_lines(code, place) for code in read)


def print_schema() -> int:
    """Print the JSON Schema of the workflow file."""
    sys.stdout.write(json.dumps(workflow_file.json_schema(planning.vocabulary()), indent=2) + "\n")
    return 0
