"""Which workflow a change is reviewed by. Before it is merged the base branch decides it, not the change."""

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
from aethr.git import objects
from aethr.github.event import Change
from aethr.github.inputs import Inputs
from aethr.workflow import planning
from aethr.workflow.planning import Project

_FILES = ("100644", "100755")


class Found(NamedTuple):
    """A project, a text that says exactly which workflow it has (for the checkpoint), and what to tell."""

    project: Project
    content: str
    notes: tuple[str, ...] = ()


def find(inputs: Inputs, change: Change, here: Checkout) -> Found:
    """The workflow of this run. Raises ``ConfigError``, and ``UsageError`` for what is not allowed."""
    found = _find(inputs, change, here)
    if change.proposed:
        _refuse_unasked(found.project.workflow, inputs)
    return found


def deciding(inputs: Inputs, change: Change) -> str:
    """The commit whose workflow file reviews a change that is proposed."""
    return change.base if inputs.config_from_base and change.base is not None else change.head


def named(inputs: Inputs) -> Callable[[str], bool]:
    """Which paths of a commit may be the workflow file, as far as their names say."""
    name = posixpath.basename(inputs.run.config or WORKFLOW_FILE)
    return lambda path: posixpath.basename(path) == name


def read_by(project: Project, top: Path) -> Callable[[str], bool]:
    """Which paths of a commit the workflow's steps read, besides the change."""
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
    """The folder to work in, inside of the workspace. Raises ``UsageError``.

    A link on the way there is refused: with one, a change could choose another project's workflow.
    """
    named = Path(os.path.relpath(workspace / inputs.working_directory, workspace))
    folder = workspace.resolve() / named
    if named.parts[:1] == ("..",) or not _is_plain(folder):
        raise UsageError(
            f"input working-directory: {inputs.working_directory[:200]!r} is no folder of the workspace",
            "Name a folder of the repository that is no link, and check the repository out before this step.",
        )
    return folder


def _is_plain(folder: Path) -> bool:
    """Whether this is a folder, and no link (or loop of links) leads there."""
    return folder.is_dir() and folder.resolve() == folder


def _find(inputs: Inputs, change: Change, here: Checkout) -> Found:
    path, preset, cwd = inputs.run.config, inputs.run.preset, here.root
    if path and preset:
        raise UsageError("the inputs config and preset exclude each other", "Give one of them.")
    if preset:
        return _preset(preset, cwd)
    if change.base is not None and change.proposed:
        side = "base" if inputs.config_from_base else "head"
        return _from_commit(path, side, deciding(inputs, change), here)
    if path is None and planning.nearest(cwd) is None:
        return _preset(REVIEW, cwd, f"no {WORKFLOW_FILE} in this project: the preset {REVIEW} reviews")
    project = planning.open_project(cwd, path, None)
    return Found(project, "\n".join(project.workflow.lines))


def _preset(name: str, cwd: Path, *notes: str) -> Found:
    project = planning.open_project(cwd, None, name)
    return Found(project, "\n".join(project.workflow.lines), notes)


def _from_commit(path: str | None, side: str, commit: str, here: Checkout) -> Found:
    """From git's objects: a link in the tree of a pull request could lead to any file of the runner."""
    shown = f"the {side} commit {commit[:12]}"
    for name in _candidates(path, here):
        content = _content(here.top, commit, name)
        if content is not None:
            spec = workflow_file.from_bytes(content, f"{name} (of {shown})", planning.vocabulary())
            return Found(Project(_root(here.top, name), spec), "\n".join(spec.lines))
    if path is not None:
        raise UsageError(
            f"input config: no file {path[:200]!r} in {shown}",
            "A pull request is reviewed by the file of its base branch; `config-from: head` takes its own.",
        )
    return _preset(REVIEW, here.root, f"no {WORKFLOW_FILE} in {shown}: the preset {REVIEW} reviews")


def _candidates(path: str | None, here: Checkout) -> tuple[str, ...]:
    """Names relative to the top folder, the nearest first."""
    if path is None:
        files = (folder / WORKFLOW_FILE for folder in planning.folders(here.root))
        return tuple(file.relative_to(here.top).as_posix() for file in files)
    name = posixpath.normpath(posixpath.join(here.root.relative_to(here.top).as_posix(), path))
    if posixpath.isabs(name) or name.startswith(".."):
        raise UsageError(f"input config: {path[:200]!r} is no file of the repository")
    return (name,)


def _content(top: Path, commit: str, name: str) -> bytes | None:
    entries = [entry for entry in objects.tree_entries(top, commit, name) if entry.path == os.fsencode(name)]
    if not entries or entries[0].mode not in _FILES:
        return None
    wanted = [(entries[0].id, objects.sizes(top, [entries[0].id]).get(entries[0].id, 0))]
    return next(objects.contents(top, wanted))


def _root(top: Path, name: str) -> Path:
    """The project's folder in the checkout, which the change may have removed or turned into a link."""
    root = (top / name).parent
    if not _is_plain(root):
        raise UsageError(f"the folder of {name} is not in this checkout", "Was it removed by this change?")
    return root


def _refuse_unasked(spec: WorkflowSpec, inputs: Inputs) -> None:
    for program in planning.programs(spec):
        if program.agent and not inputs.allow_agents:
            raise UsageError(
                f"{spec.origin}: the step '{program.step}' lets an agent work on the code of a pull request",
                "If you trust everybody who can open one: `allow-agents-on-pull-requests: true`.",
            )
        if program.command and not inputs.allow_commands:
            raise UsageError(
                f"{spec.origin}: it runs `{program.command}` in the code of a pull request",
                "If you trust everybody who can open one: `allow-commands-on-pull-requests: true`.",
            )
