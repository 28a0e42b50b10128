"""The hook: its options, which change a stage is about, which workflows it refuses, and what it reports.

pre-commit and prek describe a push to a hook in environment variables (``PRE_COMMIT_…``). When several refs
are pushed at once, they name only the first one with something new. The change is read from git's objects.

They show the report, a few plain lines, as a log. All untrusted text in it goes through ``sanitize`` here or
in ``output.wording``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aethr import git, review
from aethr.base import edge
from aethr.base.errors import MEANINGS, AethrError, DiskError, ExitCode, NotReviewedError, UsageError
from aethr.base.options import HOOK_OPTIONS, RunOptions, from_environment
from aethr.base.records import (
    CHANGE,
    RELIABLE,
    Checkout,
    Extent,
    Plan,
    Review,
    RunResult,
    RunStarted,
    Scope,
    StepResult,
    Survey,
    is_git_diff,
)
from aethr.base.sanitize import one_line
from aethr.base.words import capped, rest
from aethr.config import REVIEW_PRESET, WORKFLOW_FILE, workflow_file
from aethr.context import changes
from aethr.context.diffs import Hunk, Section
from aethr.context.exclusion import is_generated
from aethr.git import call, history
from aethr.output import wording
from aethr.run.one_off import REVIEW_TASK
from aethr.workflow import planning
from aethr.workflow.planning import Project

SHOWN = 50
"""Findings that are printed; a file of ``--report`` has all of them."""


class HookChange(NamedTuple):
    """``what`` is the scope in words, ``branch`` the branch (or tag) that is committed to or pushed."""

    scope: Scope
    checkout: Checkout
    what: str
    branch: str | None = None


class Measure(NamedTuple):
    """The size of a change. ``only`` names the kind of its files when all are of one kind.

    ``unreadable`` are those of its ``files`` that no model may see, ``listed`` the list of
    them all. ``survey`` saves reading a small change once more.
    """

    extent: Extent
    only: str = ""
    files: frozenset[bytes] = frozenset()
    unreadable: frozenset[bytes] = frozenset()
    listed: Section | None = None
    survey: Survey | None = None


class HookOptions(NamedTuple):
    """The options of ``aethr hook``. ``lenient`` passes without a complete review.

    ``bypass`` is the command that skips the review.
    """

    run: RunOptions
    lenient: bool
    bypass: str


class Report(NamedTuple):
    """The exit code, and the lines to print."""

    code: int
    lines: tuple[str, ...]


def read(given: Mapping[str, Any], environ: Mapping[str, str]) -> HookOptions:
    """Read the options from the command line and ``AETHR_RUN_…``. Raises ``UsageError``.

    A hook always requires a review; ``--if-not-reviewed`` changes only its exit code.
    """
    merged = {"fail_on": "revise", **from_environment(environ, HOOK_OPTIONS), **given}
    lenient = merged.pop("if_not_reviewed", "fail") == "pass"
    merged |= {"report": tuple(merged.get("report", ())), "require_review": True}
    return HookOptions(RunOptions(**merged), lenient, bypass_command(environ))


def bypass_command(environ: Mapping[str, str]) -> str:
    """The command that makes this commit or push without the hook."""
    pushing, ranged = "PRE_COMMIT_REMOTE_NAME" in environ, "PRE_COMMIT_TO_REF" in environ
    command = "git push" if pushing else "" if ranged else "git commit"
    if environ.get("PRE_COMMIT"):
        return f"SKIP=aethr-review {command}".rstrip()
    return f"{command or 'git commit'} --no-verify"


def find(root: Path, environ: Mapping[str, str]) -> HookChange | None:
    """The change of this stage; None for a ref that is deleted.

    It is the range that the environment names (on the first push to a remote, all that the remote does not
    have), or else what is staged. Raises ``GitError``, and ``UsageError`` for a folder or an index outside of
    the repository.
    """
    here = git.checkout(root)
    if here is None:
        raise UsageError(f"{root} is not in a git repository", "A hook reviews a commit or a push.")
    start, end = environ.get("PRE_COMMIT_FROM_REF", ""), environ.get("PRE_COMMIT_TO_REF", "")
    remote, pushed = environ.get("PRE_COMMIT_REMOTE_NAME", ""), environ.get("PRE_COMMIT_LOCAL_BRANCH", "")
    # git sets GIT_INDEX_FILE for the hooks of a commit only. Variables of a push are left over there.
    if environ.get("GIT_INDEX_FILE") or not (end or (remote and pushed)):
        return _find_staged(here)
    if end and _is_null(end):
        return None
    if _is_null(start):
        (head,) = history.commits_or_trees(root, end or pushed)
        base, tip = _find_first_base(root, remote, environ.get("PRE_COMMIT_REMOTE_BRANCH", ""), head)
    else:
        head, first = history.commits_or_trees(root, end or pushed, start)
        base, tip = _find_base(root, first, head), first
    kind, _, name = pushed.removeprefix("refs/").partition("/")
    branch = name if kind in ("heads", "tags") and name else here.branch
    what = f"{base[:12]}..{head[:12]}"
    if remote:
        what = f"the push of {one_line(branch or 'HEAD')} to {one_line(remote)}, {what}"
    else:
        what = f"the change {what}"
    scope = Scope("range", f"{base}..{head}", base, head, here.head, base_side=tip)
    return HookChange(scope, here, what, branch)


def moved(root: Path, found: HookChange) -> str | None:
    """Why the push is a different change now, if a ref moved. Raises as ``find`` does."""
    now = find(root, os.environ)
    same = now is not None and now.scope.text == found.scope.text
    return None if same else "a ref of the push moved"


def measure(survey: Survey) -> Measure:
    """Measure a change before any of it is sent. Raises ``GitError``."""
    sections: list[Section] = []
    kept: list[bytes] = []
    added = changed = 0
    listed, events = changes.read_change(survey, 0, kept)
    for part in events:
        if isinstance(part, Hunk):
            added, changed = added + part.added, changed + part.changed
        else:
            sections.append(part)
    binary = [each for each in sections if each.binary and not each.deleted]
    texts = changes.hidden_texts(survey, binary)
    opaque = [each for each in binary if each not in texts]
    secret = [each for each in sections if changes.holds_secrets(each)]
    kinds = {
        "only deletions": [each for each in sections if each.deleted],
        "only binary files": opaque,
        "only files that hold secrets": secret,
        "only generated files": [each for each in sections if is_generated(os.fsdecode(each.path))],
    }
    return Measure(
        Extent(len({each.path for each in sections}), added, changed - added),
        only=next((kind for kind, found in kinds.items() if len(found) == len(sections)), ""),
        files=frozenset(each.path for each in sections),
        unreadable=frozenset(each.path for each in (*opaque, *secret)),
        listed=listed,
        survey=survey._replace(listed_diff=b"".join(kept) or None),
    )


def is_readable(measure: Measure, survey: Survey, project: Project) -> bool:
    """Whether a model may see any file that no rule excludes, or none is left. Raises ``GitError``."""
    excluded = changes.excluded_files(measure.listed, survey, project.root, project.workflow.rules)
    rest = measure.files.difference(excluded)
    return not rest or not rest <= measure.unreadable


def choose_workflow(options: RunOptions, change: HookChange) -> tuple[RunOptions, Project]:
    """The options of a run of this change, and the project with its own workflow file or else the preset.

    Raises ``ConfigError`` for a workflow that edits the tree or runs commands, which must not happen in the
    middle of a commit, and ``NotReviewedError`` for one in which no step sees the change.
    """
    cwd = change.checkout.root
    named = options.config or options.preset or planning.nearest(cwd)
    run = options._replace(
        task=options.task or default_task(change), preset=options.preset if named else REVIEW_PRESET
    )
    project = planning.open_project(cwd, run.config, run.preset)
    spec = project.workflow
    problems = [
        (
            program.place,
            f"refused in a hook: '{program.agent}' edits the working tree"
            if program.agent
            else "refused in a hook: it runs a command of the project",
        )
        for program in planning.programs(spec)
    ]
    if problems:
        raise workflow_file.refuse(spec, problems)
    if not any(is_git_diff(source) for step in spec.steps for source in step.context):
        raise NotReviewedError(
            f"{spec.origin}: no step sees the change", f"Give the reviewing step the context '{CHANGE}'."
        )
    return run, project


def default_task(change: HookChange) -> str:
    """The task of a hook without ``--task``, with the branch."""
    said = REVIEW_TASK.format(verb="committed" if change.scope.kind == "staged" else "pushed")
    return said + (f"\nBranch: {one_line(change.branch)}" if change.branch else "")


def report_nothing(why: str) -> Report:
    """Report that there is nothing to review."""
    return Report(ExitCode.OK, (f"Aethr: nothing to review: {why}; no model was called",))


def report_unreadable(head: str, options: HookOptions) -> Report:
    """Report a change whose files no model may see."""
    said = "NOT REVIEWED: no model may be sent any of it; no model was called"
    fix = f"To fix: list files that need no review under `exclude:` in {WORKFLOW_FILE}."
    return _close(ExitCode.NOT_REVIEWED, (head, said, fix), options)


def report_failure(error: AethrError, options: HookOptions, steps: Sequence[StepResult] = ()) -> Report:
    """Report a run that stopped or could not start.

    After a ``DiskError``, with the findings of the last of ``steps``, which may be stored nowhere else.
    """
    lines = tuple(edge.describe(error, verbose=options.run.verbose))
    if isinstance(error, DiskError) and steps and (said := review.read(steps[-1])).status != "none":
        lines = (*lines, f"The last answer could not be kept. It said: {said.status}", *_findings(said))
    if error.exit_code == ExitCode.NOT_REVIEWED:
        lines = (f"NOT REVIEWED: {error}", *lines[1:])
    return _close(error.exit_code, lines, options)


def announce(started: RunStarted, plan: Plan, head: str, notes: Sequence[str]) -> Report:
    """What is reviewed, by which models, and what that may cost: before the first call."""
    models = list(dict.fromkeys(one_line(step.model.name, 80) for step in plan.steps if step.model))
    who = (
        f"; {'model' if len(models) == 1 else 'models'}: {capped(models)}" if models and plan.is_live else ""
    )
    about = started.estimate
    lines = (
        *(f"note: {one_line(note)}" for note in notes),
        f"{head}{who}",
        *([wording.estimate(about)] if about is not None and about.most else []),
    )
    return Report(ExitCode.OK, lines)


def report_result(result: RunResult, options: HookOptions) -> Report:
    """Report a complete run; a model's answer only as its findings."""
    names = dict.fromkeys(one_line(step.model, 80) for step in result.steps if step.model)
    models = f" ({', '.join(names)})" if names and result.is_live else ""
    verdict, missing = wording.verdict(result).text, wording.missing(result.receipts)
    remarks = wording.remarks(result.receipts)
    lines = (
        verdict,
        *_findings(result.review),
        *(line.labelled for line in wording.set_aside(result)),
        *([missing] if missing and missing not in verdict else []),
        *([f"note: {capped(remarks)}"] if remarks else []),
        *(wording.loop(loop) for loop in result.loops),
        wording.spent(result) + models,
        *([] if result.outcome in RELIABLE else [wording.remedy(result)]),
    )
    return _close(result.exit_code, lines, options, result.closed)


def describe_change(change: HookChange, measure: Measure) -> str:
    """``Aethr: the staged change: 3 files, +0 -12, only deletions``."""
    size = wording.size(measure.extent)
    return ", ".join(part for part in (f"Aethr: {change.what}: {size}", measure.only) if part)


def _find_staged(here: Checkout) -> HookChange:
    if call.ignores_index(here.root):
        raise UsageError(
            "GIT_INDEX_FILE names an index outside of this repository, so what it stages cannot be reviewed",
            "Put that index into .git, or commit without GIT_INDEX_FILE.",
        )
    branch = here.branch if here.head else git.unborn_branch(here.root)
    scope = Scope("staged", "staged", head_sha=here.head, base_side=here.head)
    return HookChange(scope, here, "the staged change", branch)


def _find_base(root: Path, first: str, head: str) -> str:
    """The merge base, because after a force push the old tip is not an ancestor of the new one.

    Without a common commit it is ``first`` itself.
    """
    found = history.certain_merge_base(root, first, head)
    if found is None and history.is_shallow(root):
        return history.merge_base(root, first, head)
    return found or first


def _find_first_base(root: Path, remote: str, branch: str, head: str) -> tuple[str, str]:
    """The base of a push that does not name an old commit, and the tip that it is from, by what is known.

    That is the remote's branch of the same name (prek does not name the old tip when a force push replaces
    unrelated history), its default branch, or else the empty tree.
    """
    names = (branch.removeprefix("refs/heads/"), "HEAD")
    same, default = history.resolve(root, *(f"refs/remotes/{remote}/{name}" for name in names))
    if same is not None:
        return _find_base(root, same, head), same
    common = history.certain_merge_base(root, default, head) if default is not None else None
    if common is not None and default is not None:
        return common, default
    nothing = git.empty_tree(root)
    return nothing, nothing


def _is_null(name: str) -> bool:
    """Whether git names no commit on this side of a push: an id of zeros, or nothing."""
    return not name.strip("0")


def _findings(said: Review) -> Iterator[str]:
    """The open findings by file, the most severe ones if they are many."""
    if not said.open:
        return
    from aethr.output import grouping  # only needed for findings

    found = grouping.by_severity(said.open)
    yield from (wording.finding(each) for each in grouping.in_order(found[:SHOWN]))
    if more := rest(len(found), SHOWN, "finding"):
        yield f"{more}; all are in a report: --report PATH"


def _close(code: ExitCode, lines: tuple[str, ...], options: HookOptions, closed: str = "") -> Report:
    """Add what the exit code means (or why the gate ``closed``) and, if it blocks, how to skip the review."""
    gate = f"--fail-on {options.run.fail_on}"
    if code == ExitCode.NOT_REVIEWED and options.lenient:
        return Report(ExitCode.OK, (*lines, "exit code 0 instead of 4, because of --if-not-reviewed=pass"))
    if code == ExitCode.OK:
        return Report(code, (*lines, f"exit code 0: {MEANINGS[code]}, and the gate is open ({gate})"))
    meaning = (closed or f"{MEANINGS[code]} ({gate})") if code == ExitCode.GATE else MEANINGS[code]
    last = f"exit code {int(code)}: {meaning}. To skip the review: {options.bypass}"
    return Report(code, (*lines, last))
