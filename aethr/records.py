"""The nouns of Aethr, as frozen records, and the two Protocols that the tables implement.

Nothing here does anything: configuration becomes a ``WorkflowSpec``, ``workflow.plan`` binds it into
a ``Plan``, ``executor.run`` turns that into a stream of ``Event`` and one final ``RunResult``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, TypeAlias

from aethr.errors import ExitCode

Mode = Literal["mock", "scripted", "live"]
Severity = Literal["high", "medium", "low"]
ReviewStatus = Literal["pass", "revise", "none"]
Visibility = Literal["all", "latest", "summary", "none"]
FailOn = Literal["never", "revise", "low", "medium", "high"]
LoopOutcome = Literal["satisfied", "exhausted", "stalled"]

SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
VISIBILITIES: tuple[Visibility, ...] = ("all", "latest", "summary", "none")
WORKFLOW_FILE = ".aethr.yaml"
CHANGE = "git_diff"
"""The context source that is the change under review."""


# --- the workflow file -------------------------------------------------------------------------


class Place(NamedTuple):
    """A position in the workflow file, both counted from 1."""

    line: int
    column: int


class ModelSpec(NamedTuple):
    """A model as a workflow names it: ``provider:model`` and the settings sent with each call.

    ``timeout_s`` bounds one whole call, in seconds. None means: the backend's default.
    """

    name: str
    temperature: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    timeout_s: float | None = None


class Repeat(NamedTuple):
    """Run the slice from ``back_to`` to this step again until every given condition holds.

    ``max_iterations`` counts all passes, the first one too.
    """

    back_to: str
    max_iterations: int
    until_review_pass: bool = False
    until_contains: str | None = None
    until_command_passes: str | None = None


class StepSpec(NamedTuple):
    """One step as written. ``context_chars`` is its budget for all context together, in characters."""

    id: str
    role: str
    context_chars: int
    context: tuple[str, ...] = ()
    backend: str = "model"
    unsafe_permissions: bool = False
    history_visibility: Visibility = "all"
    repeat: Repeat | None = None

    @property
    def reviewing(self) -> bool:
        """Whether this step's answer is a review (DESIGN 8): by its role or by its loop condition."""
        return self.role == "reviewer" or (self.repeat is not None and self.repeat.until_review_pass)


class WorkflowSpec(NamedTuple):
    """A whole valid workflow file.

    ``places`` maps a dotted path (``steps.2.backend``) to where it stands, for later refusals;
    ``lines`` are the file's lines, to show one of them; ``origin`` is the name to print.
    """

    name: str
    roles: Mapping[str, str]
    models: Mapping[str, ModelSpec]
    steps: tuple[StepSpec, ...]
    origin: str
    places: Mapping[str, Place] = MappingProxyType({})
    lines: tuple[str, ...] = ()


# --- context -----------------------------------------------------------------------------------


class Scope(NamedTuple):
    """What ``git_diff`` means in this run.

    ``kind`` is ``worktree``, ``staged``, ``head`` or ``range``; ``text`` is what the user wrote.
    For a range, ``base`` and ``head`` are full commit (or tree) ids, ``base`` already the merge base
    for a three-dot range. ``head_sha`` is the commit checked out, None before the first commit.
    """

    kind: Literal["worktree", "staged", "head", "range"] = "worktree"
    text: str = "worktree"
    base: str | None = None
    head: str | None = None
    head_sha: str | None = None


class Receipt(NamedTuple):
    """What one file (or note) of a context source contributed to a prompt.

    ``sha256`` is that of the bytes sent, None where none were. ``note`` says in a few words why
    something was not sent or what was replaced. ``complete`` is False when the reader of the prompt
    did not get all of it (over budget, binary, unreadable, refused, missing).
    ``changed_lines`` and ``sent_lines`` count added and removed lines of a diff; 0 elsewhere.
    """

    source: str
    path: str | None
    bytes_sent: int
    bytes_omitted: int = 0
    sha256: str | None = None
    note: str | None = None
    complete: bool = True
    changed_lines: int = 0
    sent_lines: int = 0


class Block(NamedTuple):
    """One context source as it goes into the prompt: ``source`` as the YAML names it, and its text.

    ``empty_change`` is True when the source is a change (a diff) and nothing at all changed, inside or
    outside of the scope.
    """

    source: str
    text: str
    receipts: tuple[Receipt, ...] = ()
    empty_change: bool = False


class View(NamedTuple):
    """All that a context source may look at. In a ``preview`` the history holds placeholders.

    ``run_commands`` says whether a source may run a command of the project.
    """

    root: Path
    scope: Scope
    history: tuple[StepResult, ...] = ()
    preview: bool = False
    run_commands: bool = False


class Entry(NamedTuple):
    """What a source says first about one file; the parts after it belong to that file.

    ``order`` places it among the files of its source. ``label`` is a line of ours above the content;
    ``header`` is content that is sent only together with at least one piece (a diff's file header).
    ``withheld`` is the reason why nothing of this file may be sent; its pieces are only counted.
    """

    path: str
    order: int
    label: str = ""
    header: str = ""
    note: str | None = None
    withheld: str | None = None
    complete: bool = True


class Piece(NamedTuple):
    """What is sent whole or not at all: a hunk, or a file. ``size`` is in bytes, as read.

    ``text`` is None when the piece is too large for any budget. ``changed`` counts added and removed
    lines, ``revealed`` the invisible characters that ``text`` shows by their code.
    """

    text: str | None
    size: int
    changed: int = 0
    revealed: int = 0


class Withhold(NamedTuple):
    """Nothing of the last file may be sent after all."""

    reason: str


class Remark(NamedTuple):
    """One line about the source as a whole, shown after its content; never dropped, so always short."""

    text: str
    complete: bool = True
    empty_change: bool = False


Part: TypeAlias = Entry | Piece | Withhold | Remark


# --- calls -------------------------------------------------------------------------------------


class Usage(NamedTuple):
    """Tokens as the provider counted them; ``cost_usd`` is None where the price is not known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost_usd: float | None = None


class Artifacts(NamedTuple):
    """What an implementation step changed in the tree: paths, ``git diff --stat`` text, the diff."""

    changed_files: tuple[str, ...] = ()
    diff_stat: str = ""
    git_diff: str = ""


class Allowance(NamedTuple):
    """What a run may still spend; None is no limit."""

    cost_usd: float | None = None
    tokens: int | None = None

    def after(self, spent: Usage) -> Allowance:
        """What remains, never below zero. An unknown cost counts as nothing: no backend calls by one."""
        return Allowance(
            None if self.cost_usd is None else max(0.0, self.cost_usd - (spent.cost_usd or 0.0)),
            None if self.tokens is None else max(0, self.tokens - spent.total_tokens),
        )


class Request(NamedTuple):
    """One call to a backend. ``prompt`` is the exact text; the other fields say how to send it.

    ``iteration`` is the step's pass, from 1.
    """

    step: str
    role: str
    prompt: str
    model: ModelSpec | None
    root: Path
    reviewing: bool = False
    unsafe_permissions: bool = False
    allowance: Allowance = Allowance()
    iteration: int = 1


class Completion(NamedTuple):
    """A backend's finished answer.

    ``cut_prompt`` says, in a few words, how it is known that the server read only a part of the prompt.

    ``finish_reason`` is the provider's own word; ``truncated`` is True when the answer was cut
    (``length``, ``content_filter``). ``model`` is the name that was asked. ``transport`` names what
    carried the call (``litellm``, ``mock``, an agent's name and version). ``artifacts`` is None for a
    backend that does not edit the tree. ``notes`` are plain lines worth reporting.
    """

    content: str
    model: str
    finish_reason: str
    truncated: bool = False
    usage: Usage = Usage()
    transport: str = ""
    artifacts: Artifacts | None = None
    notes: tuple[str, ...] = ()
    cut_prompt: str | None = None


class TextDelta(NamedTuple):
    """A piece of an answer as it arrives."""

    text: str


class Thinking(NamedTuple):
    """A sign of life that is no part of the answer: the model thinks, or its server says that it works."""


class Spent(NamedTuple):
    """What a provider counted for an attempt that failed: it is paid for, and in no ``Completion``."""

    usage: Usage


class Notice(NamedTuple):
    """A plain line about the run: a retry, a tool an agent used, a warning about the context."""

    text: str
    kind: Literal["info", "warning", "tool"] = "info"


class Backend(Protocol):
    """What can run a step. A row of the table ``backends.BACKENDS``."""

    def preflight(self, requests: Sequence[Request]) -> None:
        """Refuse what can be refused before the first call of the run; prompts are empty here."""

    def warm(self, requests: Sequence[Request]) -> None:
        """The run begins: get ready in the background what takes long. Called after ``preflight``."""

    def complete(
        self, request: Request
    ) -> Generator[TextDelta | Thinking | Spent | Notice, None, Completion]:
        """Yield the answer as it arrives, return it whole. Raises ``AethrError``."""


class Source(Protocol):
    """What can fill a context block. The function of a row of the table ``context.SOURCES``."""

    def __call__(self, argument: str, view: View, budget_chars: int, /) -> Iterable[Part]:
        """Read what ``argument`` names, file by file; what cannot fit ``budget_chars`` need not be held."""


# --- results -----------------------------------------------------------------------------------


class Finding(NamedTuple):
    """One finding of a review; ``line`` counts from 1, None where the reviewer named none."""

    severity: Severity
    path: str | None
    line: int | None
    message: str


class Review(NamedTuple):
    """The run's verdict. ``coverage`` is changed lines sent / changed lines, None without a change.

    ``reason`` says why there is no verdict to trust, or why a pass was not accepted.
    """

    status: ReviewStatus = "none"
    findings: tuple[Finding, ...] = ()
    coverage: float | None = None
    reason: str | None = None


class CommandCheck(NamedTuple):
    """How the command of ``until_command_passes`` ended, in ``ended`` as one line."""

    command: str
    passed: bool
    ended: str


class StepResult(NamedTuple):
    """A finished step. ``calls`` counts its model calls (a missing verdict is asked for once more).

    ``cut_prompt`` is that of its ``Completion``: the answer rests on a part of the prompt alone.
    """

    id: str
    role: str
    backend: str
    model: str | None
    iteration: int
    prompt_sha256: str
    content: str
    finish_reason: str = "stop"
    truncated: bool = False
    seconds: float = 0.0
    calls: int = 1
    transport: str = ""
    usage: Usage = Usage()
    context: tuple[Receipt, ...] = ()
    artifacts: Artifacts | None = None
    notes: tuple[str, ...] = ()
    check: CommandCheck | None = None
    cut_prompt: str | None = None


class LoopResult(NamedTuple):
    """How one ``repeat`` ended, after ``iterations`` passes in all."""

    step: str
    back_to: str
    iterations: int
    outcome: LoopOutcome


class Totals(NamedTuple):
    """Sums over all steps. ``cost_usd`` is None as soon as one call's price is unknown."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0


class RunResult(NamedTuple):
    """The run record: every report and every exit code is a function of this one object."""

    task: str
    workflow: str
    mode: Mode
    scope: Scope
    steps: tuple[StepResult, ...]
    loops: tuple[LoopResult, ...]
    review: Review
    totals: Totals
    exit_code: ExitCode
    checkpoint: str | None = None


# --- the plan ----------------------------------------------------------------------------------


class Gate(NamedTuple):
    """What the caller demands of the review. Any gate but ``never`` requires one."""

    fail_on: FailOn = "never"
    require_review: bool = False

    @property
    def needs_review(self) -> bool:
        return self.require_review or self.fail_on != "never"


Collect: TypeAlias = Callable[[View], tuple[Block, ...]]


class PlannedStep(NamedTuple):
    """A step with its names bound: the text of its role, its model, its backend, its context.

    ``edits_tree`` is a fact of the backend that the workflow names, also when a mock stands in for it.
    ``check`` runs the command of ``until_command_passes``, None for a step without one.
    """

    spec: StepSpec
    guidance: str
    model: ModelSpec | None
    backend: Backend
    edits_tree: bool
    collect: Collect
    check: Callable[[], CommandCheck] | None = None


class Plan(NamedTuple):
    """Everything a run needs, and nothing it has to look up. ``secrets`` are taken out of all text."""

    workflow: WorkflowSpec
    task: str
    root: Path
    mode: Mode
    scope: Scope
    steps: tuple[PlannedStep, ...]
    gate: Gate = Gate()
    allowance: Allowance = Allowance()
    secrets: tuple[str, ...] = ()


# --- events ------------------------------------------------------------------------------------


class RunStarted(NamedTuple):
    workflow: str
    task: str
    mode: Mode
    steps: int


class StepStarted(NamedTuple):
    """``number`` of ``total`` is the step's place in the workflow, from 1."""

    id: str
    role: str
    backend: str
    model: str | None
    iteration: int
    number: int
    total: int


class StepPrepared(NamedTuple):
    """The prompt is built and about to be sent."""

    id: str
    prompt: str
    prompt_sha256: str
    receipts: tuple[Receipt, ...]


class StepFinished(NamedTuple):
    """``replayed`` is True when the result came from a checkpoint and no call was made."""

    result: StepResult
    replayed: bool = False


class LoopEnded(NamedTuple):
    loop: LoopResult


class RunFinished(NamedTuple):
    result: RunResult


Event: TypeAlias = (
    RunStarted
    | StepStarted
    | StepPrepared
    | TextDelta
    | Thinking
    | Spent
    | Notice
    | StepFinished
    | LoopEnded
    | RunFinished
)
