"""Shell completion: static scripts for bash, zsh and fish, which shtab makes from the parser.

A static script answers at once and starts no process while you type.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping

import shtab

from aethr.base.options import SCOPES
from aethr.base.providers import PROVIDERS
from aethr.cli import build_parser
from aethr.config import PRESETS
from aethr.context import SOURCES
from aethr.output.report import FORMATS

WORDS: Mapping[str, tuple[str, ...]] = {
    "preset": tuple(PRESETS),
    "diff": SCOPES,
    "context": tuple(row.name + ":" * (row.argument == "required") for row in SOURCES.values()),
    "model": tuple(f"{name}:" for name in PROVIDERS),
}
"""Words that complete an argument without choices of its own, by the argument's name."""

_YAML = shtab.glob("*.yaml", ".*.yaml", "*.yml", ".*.yml")
PATHS: Mapping[str, Mapping[str, object]] = {
    "paths": _YAML,
    "config": _YAML,
    "replies": _YAML,
    "records": shtab.glob("*.json"),
    "record": shtab.glob("*.json"),
    "report": shtab.glob(*(f"*{suffix}" for suffix in FORMATS)),
    "checkpoint_dir": shtab.DIRECTORY,
}
"""Files or folders that complete an argument, by the argument's name."""

_FIXES = {
    "bash": ("-- $1", '-- "$1"'),  # unquoted, the start of a name with a space is two words
    "zsh": ('"(*)::', '"*:'),  # as shtab writes a `*` positional, only its first value is completed
}
"""What is replaced in the scripts of shtab 1.13."""

_BASH = """

_aethr() {
  _shtab_aethr
  if ! type compopt >/dev/null 2>&1; then # bash 3 has no way to mark them as files, so quote them
    local i
    for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=$(printf %q "${COMPREPLY[i]}"); done
  elif [[ ${COMPREPLY-} == *: ]]; then # an argument follows
    compopt -o nospace
  fi
}
complete -o bashdefault -F _aethr aethr"""


def main(shell: str) -> int:
    """Print the script for ``shell``."""
    sys.stdout.write(script(shell, build_parser()))
    return 0


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The completion script of bash, zsh or fish. It changes ``parser``, which is not usable afterwards."""
    for action in _arguments(parser):
        action.metavar = None  # in the script of zsh the colon of ROLE:TEXT would begin a command
        if words := WORDS.get(action.dest):
            action.choices = words
            if shell == "zsh":  # without a space after a word that an argument follows
                whole = " ".join(word for word in words if not word.endswith(":"))
                prefixes = " ".join(word.replace(":", r"\:") for word in words if word.endswith(":"))
                command = f"{{compadd -- {whole}; compadd -S '' -- {prefixes}}}"
                action.complete = {"zsh": command}  # type: ignore[attr-defined] # shtab's own
        elif paths := PATHS.get(action.dest):
            action.complete = paths  # type: ignore[attr-defined]
        elif not action.option_strings and not action.choices:
            action.help = argparse.SUPPRESS  # zsh would offer no option in the place of this one
    made = shtab.complete(parser, shell).replace(*_FIXES.get(shell, ("", "")))
    return f"{made}{_BASH if shell == 'bash' else ''}\n"


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of all commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of its arguments
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - nor a public name for this
            for command in action.choices.values():
                command.description = None  # shtab shows its first line alone; the help is one line
                yield from _arguments(command)
        else:
            yield action
