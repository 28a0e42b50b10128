"""The data of Aethr as frozen records, and the two Protocols that its tables implement.

A workflow file becomes a ``WorkflowSpec``, ``workflow`` binds that into a ``Plan``, ``engine.run`` turns the
plan into a stream of ``Event`` and one final ``RunResult``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from aethr.base.errors import ExitCode

Mode = Literal["mock", "scripted", "live"]
Severity = Literal["high", "medium", "low"]
ReviewStatus = Literal["pass", "revise", "none"]
Visibility = Literal["all", "latest", "summary", "none"]
AnswerForm = Literal["text", "schema"]
FailOn = Literal["never", "revise", "low", "medium", "high"]
Whereabouts = Literal["change", "tree", "nowhere"]
FindingState = Literal["new", "open", "resolved", "answered"]
LoopOutcome = Literal["satisfied", "exhausted", "stalled"]
RunOutcome = Literal["nothing-to-review", "not-reviewed", "incomplete", "revise", "pass"]

RELIABLE: frozenset[RunOutcome] = frozenset({"nothing-to-review", "revise", "pass"})
"""The outcomes that say something about the code."""
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
VISIBILITIES: tuple[Visibility, ...] = ("all", "latest", "summary", "none")
ANSWER_FORMS: tuple[AnswerForm, ...] = ("text", "schema")
CHANGE = "git_diff"
"""The context source that is the change under review."""
CHANGES = frozenset({CHANGE, "latest_diff"})
"""The names of the context sources that are a change."""
PARTS = 16
"""Into at most this many parts a large change is cut by default."""


def is_change(source: str) -> bool:
    """Whether this source, as written in a workflow (``git_diff:function``), is a change."""
    return source.partition(":")[0] in CHANGES


def is_git_diff(source: str) -> bool:
    """Whether this source is the change under review, in any of its forms."""
    return source.partition(":")[0] == CHANGE


def changes_in(context: Iterable[str]) -> frozenset[str]:
    """Those of these sources that are a change."""
    return frozenset(filter(is_change, context))


# --- the workflow file -------------------------------------------------------------------------


class Place(NamedTuple):
    """A position in the workflow file, both counted from 1."""

    line: int
    column: int


class ModelSpec(NamedTuple):
    """A model as a workflow names it: ``provider:model`` and the settings sent with each call.

    ``timeout_s`` limits one whole call, in seconds. None: the backend's default. ``options`` are merged into
    the JSON of each request as they are. ``endpoint`` is the name of the environment variable with the
    address. ``fallback`` are other models, in order, for a call that this one cannot answer now: see
    ``providers.chain``.
    """

    name: str
    temperature: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    timeout_s: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    endpoint: str | None = None
    fallback: tuple[str, ...] = ()


class Repeat(NamedTuple):
    """Repeat the steps from ``back_to`` to this one until every given condition holds.

    ``max_iterations`` counts all iterations, including the first.
    """

    back_to: str
    max_iterations: int
    until_review_pass: bool = False
    until_contains: str | None = None
    until_command_passes: str | None = None


class StepSpec(NamedTuple):
    """A step as written. ``context_chars`` is the budget for all of its context, in characters.

    ``verify`` names the reviewing steps whose findings this one checks; with ``verify_high`` it may drop high
    ones too. ``review`` says whether the answer is a review; None leaves it to role and loop. ``allow`` are
    commands that an agent may run, each also with more arguments. With ``schema`` as its ``answer`` a review
    is asked for as JSON by ``review.structured.SCHEMA``.
    """

    id: str
    role: str
    context_chars: int
    context: tuple[str, ...] = ()
    backend: str = "model"
    unsafe_permissions: bool = False
    history_visibility: Visibility = "all"
    repeat: Repeat | None = None
    verify: tuple[str, ...] = ()
    verify_high: bool = False
    review: bool | None = None
    allow: tuple[str, ...] = ()
    answer: AnswerForm = "text"

    @property
    def reviewing(self) -> bool:
        """Whether this step's answer is a review: as ``review`` says, or else by its role or loop condition.

        A step that verifies reviews never gives one of its own.
        """
        passes = self.repeat is not None and self.repeat.until_review_pass
        by_default = self.role == "reviewer" or passes
        return not self.verify and (by_default if self.review is None else self.review)


class Instruction(NamedTuple):
    """What to tell a step about the changed files that match ``paths``, patterns as in ``.gitignore``."""

    paths: tuple[str, ...]
    text: str


class Answer(NamedTuple):
    """What somebody decided about a finding: its place ``id``, severity and message, and why it may stay.

    ``also`` are other ids of the finding, from the lines that other reviewers named.
    """

    id: str
    severity: Severity
    message: str
    reason: str
    also: tuple[str, ...] = ()

    @property
    def every_id(self) -> tuple[str, ...]:
        return self.id, *self.also


class WorkflowSpec(NamedTuple):
    """A valid workflow file.

    ``places`` maps a dotted path (``steps.2.backend``) to its position and ``lines`` are the lines of the
    file, both for later errors. ``origin`` is the name of the file to print. ``parts`` is the maximum number
    of parts that a change is cut into. ``exclude`` are patterns as in ``.gitignore``; ``exclude_defaults`` is
    False if only they exclude files. No prompt, checkpoint or seal rests on the ``answers`` to findings, nor
    on ``answers_by_author``: whether the author of a pull request may answer its findings in a comment.
    ``hosts`` are the names that a run may call, as written; empty for any.
    """

    name: str
    roles: Mapping[str, str]
    models: Mapping[str, ModelSpec]
    steps: tuple[StepSpec, ...]
    origin: str
    places: Mapping[str, Place] = MappingProxyType({})
    lines: tuple[str, ...] = ()
    parts: int = PARTS
    exclude: tuple[str, ...] = ()
    exclude_defaults: bool = True
    instructions: tuple[Instruction, ...] = ()
    answers: tuple[Answer, ...] = ()
    answers_by_author: bool = False
    hosts: tuple[str, ...] = ()

    @property
    def rules(self) -> Rules:
        """Which files of a change are excluded."""
        return Rules(self.exclude, self.exclude_defaults)


# --- context -----------------------------------------------------------------------------------


EMPTY_TREES = (
    "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
)
"""The id of the tree without files, in each of git's hashes."""


class Scope(NamedTuple):
    """What ``git_diff`` means in this run.

    ``text`` is what the user wrote. Without ``--diff``, ``chosen`` is True and ``text`` names the scope that
    was chosen. A ``range``, and a ``revision`` (from there to the working tree), have a full commit or tree
    id as ``base``, the merge base for a three-dot range; a range has ``head`` too. ``head_sha`` is the commit
    that is checked out, None before the first commit. ``base_side`` is the commit that decides how the change
    is reviewed: never the merge base, but the first side as it is now. None if there is none.
    """

    kind: Literal["worktree", "staged", "head", "all", "revision", "range"] = "worktree"
    text: str = "worktree"
    base: str | None = None
    head: str | None = None
    head_sha: str | None = None
    chosen: bool = False
    base_side: str | None = None

    @property
    def without_base(self) -> bool:
        """Whether there is no commit before the change, as for the first commit."""
        return self.head_sha is None if self.base is None else self.base in EMPTY_TREES

    @property
    def without_base_side(self) -> bool:
        """Whether nothing comes before the change that could say how it is reviewed."""
        return self.base_side is None or self.base_side in EMPTY_TREES

    @property
    def reads_disk(self) -> bool:
        """Whether one side of the change is the working tree."""
        return self.kind not in ("staged", "range")

    @property
    def looks_at_disk(self) -> bool:
        """Whether the working tree matters: as a side of the change, or for what a chosen scope excludes."""
        return self.reads_disk or self.chosen


class Rules(NamedTuple):
    """What a workflow file says about exclusion: its patterns, and whether the defaults count."""

    exclude: tuple[str, ...] = ()
    defaults: bool = True


class LeftOut(NamedTuple):
    """Changed files that a scope excludes. A folder without tracked files ends with ``/``."""

    staged: tuple[bytes, ...] = ()
    unstaged: tuple[bytes, ...] = ()
    untracked: tuple[bytes, ...] = ()


class Checkout(NamedTuple):
    """The work tree that the folder ``root`` lies in, and what is checked out there.

    ``top`` is its top folder. ``head`` is a full commit id, None before the first commit. ``branch`` is None
    before the first commit, and if no branch is checked out.
    """

    root: Path
    top: Path
    head: str | None = None
    branch: str | None = None


class Survey(NamedTuple):
    """A scope in a repository, with what ``git.diff`` needs to read its change.

    ``filters`` are those of ``git.local_filters``. ``left_out`` is None until it has been determined.
    ``listed_diff`` is what git has just printed for a small change, with the list of its files.
    """

    scope: Scope
    checkout: Checkout
    filters: tuple[str, ...] = ()
    left_out: LeftOut | None = None
    listed_diff: bytes | None = None

    @property
    def top(self) -> Path:
        return self.checkout.top


class Extent(NamedTuple):
    """The size of a change: files, lines added and lines removed, whether they are sent or not."""

    files: int = 0
    added: int = 0
    removed: int = 0


class Lines(NamedTuple):
    """Lines of a file from ``first`` to ``last``, counted from 1."""

    first: int
    last: int


class Receipt(NamedTuple):
    """What one file (or note) of a context source contributed to a prompt.

    ``bytes_sent`` and ``sha256`` are of the text in the prompt, with the numbers in front of the lines of a
    change; ``sha256`` is None if nothing was sent. ``note`` says in a few words why something was not sent,
    or what was replaced. ``complete`` is False if the prompt lacks a part of it (over budget, binary,
    unreadable, refused, missing). ``changed_lines`` and ``sent_lines`` count the added and removed lines of a
    diff, 0 for other sources. ``excluded`` is the rule that excludes the file, in a few words: nothing of it
    is sent, and nothing is missing; ``added_lines`` then are those it adds. ``lines`` are those of the new
    version in each hunk that is sent. ``old_path`` is the name of a changed file before a rename. ``empty``
    is True for a note that only says that the source has nothing, or nothing more, to give.
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
    added_lines: int = 0
    excluded: str | None = None
    lines: tuple[Lines, ...] = ()
    old_path: str | None = None
    empty: bool = False


class Shown(NamedTuple):
    """What a block shows of one file: all of it, or its hunks, each with its ``@@`` line.

    ``numbered`` is True for a whole file with the number of each line in front. ``guides`` is True for a file
    that tells reviewers what to do: it can be quoted, but proves nothing about other files.
    """

    path: str
    texts: tuple[str, ...]
    numbered: bool = False
    guides: bool = False


class PlaceId(NamedTuple):
    """The id of a place that findings of an answer name: see ``review.identity``."""

    path: str | None
    line: int | None
    end_line: int | None
    id: str


class NamedFile(NamedTuple):
    """A file of the tree under review, by the name that a finding gives it.

    ``from_top`` says that the name is from the repository's top, as names in a change are; otherwise it is
    from the project's folder, if there is such a file. ``on_disk`` reads it from the work tree, whatever the
    scope is.
    """

    path: str
    from_top: bool = False
    on_disk: bool = False


class FileText(NamedTuple):
    """A file's path from the repository's top, and its lines; none if it has no text that can be read."""

    path: str
    lines: tuple[str, ...] = ()


class Quote(NamedTuple):
    """Lines of an answer that are in the code of its prompt.

    ``text`` is what the answer quotes. ``line`` and ``end_line`` are their place in the new version of the
    file, None for lines that the change removes. If the text is these lines of the new version, and nothing
    else, ``indent`` is what each of them has in front that the text lacks, often nothing; else it is None.
    """

    text: str
    source: str
    path: str
    line: int | None = None
    end_line: int | None = None
    indent: str | None = None


class Block(NamedTuple):
    """One context source as it goes into the prompt: ``source`` as the YAML names it, and its text.

    ``change`` is for sources that are a change: True if there is one, False if nothing changed, None if that
    is not known, and for all other sources. ``shown`` is the code in it that a reviewer can quote, by file.
    """

    source: str
    text: str
    receipts: tuple[Receipt, ...] = ()
    change: bool | None = None
    shown: tuple[Shown, ...] = ()


class Collected(NamedTuple):
    """The context of a step: the blocks of each part of the change, one part if it was not cut.

    ``needed`` is the number of parts that all of the change needs; what the parts here leave out is listed in
    the last one. ``extent`` is the size of ``git_diff``.
    """

    parts: tuple[tuple[Block, ...], ...]
    needed: int = 1
    extent: Extent | None = None


class PullRequestText(NamedTuple):
    """What the author of a pull request says about it. Both texts are as they were written: untrusted."""

    number: int
    title: str
    body: str


class NewVersion(NamedTuple):
    """A file of a change whose new version is text that may be sent.

    ``source`` is the change that shows it, as in ``Block``. ``name`` is its path from the repository's top,
    as ``os.fsdecode`` gives it. ``lines`` are those of the new version in the hunks that are sent.
    """

    source: str
    name: str
    lines: tuple[Lines, ...] = ()


class View(NamedTuple):
    """Everything that a context source may read. In a ``preview`` the history holds placeholders.

    ``run_commands`` says whether a source may run a command of the project, ``strict`` whether a review is
    required. ``survey`` is what is known about the repository, or None. ``again`` reads a change that the run
    has already read from the repository once more, and nothing else. ``rules`` say which files are excluded.
    ``numbered`` puts the number of each line in front of it where lines can be named. ``plain`` shows no more
    context than ``git diff`` does by default, because there is no room for more. ``pull_request`` is None
    outside of one. ``changed`` are the files of the step's part of the change, None if it reads no change.
    """

    root: Path
    scope: Scope
    history: tuple[StepResult, ...] = ()
    preview: bool = False
    run_commands: bool = False
    strict: bool = False
    survey: Survey | None = None
    again: bool = False
    rules: Rules = Rules()
    numbered: bool = False
    plain: bool = False
    pull_request: PullRequestText | None = None
    changed: tuple[NewVersion, ...] | None = None


class Entry(NamedTuple):
    """The first fragment of a file; the fragments after it belong to that file.

    ``old_path`` is its name before a rename. ``order`` is its position among the files of its source.
    ``label`` is Aethr's own line above the content.
    ``header`` is content that is sent only together with at least one piece (the header of a file in a diff).
    ``withheld`` is the reason why nothing of this file may be sent; its pieces are only counted. If
    ``excluded`` is the rule that says so, nothing of it is missing either. The old text of a ``deleted`` file
    is not missed if it is not sent, and nothing of a file that is ``extra`` is. ``name`` is that of a
    ``NewVersion``; None if its new version is not text that may be sent. ``numbered`` is as in ``Shown``.
    """

    path: str
    order: int
    label: str = ""
    header: str = ""
    note: str | None = None
    withheld: str | None = None
    complete: bool = True
    deleted: bool = False
    excluded: str | None = None
    old_path: str | None = None
    extra: bool = False
    name: str | None = None
    numbered: bool = False


class Piece(NamedTuple):
    """Content that is sent completely or not at all: a hunk or a file. ``size`` is in bytes, as read.

    ``text`` is None if the piece is too large for any budget. ``changed`` counts the lines of the change that
    the piece shows, ``added`` and ``removed`` the lines that git counts, ``revealed`` the invisible
    characters that ``text`` shows by their code. ``lines`` are those of the new version in a hunk; None if it
    has none.
    """

    text: str | None
    size: int
    changed: int = 0
    revealed: int = 0
    added: int = 0
    removed: int = 0
    lines: Lines | None = None


class Withhold(NamedTuple):
    """Nothing of the last file may be sent."""

    reason: str


class Gap(NamedTuple):
    """A part of the last file cannot be shown; ``note`` says which."""

    note: str


class Remark(NamedTuple):
    """A line about the source as a whole, shown after its content. It is short, and never dropped.

    ``change`` is False if the line says that nothing changed, True if it stands for a change that is not
    shown. One that is ``empty`` only says that the source has nothing, or nothing more, to send.
    """

    text: str
    complete: bool = True
    change: bool | None = None
    empty: bool = False


Fragment: TypeAlias = Entry | Piece | Withhold | Gap | Remark


# --- calls -------------------------------------------------------------------------------------


_Number = TypeVar("_Number", int, float)


class Usage(NamedTuple):
    """What a call used, as its provider counted it. None is unknown, never zero.

    ``estimated`` is True if tokens and cost were estimated from the length of the texts. Of the prompt,
    ``cached_tokens`` were read from the provider's cache and ``written_tokens`` written to it; of the answer,
    ``reasoning_tokens`` were thinking.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cost_usd: float | None = None
    estimated: bool = False
    cached_tokens: int | None = None
    written_tokens: int | None = None
    reasoning_tokens: int | None = None

    @classmethod
    def of(
        cls,
        prompt: int | None,
        completion: int | None,
        cost_usd: float | None = None,
        estimated: bool = False,
    ) -> Usage:
        """The usage of one call. The total is unknown if one of the two counts is."""
        total = None if prompt is None or completion is None else prompt + completion
        return cls(prompt, completion, total, cost_usd, estimated)

    @classmethod
    def sum(cls, usages: Sequence[Usage]) -> Usage:
        """The sum of all: unknown as soon as one figure is unknown, an estimate as soon as one is.

        What is a part of another figure is the sum of what is known: few providers count it.
        """
        return cls(
            _sum([usage.prompt_tokens for usage in usages]),
            _sum([usage.completion_tokens for usage in usages]),
            _sum([usage.total_tokens for usage in usages]),
            _sum([usage.cost_usd for usage in usages]),
            any(usage.estimated for usage in usages),
            _sum_known(usage.cached_tokens for usage in usages),
            _sum_known(usage.written_tokens for usage in usages),
            _sum_known(usage.reasoning_tokens for usage in usages),
        )


def _sum(figures: Sequence[_Number | None]) -> _Number | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None


def _sum_known(figures: Iterable[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _least(one: _Number | None, other: _Number | None) -> _Number | None:
    known = [limit for limit in (one, other) if limit is not None]
    return min(known) if known else None


NO_USAGE = Usage(0, 0, 0, 0.0)
"""The usage of a step that calls no model."""


class Shard(NamedTuple):
    """A share of a run: every ``of``-th part of the change, beginning with part ``number``, from 1."""

    number: int
    of: int

    def own(self, parts: int) -> range:
        """The numbers of its parts, if the change has this many."""
        return range(self.number, parts + 1, self.of)


class Artifacts(NamedTuple):
    """What an implementation step changed in the tree: paths, ``git diff --stat`` text, the diff.

    Changes that cannot be shown are named in plain lines: those in ``unseen`` are missing from every review,
    those in ``generated`` are files that tools regenerate, such as caches and installed packages.
    """

    changed_files: tuple[str, ...] = ()
    diff_stat: str = ""
    git_diff: str = ""
    unseen: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()

    @property
    def edited(self) -> bool:
        """Whether there is a change to review, seen or not."""
        return bool(self.changed_files or self.unseen)


class Baseline(NamedTuple):
    """The working tree before the first attempt of an agent step. The step's change is measured from it.

    ``tree`` is the id of a git tree, ``top`` its folder. ``staged`` is the id of a tree with what was staged,
    empty without an index. ``blind`` is the id of a blob: the state of what is in neither tree. ``branch``,
    ``commit`` and ``stash`` are those of the repository, or empty. ``began_us`` is the wall clock in
    microseconds since the epoch. ``skipped`` and ``nested`` name what is not in the tree. ``rules`` is a hash
    of the settings outside of the tree that decide which files git ignores and how it converts them.
    """

    tree: str
    top: str
    staged: str = ""
    blind: str = ""
    branch: str = ""
    commit: str = ""
    stash: str = ""
    began_us: int = 0
    skipped: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    rules: str = ""


class Attempt(NamedTuple):
    """An attempt of an agent step that did not finish.

    ``left`` is the commit that was checked out when the attempt was last looked at, or empty. ``lost`` says
    why its edits cannot be shown, or is empty. Without a ``baseline`` they cannot be shown.
    """

    step: str
    iteration: int
    baseline: Baseline | None = None
    left: str = ""
    lost: str = ""


class Earlier(NamedTuple):
    """What attempts before this run left in the tree. It becomes a part of the next agent step's change.

    ``objects`` is a folder of git objects that the baseline needs, or None. ``files`` differ from the
    baseline; ``unseen`` are lines on what else does, as in ``Artifacts``. ``lost`` says why the attempt's
    edits cannot be shown, or is empty; if it is set, ``files`` are those that the attempt is known to have
    changed.
    """

    attempt: Attempt
    objects: Path | None = None
    files: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    lost: str = ""

    @property
    def remains(self) -> bool:
        """Whether any of these edits are, or may be, in the tree."""
        return bool(self.files or self.unseen or self.lost)

    @property
    def loss(self) -> str:
        """``lost`` as a line of ``Artifacts.unseen``, or empty."""
        return self.lost and f"what the failed attempt of step '{self.attempt.step}' changed: {self.lost}"


class Allowance(NamedTuple):
    """What a run may still spend. None: no limit."""

    cost_usd: float | None = None
    tokens: int | None = None

    def after(self, spent: Usage) -> Allowance:
        """What remains, at least zero. Unknown usage counts as zero: ``budget`` stops such a run."""
        return Allowance(
            None if self.cost_usd is None else max(0.0, self.cost_usd - (spent.cost_usd or 0.0)),
            None if self.tokens is None else max(0, self.tokens - (spent.total_tokens or 0)),
        )

    def without(self, other: Allowance) -> Allowance:
        """What remains if ``other`` is set aside, at least zero."""
        return self.after(Usage(total_tokens=other.tokens, cost_usd=other.cost_usd))

    def at_most(self, other: Allowance) -> Allowance:
        """The smaller limit of each kind."""
        return Allowance(_least(self.cost_usd, other.cost_usd), _least(self.tokens, other.tokens))

    def covers(self, other: Allowance) -> bool:
        """Whether ``other`` fits into it. Sums of dollars are not exact."""
        cost = self.cost_usd is None or (other.cost_usd or 0.0) <= self.cost_usd + 1e-9
        return cost and (self.tokens is None or (other.tokens or 0) <= self.tokens)


UNLIMITED = Allowance()


class Request(NamedTuple):
    """A call to a backend. ``prompt`` is the exact text; the other fields say how to send it.

    ``reviewing`` says that the answer is a review, ``verifying`` that it checks the findings of one.
    ``iteration`` and ``part`` count from 1. ``earlier`` is what attempts before this run left in the tree,
    for an agent.
    ``extend`` takes what the attempts so far used and returns what the next one may spend; it may wait for
    calls that run at the same time. ``cancelled`` says that the run has stopped, so nothing more may be sent.
    ``schema`` is the JSON Schema that the answer is to have. ``shared`` are the ends, in characters and
    ascending, of the prompt's beginnings that another call of the run has too (``engine.prefixes``).
    ``hosts`` are the only ones that may be called, as the workflow file names them; empty for any.
    """

    step: str
    role: str
    prompt: str
    model: ModelSpec | None
    root: Path
    reviewing: bool = False
    unsafe_permissions: bool = False
    allow: tuple[str, ...] = ()
    allowance: Allowance = UNLIMITED
    iteration: int = 1
    verifying: bool = False
    earlier: Earlier | None = None
    extend: Callable[[Sequence[Usage]], Allowance] | None = None
    cancelled: Callable[[], bool] = lambda: False
    schema: Mapping[str, Any] | None = None
    shared: tuple[int, ...] = ()
    part: int = 1
    hosts: tuple[str, ...] = ()

    def after(self, *spent: Usage) -> Request:
        """This first request as that of the next attempt, after those that used ``spent``."""
        left = self.allowance
        for usage in spent:
            left = left.after(usage)
        return self._replace(allowance=self.extend(spent) if self.extend is not None else left)


class Completion(NamedTuple):
    """A backend's finished answer.

    ``finish_reason`` is the provider's own word; ``truncated`` is True if the answer was cut (``length``,
    ``content_filter``). ``model`` is the name of the model that answered, ``transport`` what carried the call
    (``litellm``, ``mock``, an agent's name and version). ``fallback_for`` is the model that could not answer,
    if this is one of its fallbacks. ``artifacts`` is None for a backend that does not
    edit the tree. ``notes`` are plain lines to report. ``cut_prompt`` says in a few words how it is known
    that the server read only a part of the prompt, ``over_limit`` by how much it exceeded the limit on the
    answer. ``form`` is ``schema`` if it came as JSON by the schema of its request; ``content`` is its text
    form then.
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
    over_limit: str | None = None
    fallback_for: str | None = None
    form: AnswerForm = "text"


class TextDelta(NamedTuple):
    """A piece of an answer as it arrives."""

    text: str


class Thinking(NamedTuple):
    """A sign that the model thinks, or that its server works. It is not part of the answer."""


class Spent(NamedTuple):
    """What a provider counted for a failed attempt, which has to be paid but has no ``Completion``."""

    usage: Usage


class Sent(NamedTuple):
    """Prompts on their way to one place: requests to a model or, with an ``agent``, runs of that agent.

    ``host`` is the name, and the port if one is set; None if Aethr does not know it, because LiteLLM or the
    agent chooses it. ``calls`` counts failed requests too, whether they arrived or not, and ``bytes_sent``
    those of all their prompts.
    """

    model: str
    host: str | None = None
    agent: str | None = None
    calls: int = 1
    bytes_sent: int = 0


class AttemptStarted(NamedTuple):
    """An agent is about to start. Save the baseline before taking the next event.

    ``objects`` is a folder with the git objects of its tree that the project's repository lacks; it is
    removed when the attempt ends. ``commit`` is the one that is checked out now, or empty.
    """

    baseline: Baseline
    commit: str
    objects: Path


class Notice(NamedTuple):
    """A plain line about the run: a retry, a tool an agent used, a warning about the context."""

    text: str
    kind: Literal["info", "warning", "tool"] = "info"


class Backend(Protocol):
    """Runs steps. A row of the table ``workflow.backends.BACKENDS``."""

    def preflight(self, requests: Sequence[Request]) -> None:
        """Raise errors that are known before the first call of the run. Prompts are still empty."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Prepare in the background what takes long. Called after ``preflight``, when the run begins."""

    def complete(
        self, request: Request
    ) -> Generator[TextDelta | Thinking | Sent | Spent | AttemptStarted | Notice, None, Completion]:
        """Yield the answer as it arrives, then return it complete. Raises ``AethrError``.

        Yield a ``Sent`` before anything leaves the machine: the record says from these who saw what.
        Calls that run at once each run in a thread of their own.
        """


class Source(Protocol):
    """Reads a context source. The function of a row of the table ``context.SOURCES``."""

    def __call__(self, argument: str, view: View, budget_chars: int, /) -> Iterable[Fragment]:
        """Read what ``argument`` names, file by file. Content over ``budget_chars`` need not be kept."""


# --- results -----------------------------------------------------------------------------------


class Check(NamedTuple):
    """What a verifying ``step`` proved against a finding with lines of code: its reason and the quotation.

    ``dropped`` is False for a high finding that the step may only dispute: it stays open.
    """

    step: str
    reason: str
    quote: Quote
    dropped: bool = True


class Opinion(NamedTuple):
    """What another reviewer wrote about the same defect: the steps that wrote it, and their own severity."""

    by: tuple[str, ...]
    severity: Severity
    message: str


class Finding(NamedTuple):
    """One finding of a review. ``line`` counts from 1; None if the reviewer named none.

    ``place`` says where its path was found: in the change, elsewhere in the tree (a broken caller), or
    nowhere. None if it names no path, or if there was no change to check it against. ``end_line`` is the last
    line of a range, ``by`` names the steps that found it. ``evidence`` are the lines of code that it
    quotes. ``suggestion`` replaces the lines from ``line`` to ``end_line``; it is None unless these are the
    lines that the reviewer quoted. ``id`` is that of its place, which other findings may share; None for an
    answer that was not read against the files under review. ``state`` is None where reviews are not compared.
    ``check`` is None unless a verifying step disproved the finding. If it was found more than once, ``also``
    has what the others wrote; severity and message are of the most severe one. ``answer`` is the reason of
    the answer that covers it, or None. ``ids`` are all of its ids if it has several: those of the lines that
    each reviewer named, and of earlier reviews, whose ids come first.
    """

    severity: Severity
    path: str | None
    line: int | None
    message: str
    place: Whereabouts | None = None
    end_line: int | None = None
    by: tuple[str, ...] = ()
    id: str | None = None
    state: FindingState | None = None
    evidence: str | None = None
    suggestion: str | None = None
    check: Check | None = None
    also: tuple[Opinion, ...] = ()
    answer: str | None = None
    ids: tuple[str, ...] = ()

    @property
    def every_id(self) -> tuple[str, ...]:
        """The ids by which it is the same as an earlier finding; the one that it had first comes first."""
        return self.ids or ((self.id,) if self.id is not None else ())

    @property
    def is_open(self) -> bool:
        """Whether the finding counts for the outcome and the gate."""
        return self.state not in ("answered", "resolved") and not self.is_dropped

    @property
    def is_dropped(self) -> bool:
        """Whether a verifying step has dropped it."""
        return self.check is not None and self.check.dropped


class Resolved(NamedTuple):
    """A finding of an earlier review that the review of ``commit`` no longer has."""

    finding: Finding
    commit: str


class Review(NamedTuple):
    """The run's verdict. ``coverage`` is changed lines sent / changed lines, None without a change.

    ``reason`` says why there is no reliable verdict, or why a pass was not accepted. ``unexplained`` is True
    for a ``revise`` without a high or medium finding, or with a finding whose severity cannot be read.
    ``unused`` are the ids of answers that cover none of the findings, although their files were reviewed.
    ``resolved`` are findings of earlier reviews that are gone, the latest first, where reviews are compared.
    """

    status: ReviewStatus = "none"
    findings: tuple[Finding, ...] = ()
    coverage: float | None = None
    reason: str | None = None
    unexplained: bool = False
    unused: tuple[str, ...] = ()
    resolved: tuple[Resolved, ...] = ()

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that count: those that no answer covers and no verifying step has dropped."""
        return tuple(each for each in self.findings if each.is_open)

    @property
    def dropped(self) -> tuple[Finding, ...]:
        """Those that a verifying step has dropped."""
        return tuple(each for each in self.findings if each.is_dropped)


class CommandCheck(NamedTuple):
    """How the command of ``until_command_passes`` ended; ``ended`` says so in one line."""

    command: str
    passed: bool
    ended: str


class Digest(NamedTuple):
    """The SHA-256 of what a prompt has from one context source, or of what ``name`` says, in hexadecimal."""

    name: str
    sha256: str


class KeptAnswer(NamedTuple):
    """A whole answer of an earlier live run, which is not asked for again: see ``engine.reuse``.

    ``key`` is the ``answer_key`` of its ``StepResult``, and ``commit`` the one that it is about. ``finds``
    says whether it lists a finding. ``places`` are as in ``StepResult``.
    """

    key: str
    step: str
    part: int
    content: str
    verdict_from: int
    model: str
    finish_reason: str
    transport: str
    commit: str
    finds: bool
    digests: tuple[Digest, ...]
    places: tuple[PlaceId, ...]


class StepResult(NamedTuple):
    """A finished step. ``calls`` counts its model calls: a second one asks for a missing verdict.

    ``cut_prompt`` and ``over_limit`` are those of its ``Completion``. The review is read from ``content`` at
    the offset ``verdict_from``, in characters, which is above 0 if the first answer had no verdict.
    ``skipped`` says why the step was not called; ``context`` then holds what was found instead of a change.
    ``part``, from 1, of ``parts`` of a change that was cut: a step has a result for each, in each iteration.
    ``quotes`` are the lines quoted in ``content`` that are in the code of its prompt. ``shown`` are the
    findings that a verifying step was asked about, in their order. ``places`` are the ids of the places that
    the findings of a review name, from the files as they were then. ``answer_key`` is the SHA-256 of all that
    the answer of a live model depends on, and ``digests`` are those of the parts of its prompt. ``reused`` is
    the commit that the answer is about if it is one of an earlier run, which was not asked for again.
    ``fallback_for`` is the model that was asked, if ``model``, one of its fallbacks, answered instead.
    ``reasoning_effort`` and ``options`` are those of the model that answered.
    ``form`` is that of the answer that counts, as in ``Completion``. ``sent`` says where its prompts went; if
    the answer is ``reused``, that of the earlier run.
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
    verdict_from: int = 0
    over_limit: str | None = None
    skipped: str | None = None
    part: int = 1
    parts: int = 1
    quotes: tuple[Quote, ...] = ()
    shown: tuple[Finding, ...] = ()
    places: tuple[PlaceId, ...] = ()
    answer_key: str = ""
    digests: tuple[Digest, ...] = ()
    reused: str | None = None
    fallback_for: str | None = None
    reasoning_effort: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    form: AnswerForm = "text"
    sent: tuple[Sent, ...] = ()

    @property
    def key(self) -> Key:
        """What identifies it in a run."""
        return self.id, self.iteration, self.part


Key: TypeAlias = tuple[str, int, int]
"""A call of a run: step, iteration and part."""


class Prompt(NamedTuple):
    """The exact prompt of a call, and what it shows of the change. It is not part of the run record."""

    key: Key
    text: str
    change: tuple[Shown, ...] = ()


class Unanswered(NamedTuple):
    """A call that the run stopped in: what its prompt contained, and where it went."""

    step: str
    iteration: int
    part: int
    context: tuple[Receipt, ...] = ()
    sent: tuple[Sent, ...] = ()

    @property
    def key(self) -> Key:
        return self.step, self.iteration, self.part


class LoopResult(NamedTuple):
    """How a ``repeat`` ended, after this total number of ``iterations``."""

    step: str
    back_to: str
    iterations: int
    outcome: LoopOutcome


class Totals(NamedTuple):
    """Sums over all steps. A sum is None if one step's figure is unknown.

    ``estimated`` is True if the usage of one step is. ``cached_tokens``, ``written_tokens`` and
    ``reasoning_tokens`` are as in ``Usage``: sums of what is known, None if nothing is.
    """

    calls: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0
    estimated: bool = False
    cached_tokens: int | None = None
    written_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def tokens(self) -> int | None:
        """Prompt and completion tokens together."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


class Skipped(NamedTuple):
    """A step that was not called in an iteration, and why."""

    step: str
    iteration: int
    reason: str


class Excluded(NamedTuple):
    """A file of the change that a rule excludes, and its lines added and removed."""

    path: str
    rule: str
    added: int = 0
    removed: int = 0


class Subject(NamedTuple):
    """The change that a run reads: its scope, its size, and whether a reviewer reads it.

    ``extent`` is None if there is no change to measure; ``note`` then says why. ``parts`` is the number of
    parts that all of it needs, ``excluded`` that of files that rules exclude. ``by_name`` is True if only
    names can decide that, without a base side.
    """

    scope: Scope
    extent: Extent | None
    reviewed: bool
    note: str = ""
    parts: int = 1
    excluded: int = 0
    by_name: bool = False


class ShardStep(NamedTuple):
    """What the verdict on a step depends on besides its answers."""

    id: str
    reviewing: bool
    history_visibility: Visibility
    verify_high: bool = False


class ShardPlan(NamedTuple):
    """What all shards of a run have in common.

    ``sha256`` is that of ``engine.checkpoint.digest``. ``lines`` are the changed lines in each part of the
    change that is sent.
    """

    sha256: str
    subject: Subject
    steps: tuple[ShardStep, ...]
    lines: tuple[int, ...]


class ShardResult(NamedTuple):
    """What ``aethr merge`` needs of a shard besides its steps.

    ``plan`` is None if the shard stopped before it had read the change. ``tree`` are those paths of its
    findings that the tree has. ``skipped`` are the results of steps that were not called, with their context.
    ``doubt`` says why a review of these parts cannot be complete. ``failed`` is the usage of the failed
    attempts of the call that stopped it.
    """

    number: int
    of: int
    plan: ShardPlan | None
    tree: tuple[str, ...] = ()
    skipped: tuple[StepResult, ...] = ()
    doubt: str | None = None
    failed: tuple[Usage, ...] = ()

    @property
    def parts(self) -> range:
        """The numbers of its parts."""
        return Shard(self.number, self.of).own(len(self.plan.lines) if self.plan else 0)


class Need(NamedTuple):
    """Sums for one model. With an ``agent``, that agent decides how often it calls the model.

    ``calls`` counts requests to the model, or runs of the agent. ``cost_usd`` is None if it is not known: for
    a model without a price, and for every agent.
    """

    model: str
    agent: str | None = None
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0


class Estimate(NamedTuple):
    """What a run needs, computed before it: for each model, in order of first use.

    ``about`` is a run in which all goes well, ``most`` holds for every server that honours the limit it is
    sent (``workflow.estimate``). ``late_parts`` is the number of parts that ``most`` counts for a change that
    is only known during the run; 0 if the run has none.
    """

    about: tuple[Need, ...] = ()
    most: tuple[Need, ...] = ()
    late_parts: int = 0


class RunResult(NamedTuple):
    """The run record: every report and every exit code is a function of this one object.

    ``steps`` were called, ``skipped`` were not. ``subject`` is None if no step reads the change. ``outcome``
    says whether the review is reliable, independent of the gate: every output and the exit code follow it. It
    is ``not-reviewed`` until the run has been judged, and always for a ``shard``. ``excluded`` are the files
    that rules exclude. ``estimate`` is None if no model was to be called. ``closed`` says in one line why the
    gate closed; it is empty if it did not. ``unanswered`` are the calls that it stopped in. ``replayed`` are
    those whose answer came from a checkpoint. ``prompts`` are those that this process has built, for a report
    that shows them; a record that was read from a file has none.
    """

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
    subject: Subject | None = None
    skipped: tuple[Skipped, ...] = ()
    outcome: RunOutcome = "not-reviewed"
    excluded: tuple[Excluded, ...] = ()
    shard: ShardResult | None = None
    estimate: Estimate | None = None
    closed: str = ""
    unanswered: tuple[Unanswered, ...] = ()
    replayed: tuple[Key, ...] = ()
    prompts: tuple[Prompt, ...] = ()

    @property
    def last_answers(self) -> tuple[StepResult, ...]:
        """The last step that was called: its answer, or that to each part of the change.

        A verifying step does not count: what it says stands beside the findings.
        """
        last = [(step.id, step.iteration) for step in self.steps if not step.shown][-1:]
        return tuple(step for step in self.steps if (step.id, step.iteration) in last)

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts of all steps, without duplicates: a loop reads the same files again."""
        return tuple(dict.fromkeys(receipt for step in self.steps for receipt in step.context))

    @property
    def is_live(self) -> bool:
        """Whether models were called. The answers of a mock or script say nothing about the code."""
        return self.mode == "live"


# --- the plan ----------------------------------------------------------------------------------


class Gate(NamedTuple):
    """What the caller demands of the review. Every gate except ``never`` requires one."""

    fail_on: FailOn = "never"
    require_review: bool = False

    @property
    def needs_review(self) -> bool:
        return self.require_review or self.fail_on != "never"


class Seal(NamedTuple):
    """What proves the checkpoint of a live run: see ``aethr.engine.seal``.

    ``keys`` are the provider keys of the run; without any, nothing is sealed. A resume must
    have the same ``binding``: values such as the project's folder, by the name that an error gives them.
    """

    keys: tuple[str, ...] = ()
    binding: Mapping[str, str] = MappingProxyType({})


UNSEALED = Seal()


Collect: TypeAlias = Callable[[View], Collected]
FindQuotes: TypeAlias = Callable[[Sequence[Block], str, str | None, int | None], Sequence[Quote]]
"""Where the lines of a text are in the code of these blocks: see ``context.quotes``.

The path and the line are where they are expected; the likeliest place comes first.
"""
ReadFiles: TypeAlias = Callable[[Sequence[NamedFile]], Iterable[FileText]]
"""Each of these files as the change leaves it, in this order. Raises ``AethrError``."""
Share: TypeAlias = Callable[[Iterable[Request], Allowance], Sequence[Allowance]]
"""What each of some calls, which may run at once, may spend of what is left. It depends on nothing else.

They may need more than that together: a call whose share is not there waits until another one ends.
"""


def read_nothing(asked: Sequence[NamedFile]) -> Iterable[FileText]:
    """No file has text."""
    return [FileText(each.path) for each in asked]


def share_nothing(requests: Iterable[Request], left: Allowance) -> Sequence[Allowance]:
    """Each call may need all that is left, so that only one runs at a time."""
    return [left for _ in requests]


class PlannedStep(NamedTuple):
    """A step with its names resolved: the text of its role, its model, its backend, its context.

    ``edits_tree`` is a property of the backend that the workflow names, even if a mock replaces it. ``check``
    runs the command of ``until_command_passes``, or is None. ``runs_commands`` says that a live run runs
    commands of the project for the step's context. ``share`` divides a budget between calls that run at once.
    ``about_change`` are those of its sources that say more about a change and are nothing without one.
    ``address`` says where a live model is called, without any secret; without it no answer is used again.
    ``hosts`` as in ``Request``.
    """

    spec: StepSpec
    guidance: str
    model: ModelSpec | None
    backend: Backend
    edits_tree: bool
    collect: Collect
    check: Callable[[], CommandCheck] | None = None
    runs_commands: bool = False
    share: Share = share_nothing
    about_change: frozenset[str] = frozenset()
    address: Callable[[], str] | None = None
    hosts: tuple[str, ...] = ()

    def request(
        self, root: Path, prompt: str = "", allowance: Allowance = UNLIMITED, iteration: int = 1
    ) -> Request:
        """The call to the backend; without a prompt, the call that is planned."""
        return Request(
            step=self.spec.id,
            role=self.spec.role,
            prompt=prompt,
            model=self.model,
            root=root,
            reviewing=self.spec.reviewing,
            verifying=bool(self.spec.verify),
            unsafe_permissions=self.spec.unsafe_permissions,
            allow=self.spec.allow,
            allowance=allowance,
            iteration=iteration,
            hosts=self.hosts,
        )


class Plan(NamedTuple):
    """Everything that a run needs, with nothing left to look up. ``secrets`` are redacted in all text.

    ``holds`` says whether the tree under review has a path, relative to the project or to the repository.
    ``survey`` is valid for the first reading only. ``moved`` says what of the scope has changed since.
    ``earlier`` is what attempts of the resumed run left in the tree. ``unproven`` says why the results of the
    checkpoint do not prove a review; this run then seals nothing either. ``shard`` is the share of the change
    that this run sends, None for all of it. ``estimate`` says what a live run needs; it reads the context of
    the model steps, except for what commands print. At most ``jobs`` calls run at once. ``find_quotes`` finds
    lines of an answer in the code of its prompt. ``concerns`` says whether an instruction is for the file of
    a receipt. ``pull_request`` is None outside of one. ``read_files`` reads files as the change leaves them.
    ``is_gone`` says whether the tree has no file any more with the path of this place id. ``reuse`` are
    answers of earlier runs by their key. ``failed`` is what each call of the resumed run used that failed.
    """

    workflow: WorkflowSpec
    task: str
    root: Path
    mode: Mode
    scope: Scope
    steps: tuple[PlannedStep, ...]
    gate: Gate = Gate()
    allowance: Allowance = UNLIMITED
    secrets: tuple[str, ...] = ()
    holds: Callable[[str], bool] = lambda _: False
    survey: Survey | None = None
    earlier: Earlier | None = None
    moved: Callable[[], str | None] = lambda: None
    seal: Seal = UNSEALED
    unproven: str | None = None
    jobs: int = 1
    shard: Shard | None = None
    estimate: Callable[[], Estimate | None] = lambda: None
    find_quotes: FindQuotes = lambda *_: ()
    concerns: Callable[[Instruction, Receipt], bool] = lambda _, __: False
    pull_request: PullRequestText | None = None
    read_files: ReadFiles = read_nothing
    is_gone: Callable[[str], bool] = lambda _: False
    reuse: Mapping[str, KeptAnswer] = MappingProxyType({})
    failed: tuple[Usage, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether the run calls models, agents and commands of the project."""
        return self.mode == "live"

    def own_parts(self, parts: int) -> range:
        """The numbers of the parts that this run sends, if the change has this many."""
        return (self.shard or Shard(1, 1)).own(parts)


# --- events ------------------------------------------------------------------------------------


class RunStarted(NamedTuple):
    """``left_out`` are the files of the change that are not sent, or only in part, or that rules exclude."""

    workflow: str
    task: str
    mode: Mode
    steps: int
    subject: Subject | None = None
    shards: ShardPlan | None = None
    estimate: Estimate | None = None
    left_out: tuple[Receipt, ...] = ()


class StepStarted(NamedTuple):
    """``number`` of ``total`` is the step's place in the workflow, ``part`` that in the change, from 1."""

    id: str
    role: str
    backend: str
    model: str | None
    iteration: int
    number: int
    total: int
    part: int = 1
    parts: int = 1

    @property
    def key(self) -> Key:
        """That of its result."""
        return self.id, self.iteration, self.part


class StepPrepared(NamedTuple):
    """The prompt is built and about to be sent. In a preview, ``skipped`` says why it would not be sent.

    ``answer_key`` and ``digests`` are those of its result. ``change`` is what the prompt shows of a change.
    """

    id: str
    prompt: str
    prompt_sha256: str
    receipts: tuple[Receipt, ...]
    skipped: str | None = None
    part: int = 1
    parts: int = 1
    answer_key: str = ""
    digests: tuple[Digest, ...] = ()
    change: tuple[Shown, ...] = ()


class StepFinished(NamedTuple):
    """``replayed`` is True if the result came from a checkpoint, without a call."""

    result: StepResult
    replayed: bool = False


class LoopEnded(NamedTuple):
    loop: LoopResult


class RunFinished(NamedTuple):
    result: RunResult


class Concurrent(NamedTuple):
    """An event of one of ``of`` calls that run at once; ``call`` counts them from 0 in the order of the plan.

    The events of one call come in their order, those of several calls as they happen. Any other event, and
    those of the next calls that run at once, come after all of them.
    """

    call: int
    event: StepEvent
    of: int


StepEvent: TypeAlias = (
    StepStarted | StepPrepared | TextDelta | Thinking | Sent | Spent | AttemptStarted | Notice | StepFinished
)

Event: TypeAlias = StepEvent | RunStarted | LoopEnded | RunFinished | Concurrent
