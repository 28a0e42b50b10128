"""Completion scripts: everything the parser has is in them, and real shells complete with them."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aethr import cli, completion
from aethr.completion import SHELLS
from aethr.options import OPTIONS
from aethr.presets import PRESETS
from aethr.providers import LOGINS
from tests.support import aethr

COMMAND = completion.described(cli.build_parser())


def script(shell: str) -> str:
    return completion.script(shell, cli.build_parser())


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not here")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(tmp_path: Path, shell: str) -> None:
    done = aethr("completion", shell, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, script(shell), "")


def test_the_help_names_the_shells_there_are(tmp_path: Path) -> None:
    done = aethr("completion", "csh", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no shell 'csh' (did you mean '{next(s for s in SHELLS if s in done.stderr)}'?)" in done.stderr
    assert tuple(SHELLS) == ("bash", "zsh", "fish")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_option_choice_preset_and_provider_is_in_the_script(shell: str) -> None:
    words = set(re.findall(r"[\w.-]+", script(shell)))
    flags = {name for each in completion.every(COMMAND) for name in each.flags}
    assert {option.flag for option in OPTIONS} <= flags
    expected = {flag.lstrip("-") for flag in flags} | {w for c in completion.every(COMMAND) for w in c.words}
    expected |= {*PRESETS, *LOGINS, *(choice for option in OPTIONS for choice in option.choices)}
    assert {word.lstrip("-") for word in words} >= expected


CASES = [
    ("aethr ru", {"run"}),
    ("aethr auth ", {"login", "status"}),
    ("aethr auth login open", {"openai", "openrouter"}),
    ("aethr init ", set(PRESETS)),
    ("aethr run --preset re", {"review-existing-diff"}),
    ("aethr run --fail-on ", {"never", "revise", "low", "medium", "high"}),
    ("aethr run 'some task' --fail-o", {"--fail-on"}),
    ("aethr run --show-", {"--show-prompt"}),
    ("aethr run --config my", {"my flow.yaml"}),
    ("aethr run --checkpoint-dir fol", {"folder"}),
    ("aethr check ", {"my flow.yaml", "folder"}),
    ("aethr hook --if-not-reviewed ", {"fail", "pass"}),
    ("aethr run --context git", {"git_diff"}),
    ("aethr completion z", {"zsh"}),
    ("aethr run --max-cost ", set()),
    ("aethr version ", set()),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my flow.yaml").write_text("")
    (tmp_path / "folder").mkdir()
    return tmp_path


@needs("bash")
@pytest.mark.parametrize(("line", "offered"), CASES)
def test_bash_completes(folder: Path, line: str, offered: set[str]) -> None:
    driver = f"""{script("bash")}
    eval "COMP_WORDS=({line.rstrip()})"
    case $1 in *" ") COMP_WORDS+=("") ;; esac
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    _aethr
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-uc", driver, "bash", line], cwd=folder, capture_output=True, text=True, check=True
    )
    assert (set(filter(None, done.stdout.splitlines())), done.stderr) == (offered, "")


@needs("bash")
def test_bash_completes_a_checkpoint_behind_its_at_sign(folder: Path) -> None:
    driver = f"""{script("bash")}
    COMP_WORDS=(aethr run --resume-checkpoint @fol); COMP_CWORD=3; _aethr; echo "$COMPREPLY"
    """
    done = subprocess.run(["bash", "-c", driver], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "@folder\n"


@needs("fish")
@pytest.mark.slow
def test_fish_completes(folder: Path) -> None:
    (folder / "aethr.fish").write_text(script("fish"))
    for line, offered in CASES:
        asked = f'source aethr.fish; complete -C "{line}"'
        done = subprocess.run(
            ["fish", "--no-config", "-c", asked], cwd=folder, capture_output=True, text=True, check=True
        )
        found = {row.split("\t")[0].rstrip("/") for row in done.stdout.splitlines()} - {"aethr.fish"}
        if "--" in line.split()[-1] and not line.endswith(" "):
            found = {word for word in found if word.startswith(line.split()[-1])}  # fish guesses beyond
        assert (found, done.stderr) == (offered, ""), line


@needs("zsh")
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")
def test_zsh_completes(folder: Path) -> None:
    """A person's keys in an interactive zsh: where one completion is left, Tab puts it in."""
    (folder / "_aethr").write_text(script("zsh"))
    typed = {
        "ru\t--preset rev\ttask": "run|--preset|review-existing-diff|task",
        "auth lo\topena\t": "auth|login|openai",
        "run --config my\t--fail-on rev\t": "run|--config|my flow.yaml|--fail-on|revise",
        "init cus\t": "init|custom",
        "comp\tzs\t": "completion|zsh",
        "run --show-p\t--checkpoint-dir fol\t": "run|--show-prompt|--checkpoint-dir|folder/",
    }
    with Zsh(folder) as zsh:
        for keys, words in typed.items():
            zsh.type(f"aethr {keys}\r")
            zsh.wait_for(f"GOT<{words}>")


class Zsh:
    """An interactive zsh without any configuration, where ``aethr`` shows its arguments."""

    def __init__(self, folder: Path) -> None:
        import pty

        self._leader, follower = pty.openpty()
        self._seen = ""
        self._child = subprocess.Popen(
            ["zsh", "-f", "-i"],
            cwd=folder,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "200"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)

    def __enter__(self) -> Zsh:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        self.type("fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; unsetopt auto_remove_slash\r")
        self.type("aethr() { local IFS='|'; print -r -- \"GOT<$*>\" }; print READY${:-!}\r")
        self.wait_for("READY!")
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._leader)

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self._seen:
            ready, _, _ = select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text} did not come: {self._seen}"
            self._seen += os.read(self._leader, 65536).decode("utf-8", "replace")
