"""What another version of a workflow file changes: prompts, models, hosts, programs, rules, bounds, and what
a run needs at most.

Both versions are planned for the same change, as a mock plans it: nothing is called, no command of the
project runs, and no variable of the environment is read. A prompt is shown without the text of its blocks,
so the difference is in what Aethr and the workflow say and in which data they send, not in the data. The
versions, and the guidance of the project, are untrusted text.
"""

from __future__ import annotations

import difflib
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from aethr import engine
from aethr.base import codec
from aethr.base.errors import AethrError
from aethr.base.records import (
    UNLIMITED,
    Estimate,
    Gate,
    ModelSpec,
    Plan,
    StepPrepared,
    StepSpec,
    Survey,
    WorkflowSpec,
    changes_in,
)
from aethr.base.sanitize import reveal, reveal_name
from aethr.base.words import counted
from aethr.config.workflow_file import list_given
from aethr.context import files
from aethr.context.background import guidance_paths
from aethr.engine import conditions, prompts
from aethr.git import tracking
from aethr.output import wording
from aethr.workflow import egress, estimate, planning

MOST_CHARS = 100_000_000
"""The most that the prompts of a version may have for them to be compared. A file of one page can ask for
thousands of times as much, and the author of a pull request can write one."""
MOST_BLOCKS = 1_000
"""The most blocks that they may have, counted over the steps."""
MOST_BYTES = 500_000
"""The most of a guidance file that is compared line by line."""
MOST_LINES = 4_000
"""The most lines of one text that are compared."""

_WIDTH = 100
"""A longer line is compared in pieces of this many characters, so that no difference is in a part of it that
an output cuts off."""
_LONGEST = 10_000
"""A line over this many characters is cut anywhere, not at a space, which takes quadratic time."""


class Version(NamedTuple):
    """What a workflow file says, None without one, and the guidance of its project by path."""

    workflow: WorkflowSpec | None
    guidance: Mapping[str, str] = MappingProxyType({})


class Topic(NamedTuple):
    """Lines that begin with ``- ``, ``+ ``, or two spaces if both versions have them, below a title."""

    title: str
    lines: tuple[str, ...]


class WorkflowChange(NamedTuple):
    """What differs; ``notes`` say what could not be compared, and why."""

    topics: tuple[Topic, ...]
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it as lines of text, without a control character in them."""
        titled = ((f"{title}:", *lines) for title, lines in self.topics)
        return (*chain.from_iterable(titled), *(f"not compared: {note}" for note in self.notes))


class _Measured(NamedTuple):
    """A version, with what its prompts of the first pass look like. ``doubt`` says why they are not known."""

    spec: WorkflowSpec | None
    needs: Estimate | None = None
    outlines: Mapping[tuple[str, int], str] = MappingProxyType({})
    excluded: tuple[str, ...] = ()
    doubt: str = ""


def compare(
    before: Version, after: Version, root: Path, survey: Survey, *, fallback: bool = True
) -> WorkflowChange:
    """The difference between two versions, for a run in ``root`` on the change that is surveyed.

    Without ``fallback`` no model is counted in the place of another one.
    """
    sides = [_measure(each.workflow, root, survey, fallback) for each in (before, after)]
    old, new = sides
    topics = [_compare(axis.title, axis.list(old), axis.list(new)) for axis in AXES]
    topics += _compare_prompts(old, new)
    if any(each.spec is not None and _reads_guidance(each.spec) for each in sides):
        texts = before.guidance, after.guidance
        for name in dict.fromkeys(chain.from_iterable(texts)):
            was, now = (each.get(name, "").splitlines() for each in texts)
            topics.append(_compare(f"guidance {reveal_name(name)}", was, now, context=3))
    doubts = dict.fromkeys(each.doubt for each in sides if each.doubt)
    return WorkflowChange(tuple(each for each in topics if each.lines), tuple(map(_inert, doubts)))


def read_guidance(top: Path, folder: str, tree: str | None) -> dict[str, str]:
    """The guidance of a commit or tree, None for the files on disk, by its path from ``top``.

    ``folder`` is the project's, relative to it. Of a link only the target is read. Raises ``GitError``.
    """
    names = guidance_paths(folder)
    found: dict[str, str] = {}
    if tree is None:
        links = {name: str(path.readlink()) for name in names if (path := top / name).is_symlink()}
        contents = files.WorkTree(top, links=False).read(names)
    else:
        commit = files.git_tree(top, tree, *names)
        targets = [(name, commit.entries[name].id) for name in names if name in commit.entries]
        targets = [(name, blob) for name, blob in targets if commit.entries[name].mode == files.LINK]
        sizes = tracking.sizes(top, [blob for _, blob in targets])
        targets = [(name, blob) for name, blob in targets if sizes[blob] <= files.LONGEST_NAME]
        read = tracking.contents(top, [(blob, sizes[blob]) for _, blob in targets])
        links = {name: os.fsdecode(target) for (name, _), target in zip(targets, read, strict=True)}
        contents = commit.read(names)
    for name, content in zip(names, contents, strict=True):
        if name in links:
            found[name] = f"(a link to {links[name]})"
        elif isinstance(content, bytes):
            found[name] = content[:MOST_BYTES].decode("utf-8", "replace")
            if len(content) > MOST_BYTES:
                rest = sha256(content[MOST_BYTES:]).hexdigest()
                found[name] += f"\n(… {len(content) - MOST_BYTES:,} more bytes, sha256 {rest})"
        elif not content.absent:
            found[name] = f"({content.reason})"
    return found


# --- the axes: one for each thing that can differ ------------------------------------------------


class Axis(NamedTuple):
    """``list`` says what a version has of it, a line each; the order counts."""

    title: str
    list: Callable[[_Measured], Iterable[str]]


def _of_file(list_lines: Callable[[WorkflowSpec], Iterable[str]]) -> Callable[[_Measured], Iterable[str]]:
    return lambda side: list_lines(side.spec) if side.spec is not None else ()


def _of_steps(list_lines: Callable[[StepSpec], Iterable[str]]) -> Callable[[_Measured], Iterable[str]]:
    return _of_file(lambda spec: (f"{step.id}: {line}" for step in spec.steps for line in list_lines(step)))


def _of_models(list_lines: Callable[[ModelSpec], Iterable[object]]) -> Callable[[_Measured], Iterable[str]]:
    return _of_file(
        lambda spec: (
            f"{role}: {line}" for role in sorted(spec.models) for line in list_lines(spec.models[role])
        )
    )


def _list_settings(model: ModelSpec) -> Iterator[str]:
    for name, value in list_given(model).items():
        if name not in ("name", "fallback", "endpoint"):
            yield f"{name}: {codec.line(dict(value)).strip() if isinstance(value, Mapping) else value}"


def _list_called(spec: WorkflowSpec) -> Iterable[str]:
    lines = dict[str, None]()
    for _, model, (address, variable, unknown) in egress.find_called(spec, {}):
        host = address.netloc if address else f"the address in {variable}" if variable else unknown
        lines[f"{model}: {host}"] = None  # two roles may have one model
    return lines


def _list_way(step: StepSpec) -> Iterator[str]:
    """What a step is, apart from what other axes have."""
    yield f"role: {step.role}"
    yield f"history_visibility: {step.history_visibility}"
    if step.reviewing:
        yield f"gives a verdict, answer: {step.answer}"
    for name in step.verify:
        yield f"verify: {name}{', verify_high' if step.verify_high else ''}"


def _list_permissions(step: StepSpec) -> Iterator[str]:
    if step.backend != StepSpec._field_defaults["backend"]:
        yield f"backend: {step.backend}"
    if step.unsafe_permissions:
        yield "unsafe_permissions: no permission checks"
    for command in step.allow:
        yield f"allow: {command}"


def _list_loop(step: StepSpec) -> Iterator[str]:
    if step.repeat is not None:
        yield f"back_to: {step.repeat.back_to}, max_iterations: {step.repeat.max_iterations}"
        for row, value in conditions.given(step.repeat):
            yield f"{row.key.name}: {value}"


def _list_unshown(side: _Measured) -> Iterator[str]:
    """The roles whose text is in no prompt here."""
    shown = {step.role for step in side.spec.steps} if side.spec and side.outlines else set()
    for role, text in side.spec.roles.items() if side.spec else ():
        if role not in shown:
            yield from (f"{role}: {line}" for line in text.splitlines())


def _list_instructions(spec: WorkflowSpec) -> Iterator[str]:
    for each in spec.instructions:
        yield from (f"{', '.join(each.paths)}: {line}" for line in each.text.splitlines())


def _list_answers(spec: WorkflowSpec) -> Iterator[str]:
    for each in spec.answers:
        ids = ", ".join(each.every_id)
        yield f"{ids}: [{each.severity}] {each.message}: {' '.join(each.reason.split())}"


def _list_needs(side: _Measured) -> Iterator[str]:
    if side.needs is not None and side.needs.most:
        yield wording.estimate(side.needs)
        yield from (f"at most {wording.need(each)}" for each in side.needs.most)


AXES = (
    Axis("workflow", _of_file(lambda spec: [spec.name])),
    Axis("models", _of_models(lambda model: [model.name])),
    Axis("fallback", _of_models(lambda model: model.fallback)),
    Axis("endpoint", _of_models(lambda model: filter(None, [model.endpoint]))),
    Axis("settings of the models", _of_models(_list_settings)),
    Axis("hosts that are called", _of_file(_list_called)),
    Axis("hosts", _of_file(lambda spec: spec.hosts or ["any"])),
    Axis("steps", _of_steps(_list_way)),
    Axis("agents", _of_steps(_list_permissions)),
    Axis(
        "commands of the project",
        _of_file(
            lambda spec: (f"{each.step}: {each.command}" for each in planning.programs(spec) if each.command)
        ),
    ),
    Axis("context", _of_steps(lambda step: step.context)),
    Axis("loops", _of_steps(_list_loop)),
    Axis("other roles", _list_unshown),
    Axis("exclude", _of_file(lambda spec: spec.exclude)),
    Axis("exclude_defaults", _of_file(lambda spec: [str(spec.exclude_defaults).lower()])),
    Axis("files of this change that rules exclude", lambda side: side.excluded),
    Axis("instructions", _of_file(_list_instructions)),
    Axis("limits", _of_steps(lambda step: [f"context_chars: {step.context_chars:,}"])),
    Axis("limits.parts", _of_file(lambda spec: [str(spec.parts)])),
    Axis("answers", _of_file(_list_answers)),
    Axis("answers_by_author", _of_file(lambda spec: [str(spec.answers_by_author).lower()])),
    Axis("a run on this change", _list_needs),
)


# --- what a version does with the change ---------------------------------------------------------


def _measure(spec: WorkflowSpec | None, root: Path, survey: Survey, fallback: bool) -> _Measured:
    if spec is None:
        return _Measured(None)
    if (doubt := _find_excess(spec)) is not None:
        return _Measured(spec, doubt=doubt)
    terms = planning.Terms("mock", None, Gate(), UNLIMITED, fallback=fallback)
    outlines: dict[tuple[str, int], str] = {}
    excluded: dict[str, str] = {}

    def look(plan: Plan) -> Iterator[StepPrepared]:
        for each in engine.preview(plan):
            outlines[each.id, each.part] = prompts.outline(each.prompt)
            excluded.update({one.path: one.excluded for one in each.receipts if one.path and one.excluded})
            yield each

    try:
        plan = planning.plan(planning.bind(planning.Project(root, spec), terms, {}), "", survey.scope, survey)
        needs = estimate.estimate(plan, look(plan))
    except AethrError as error:
        return _Measured(spec, doubt=f"the prompts of {spec.origin}: {error}")
    return _Measured(
        spec, needs, outlines, tuple(f"{name}: {rule}" for name, rule in sorted(excluded.items()))
    )


def _find_excess(spec: WorkflowSpec) -> str | None:
    """Why the prompts of a version may be too large to be made here."""
    own = sum(len(each.text) for each in spec.instructions) + 10_000  # and what Aethr says in each
    chars = blocks = 0
    for number, step in enumerate(spec.steps):
        calls = spec.parts if changes_in(step.context) else 1
        blocks += len(step.context) + number
        chars += calls * (step.context_chars + len(spec.roles[step.role]) + own + 200 * number)
    if chars <= MOST_CHARS and blocks <= MOST_BLOCKS:
        return None
    return f"the prompts of {spec.origin}: they may have {chars:,} characters in {counted(blocks, 'block')}"


def _reads_guidance(spec: WorkflowSpec) -> bool:
    return any(source == "guidance" for step in spec.steps for source in step.context)


def _compare_prompts(before: _Measured, after: _Measured) -> Iterator[Topic]:
    """A topic for each prompt that differs; parts of one step that differ alike are one."""
    if before.doubt or after.doubt:
        return
    parts: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for step, part in dict.fromkeys((*before.outlines, *after.outlines)):
        old, new = (side.outlines.get((step, part), "").splitlines() for side in (before, after))
        parts.setdefault((step, _compare("", old, new, context=3).lines), []).append(part)
    several = {step for step, part in (*before.outlines, *after.outlines) if part > 1}
    for (step, lines), numbers in parts.items():
        which = f", part {', '.join(map(str, numbers))}" if step in several else ""
        yield Topic(f"prompt of {step}{which}", lines)


def _compare(title: str, before: Iterable[str], after: Iterable[str], context: int = 0) -> Topic:
    """The lines that differ, with so many lines of context."""
    old, new = ([piece for line in each for piece in _wrap(_inert(line))] for each in (before, after))
    lines = list[str]()
    for line in list(difflib.unified_diff(old[:MOST_LINES], new[:MOST_LINES], n=context, lineterm=""))[2:]:
        if not line.startswith("@@"):
            lines.append(f"{line[0]} {line[1:]}".rstrip())
        elif lines and context:
            lines.append("  …")
    if old[MOST_LINES:] != new[MOST_LINES:]:
        lines.append(f"  … what follows line {MOST_LINES:,} differs too, and is not compared")
    return Topic(_inert(title), tuple(lines))


def _wrap(line: str) -> Sequence[str]:
    if len(line) <= _WIDTH:
        return [line]
    if len(line) > _LONGEST:
        return [line[at : at + _WIDTH] for at in range(0, len(line), _WIDTH)]
    return textwrap.wrap(
        line, _WIDTH, drop_whitespace=False, replace_whitespace=False, break_on_hyphens=False
    )


def _inert(text: str) -> str:
    """On one line, with a code for each character that is not shown."""
    return reveal(text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "    "))[0]
