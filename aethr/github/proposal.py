"""What a pull request changes of the workflow that reviews pull requests: file, answers, guidance.

All of it is the text of whoever opened the pull request, and data: it is compared, and nothing of it runs,
is called, or decides anything. Only objects of git are read, no file of the runner.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from typing import NamedTuple

from aethr.base.errors import AethrError, ConfigError
from aethr.base.records import Survey, WorkflowSpec
from aethr.config import REVIEW_PRESET
from aethr.context.background import guidance_paths
from aethr.git import tracking
from aethr.git.fetch import Remote
from aethr.github import event, inputs
from aethr.github.event import EventChange
from aethr.github.inputs import Inputs
from aethr.workflow import difference, planning
from aethr.workflow.difference import Version


class Proposal(NamedTuple):
    """``files`` are those that the change edits. ``lines`` say what differs, or else ``failure`` why that is
    not known; it has the mistakes of a file, a line each.

    ``reviewer`` is the side whose workflow reviewed: the base or the head.
    """

    files: tuple[str, ...]
    reviewer: str
    lines: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()


def find(given: Inputs, change: EventChange, survey: Survey, remote: Remote) -> Proposal | None:
    """What a change that is not merged yet proposes; None if it edits neither the workflow nor guidance.

    The sides are the common commit and the head, so what the base has changed since is not part of it. Where
    one has no file, the preset that would review counts. Raises ``GitError``, ``UsageError``.
    """
    scope, here = survey.scope, survey.checkout
    if given.run.preset or not change.proposed or scope.base is None or scope.head is None:
        return None
    top, names = here.top, inputs.workflow_names(given.run.config, here)
    guiding = {each for name in names for each in guidance_paths(posixpath.dirname(name) or ".")}
    changed = {os.fsdecode(each) for each in tracking.changed_paths(top, scope.base, scope.head)}
    files = tuple(name for name in (*names, *sorted(guiding)) if name in changed)
    if not files:
        return None
    edited = not changed.isdisjoint(names)
    found = Proposal(files, "base" if inputs.deciding_commit(given, change) == change.base else "head")
    specs, guidance, root = list[WorkflowSpec | None](), list[Mapping[str, str]](), here.root
    try:
        for side, commit in (("base", scope.base), ("head", scope.head)):
            event.fetch_files(top, remote, commit, {*names, *guiding}.__contains__)
            project = inputs.read_from_commit(given.run.config, commit, f"{side} {commit[:12]}", here)
            if project is None and given.run.config is None:
                project = planning.open_project(here.root, None, REVIEW_PRESET)._replace(root=here.root)
            if project is not None:
                inputs.fetch_sources(project, survey, remote)
                root = project.root if inputs.is_plain(project.root) else root
            specs.append(project and project.workflow)
        folder = root.relative_to(top).as_posix()
        guidance += (difference.read_guidance(top, folder, each) for each in (scope.base, scope.head))
        before, after = map(Version, specs, guidance)
        found = found._replace(lines=difference.compare(before, after, root, survey).lines)
    except AethrError as error:
        mistakes = error.mistakes if isinstance(error, ConfigError) else (str(error),)
        found = found._replace(failure=mistakes)
    return found if edited or found.lines else None  # guidance alone counts only where it is read
