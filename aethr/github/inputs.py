"""The Action's inputs, typed, and what they choose: the workflow, live or mock, and whose key ``api-key`` is.

``action.yml`` maps inputs to environment variables. They are text, and a missing one is an empty text. Until
a change is merged, its base branch decides which workflow reviews it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aethr import context
from aethr.base.errors import UsageError
from aethr.base.options import RunOptions, from_environment
from aethr.base.providers import provider_of
from aethr.base.records import Checkout, Survey, WorkflowSpec
from aethr.config import REVIEW_PRESET, WORKFLOW_FILE, workflow_file
from aethr.config.credentials import KEYS
from aethr.context import paths
from aethr.context.background import guidance_paths
from aethr.context.files import split_base
from aethr.git.fetch import Remote
from aethr.github import event, pull
from aethr.github.event import EventChange
from aethr.workflow import planning
from aethr.workflow.planning import Project

PREFIX = "AETHR_ACTION_"
TASK = (
    "Review this change as if you had to approve it for the main branch. "
    "Report what it breaks or makes worse, and nothing else."
)
"""The default of the input ``task``."""
MAX_INLINE = 15
"""The default of the input ``max-inline``. GitHub often fails on a review with more than thirty comments
(https://github.com/src-d/lookout/issues/264)."""

_OF_RUN = (
    "config", "preset", "model", "fail_on", "require_review", "shard", "max_cost", "max_tokens", "jobs",
    "fresh", "no_fallback",
)  # fmt: skip
_KEY = re.compile(r"[A-Za-z0-9._-]{1,60}")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The ``with:`` of a workflow. ``run`` has the inputs that are options of ``aethr run`` too.

    ``max_inline`` is how many findings stand beside their lines at most, None without ``comment: inline``.
    """

    run: RunOptions
    comment: bool = True
    max_inline: int | None = None
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
    inline = _text(environ, "comment").lower() == "inline"
    max_inline = _text(environ, "max-inline") or str(MAX_INLINE)
    if re.fullmatch(r"[1-9][0-9]?|100", max_inline) is None:
        raise UsageError(f"input max-inline: {max_inline[:60]!r} is not a number from 1 to 100")
    if given.get("shard") and given.get("fail_on", "never") != "never":
        raise UsageError("input fail-on: a shard has no gate", "Give it to aethr/action/merge.")
    return Inputs(
        run=RunOptions(**given, task=_text(environ, "task") or TASK),
        comment=inline or _switch(environ, "comment", default=True, other=", nor inline"),
        max_inline=int(max_inline) if inline else None,
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


def _switch(environ: Mapping[str, str], name: str, *, default: bool = False, other: str = "") -> bool:
    value = _text(environ, name).lower()
    if value not in ("", "true", "false"):
        raise UsageError(f"input {name}: {value[:60]!r} is neither true nor false{other}")
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
        has_key = any(settings.get(name, "").strip() for name in KEYS)
        live = required or inputs.run.model or settings.get("AETHR_MODEL") or has_key
        settings["AETHR_LIVE"] = "1" if live else "0"
    return settings


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


class Found(NamedTuple):
    """A project, the text of its workflow that the checkpoint is bound to, and notes for people.

    That text has no answers: a result does not rest on them.
    """

    project: Project
    content: str
    notes: tuple[str, ...] = ()


def find_project(inputs: Inputs, change: EventChange, here: Checkout) -> Found:
    """Find the workflow of this run. Raises ``ConfigError``, and ``UsageError`` for what is not allowed."""
    path, preset, cwd = inputs.run.config, inputs.run.preset, here.root
    if path and preset:
        raise UsageError("the inputs config and preset exclude each other", "Give one of them.")
    if preset:
        found = _open(cwd, None, preset)
    elif change.base is not None and change.proposed:
        commit = deciding_commit(inputs, change)
        found = _find_in_commit(path, "base" if commit == change.base else "head", commit, here)
    elif path is None and planning.nearest(cwd) is None:
        found = _open(
            cwd,
            None,
            REVIEW_PRESET,
            f"no {WORKFLOW_FILE} in this project: the preset {REVIEW_PRESET} reviews",
        )
    else:
        found = _open(cwd, path, None)
    if change.commits_only:
        pull.refuse_programs(found.project.workflow)
    elif change.proposed:
        _refuse_programs(found.project.workflow, inputs)
    return found


def deciding_commit(inputs: Inputs, change: EventChange) -> str:
    """The commit whose workflow file reviews a change that is not merged yet."""
    from_base = inputs.config_from_base or change.commits_only
    return change.base if from_base and change.base is not None else change.head


def match_name(inputs: Inputs) -> Callable[[str], bool]:
    """Matches the paths of a commit that have the name of the workflow file."""
    name = posixpath.basename(inputs.run.config or WORKFLOW_FILE)
    return lambda path: posixpath.basename(path) == name


def fetch_sources(project: Project, survey: Survey, remote: Remote) -> None:
    """Fetch the files that the workflow's sources read and a partial clone lacks. Raises ``GitError``."""
    top, scope = survey.checkout.top, survey.scope
    for commit, on_base in ((scope.head, False), (scope.base_side, True)):
        if commit is not None:
            event.fetch_files(top, remote, commit, _match_sources(project, top, on_base=on_base))


def _match_sources(project: Project, top: Path, *, on_base: bool) -> Callable[[str], bool]:
    """Matches the paths of a commit that the workflow's sources read: of the head, or of the base side."""
    folder = project.root.relative_to(top).as_posix()
    found = [context.find(source) for step in project.workflow.steps for source in step.context]
    named = [split_base(argument) for row, argument in found if row.name == "file"]
    files = {posixpath.normpath(posixpath.join(folder, path)) for path, base in named if base is on_base}
    if on_base and any(row.name == "guidance" for row, _ in found):
        files |= {*guidance_paths(folder)}
    patterns = [paths.pattern(argument) for row, argument in found if row.name == "glob" and not on_base]

    def reads(path: str) -> bool:
        inside = posixpath.relpath(path, folder)
        return path in files or any(pattern.fullmatch(inside) for pattern in patterns)

    return reads


def working_directory(inputs: Inputs, workspace: Path) -> Path:
    """The project's folder in the workspace. Raises ``UsageError``.

    A link anywhere in its path is refused: with one, a change could choose another project's workflow.
    """
    named = Path(os.path.relpath(workspace / inputs.working_directory, workspace))
    folder = workspace.resolve() / named
    if named.parts[:1] == ("..",) or not is_plain(folder):
        raise UsageError(
            f"input working-directory: {inputs.working_directory[:200]!r} is not a folder of the workspace",
            "Name a folder of the repository that is not a link, and check it out before this step.",
        )
    return folder


def is_plain(folder: Path) -> bool:
    """Whether this is a folder and its path has no link (or loop of links)."""
    return folder.is_dir() and folder.resolve() == folder


def _open(cwd: Path, path: str | None, preset: str | None, *notes: str) -> Found:
    project = planning.open_project(cwd, path, preset)
    return Found(project, _bound_text(project.workflow), notes)


def _bound_text(spec: WorkflowSpec) -> str:
    return workflow_file.text(spec._replace(answers=(), answers_by_author=False, lines=()))


def _find_in_commit(path: str | None, side: str, commit: str, here: Checkout) -> Found:
    shown = f"the {side} commit {commit[:12]}"
    read = read_from_commit(path, commit, shown, here)
    if read is not None:
        if not is_plain(read.root):  # the change may have removed it, or turned it into a link
            name = read.workflow.origin.partition(" (of ")[0]
            raise UsageError(
                f"the folder of {name} is not in this checkout", "Was it removed by this change?"
            )
        return Found(read, _bound_text(read.workflow))
    if path is not None:
        raise UsageError(
            f"input config: no file {path[:200]!r} in {shown}",
            "The file of its base branch reviews a pull request; `config-from: head` takes its own.",
        )
    return _open(
        here.root, None, REVIEW_PRESET, f"no {WORKFLOW_FILE} in {shown}: the preset {REVIEW_PRESET} reviews"
    )


def read_from_commit(path: str | None, commit: str, shown: str, here: Checkout) -> Project | None:
    """The project with the workflow file of a commit, which messages call ``shown``; None without one.

    Its folder need not be in the checkout. Raises ``ConfigError``, ``GitError``.
    """
    for name in workflow_names(path, here):
        origin = f"{name} (of {shown})"
        spec = workflow_file.load_from_commit(here.top, commit, name, origin, planning.vocabulary())
        if spec is not None:
            return Project((here.top / name).parent, spec)
    return None


def workflow_names(path: str | None, here: Checkout) -> list[str]:
    """Where the workflow file may be, from the repository's top, the nearest first. Raises ``UsageError``."""
    if path is None:
        folders = planning.folders(here.root)
        return [(folder / WORKFLOW_FILE).relative_to(here.top).as_posix() for folder in folders]
    name = posixpath.normpath(posixpath.join(here.root.relative_to(here.top).as_posix(), path))
    if posixpath.isabs(name) or name.startswith(".."):
        raise UsageError(f"input config: {path[:200]!r} is not a file of the repository")
    return [name]


def _refuse_programs(spec: WorkflowSpec, inputs: Inputs) -> None:
    for program in planning.programs(spec):
        if program.agent and not inputs.allow_agents:
            raise UsageError(
                f"{spec.origin}: the step '{program.step}' lets an agent work on the code of a pull request",
                "If you trust everybody who can open one, set `allow-agents-on-pull-requests: true`.",
            )
        if program.command and not inputs.allow_commands:
            raise UsageError(
                f"{spec.origin}: it runs `{program.command}` in the code of a pull request",
                "If you trust everybody who can open one, set `allow-commands-on-pull-requests: true`.",
            )
