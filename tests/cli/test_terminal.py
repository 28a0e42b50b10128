"""A person's terminal: questions, the editor, a hidden key, panels; through a real pty."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import Repo

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")


WHICH = "Which one? (number or name; Enter: review-existing-diff) "
LIVE = "Call models in this project from now on (AETHR_LIVE=1 in .env)? [Y/n] "


def typed(
    words: Sequence[str], cwd: Path, dialogue: Sequence[tuple[str, str]] = (), **env: str
) -> tuple[int, str]:
    """Run ``aethr`` on a terminal of 80 columns (or ``COLUMNS``): wait for a text, type its answer."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "aethr", *words],
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **env},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    seen, waiting = "", list(dialogue)
    while chunk := _read(leader):
        seen += chunk
        if waiting and waiting[0][0] in seen:
            os.write(leader, waiting.pop(0)[1].encode())
    os.close(leader)
    assert not waiting, seen
    return child.wait(timeout=10), seen


def _read(leader: int) -> str:
    ready, _, _ = select.select([leader], [], [], 20)
    assert ready, "nothing more came"
    try:
        return os.read(leader, 65536).decode("utf-8", "replace")
    except OSError:  # how Linux says that the other side is closed
        return ""


@pytest.fixture
def project(repo: Repo) -> Repo:
    repo.write("app.py", "x = 1\n")
    repo.commit()
    repo.write("app.py", "x = 2\n")
    return repo


def editor(tmp_path: Path, script: str) -> str:
    path = tmp_path / "my editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f'"{path}" --wait'


def test_init_asks_for_a_preset_by_number_or_name(tmp_path: Path) -> None:
    code, seen = typed(["init"], tmp_path, [(WHICH, "2\n")])
    assert (code, "1  plan-implement-review" in seen) == (0, True)
    assert "workflow: review-existing-diff" in (tmp_path / ".aethr.yaml").read_text()
    assert all(len(line) <= 80 for line in seen.splitlines())
    code, _ = typed(["init", "--force"], tmp_path, [(WHICH, "custom\n")])
    assert "workflow: custom" in (tmp_path / ".aethr.yaml").read_text()
    code, seen = typed(["init", "--force"], tmp_path, [(WHICH, "\n")])
    assert (code, "from the preset review-existing-diff" in seen) == (0, True)
    assert "workflow: review-existing-diff" in (tmp_path / ".aethr.yaml").read_text()
    code, seen = typed(["init", "--force"], tmp_path, [(WHICH, "\x04")])
    assert (code, "no preset chosen" in seen) == (2, True)


def test_init_refuses_an_existing_workflow_before_asking(tmp_path: Path) -> None:
    (tmp_path / ".aethr.yaml").write_text("mine\n")
    code, seen = typed(["init"], tmp_path)
    assert (code, "Which one?" in seen, "already here" in seen) == (2, False, True)


@pytest.mark.parametrize("words", [[], ["init", "--list"], ["auth", "status"]])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_lists_fit_the_terminal(tmp_path: Path, words: list[str], columns: int) -> None:
    code, seen = typed(words, tmp_path, COLUMNS=str(columns))
    assert code == 0
    assert max(map(len, seen.splitlines())) <= columns


def test_the_editor_is_opened_for_the_task(project: Repo, tmp_path: Path) -> None:
    write = editor(tmp_path, 'echo "from the editor" >> "$2"')
    code, seen = typed(["run", "--preset", "custom", "--show-prompt"], project.root, EDITOR=write)
    assert code == 0
    assert re.search(r"task\r\nfrom the editor\r\n", seen)
    assert "Lines that start with #" not in seen


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("true", "the task is empty"),
        ("exit 3", "ended with exit code 3"),
        ('printf "\\351" > "$2"', "not UTF-8"),
    ],
)
def test_an_editor_that_gives_no_task_stops_the_run(
    project: Repo, tmp_path: Path, script: str, said: str
) -> None:
    code, seen = typed(["run", "--preset", "custom"], project.root, VISUAL=editor(tmp_path, script))
    assert (code, said in seen) == (2, True), seen


@pytest.mark.parametrize(
    ("answer", "live"),
    [("\n", True), ("y\n", True), ("YES\n", True), ("n\n", False), ("what?\n", False), ("\x04", False)],
)
def test_auth_login_offers_to_make_the_project_live(project: Repo, answer: str, live: bool) -> None:
    project.write(".env", "# mine\nAETHR_LIVE=0\n")
    dialogue = [("not shown: ", "sk-0123456789\n"), (LIVE, answer)]
    code, seen = typed(["auth", "login", "openai"], project.root, dialogue)
    assert code == 0, seen
    lines = (project.root / ".env").read_text().splitlines()
    assert lines == ["# mine", f"AETHR_LIVE={int(live)}", "OPENAI_API_KEY='sk-0123456789'"]
    option = "" if live else "--live "
    assert f'aethr run --preset review-existing-diff {option}"review my changes"' in seen


def test_auth_login_asks_only_where_the_answer_is_open(project: Repo) -> None:
    for words, environ in (
        (["--live"], {}),
        (["--no-live"], {}),
        ([], {"AETHR_LIVE": "1"}),
    ):
        _, seen = typed(
            ["auth", "login", "openai", *words], project.root, [("not shown: ", "sk-0123456789\n")], **environ
        )
        assert LIVE not in seen
    _, seen = typed(["auth", "login", "openai"], project.root, [("not shown: ", "'quoted'\n")])
    assert LIVE not in seen


def test_auth_login_hides_the_key(project: Repo) -> None:
    dialogue = [("not shown: ", "xai-secret-key\n"), (LIVE, "n\n")]
    code, seen = typed(["auth", "login", "xai"], project.root, dialogue)
    assert code == 0
    assert "xai-secret-key" not in seen
    assert "XAI_API_KEY='xai-secret-key'" in (project.root / ".env").read_text()
    assert 'aethr run --preset review-existing-diff --model xai:MODEL "review my changes"' in seen
    _, seen = typed(["auth", "status"], project.root, XAI_API_KEY="another-secret")
    assert "XAI_API_KEY (environment, which wins over .env)" in seen


def test_auth_login_ends_at_ctrl_d(project: Repo) -> None:
    code, seen = typed(["auth", "login", "openai"], project.root, [("not shown: ", "\x04")])
    assert (code, "\r\naethr: the key is empty\r\n" in seen) == (2, True)
    assert not (project.root / ".env").exists()


def test_a_run_on_a_terminal_draws_panels(project: Repo) -> None:
    code, seen = typed(["run", "--preset", "docs-sync", "x"], project.root)
    assert code == 0
    assert seen.count("╭") == 3
    assert "mock · review · reviewer" in seen
    assert seen.rfind("\x1b[?25h") >= seen.rfind("\x1b[?25l")


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_a_dumb_terminal_gets_no_colour(project: Repo, name: str) -> None:
    value = {"NO_COLOR": "1", "TERM": "dumb"}[name]
    code, seen = typed(["run", "--preset", "review-existing-diff", "x"], project.root, **{name: value})
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", seen)
    assert ("╭" in seen) == (name == "NO_COLOR")


def test_quiet_shows_only_the_last_panel(project: Repo) -> None:
    code, seen = typed(["run", "--preset", "docs-sync", "-q", "x"], project.root)
    assert (code, seen.count("╭")) == (0, 1)
    assert "NOT REVIEWED" in seen
