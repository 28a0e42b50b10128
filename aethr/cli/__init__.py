"""The command line: the table ``COMMANDS``, its parser, and the exit code of the command that runs.

The module of a command is imported when that command runs, so that `aethr version` does not load them all.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Collection, Sequence

from aethr import __version__
from aethr.base import edge
from aethr.base.errors import ExitCode, UsageError
from aethr.base.words import fold, suggest, terminal_width, two_columns

TYPE_CHECKING = False  # as type checkers know it: to import typing takes a tenth of `aethr version`
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from aethr.base.options import Option

DESCRIPTION = "Run explicit AI coding workflows from one YAML file."

GC_THRESHOLD = 50_000
"""The threshold of generation 0: at its default, loading the modules would run the collector 50 times."""

FIRST_STEPS = {
    "aethr init": "choose a workflow; writes .aethr.yaml",
    'aethr run "review my changes"': "a mock: no key, no cost",
    "aethr auth login openai": "stores the key; runs are real if you say so",
}
"""What to do after installing, in this order."""

RUN_DESCRIPTION = """\
Run the workflow of this project on TASK.

Without TASK your editor opens, as with `git commit`; `-` reads it from standard input.
Models are called only with --live, AETHR_LIVE=1, AETHR_MODEL or --model: otherwise the run
is a mock, and says so. --mock makes it one.
"""

EXIT_CODES = """\
exit codes: 0 completed, 1 the gate closed, 2 wrong usage or configuration, 3 a model, git,
the network or the disk failed, 4 not reviewed, 5 over budget, 130/143 interrupted, 70 a bug
"""
"""Of the commands that review. The others have a line of their own, for what they can end with."""

RUN_EPILOG = f"""\
The environment can set each option too: AETHR_RUN_FAIL_ON=high is --fail-on high.

{EXIT_CODES}
example:
  aethr run --preset review-existing-diff "review my current changes before I commit"
"""

DEMO_DESCRIPTION = """\
Review an example: a small change with three defects, and an answer that was written for it. No model is
called, nothing is sent, and nothing is left on the disk. Diff, prompt, reading and output are those of a run.
"""

MERGE_DESCRIPTION = """\
Merge the records of shards (`aethr run --shard I/N --report FILE.json`): one review, its reports
and its exit code, as one run would have had. A missing shard makes it incomplete. Nothing is called.
"""

MERGE_EPILOG = f"""\
The environment can set each option too: AETHR_RUN_FAIL_ON=high is --fail-on high.

{EXIT_CODES}
example:
  aethr merge shard-*.json --fail-on high --report review.md
"""

EVAL_DESCRIPTION = """\
Run the workflow of this project over CASES, changes with a known answer, and say how much of it the
workflow finds, and how often it raises a false alarm.

A case is a folder with base/, head/ (or change.patch) and expect.yaml. As in `aethr run`, models are called
only with --live, AETHR_LIVE=1, AETHR_MODEL or --model; the estimate of what that costs comes first.
"""

EVAL_EPILOG = """\
exit codes: 0 measured, 1 below --min-recall or above --max-false, 2 wrong usage, cases or answers,
3 a run failed, 4 not reviewed, 5 over budget, 130/143 interrupted, 70 a bug

examples:
  aethr eval --preset review-existing-diff --model openai:gpt-5.4-mini
  aethr eval my-cases --replies my-cases/recorded --min-recall 80%
"""

CHECK_DESCRIPTION = """\
Validate a workflow file; print it as a map, and the most that a run of it can take: calls, tokens
and dollars, by the price file that LiteLLM brings. Nothing is called.

With --against, print what differs from the file of that revision instead: prompts, models, hosts, agents,
commands, exclusions, limits and answers, the guidance that the workflow reads, and what a run needs at most.
"""

DOCTOR_DESCRIPTION = """\
Say what is here: git, the workflow, mock or live and why, models and their retirement, keys (never a value),
agents, hooks and endpoints; and what to do next. Nothing is called, and nothing of the tree is started. The
output has no key, no user name and no home folder, so that it can go into a bug report.
"""

DOCTOR_EPILOG = """\
exit codes: 0 ready, or the code that `aethr run` would end with: 2 the workflow file, a setting or a key,
3 git, an agent or, with --online, the network. A mock needs neither key nor agent nor network.

example:
  aethr doctor --online
"""

MODELS_DESCRIPTION = """\
List the models that a workflow can name: price, window and longest answer in tokens, effort, the day of
retirement, how Aethr calls it, and whether its key is set. Nothing is called.

All words of TEXT must be in the name. Without TEXT: the models of providers whose key is set, or that need
none. Prices are US dollars for a million tokens, by the price file that LiteLLM brings.
"""

MODELS_EPILOG = """\
On a pipe, each line has tabs between its columns, no title, and whole numbers.

exit codes: 0 listed, 1 no model matches

examples:
  aethr models sonnet
  aethr models --json gpt-5 | jq -r '.[] | select(.key_set).name'
"""

ANSWER_DESCRIPTION = """\
Answer a finding: say why it may stay. The answer is appended to `answers:` at the end of .aethr.yaml, and
nothing else in the file changes. It covers the same defect at the same place, as long as that code stays as
it is and the finding is not more severe. Reports list it with its reason, and it no longer closes a gate.

Which finding it is comes from the record of the run, or from --severity and --message.
"""

ANSWER_EPILOG = """\
exit codes: 0 written or listed, 2 wrong usage, or no such finding, 3 the disk failed

example:
  aethr run --report review.json --fail-on medium "review my changes"
  aethr answer f2a91c40b7de --record review.json --reason "the process lives for one request"
"""

HOOK_DESCRIPTION = """\
Review what is about to be committed or pushed, as a hook of pre-commit or prek.

The change is what is staged or, on a push and with --from-ref and --to-ref, that range of commits. The
default without a .aethr.yaml is the preset review-existing-diff. The output is short and plain.
"""

HOOK_EPILOG = f"""\
The environment can set each option too: AETHR_RUN_FAIL_ON=high is --fail-on high.

{EXIT_CODES}
example, in .pre-commit-config.yaml:
  - repo: https://github.com/aethr/action
    rev: v1.0.0
    hooks:
      - id: aethr-review
        args: [--fail-on, high]
"""

COMPLETION_EPILOG = """\
exit codes: 0 printed, 2 no such shell

bash:  aethr completion bash > ~/.local/share/bash-completion/completions/aethr
zsh:   aethr completion zsh > ~/.zfunc/_aethr     (with fpath+=~/.zfunc before compinit in ~/.zshrc)
fish:  aethr completion fish > ~/.config/fish/completions/aethr.fish

example:
  aethr completion bash > ~/.local/share/bash-completion/completions/aethr
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process."""
    words = list(sys.argv[1:] if argv is None else argv)
    return edge.guarded(lambda: _dispatch(words), verbose="-v" in words or "--verbose" in words)


def program() -> NoReturn:
    """The installed command: ``main`` as a process."""
    gc.set_threshold(GC_THRESHOLD)
    edge.leave(main())


class _Parser(argparse.ArgumentParser):
    """argparse, with one line and exit code 2 for a mistake instead of the whole usage."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        if ": not allowed with argument " in message:
            second, first = message.removeprefix("argument ").split(": not allowed with argument ")
            raise UsageError(f"{first} and {second} exclude each other", "Give one of them.")
        raise UsageError(message, f"See `{self.prog} --help`.")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write, and fail where the output is full or closed: argparse ignores both."""
        (file or sys.stdout).write(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Suggest the nearest choice for an unknown name, instead of listing them all."""
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        near = suggest(str(value), known)
        if action.option_strings:
            self.error(f"{action.option_strings[-1]} {value}: not one of {', '.join(known)}{near}")
        self.error(
            f"no {str(action.metavar).lower()} '{value}'{near or ' (one of ' + ', '.join(known) + ')'}"
        )

    # The stubs of argparse overload this for every kind of namespace.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown words in the command they belong to, which knows its options, not at the top."""
        options, unknown = super().parse_known_args(args, namespace)
        if not unknown:
            return options, unknown
        word = unknown[0]
        if word.startswith("-"):
            option = word.partition("=")[0]  # its value may be a key
            self.error(f"no option '{option}'{suggest(option, self._option_string_actions)}")
        if self.prog == "aethr auth login":  # the word may be a key
            raise UsageError(
                "a key cannot be an argument", "Leave it out to be asked; or pipe it in: --key-stdin."
            )
        quote = "Put TASK in quotes, as one argument."
        fix = quote if self.prog == "aethr run" else f"See `{self.prog} --help`."
        raise UsageError(f"one argument too many: '{word}'", fix)


class Command:
    """A row of the command line: its line in the list of commands, its help page, and what runs it.

    ``function`` is named ``module:function``, as an entry point is, and gets the arguments by their names.
    """

    def __init__(
        self,
        summary: str,
        function: str,
        description: str,
        epilog: str,
        add_arguments: Callable[[_Parser], None] = lambda _: None,
    ) -> None:
        self.summary = summary
        self.function = function
        self.description = description
        self.epilog = epilog
        self.add_arguments = add_arguments


def build_parser(chosen: Collection[str] | None = None) -> _Parser:
    """The command line; only the ``chosen`` commands, by default all, get their arguments.

    To make those of all commands takes longer than to start Python.
    """
    parser = _Parser(prog="aethr", description=DESCRIPTION, epilog="" if chosen else _list_first_steps())
    parser.add_argument("--version", action="version", version=f"aethr {__version__}")
    parser.set_defaults(function="aethr.cli:welcome")
    _add_commands(parser.add_subparsers(prog="aethr", metavar="COMMAND"), COMMANDS, chosen)
    return parser


def _add_commands(parsers: Any, commands: dict[str, Command], chosen: Collection[str] | None) -> None:
    for name, command in commands.items():
        parser = parsers.add_parser(name, help=command.summary, argument_default=argparse.SUPPRESS)
        if chosen is None or name in chosen:
            parser.description, parser.epilog = command.description, command.epilog
            parser.set_defaults(function=command.function)
            command.add_arguments(parser)


def _dispatch(words: list[str]) -> int:
    parser = build_parser([word for word in words if not word.startswith("-")][:1])
    try:
        arguments = vars(parser.parse_args(words))
    except SystemExit:  # after --help and --version; mistakes are UsageErrors
        return ExitCode.OK
    module, _, function = arguments.pop("function").partition(":")
    __import__(module)  # importlib would be one more module to load
    code: int = getattr(sys.modules[module], function)(**arguments)
    return code


def _add_init_arguments(parser: _Parser) -> None:
    parser.add_argument("preset", metavar="PRESET", nargs="?", default=None, help="asked for by default")
    parser.add_argument(
        "--list", dest="only_list", action="store_true", default=False, help="list the presets"
    )
    parser.add_argument("--force", action="store_true", default=False, help="overwrite .aethr.yaml")


def _add_run_arguments(parser: _Parser) -> None:
    from aethr.base.options import OPTIONS

    parser.add_argument("task", metavar="TASK", nargs="?", help="what to do, as one argument; - is stdin")
    for option in OPTIONS:
        _add_option(parser, option)


def _add_merge_arguments(parser: _Parser) -> None:
    from aethr.base.options import MERGE_OPTIONS

    parser.add_argument("records", metavar="RECORD", nargs="+", help="the JSON report of a shard")
    for option in MERGE_OPTIONS:
        _add_option(parser, option)


def _add_eval_arguments(parser: _Parser) -> None:
    from aethr.base.options import EVAL_OPTIONS

    parser.add_argument(
        "cases",
        metavar="CASES",
        nargs="*",
        default=[],
        help="folders of cases, or cases; default: those that come with Aethr",
    )
    for option in EVAL_OPTIONS:
        _add_option(parser, option)


def _add_answer_arguments(parser: _Parser) -> None:
    from aethr.base.records import SEVERITIES

    for names, settings in (
        (["place"], {"metavar": "ID", "nargs": "?", "help": "the id that reports print with the finding"}),
        (["--reason"], {"metavar": "TEXT", "help": "why it may stay"}),
        (["--record"], {"metavar": "FILE", "help": "the record (.json) of the run that found it"}),
        (["--severity"], {"choices": SEVERITIES, "help": "without a record: the severity of the finding"}),
        (["--message"], {"metavar": "TEXT", "help": "without a record: what the finding says"}),
        (["--remove"], {"metavar": "ID", "help": "take an answer away"}),
        (["--config"], {"metavar": "PATH", "help": "the workflow file; default .aethr.yaml of this project"}),
    ):
        parser.add_argument(*names, default=None, **settings)
    parser.add_argument(
        "--list", dest="only_list", action="store_true", default=False, help="list the answers"
    )


def _add_check_arguments(parser: _Parser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="*", default=[], help="default: this project's file")
    parser.add_argument(
        "--against",
        metavar="REV",
        default=None,
        help="what has changed since this revision, instead of the map",
    )
    parser.add_argument("--mermaid", action="store_true", default=False, help="the map as a chart for GitHub")
    parser.add_argument("--no-fallback", action="store_true", default=False, help="count no fallback model")


def _add_doctor_arguments(parser: _Parser) -> None:
    for name, dest, said in (
        ("--online", "online", "connect to the endpoints of the models, without a key"),
        ("--json", "as_json", "a JSON object"),
    ):
        parser.add_argument(name, dest=dest, action="store_true", default=False, help=said)


def _add_models_arguments(parser: _Parser) -> None:
    parser.add_argument("text", metavar="TEXT", nargs="*", default=[], help="words of the name")
    for name, dest, said in (
        ("--all", "every", "models of all providers, and those that were retired"),
        ("--json", "as_json", "a JSON array, with an object for each model"),
    ):
        parser.add_argument(name, dest=dest, action="store_true", default=False, help=said)


def _add_hook_arguments(parser: _Parser) -> None:
    from aethr.base.options import HOOK_OPTIONS

    for option in HOOK_OPTIONS:
        _add_option(parser, option)


def _add_action_arguments(parser: _Parser) -> None:
    parser.add_argument(
        "part",
        metavar="PART",
        nargs="?",
        choices=("review", "merge"),
        default="review",
        help="review (the default), or merge: one review of all shards",
    )


def _add_option(parser: _Parser, option: Option) -> None:
    names = [option.short, option.flag] if option.short else [option.flag]
    settings: dict[str, Any] = {"help": option.help, "dest": option.name}
    if option.kind == "flag":
        settings["action"] = "store_true"
    elif option.off:
        _add_pair(parser, option)
        return
    elif option.kind == "switch":
        settings["action"] = argparse.BooleanOptionalAction
    else:
        settings |= {"type": option.convert, "metavar": option.metavar or None}
        settings["choices"] = option.choices or None
        settings["action"] = "append" if option.kind == "list" else "store"
    parser.add_argument(*names, **settings)


def _add_pair(parser: _Parser, option: Option) -> None:
    """A switch that has two names of its own, of which only one may be given."""
    pair = parser.add_mutually_exclusive_group()
    for flag, action, said in (
        (option.flag, "store_true", option.help),
        (option.off, "store_false", option.off_help),
    ):
        pair.add_argument(flag, action=action, dest=option.name, default=argparse.SUPPRESS, help=said)


def _add_auth_actions(parser: _Parser) -> None:
    _add_commands(parser.add_subparsers(metavar="ACTION", required=True), AUTH_ACTIONS, None)


def _add_login_arguments(parser: _Parser) -> None:
    from aethr.base.providers import LOGINS

    parser.add_argument("provider", metavar="PROVIDER", choices=tuple(LOGINS), help=", ".join(LOGINS))
    parser.add_argument("--key-stdin", action="store_true", default=False, help="read the key from stdin")
    parser.add_argument(
        "--live",
        action=argparse.BooleanOptionalAction,
        help="also write AETHR_LIVE=1 to .env, so that runs of this project call models; default: "
        "asked for on a terminal, else not",
    )


def _add_shell_argument(parser: _Parser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


COMMANDS = {
    "init": Command(
        "write .aethr.yaml from a preset",
        "aethr.cli.init:main",
        "Write .aethr.yaml in this folder from a preset.",
        "exit codes: 0 written or listed, 2 wrong usage, or the file exists, 3 the disk failed\n\n"
        "examples:\n  aethr init --list\n  aethr init review-existing-diff",
        _add_init_arguments,
    ),
    "demo": Command(
        "show a review of an example, without a key",
        "aethr.cli.demo:main",
        DEMO_DESCRIPTION,
        "exit codes: 0 shown, 2 wrong usage, 3 git or the disk failed\n\nexample:\n  aethr demo",
    ),
    "run": Command(
        "run the workflow on a task", "aethr.cli.run:main", RUN_DESCRIPTION, RUN_EPILOG, _add_run_arguments
    ),
    "merge": Command(
        "merge the records of shards into one review",
        "aethr.cli.merge:main",
        MERGE_DESCRIPTION,
        MERGE_EPILOG,
        _add_merge_arguments,
    ),
    "doctor": Command(
        "say what is installed and set up here, and what to do next",
        "aethr.cli.doctor:main",
        DOCTOR_DESCRIPTION,
        DOCTOR_EPILOG,
        _add_doctor_arguments,
    ),
    "check": Command(
        "validate a workflow file and show what a run may cost",
        "aethr.cli.check:main",
        CHECK_DESCRIPTION,
        "exit codes: 0 valid, 2 a mistake, or wrong usage, 3 git failed\n\n"
        "examples:\n  aethr check .aethr.yaml\n  aethr check --against main",
        _add_check_arguments,
    ),
    "models": Command(
        "list models, with price, window and key",
        "aethr.cli.models:main",
        MODELS_DESCRIPTION,
        MODELS_EPILOG,
        _add_models_arguments,
    ),
    "eval": Command(
        "measure what the workflow finds, on changes with a known answer",
        "aethr.cli.evaluate:main",
        EVAL_DESCRIPTION,
        EVAL_EPILOG,
        _add_eval_arguments,
    ),
    "answer": Command(
        "say why a finding may stay",
        "aethr.cli.answers:main",
        ANSWER_DESCRIPTION,
        ANSWER_EPILOG,
        _add_answer_arguments,
    ),
    "hook": Command(
        "review a commit or a push, under pre-commit or prek",
        "aethr.cli.hook:main",
        HOOK_DESCRIPTION,
        HOOK_EPILOG,
        _add_hook_arguments,
    ),
    "action": Command(
        "review a pull request, inside of GitHub Actions",
        "aethr.cli.action:main",
        "Review the change of a GitHub workflow's event. The Action calls it; see docs/action.md.",
        f"{EXIT_CODES}\nexample, as a step of a workflow:\n  - uses: aethr/action@v1",
        _add_action_arguments,
    ),
    "auth": Command(
        "store a provider's key, or show which are set",
        "aethr.cli.auth:status",
        "Store a provider's key in this project's .env, or show where each key comes from.",
        "exit codes: 0 shown, 2 wrong usage\n\nexample:\n  aethr auth status",
        _add_auth_actions,
    ),
    "schema": Command(
        "print the JSON Schema of .aethr.yaml",
        "aethr.cli.check:print_schema",
        "Print the JSON Schema of .aethr.yaml, for editors.",
        "exit codes: 0 printed, 2 wrong usage\n\nexample:\n  aethr schema > aethr.schema.json",
    ),
    "completion": Command(
        "print a completion script for bash, zsh or fish",
        "aethr.cli.completion:main",
        "Print a script that completes commands, options, choices and the names of presets.",
        COMPLETION_EPILOG,
        _add_shell_argument,
    ),
    "version": Command(
        "print the version",
        "aethr.cli:print_version",
        "Print the version.",
        "exit codes: 0 printed, 2 wrong usage\n\nexample:\n  aethr version",
    ),
}

AUTH_ACTIONS = {
    "login": Command(
        "store a key in .env",
        "aethr.cli.auth:login",
        "Ask for a provider's key, hidden, and store it in this project's .env with mode 0600.",
        "exit codes: 0 stored, 2 no key, or a .env that would not be read, 3 the disk failed\n\n"
        "examples:\n  aethr auth login openai\n  aethr auth login openai --key-stdin --live <key.txt",
        _add_login_arguments,
    ),
    "status": Command(
        "show which keys are set, and where",
        "aethr.cli.auth:status",
        "Show which providers' keys are set, and whether in the environment or in .env.",
        "exit codes: 0 shown, 2 wrong usage\n\nexample:\n  aethr auth status",
    ),
}


def print_version() -> int:
    """Print the version."""
    sys.stdout.write(f"aethr {__version__}\n")
    return ExitCode.OK


def welcome() -> int:
    """Print what `aethr` without a command prints: what it is, and the first steps."""
    about = "\n".join(fold(DESCRIPTION, terminal_width(sys.stdout)))
    sys.stdout.write(f"{about}\n\n{_list_first_steps()}\n`aethr --help` lists all commands.\n")
    return ExitCode.OK


def _list_first_steps() -> str:
    numbered = {f"{number}. {words}": said for number, (words, said) in enumerate(FIRST_STEPS.items(), 1)}
    return "first steps:\n" + two_columns(numbered, sys.stdout, "  ")
