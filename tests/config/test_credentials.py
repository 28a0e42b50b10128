"""Keys and ``.env``: what is taken from it, what is not, what is written."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from aethr.base import secrecy
from aethr.base.errors import UsageError
from aethr.config import credentials
from tests.support import Repo, make_repo


@pytest.fixture
def project(repo: Repo) -> Repo:
    repo.write(".gitignore", ".env\n")
    repo.commit()
    return repo


def test_dotenv_gives_keys_switches_and_a_local_endpoint(project: Repo) -> None:
    project.write(
        ".env",
        "OPENAI_API_KEY='sk-1'\nexport AETHR_LIVE=1\nAETHR_MODEL=openai:x # note\n"
        "OPENAI_BASE_URL=http://127.0.0.1:8000/v1\n",
    )
    loaded = credentials.load(project.root)
    assert loaded.values == {
        "OPENAI_API_KEY": "sk-1",
        "AETHR_LIVE": "1",
        "AETHR_MODEL": "openai:x",
        "OPENAI_BASE_URL": "http://127.0.0.1:8000/v1",
    }
    assert loaded.warnings == ()


def test_other_variables_of_dotenv_are_named_without_values(project: Repo) -> None:
    names = ["GIT_CONFIG_COUNT", "LD_PRELOAD", "PATH", "EDITOR", "NODE_OPTIONS", "AETHR_RUN_FAIL_ON"]
    names.append("AETHR_TRANSPORT")
    project.write(".env", "".join(f"{name}=hidden-value\n" for name in names))
    loaded = credentials.load(project.root)
    assert loaded.values == {}
    assert len(loaded.warnings) == 1
    assert all(name in loaded.warnings[0] for name in names)
    assert "hidden-value" not in loaded.warnings[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1",
        "http://127.0.0.1@evil.example",
        "http://127.0.0.1.evil.example",
        "ftp://127.0.0.1",
        "http://[::1",
    ],
)
def test_dotenv_cannot_set_a_remote_endpoint(project: Repo, url: str) -> None:
    project.write(".env", f"OPENAI_BASE_URL={url}\n")
    loaded = credentials.load(project.root)
    assert loaded.values == {}
    assert "must come from the environment: OPENAI_BASE_URL" in loaded.warnings[0]


def test_dotenv_is_not_interpolated(project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_secret")
    project.write(".env", "OPENAI_API_KEY=${GITHUB_TOKEN}\n")
    assert credentials.load(project.root).values == {"OPENAI_API_KEY": "${GITHUB_TOKEN}"}


def test_a_tracked_dotenv_is_not_loaded(project: Repo) -> None:
    project.write(".env", "OPENAI_API_KEY=sk-from-somebody\n")
    project.git("add", "-f", ".env")
    loaded = credentials.load(project.root)
    assert loaded.values == {}
    assert "git tracks it" in loaded.warnings[0]


def test_a_dotenv_in_the_folder_above_is_not_loaded(project: Repo) -> None:
    project.write(".env", "OPENAI_API_KEY=sk-1\n")
    (project.root / "sub").mkdir()
    assert credentials.load(project.root / "sub") == credentials.NOTHING


def test_an_unreadable_dotenv_gives_one_warning_and_no_keys(project: Repo, tmp_path: Path) -> None:
    env = project.root / ".env"
    target = tmp_path / "target"
    target.write_text("OPENAI_API_KEY=sk-1\n")

    def fifo() -> None:
        os.mkfifo(env)

    for make in (
        lambda: env.symlink_to(target),
        lambda: env.symlink_to(tmp_path / "nowhere"),
        fifo,
        env.mkdir,
        lambda: env.write_bytes(b"OPENAI_API_KEY=\xe9\n"),
        lambda: env.write_bytes(b"A=1\n" * 20_000),
    ):
        make()
        loaded = credentials.load(project.root)
        assert (loaded.values, len(loaded.warnings)) == ({}, 1)
        env.rmdir() if env.is_dir() else env.unlink()


def test_outside_of_a_repository_dotenv_is_not_loaded(tmp_path: Path) -> None:
    """An unpacked archive."""
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-1\nAETHR_LIVE=1\n")
    loaded = credentials.load(tmp_path)
    assert loaded.values == {}
    assert "not in a git repository" in loaded.warnings[0]
    with pytest.raises(UsageError, match="not in a git repository"):
        credentials.login(tmp_path, "openai", "sk-1")
    make_repo(tmp_path)
    assert credentials.load(tmp_path).values == {"OPENAI_API_KEY": "sk-1", "AETHR_LIVE": "1"}


FOREIGN = "OPENAI_API_KEY=sk-foreign\nAETHR_LIVE=1\n# $Id$\n"


@pytest.fixture
def untracked(repo: Repo) -> Repo:
    """A repository that brought a .env, after the advised `git rm --cached .env`."""
    repo.write(".gitattributes", ".env ident text eol=crlf\n")
    repo.write("app/.env", FOREIGN)
    repo.write(".env", FOREIGN)
    repo.commit()
    for name in (".env", "app/.env"):
        (repo.root / name).unlink()
        repo.git("checkout", "--", name)
        repo.git("rm", "-q", "--cached", name)
    return repo


def refusal(root: Path) -> str:
    loaded = credentials.load(root)
    assert loaded.values == {}
    return loaded.warnings[0]


@pytest.mark.parametrize("folder", [".", "app"])
def test_a_dotenv_removed_from_git_is_not_loaded(untracked: Repo, folder: str) -> None:
    root = untracked.root / folder
    assert b"\r\n# $Id: " in (root / ".env").read_bytes()
    assert "in the last commit" in refusal(root)
    untracked.write(".gitignore", ".env\n")
    untracked.git("add", ".gitignore")
    untracked.git("commit", "-qm", "without")
    assert "in its history" in refusal(root)
    with pytest.raises(UsageError, match="in its history"):
        credentials.login(root, "openai", "sk-mine")
    untracked.git("checkout", "-q", "--orphan", "other")
    untracked.git("commit", "-qm", "another history")
    assert "in its history" in refusal(root)
    (root / ".env").unlink()
    credentials.login(root, "openai", "sk-mine")
    assert credentials.load(root).values == {"OPENAI_API_KEY": "sk-mine"}


def test_a_dotenv_that_was_only_stashed_is_loaded(project: Repo) -> None:
    project.write(".env", "OPENAI_API_KEY=sk-1\n")
    project.git("add", "-f", ".env")
    project.git("rm", "-q", "--cached", ".env")
    assert credentials.load(project.root).values == {"OPENAI_API_KEY": "sk-1"}


def test_searching_the_history_for_a_dotenv_runs_nothing(untracked: Repo, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{tmp_path}/sprung'\n")
    trap.chmod(0o755)
    untracked.git("commit", "-qm", "without")
    raw = untracked.git("cat-file", "commit", "HEAD")
    signed = raw.replace(
        "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n -----END PGP SIGNATURE-----\n\n", 1
    )
    words = ["git", "hash-object", "-t", "commit", "-w", "--stdin"]
    made = subprocess.run(words, cwd=untracked.root, input=signed, capture_output=True, text=True, check=True)
    untracked.git("update-ref", "refs/heads/main", made.stdout.strip())
    for name, value in {
        "log.showSignature": "true",
        "gpg.program": str(trap),
        "diff.external": str(trap),
    }.items():
        untracked.git("config", name, value)
    assert "in its history" in refusal(untracked.root)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("OPENAI_API_KEY='sk-open\nXAI_API_KEY=xai-1\n", 1),
        ("# mine\n\nOPENAI_API_KEY sk-open\nXAI_API_KEY=xai-1\n", 3),
        ("XAI_API_KEY=xai-1\r\n\r\n\r\nOPENAI_API_KEY: sk-open\r\n", 4),
        ('XAI_API_KEY=xai-1\nOPENAI_API_KEY="sk-open" x\n', 2),
        ("XAI_API_KEY=xai-1\nOPENAI_API_KEY\n", 2),
        ("=sk-open\nXAI_API_KEY=xai-1\n", 1),
    ],
)
def test_a_broken_line_of_dotenv_is_named_but_not_shown(
    project: Repo, text: str, line: int, capfd: pytest.CaptureFixture[str]
) -> None:
    project.write(".env", text)
    loaded = credentials.load(project.root)
    assert loaded.values == {"XAI_API_KEY": "xai-1"}
    assert loaded.warnings == (
        f".env:{line}: cannot be parsed; write NAME=value, and close the quotes around a value with spaces",
    )
    assert capfd.readouterr() == ("", "")


def test_many_broken_lines_of_dotenv_are_counted(project: Repo) -> None:
    project.write(".env", "no assignment\n" * 9)
    loaded = credentials.load(project.root)
    assert len(loaded.warnings) == 6
    assert loaded.warnings[-1] == ".env: 4 more lines cannot be parsed"


def test_login_writes_a_private_file_and_keeps_other_lines(project: Repo) -> None:
    before = "# mine\nOTHER='two\nlines OPENAI_API_KEY=no'\nexport OPENAI_API_KEY=old\nLAST=1"
    project.write(".env", before)
    (project.root / ".env").chmod(0o644)
    assert credentials.login(project.root, "openai", "sk-new") == ()
    assert credentials.login(project.root, "xai", "xai-1") == ()
    after = (project.root / ".env").read_text()
    assert after == before.replace("export OPENAI_API_KEY=old", "OPENAI_API_KEY='sk-new'") + (
        "\nXAI_API_KEY='xai-1'\n"
    )
    assert stat.S_IMODE((project.root / ".env").stat().st_mode) == 0o600
    assert credentials.load(project.root).values == {"OPENAI_API_KEY": "sk-new", "XAI_API_KEY": "xai-1"}


def test_login_warns_if_git_would_commit_dotenv(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r")
    assert "does not ignore .env" in credentials.login(repo.root, "openai", "sk-1")[0]
    repo.git("add", "-f", ".env")
    assert "git tracks .env" in credentials.login(repo.root, "openai", "sk-1")[0]


@pytest.mark.parametrize(
    "key", ["", "two words", "line\nbreak", "it's", "ключ", "back\\slash", "\x1b[0m", '"sk-1"', "“sk-1”"]
)
def test_login_refuses_an_invalid_key_without_repeating_it(project: Repo, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        credentials.login(project.root, "openai", key)
    assert not key or key not in str(caught.value)
    assert not (project.root / ".env").exists()


def test_login_does_not_write_through_a_link(project: Repo, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    (project.root / ".env").symlink_to(target)
    with pytest.raises(UsageError, match="not a regular file"):
        credentials.login(project.root, "openai", "sk-1")
    assert target.read_text() == ""


def test_the_values_to_hide_are_those_of_keys() -> None:
    environ = {
        "OPENAI_API_KEY": "sk-1 ",
        "MISTRAL_API_KEY": "m-1",
        "GITHUB_TOKEN": "ghs-1",
        "ANTHROPIC_AUTH_TOKEN": "a-1",
        "XAI_API_KEY": "",
        "TOKEN_COUNT": "5",
        "PATH": "/bin",
    }
    assert secrecy.found_in(environ) == ("a-1", "ghs-1", "m-1", "sk-1")
