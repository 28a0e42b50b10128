"""Completion scripts: they have every word of the parser, and real shells complete with them."""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aethr import cli
from aethr.base.options import HOOK_OPTIONS, OPTIONS
from aethr.base.providers import LOGINS, PROVIDERS
from aethr.cli import completion
from aethr.config import PRESETS
from aethr.context import SOURCES
from aethr.output.report import FORMATS
from tests.support import aethr

SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    return completion.script(shell, cli.build_parser())


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not here")


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_prints_the_script(tmp_path: Path, shell: str) -> None:
    done = aethr("completion", shell, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, script(shell), "")


def test_completion_for_an_unknown_shell_is_refused(tmp_path: Path) -> None:
    done = aethr("completion", "csh", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"no shell 'csh' \(did you mean '(bash|zsh|fish)'\?\)", done.stderr)


def test_the_completion_tables_name_arguments() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for name, command in cli.COMMANDS.items():
        command.add_arguments(commands.add_parser(name))
    names = {action.dest for action in completion._arguments(parser)}
    assert {*completion.WORDS, *completion.PATHS} <= names


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_script_has_every_word(shell: str) -> None:
    options = (*OPTIONS, *HOOK_OPTIONS)
    expected = {
        *cli.COMMANDS,
        "login",
        "status",
        "key-stdin",
        "mermaid",
        "list",
        "force",
        "json",
        "all",
        "version",
        "help",
    }
    expected |= {option.flag.lstrip("-") for option in options} | {"no-stream"}
    expected |= {*PRESETS, *LOGINS, *PROVIDERS, *SOURCES, *SHELLS}
    expected |= {choice for option in options for choice in option.choices}
    assert {word.strip("-.") for word in re.findall(r"[\w.-]+", script(shell))} >= expected
    assert all(f"*{suffix}" in script(shell) for suffix in FORMATS)


CASES = [
    ("aethr ru", {"run"}),
    ("aethr mod", {"models"}),
    ("aethr models sonnet --j", {"--json"}),
    ("aethr auth ", {"login", "status"}),
    ("aethr auth login open", {"openai", "openrouter"}),
    ("aethr init ", set(PRESETS)),
    ("aethr run --preset review-e", {"review-existing-diff"}),
    ("aethr run --fail-on ", {"never", "revise", "low", "medium", "high"}),
    ("aethr run --diff ", {"worktree", "staged", "head", "all"}),
    ("aethr run 'some task' --fail-o", {"--fail-on"}),
    ("aethr run --show-", {"--show-prompt"}),
    ("aethr run --config my", {"my flow.yaml", "my other.yml"}),
    ("aethr run --config .a", {".aethr.yaml"}),
    ("aethr run --replies my", {"my flow.yaml", "my other.yml"}),
    ("aethr run --report ", {"notes.md", "last.sarif", "folder"}),
    ("aethr run --checkpoint-dir fol", {"folder"}),
    ("aethr run --resume-checkpoint no", set()),
    ("aethr check my", {"my flow.yaml", "my other.yml"}),
    ("aethr check one.yaml fol", {"folder"}),
    ("aethr hook --if-not-reviewed ", {"fail", "pass"}),
    ("aethr run --context ", {name + ":" * (row.argument == "required") for name, row in SOURCES.items()}),
    ("aethr hook --model open", {"openai:", "openrouter:"}),
    ("aethr completion z", {"zsh"}),
    ("aethr run --max-cost ", set()),
    ("aethr run --step ", set()),
    ("aethr version ", set()),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("my flow.yaml", "my other.yml", ".aethr.yaml", "notes.md", "last.sarif", "app.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder").mkdir()
    return tmp_path


@needs("bash")
@pytest.mark.parametrize(("line", "offered"), CASES)
def test_completion_works_in_bash(folder: Path, line: str, offered: set[str]) -> None:
    driver = f"""{script("bash")}
    eval "COMP_WORDS=({line.rstrip()})"
    case $1 in *" ") COMP_WORDS+=("") ;; esac
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    compopt() {{ :; }} # the real one works only inside of a completion
    _aethr
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-uc", driver, "bash", line], cwd=folder, capture_output=True, text=True, check=True
    )
    assert (set(filter(None, done.stdout.splitlines())), done.stderr) == (offered, "")


@needs("fish")
@pytest.mark.slow
def test_completion_works_in_fish(folder: Path) -> None:
    (folder / "aethr.fish").write_text(script("fish"))
    for line, offered in CASES:
        asked = f'source aethr.fish; complete -C "{line}"'
        done = subprocess.run(
            ["fish", "--no-config", "-c", asked], cwd=folder, capture_output=True, text=True, check=True
        )
        found = {row.split("\t")[0].rstrip("/") for row in done.stdout.splitlines()}
        assert (found, done.stderr) == (offered, ""), line


TYPED = {
    "ru\t--preset review-e\ttask": "run|--preset|review-existing-diff|task",
    "auth lo\topena\t": "auth|login|openai",
    "run --config my\tfl\t--fail-on rev\t": "run|--config|my flow.yaml|--fail-on|revise",
    "run --config my\\ f\t--quie\t": "run|--config|my flow.yaml|--quiet",
    'run --config "my f\t--quie\t': "run|--config|my flow.yaml|--quiet",
    "check my\to\tmy\tf\t": "check|my other.yml|my flow.yaml",
    "init cus\t": "init|custom",
    "comp\tzs\t": "completion|zsh",
    "run --show-p\t--checkpoint-dir fol\t": "run|--show-prompt|--checkpoint-dir|folder/",
    "run --context fi\tREADME.md": "run|--context|file:README.md",
    "run --context git\ttask": "run|--context|git_diff|task",
    "run --model opena\tgpt-5": "run|--model|openai:gpt-5",
    "run --step rev\t": "run|--step|rev",
    "check \\$\t": "check|$(touch pwned).yaml",
    "check b\t": "check|b`touch pwned`.yaml",
    "check semi\t": "check|semi;touch pwned;.yaml",
    'check "quo\t': 'check|quote";touch pwned;".yaml',
    "run $(touch pwned)\t --pres\t`touch pwned`\t\x15aethr version": "version",
}
"""What is typed behind ``aethr `` and what the command gets: where one completion is left, Tab puts it in."""

HOSTILE = (
    "$(touch pwned).yaml",
    "b`touch pwned`.yaml",
    "semi;touch pwned;.yaml",
    'quote";touch pwned;".yaml',
)


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param("bash", marks=needs("bash")),
        pytest.param("bash without compopt", marks=needs("bash")),  # that of macOS, version 3.2
        pytest.param("zsh", marks=[needs("zsh"), pytest.mark.slow]),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")
def test_completion_by_tab_runs_nothing(folder: Path, shell: str) -> None:
    for name in HOSTILE:
        (folder / name).write_text("")
    (folder / "_aethr").write_text(script(shell.split()[0]))
    typed = TYPED
    if shell == "bash without compopt":  # nothing tells it that a name is one of a file, or to add no space
        typed = {keys: words for keys, words in TYPED.items() if '"' not in keys and ":" not in words}
        typed["run --show-p\t--checkpoint-dir fol\t"] = "run|--show-prompt|--checkpoint-dir|folder"
    with Terminal(shell, folder) as terminal:
        for keys, words in typed.items():
            terminal.type(f"aethr {keys}\r")
            terminal.wait_for(f"GOT<{words}>")
    assert not (folder / "pwned").exists()


STARTS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
SETUPS = {
    "bash": "bind 'set bell-style none'; . ./_aethr",
    "bash without compopt": "bind 'set bell-style none'; enable -n compopt; . ./_aethr",
    # As it is bound at first, Tab itself runs the command in a typed `$(…)`.
    "zsh": "fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; unsetopt auto_remove_slash; "
    "bindkey '^I' complete-word",
}


class Terminal:
    """An interactive shell without any configuration, where ``aethr`` shows its arguments."""

    def __init__(self, shell: str, folder: Path) -> None:
        import pty

        self._shell = shell
        self._leader, follower = pty.openpty()
        self._seen = ""
        self._child = subprocess.Popen(
            STARTS[shell.split()[0]],
            cwd=folder,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "200", "HISTFILE": ""},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)

    def __enter__(self) -> Terminal:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        self.type(f"{SETUPS[self._shell]}\r")
        self.type("aethr() { local IFS='|'; printf 'GOT<%s>\\n' \"$*\"; }; echo READY${NOTHING}!\r")
        self.wait_for("READY!")
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._leader)

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until ``text`` comes, and forget what came before it."""
        deadline = time.monotonic() + 30
        while text not in self._seen:
            ready, _, _ = select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text} did not come: {self._seen}"
            self._seen += os.read(self._leader, 65536).decode("utf-8", "replace")
        before, _, self._seen = self._seen.partition(text)
        assert "not found" not in before
