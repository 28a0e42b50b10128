"""The options of ``aethr run`` as one table, for the parser, the environment and the resume command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aethr.base.errors import UsageError
from aethr.base.words import suggest

if TYPE_CHECKING:
    from aethr.base.records import FailOn  # `aethr run --help` has no other use for records

GATES: tuple[FailOn, ...] = ("never", "revise", "low", "medium", "high")
SCOPES: tuple[Literal["worktree", "staged", "head", "all"], ...] = ("worktree", "staged", "head", "all")
"""The words that ``--diff`` takes; any other value names commits."""
JOBS = 4
"""How many calls run at once by default."""
ENVIRONMENT_PREFIX = "AETHR_RUN_"


class RunOptions(NamedTuple):
    """The command line of ``aethr run`` as a record. None: not given."""

    task: str | None = None
    config: str | None = None
    preset: str | None = None
    step: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    save: bool = False
    diff: str | None = None
    pull_request: int | None = None
    show_prompt: bool = False
    run_commands: bool = False
    live: bool | None = None
    stream: bool | None = None
    json: bool = False
    report: tuple[str, ...] = ()
    fail_on: str = "never"
    require_review: bool = False
    shard: str | None = None
    max_cost: float | None = None
    max_tokens: int | None = None
    jobs: int = JOBS
    resume_checkpoint: str | None = None
    checkpoint_dir: str | None = None
    model: str | None = None
    replies: str | None = None
    fresh: bool = False
    no_fallback: bool = False
    verbose: bool = False
    quiet: bool = False


class EvalOptions(NamedTuple):
    """The command line of ``aethr eval`` as a record. None: not given."""

    cases: tuple[str, ...] = ()
    config: str | None = None
    preset: str | None = None
    live: bool | None = None
    model: str | None = None
    no_fallback: bool = False
    task: str | None = None
    tag: tuple[str, ...] = ()
    list: bool = False
    repeat: int = 1
    jobs: int = JOBS
    baseline: str | None = None
    min_recall: str | None = None
    max_false: str | None = None
    report: tuple[str, ...] = ()
    record: str | None = None
    replies: str | None = None
    max_cost: float | None = None
    max_tokens: int | None = None
    resume: str | None = None
    from_fix: str | None = None
    from_range: str | None = None
    out: str = "cases"
    severity: str = "medium"
    json: bool = False
    verbose: bool = False
    quiet: bool = False


class Option(NamedTuple):
    """One option: a ``flag``, a ``switch``, one ``value``, or a repeatable ``list``.

    A switch is turned off by ``off``, by default ``--no-x`` for ``--x``.
    """

    flag: str
    help: str
    kind: Literal["flag", "switch", "value", "list"] = "value"
    metavar: str = ""
    short: str = ""
    choices: tuple[str, ...] = ()
    convert: type = str
    off: str = ""
    off_help: str = ""

    @property
    def name(self) -> str:
        """The field of ``RunOptions``."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable that sets a default."""
        return ENVIRONMENT_PREFIX + self.name.upper()


OPTIONS: tuple[Option, ...] = (
    Option("--config", "the workflow file; default .aethr.yaml of this project", metavar="PATH"),
    Option("--preset", "a built-in workflow, without writing any file", metavar="NAME"),
    Option(
        "--step",
        "a step instead of a workflow file: its role and its instruction; repeatable",
        "list",
        metavar="ROLE:TEXT",
    ),
    Option(
        "--context",
        "the context of each --step, and of each step that reads git_diff; repeatable",
        "list",
        metavar="SOURCE",
    ),
    Option("--save", "write this workflow to .aethr.yaml when the run has completed, exit 0 or 1", "flag"),
    Option(
        "--diff",
        "what git_diff means: worktree, staged, head, all (new files too), REV, A..B or BASE...HEAD; "
        "default: worktree, or staged if nothing is unstaged",
        metavar="SCOPE",
    ),
    Option(
        "--pull-request",
        "review pull request N of this clone's repository on GitHub; posts nothing",
        metavar="N",
        convert=int,
    ),
    Option("--show-prompt", "print the exact prompts and call nothing", "flag"),
    Option("--run-commands", "with --show-prompt: run the commands that the context names", "flag"),
    Option(
        "--live",
        "call the models, whatever AETHR_LIVE says",
        "switch",
        off="--mock",
        off_help="call nothing, whatever AETHR_LIVE says: every answer is made up",
    ),
    Option("--stream", "show the answer as it arrives, or when it is complete", "switch"),
    Option(
        "--json", "print the run record to standard output, and everything else to standard error", "flag"
    ),
    Option(
        "--report",
        "also write the result here, in the format of the suffix: .html .md .json .txt .sarif "
        ".rdjson .codequality; repeatable",
        "list",
        metavar="PATH",
    ),
    Option("--fail-on", "the gate: exit 1 for a finding this severe, or more (default never)", choices=GATES),
    Option("--require-review", "exit 4 unless a real, complete review took place", "flag"),
    Option(
        "--shard", "review every N-th part of the change, from part I; `aethr merge` judges", metavar="I/N"
    ),
    Option("--max-cost", "stop before the call that would exceed it, exit 5", metavar="USD", convert=float),
    Option("--max-tokens", "stop before the call that would exceed it, exit 5", metavar="N", convert=int),
    Option(
        "--jobs",
        f"calls that run at once, where none needs another (default {JOBS})",
        metavar="N",
        convert=int,
    ),
    Option("--resume-checkpoint", "resume from a checkpoint; TASK may be left out", metavar="@FILE|JSON"),
    Option("--checkpoint-dir", "write checkpoints here, and keep them", metavar="DIR"),
    Option("--model", "call this model in every step, live: provider:model", metavar="MODEL"),
    Option("--replies", "use the answers in this file, to test a workflow; not a review", metavar="FILE"),
    Option("--fresh", "reuse no answer of an earlier review", "flag"),
    Option("--no-fallback", "use no fallback model", "flag"),
    Option(
        "--verbose", "show tracebacks, and the JSON of the checkpoint after a failure", "flag", short="-v"
    ),
    Option("--quiet", "show only the last step", "flag", short="-q"),
)

_SHARED = frozenset(
    (
        "config",
        "preset",
        "report",
        "max_cost",
        "max_tokens",
        "jobs",
        "checkpoint_dir",
        "live",
        "model",
        "fresh",
        "no_fallback",
        "verbose",
    )
)

HOOK_OPTIONS: tuple[Option, ...] = (
    Option("--task", "what to review for, instead of the usual instruction", metavar="TEXT"),
    Option(
        "--fail-on", "the gate: exit 1 for a finding this severe, or more (default revise)", choices=GATES
    ),
    Option(
        "--if-not-reviewed",
        "what a missing or incomplete review does: fail (default) or pass",
        choices=("fail", "pass"),
    ),
    *(option for option in OPTIONS if option.name in _SHARED),
)
"""The options of ``aethr hook``. It has no ``--diff``: the stage of the hook decides what is reviewed."""

_MERGED = frozenset(("fail_on", "require_review", "report", "json", "verbose", "quiet"))
MERGE_OPTIONS: tuple[Option, ...] = tuple(option for option in OPTIONS if option.name in _MERGED)
"""The options of ``aethr merge``."""

_EVALUATED = frozenset(("config", "preset", "live", "model", "no_fallback"))
EVALUATED_OPTIONS: tuple[Option, ...] = tuple(option for option in OPTIONS if option.name in _EVALUATED)
"""The options of ``aethr run`` that say what ``aethr eval`` evaluates: the environment can set them too."""
EVAL_OPTIONS: tuple[Option, ...] = (
    Option("--tag", "only cases with this tag; repeatable: any of them", "list", metavar="TAG"),
    Option("--list", "list the cases, and run nothing", "flag"),
    Option("--repeat", "run each case N times (default 1)", metavar="N", convert=int),
    Option(
        "--jobs", f"runs at once (default {JOBS}); one, if an agent edits files", metavar="N", convert=int
    ),
    Option("--task", "what to review for, instead of the usual instruction", metavar="TEXT"),
    Option("--baseline", "compare with the record (.json) of an earlier evaluation", metavar="RECORD"),
    Option("--min-recall", "exit 1 if it finds less: a share from 0 to 1, or 80%%", metavar="SHARE"),
    Option("--max-false", "exit 1 if more clean cases have a false alarm", metavar="SHARE"),
    Option("--report", "also write the report here (.md .json); repeatable", "list", metavar="PATH"),
    Option("--record", "keep every answer in this folder, to play it back", metavar="DIR"),
    Option("--replies", "answers to play: a folder of --record, or a YAML file", metavar="PATH"),
    Option("--max-cost", "stop before the run that would pass it, exit 5", metavar="USD", convert=float),
    Option("--max-tokens", "stop before the run that would pass it, exit 5", metavar="N", convert=int),
    Option("--resume", "finish the evaluation that stopped, from its folder", metavar="DIR"),
    Option("--from-fix", "make a case of a bug fix in this repository", metavar="COMMIT"),
    Option("--from-range", "propose fixes in this range to make cases of", metavar="A..B"),
    Option("--out", "the folder for the cases of these two; default: cases", metavar="DIR"),
    Option("--severity", "that of the defect in these cases (default medium)", choices=GATES[2:]),
    *EVALUATED_OPTIONS,
    Option("--json", "the record on standard output, everything else on standard error", "flag"),
    Option("--verbose", "tracebacks, and a line as each run begins", "flag", short="-v"),
    Option("--quiet", "the report alone, without a line for each run", "flag", short="-q"),
)
"""The options of ``aethr eval``."""

MOST_SHARDS = 1000
_SHARD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})", re.ASCII)

_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


def from_environment(environ: Mapping[str, str], options: tuple[Option, ...] = OPTIONS) -> dict[str, Any]:
    """Defaults from ``AETHR_RUN_…``, by field name. Raises ``UsageError`` naming the variable."""
    # A misspelled gate would not close. Options of the other commands are accepted.
    known = [option.name.upper() for option in (*OPTIONS, *HOOK_OPTIONS)]
    for variable, value in environ.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name != variable and name not in known and value.strip():
            near = suggest(name, known, f"'{ENVIRONMENT_PREFIX}{{}}'".format)
            raise UsageError(f"{variable}: no option has this name{near}", "Correct it, or unset it.")
    return {
        option.name: _convert(option, value)
        for option in options
        if (value := environ.get(option.variable, "").strip())
    }


def build(given: Mapping[str, Any]) -> RunOptions:
    """The options of a command line or an environment, by field name, as a record."""
    frozen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    return RunOptions(**frozen)


def build_eval(given: Mapping[str, Any]) -> EvalOptions:
    """The same for ``aethr eval``. Raises ``UsageError`` as ``check`` does."""
    frozen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    made = EvalOptions(**frozen)
    _require_values(made, EVAL_OPTIONS)
    _require_one(
        {"--config": made.config, "--preset": made.preset},
        {"--quiet": made.quiet, "--verbose": made.verbose},
        {"--record": made.record, "--replies": made.replies},
        {"--live": made.live, "--replies": made.replies},
        {"--list": made.list, "--from-fix": made.from_fix, "--from-range": made.from_range},
    )
    _require_positive(
        {
            "--repeat": made.repeat,
            "--jobs": made.jobs,
            "--max-cost": made.max_cost,
            "--max-tokens": made.max_tokens,
        }
    )
    if made.cases and (made.from_fix is not None or made.from_range is not None):
        option = "--from-fix" if made.from_fix is not None else "--from-range"
        raise UsageError(f"{option} makes cases, and takes none", "Leave CASES out; --out names the folder.")
    return made


def command_line(options: RunOptions | EvalOptions, table: tuple[Option, ...] = OPTIONS) -> list[str]:
    """The arguments that result in these options, without TASK, cases, and what to resume."""
    defaults = options._field_defaults
    words: list[str] = []
    for option in table:
        value = getattr(options, option.name)
        if option.name in ("resume_checkpoint", "resume") or value == defaults[option.name]:
            continue
        if option.kind == "flag":
            words.append(option.flag)
        elif option.kind == "switch":
            words.append(option.flag if value else option.off or option.flag.replace("--", "--no-", 1))
        else:
            for each in value if option.kind == "list" else (value,):
                words += [f"{option.flag}={each}"] if str(each).startswith("-") else [option.flag, str(each)]
    return words


def check(options: RunOptions) -> None:
    """Raises ``UsageError`` for options that exclude each other, and for invalid or empty values."""
    _require_values(options, OPTIONS)
    _require_one(
        {"--config": options.config, "--preset": options.preset, "--step": options.step},
        {"--diff": options.diff, "--pull-request": options.pull_request is not None},
        {"--quiet": options.quiet, "--verbose": options.verbose},
        {"--save": options.save, "--show-prompt": options.show_prompt},
        {"--replies": options.replies, "--show-prompt": options.show_prompt},
        {"--replies": options.replies, "--live": options.live},
    )
    if options.run_commands and not options.show_prompt:
        raise UsageError("--run-commands goes with --show-prompt", "A live run runs them anyway.")
    _require_positive(
        {
            "--max-cost": options.max_cost,
            "--max-tokens": options.max_tokens,
            "--jobs": options.jobs,
            "--pull-request": options.pull_request,
        }
    )
    if options.shard is not None:
        read_shard(options.shard)
        gate = "--require-review" if options.require_review else "--fail-on"
        if options.require_review or options.fail_on != "never":
            # One shard cannot decide it, and a gate without effect would look open.
            raise UsageError(f"{gate}: a shard has no gate", f"Give {gate} to `aethr merge`.")


def _require_values(options: RunOptions | EvalOptions, table: tuple[Option, ...]) -> None:
    for option in table:
        if getattr(options, option.name) == "":  # such as "$UNSET" in a script: the default was not meant
            raise UsageError(f"{option.flag}: its value is empty", "Give it one, or leave the option out.")


def _require_one(*groups: Mapping[str, object]) -> None:
    for alternatives in groups:
        given = [flag for flag, value in alternatives.items() if value]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other", "Give one of them.")


def _require_positive(numbers: Mapping[str, float | None]) -> None:
    for flag, number in numbers.items():
        if number is not None and not 0 < number < float("inf"):
            shown = number if isinstance(number, int) else f"{number:g}"  # an int may be too large for it
            raise UsageError(f"{flag} {shown}: not a positive number", f"Give {flag} more than 0.")


def read_shard(text: str) -> tuple[int, int]:
    """The two numbers of ``--shard I/N``. Raises ``UsageError``."""
    found = _SHARD.fullmatch(text)
    number, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= of <= MOST_SHARDS:
        raise UsageError(
            f"--shard {text}: not I/N with I from 1 to N", f"Write --shard 2/3; N is at most {MOST_SHARDS:,}."
        )
    return number, of


def _convert(option: Option, value: str) -> object:
    where = f"{option.variable}={value}"
    if option.kind in ("flag", "switch"):
        if value.lower() not in _BOOLEANS:
            raise UsageError(f"{where}: neither 1 nor 0", f"Set {option.variable} to 1 or 0.")
        return _BOOLEANS[value.lower()]
    if option.choices and value not in option.choices:
        raise UsageError(
            f"{where}: not one of {', '.join(option.choices)}", f"Set {option.variable} to one of them."
        )
    if option.kind == "list":
        return tuple(line.strip() for line in value.splitlines() if line.strip())
    try:
        return option.convert(value)
    except ValueError:
        raise UsageError(f"{where}: not a number", f"Set {option.variable} to a number.") from None
