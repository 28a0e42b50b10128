"""The command line: arguments to a plain record, one command, errors to exit codes. No decisions.

Nothing heavy is imported here: a command imports what it uses when it runs.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Collection, Sequence

from aethr import __version__
from aethr.base import edge
from aethr.base.errors import ExitCode, UsageError
from aethr.base.words import suggest

TYPE_CHECKING = False  # as type checkers know it: to import typing takes a tenth of `aethr version`
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from aethr.base.options import Option

    Command = Callable[[argparse.Namespace], int]

DESCRIPTION = "Run explicit AI coding workflows from one YAML file."

GARBAGE = 50_000
"""New objects that may be garbage before Python looks for some."""

FIRST_STEPS = {
    "aethr init": "choose a workflow; writes .aethr.yaml",
    'aethr run "review my changes"': "a mock: no key, no cost",
    "aethr auth login openai": "then AETHR_LIVE=1 makes it real",
}
"""What to do next after installing, in this order."""

RUN_DESCRIPTION = """\
Run the workflow of this project on TASK.

Without TASK your editor opens, as with `git commit`; `-` reads it from standard input.
No model is called unless AETHR_LIVE=1, AETHR_MODEL or --model says so: otherwise the run
is a mock, and says so.
"""

RUN_EPILOG = """\
Each option can be set in the environment too: AETHR_RUN_FAIL_ON=high is --fail-on high.

exit codes: 0 completed, 1 the gate closed, 2 wrong usage or configuration, 3 a model, git,
the network or the disk failed, 4 not reviewed, 5 over budget, 130/143 interrupted, 70 a bug

example:
  aethr run --preset review-existing-diff "review my current changes before I commit"
"""


HOOK_DESCRIPTION = """\
Review what is about to be committed or pushed, as a hook of pre-commit or prek.

The change is what is staged; on a push, and with --from-ref and --to-ref, that range of commits. Without
a .aethr.yaml the preset review-existing-diff is used. The output is short and plain.
"""

HOOK_EPILOG = """\
Each option can be set in the environment too: AETHR_RUN_FAIL_ON=high is --fail-on high.

example, in .pre-commit-config.yaml:
  - repo: https://github.com/aethr/action
    rev: v1.0.0
    hooks:
      - id: aethr-review
        args: [--fail-on, high]
"""


COMPLETION_EPILOG = """\
bash:  aethr completion bash > ~/.local/share/bash-completion/completions/aethr
zsh:   aethr completion zsh > ~/.zfunc/_aethr     (with fpath+=~/.zfunc before compinit in ~/.zshrc)
fish:  aethr completion fish > ~/.config/fish/completions/aethr.fish

example:
  aethr completion bash > ~/.local/share/bash-completion/completions/aethr
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give the process's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return edge.guarded(lambda: _dispatch(words), verbose="-v" in words or "--verbose" in words)


def program() -> NoReturn:
    """The installed command: ``main`` as a process."""
    # Modules make no garbage, yet Python looks for some 50 times while those of a run are loaded.
    gc.set_threshold(GARBAGE)
    edge.leave(main())


class _Parser(argparse.ArgumentParser):
    """argparse, with a mistake as one line and exit code 2 in place of a wall of usage."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"`{self.prog} --help` shows what there is.")

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own takes no notice of an output that is full or closed."""
        (file or sys.stdout).write(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """A name that is none of the choices gets the nearest one, not a list to search."""
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
        """Each command refuses by itself what it does not know, for it knows what was meant."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown[0])
        return options, unknown

    def _refuse(self, word: str) -> NoReturn:
        if word.startswith("-"):
            option = word.partition("=")[0]  # its value may be a key
            self.error(f"no option '{option}'{suggest(option, self._option_string_actions)}")
        if self.prog == "aethr auth login":
            raise UsageError("a key is no argument", "Leave it out to be asked; or pipe it in: --key-stdin.")
        fix = (
            "Put TASK in quotes, as one argument."
            if self.prog == "aethr run"
            else f"See `{self.prog} --help`."
        )
        raise UsageError(f"one argument too many: '{word}'", fix)


def build_parser(chosen: Collection[str] | None = None) -> _Parser:
    """The command line; only the ``chosen`` commands, by default all, get their arguments.

    To make those of all commands takes longer than to start Python.
    """
    parser = _Parser(prog="aethr", description=DESCRIPTION, epilog="" if chosen else _first_steps())
    parser.add_argument("--version", action="version", version=f"aethr {__version__}")
    parser.set_defaults(command=_welcome)
    commands = parser.add_subparsers(prog="aethr", metavar="COMMAND", parser_class=_Parser)
    for name, (summary, complete) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, argument_default=argparse.SUPPRESS)
        if chosen is None or name in chosen:
            complete(command)
    return parser


def _dispatch(words: list[str]) -> int:
    parser = build_parser([word for word in words if not word.startswith("-")][:1])
    try:
        options = parser.parse_args(words)
    except SystemExit:  # after --help and --version; whatever is wrong is a UsageError
        return ExitCode.OK
    command: Command = options.command
    return command(options)


def _complete_init(parser: _Parser) -> None:
    parser.description = "Write .aethr.yaml in this folder from a preset."
    parser.epilog = "example:\n  aethr init review-existing-diff"
    parser.add_argument("preset", metavar="PRESET", nargs="?", default=None, help="asked for when left out")
    parser.add_argument("--list", action="store_true", default=False, help="list the presets")
    parser.add_argument("--force", action="store_true", default=False, help="overwrite .aethr.yaml")
    parser.set_defaults(command=_init)


def _complete_run(parser: _Parser) -> None:
    from aethr.base.options import OPTIONS

    parser.description, parser.epilog = RUN_DESCRIPTION, RUN_EPILOG
    parser.add_argument("task", metavar="TASK", nargs="?", help="what to do, as one argument; - is stdin")
    for option in OPTIONS:
        _add_option(parser, option)
    parser.set_defaults(command=_run)


def _complete_check(parser: _Parser) -> None:
    parser.description = (
        "Validate a workflow file; print it as a map, and the most that a run of it can take: calls, tokens\n"
        "and dollars, by the price file that LiteLLM brings. Nothing is called."
    )
    parser.epilog = "example:\n  aethr check .aethr.yaml"
    parser.add_argument("path", metavar="PATH", nargs="*", default=[], help="default: this project's file")
    parser.add_argument("--mermaid", action="store_true", default=False, help="the map as a chart for GitHub")
    parser.set_defaults(command=_check)


def _complete_hook(parser: _Parser) -> None:
    from aethr.base.options import HOOK_OPTIONS

    parser.description, parser.epilog = HOOK_DESCRIPTION, HOOK_EPILOG
    for option in HOOK_OPTIONS:
        _add_option(parser, option)
    parser.set_defaults(command=_hook)


def _add_option(parser: _Parser, option: Option) -> None:
    names = [option.short, option.flag] if option.short else [option.flag]
    settings: dict[str, Any] = {"help": option.help, "dest": option.name}
    if option.kind == "flag":
        settings["action"] = "store_true"
    elif option.kind == "switch":
        settings["action"] = argparse.BooleanOptionalAction
    else:
        settings |= {"type": option.convert, "metavar": option.metavar or None}
        settings["choices"] = option.choices or None
        settings["action"] = "append" if option.kind == "list" else "store"
    parser.add_argument(*names, **settings)


def _complete_action(parser: _Parser) -> None:
    parser.description = (
        "Review the change of a GitHub workflow's event. The Action calls it; see docs/action.md."
    )
    parser.epilog = "example, as a step of a workflow:\n  - uses: aethr/action@v1"
    parser.set_defaults(command=_action)


def _complete_auth(parser: _Parser) -> None:
    parser.description = "Store a provider's key in this project's .env, or show where each key comes from."
    parser.epilog = "example:\n  aethr auth status"
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    _complete_login(actions.add_parser("login", help="store a key in .env"))
    _complete_status(actions.add_parser("status", help="show which keys are set, and where"))


def _complete_login(parser: _Parser) -> None:
    from aethr.base.providers import LOGINS

    parser.description = (
        "Ask for a provider's key, hidden, and store it in this project's .env with mode 0600."
    )
    parser.epilog = "example:\n  aethr auth login openai"
    parser.add_argument("provider", metavar="PROVIDER", choices=tuple(LOGINS), help=", ".join(LOGINS))
    parser.add_argument("--key-stdin", action="store_true", default=False, help="read the key from stdin")
    parser.set_defaults(command=_login)


def _complete_status(parser: _Parser) -> None:
    parser.description = "Show which providers' keys are set, and whether in the environment or in .env."
    parser.epilog = "example:\n  aethr auth status"
    parser.set_defaults(command=_status)


def _complete_schema(parser: _Parser) -> None:
    parser.description = "Print the JSON Schema of .aethr.yaml, for editors."
    parser.epilog = "example:\n  aethr schema > aethr.schema.json"
    parser.set_defaults(command=_schema)


def _complete_completion(parser: _Parser) -> None:
    parser.description = "Print a script that completes commands, options, choices and the names of presets."
    parser.epilog = COMPLETION_EPILOG
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")
    parser.set_defaults(command=_completion)


def _complete_version(parser: _Parser) -> None:
    parser.description = "Print the version."
    parser.epilog = "example:\n  aethr version"
    parser.set_defaults(command=_version)


COMMANDS: dict[str, tuple[str, Callable[[_Parser], None]]] = {
    "init": ("write .aethr.yaml from a preset", _complete_init),
    "run": ("run the workflow on a task", _complete_run),
    "check": ("validate a workflow file and show what a run may cost", _complete_check),
    "hook": ("review a commit or a push, under pre-commit or prek", _complete_hook),
    "action": ("review a pull request, inside of GitHub Actions", _complete_action),
    "auth": ("store a provider's key, or show which are set", _complete_auth),
    "schema": ("print the JSON Schema of .aethr.yaml", _complete_schema),
    "completion": ("print a completion script for bash, zsh or fish", _complete_completion),
    "version": ("print the version", _complete_version),
}
"""Each command: its line in the help, and what gives its parser the rest."""


def _run(options: argparse.Namespace) -> int:
    from aethr.base.options import build, from_environment
    from aethr.cli import run

    return run.main(build({**from_environment(os.environ), **_given(options)}))


def _hook(options: argparse.Namespace) -> int:
    from aethr.cli import hook

    return hook.main(_given(options))


def _action(_: argparse.Namespace) -> int:
    from aethr.cli import action

    return action.main()


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says, by the names of the fields."""
    return {name: value for name, value in vars(options).items() if name != "command"}


def _init(options: argparse.Namespace) -> int:
    from aethr.cli import init

    return init.show() if options.list else init.main(options.preset, force=options.force)


def _check(options: argparse.Namespace) -> int:
    from aethr.cli import check

    return check.main(options.path, mermaid=options.mermaid)


def _login(options: argparse.Namespace) -> int:
    from aethr.cli import auth

    return auth.login(options.provider, key_stdin=options.key_stdin)


def _status(_: argparse.Namespace) -> int:
    from aethr.cli import auth

    return auth.status()


def _schema(_: argparse.Namespace) -> int:
    from aethr.cli import check

    return check.print_schema()


def _completion(options: argparse.Namespace) -> int:
    from aethr.cli import completion

    sys.stdout.write(completion.script(options.shell, build_parser()))
    return ExitCode.OK


def _version(_: argparse.Namespace) -> int:
    sys.stdout.write(f"aethr {__version__}\n")
    return ExitCode.OK


def _welcome(_: argparse.Namespace) -> int:
    from aethr.output import columns

    about = columns.text(columns.folded(DESCRIPTION, columns.width(sys.stdout)))
    sys.stdout.write(f"{about}\n{_first_steps()}\n`aethr --help` lists all commands.\n")
    return ExitCode.OK


def _first_steps() -> str:
    from aethr.output import columns

    numbered = {f"{number}. {words}": said for number, (words, said) in enumerate(FIRST_STEPS.items(), 1)}
    return "first steps:\n" + columns.text(columns.pairs(numbered, columns.width(sys.stdout), "  "))
