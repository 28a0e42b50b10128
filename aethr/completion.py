"""Shell completion as static scripts for bash, zsh and fish, made from the parser itself (pure).

A static script answers at once and needs nothing of Aethr while one types. Its words are those of the
parser: commands, options, choices; by the name of a value it is known what stands for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from aethr.options import SCOPES
from aethr.presets import PRESETS

Values = tuple[str, ...] | Literal["files", "folders"]

VALUES: Mapping[str, Values] = {
    "PRESET": tuple(PRESETS),
    "NAME": tuple(PRESETS),
    "SCOPE": SCOPES,
    "SOURCE": ("git_diff", "latest_diff"),
    "PATH": "files",
    "FILE": "files",
    "@FILE|JSON": "files",
    "DIR": "folders",
}
"""What completes a value, by its name in the help; nothing does where it has choices or is not here."""


class Argument(NamedTuple):
    """An option with its names, or a positional without one. ``values`` is None for a flag or free text."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    values: Values | None


class Command(NamedTuple):
    """A command by its words (``auth login``), what it takes, and the commands below it."""

    words: tuple[str, ...]
    help: str
    arguments: tuple[Argument, ...]
    below: tuple[Command, ...] = ()

    @property
    def options(self) -> tuple[Argument, ...]:
        return tuple(each for each in self.arguments if each.names)

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(name for option in self.options for name in option.names)

    @property
    def positional(self) -> Values | None:
        """What completes its positional arguments."""
        return next((each.values for each in self.arguments if not each.names and each.values), None)


def described(parser: argparse.ArgumentParser, words: tuple[str, ...] = (), help: str = "") -> Command:  # noqa: A002
    """The command line as data."""
    arguments, below = [], []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of its arguments
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - nor a public name for this
            said = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            below += [described(one, (*words, name), said[name]) for name, one in action.choices.items()]
        else:
            arguments.append(_argument(action))
    return Command(words, help, tuple(arguments), tuple(below))


def every(command: Command) -> Iterator[Command]:
    """The command and all below it."""
    yield command
    for one in command.below:
        yield from every(one)


def _argument(action: argparse.Action) -> Argument:
    takes_value = action.nargs != 0
    values = tuple(map(str, action.choices)) if action.choices else VALUES.get(str(action.metavar))
    return Argument(
        tuple(action.option_strings), action.help or "", takes_value, values if takes_value else None
    )


# --- bash ----------------------------------------------------------------------------------------

_BASH = """\
# Completion of aethr for bash 3.2 and newer; made by `aethr completion bash`.
_aethr() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} at="" last i IFS=$' \\t\\n'
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        last="$at${{at:+ }}${{COMP_WORDS[i]}}"
        case $last in
{commands}) at=$last ;;
        *) break ;;
        esac
    done
    case "$at $prev" in
{values}
    esac
    case $cur in
    -*)
        case $at in
{flags}
        esac ;;
    *)
        case $at in
{words}
        esac ;;
    esac
}}
_aethr_words() {{ COMPREPLY=($(compgen -W "$1" -- "$2")); }}
_aethr_paths() {{
    local IFS=$'\\n' at=""
    case $2 in @*) at=@ ;; esac
    type compopt >/dev/null 2>&1 && compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -P "$at" "$1" -- "${{2#@}}"))
}}
complete -F _aethr aethr
"""


def bash(root: Command) -> str:
    commands = list(every(root))
    values = [
        f"    {_patterns(command, option)}) {_bash_call(option.values)}; return ;;"
        for command in commands
        for option in command.options
        if option.takes_value
    ]
    return _BASH.format(
        commands="        " + "|".join(_at(each) for each in commands if each.words),
        values="\n".join(values),
        flags="\n".join(f"        {_at(each)}) {_bash_call(each.flags)} ;;" for each in commands),
        words="\n".join(f"        {_at(each)}) {_bash_call(_next(each))} ;;" for each in commands),
    )


def _at(command: Command) -> str:
    return f'"{" ".join(command.words)}"'


def _patterns(command: Command, option: Argument) -> str:
    return "|".join(f'"{" ".join(command.words)} {name}"' for name in option.names)


def _bash_call(values: Values | None) -> str:
    if values is None:
        return ":"
    if isinstance(values, str):
        return f'_aethr_paths {"-f" if values == "files" else "-d"} "$cur"'
    return f'_aethr_words "{" ".join(values)}" "$cur"'


def _next(command: Command) -> Values | None:
    """What may follow a command's words: a command below it, or its positional arguments."""
    return tuple(one.words[-1] for one in command.below) or command.positional


# --- zsh -----------------------------------------------------------------------------------------


def zsh(root: Command) -> str:
    functions = [line for command in every(root) for line in _zsh_function(command)]
    head = ["#compdef aethr", "# Completion of aethr for zsh; made by `aethr completion zsh`."]
    end = [
        'if [ "$funcstack[1]" = "_aethr" ]; then',
        '    _aethr "$@"',
        "else",
        "    compdef _aethr aethr",
        "fi",
    ]
    return "\n".join([*head, *functions, *end]) + "\n"


def _zsh_function(command: Command) -> Iterator[str]:
    yield f"{'_'.join(('_aethr', *command.words))}() {{"
    if command.below:
        yield "    local curcontext=$curcontext state line"
    arguments = [f"        {spec}" for argument in command.arguments for spec in _zsh_specs(argument)]
    if command.below:
        named = " ".join(_zsh_quoted(f"{one.words[-1]}:{one.help}") for one in command.below)
        arguments += ["        '1: :->command'", "        '*:: :->arguments'"]
    yield " \\\n".join(["    _arguments" + " -C" * bool(command.below), *arguments])
    if command.below:
        yield "    case $state in"
        yield f"    command) local -a names=({named}); _describe command names ;;"
        yield "    arguments) case $line[1] in"
        for one in command.below:
            yield f"        {one.words[-1]}) {'_'.join(('_aethr', *one.words))} ;;"
        yield "    esac ;;"
        yield "    esac"
    yield "}"


def _zsh_specs(argument: Argument) -> Iterator[str]:
    value = ""
    if argument.takes_value:
        action = {"files": "_files", "folders": "_files -/"}.get(str(argument.values))
        if action is None:
            action = f"({' '.join(argument.values)})" if isinstance(argument.values, tuple) else " "
        value = f":value:{action}"
    said = argument.help.translate({ord(char): f"\\{char}" for char in "[]:"})
    if not argument.names and argument.values:
        yield _zsh_quoted(f"*{value}")
    for name in argument.names:
        yield _zsh_quoted(f"*{name}[{said}]{value}")


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- fish ----------------------------------------------------------------------------------------

_FISH = """\
# Completion of aethr for fish; made by `aethr completion fish`.
function __aethr_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l depth (count $argv)
    test $depth -eq 0; and return 0
    test (count $words) -ge $depth; and test (string join ' ' $words[1..$depth]) = (string join ' ' $argv)
end
function __aethr_next
    __aethr_at $argv; and test (count (commandline -opc)) -eq (math (count $argv) + 1)
end
complete -c aethr -f
"""


def fish(root: Command) -> str:
    return _FISH + "".join(f"{line}\n" for command in every(root) for line in _fish_lines(command))


def _fish_lines(command: Command) -> Iterator[str]:
    for one in command.below:
        yield f"{_fish_rule('next', command)} -a {one.words[-1]} -d {_fish_quoted(one.help)}"
    rule = _fish_rule("next" if command.below else "at", command)
    for argument in command.arguments:
        names, value = "".join(map(_fish_name, argument.names)), _fish_value(argument)
        if names or value:
            yield f"{rule}{names}{value} -d {_fish_quoted(argument.help)}"


def _fish_rule(where: str, command: Command) -> str:
    return f"complete -c aethr -n '{' '.join((f'__aethr_{where}', *command.words))}'"


def _fish_name(name: str) -> str:
    return f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}"


def _fish_value(argument: Argument) -> str:
    if not argument.takes_value:
        return ""
    need = " -r" if argument.names else ""
    if argument.values is None:
        return f"{need} -f" if need else ""
    if isinstance(argument.values, str):
        return f"{need} -F" if argument.values == "files" else f"{need} -f -a '(__fish_complete_directories)'"
    return f"{need} -f -a '{' '.join(argument.values)}'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Mapping[str, Callable[[Command], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""The shells there is completion for, and what makes their script."""


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The completion script of a shell in ``SHELLS`` for a parser."""
    return SHELLS[shell](described(parser))
