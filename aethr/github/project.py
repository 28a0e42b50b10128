"""Which workflow reviews a change. Until the change is merged, its base branch decides that."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from aethr import context
from aethr.base.errors import UsageError
from aethr.base.records import Checkout, WorkflowSpec
from aethr.config import WORKFLOW_FILE, workflow_file
from aethr.config.presets import REVIEW
from aethr.context import paths
from aethr.git import tracking
from aethr.github.event import EventChange
from aethr.github.inputs import Inputs
from aethr.workflow import planning
from aethr.workflow.planning import Project

_FILES = ("100644", "100755")


class Found(NamedTuple):
    """A project, the exact text of its workflow (the checkpoint is bound to it), and notes for people."""

    project: Project
    content: str
    notes: tuple[str, ...] = ()


def find(inputs: Inputs, change: EventChange, here: Checkout) -> Found:
    """Find the workflow of this run. Raises ``ConfigError``, and ``UsageError`` for what is not allowed."""
    path, preset, cwd = inputs.run.config, inputs.run.preset, here.root
    if path and preset:
        raise UsageError("the inputs config and preset exclude each other", "Give one of them.")
    if preset:
        found = _open(cwd, None, preset)
    elif change.base is not None and change.proposed:
        side = "base" if inputs.config_from_base else "head"
        found = _find_in_commit(path, side, deciding_commit(inputs, change), here)
    elif path is None and planning.nearest(cwd) is None:
        found = _open(cwd, None, REVIEW, f"no {WORKFLOW_FILE} in this project: the preset {REVIEW} reviews")
    else:
        found = _open(cwd, path, None)
    if change.proposed:
        _refuse_programs(found.project.workflow, inputs)
    return found


def deciding_commit(inputs: Inputs, change: EventChange) -> str:
    """The commit whose workflow file reviews a change that is not merged yet."""
    return change.base if inputs.config_from_base and change.base is not None else change.head


def match_name(inputs: Inputs) -> Callable[[str], bool]:
    """Matches the paths of a commit that have the name of the workflow file."""
    name = posixpath.basename(inputs.run.config or WORKFLOW_FILE)
    return lambda path: posixpath.basename(path) == name


def match_sources(project: Project, top: Path) -> Callable[[str], bool]:
    """Matches the paths of a commit that the workflow's ``file:`` and ``glob:`` sources read."""
    folder = project.root.relative_to(top).as_posix()
    found = [context.find(source) for step in project.workflow.steps for source in step.context]
    files = {
        posixpath.normpath(posixpath.join(folder, argument)) for row, argument in found if row.name == "file"
    }
    patterns = [paths.pattern(argument) for row, argument in found if row.name == "glob"]

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
    if named.parts[:1] == ("..",) or not _is_plain(folder):
        raise UsageError(
            f"input working-directory: {inputs.working_directory[:200]!r} is not a folder of the workspace",
            "Name a folder of the repository that is not a link, and check it out before this step.",
        )
    return folder


def _is_plain(folder: Path) -> bool:
    """Whether this is a folder and its path has no link (or loop of links)."""
    return folder.is_dir() and folder.resolve() == folder


def _open(cwd: Path, path: str | None, preset: str | None, *notes: str) -> Found:
    project = planning.open_project(cwd, path, preset)
    return Found(project, "\n".join(project.workflow.lines), notes)


def _find_in_commit(path: str | None, side: str, commit: str, here: Checkout) -> Found:
    """Read it from git's objects: a link in a pull request's tree could lead to any file of the runner."""
    shown = f"the {side} commit {commit[:12]}"
    if path is None:  # the nearest first
        folders = planning.folders(here.root)
        names = [(folder / WORKFLOW_FILE).relative_to(here.top).as_posix() for folder in folders]
    else:
        names = [posixpath.normpath(posixpath.join(here.root.relative_to(here.top).as_posix(), path))]
        if posixpath.isabs(names[0]) or names[0].startswith(".."):
            raise UsageError(f"input config: {path[:200]!r} is not a file of the repository")
    for name in names:
        content = _read(here.top, commit, name)
        if content is None:
            continue
        spec = workflow_file.from_bytes(content, f"{name} (of {shown})", planning.vocabulary())
        root = (here.top / name).parent
        if not _is_plain(root):  # the change may have removed it, or turned it into a link
            raise UsageError(
                f"the folder of {name} is not in this checkout", "Was it removed by this change?"
            )
        return Found(Project(root, spec), "\n".join(spec.lines))
    if path is not None:
        raise UsageError(
            f"input config: no file {path[:200]!r} in {shown}",
            "The file of its base branch reviews a pull request; `config-from: head` takes its own.",
        )
    return _open(here.root, None, REVIEW, f"no {WORKFLOW_FILE} in {shown}: the preset {REVIEW} reviews")


def _read(top: Path, commit: str, name: str) -> bytes | None:
    """The content of a plain file of a commit; None for anything else."""
    entries = [entry for entry in tracking.entries(top, commit, name) if entry.path == os.fsencode(name)]
    if not entries or entries[0].mode not in _FILES:
        return None
    wanted = [(entries[0].id, tracking.sizes(top, [entries[0].id]).get(entries[0].id, 0))]
    return next(tracking.contents(top, wanted))


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
