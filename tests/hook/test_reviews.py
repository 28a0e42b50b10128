"""Live reviews through the installed hook: what blocks, what passes, and what is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hook.conftest import Hooked, sha
from tests.live import KEY, PASS, REVISE, serving
from tests.model_server import text
from tests.support import Repo

pytestmark = pytest.mark.slow

WORKFLOW = """\
workflow: ours
roles: {reviewer: "Review."}
steps:
  - {id: review, role: reviewer, context: [git_diff, file:README.md, "glob:docs/*.md"]}
"""


def test_a_high_finding_blocks_a_commit(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked.configure()
    hooked.install("pre-commit")
    hooked.repo.write("app.py", "total = 1\n")
    hooked.repo.git("add", "-A")
    prose = "A long explanation that belongs into a report.\n"
    with serving(monkeypatch, text(prose + REVISE), text(PASS)) as server:
        blocked = hooked.git("commit", "-m", "one")
        assert blocked.returncode != 0
        assert hooked.repo.git("log", "--all") == ""
        passed = hooked.git("commit", "-m", "one")
        assert passed.returncode == 0, passed.stdout
        monkeypatch.setenv("SKIP", "aethr-review")
        assert hooked.git("commit", "--amend", "--no-edit").returncode == 0
    assert len(server.bodies) == 2
    for line in (
        "Aethr: the staged change: 1 file",
        "Review status: revise; 1 high finding",
        "app.py:2: [high] the total is off by one",
        "exit code 1: gate closed (--fail-on revise): 1 high finding. "
        "To skip the review: SKIP=aethr-review git commit",
    ):
        assert line in blocked.stdout
    assert prose.strip() not in blocked.stdout
    assert "Review status: pass" in passed.stdout
    assert "1 step, 15 tokens, under $0.0001" in passed.stdout
    assert "(openai:gpt-5.4-mini)" in passed.stdout
    assert "exit code 0: completed" in passed.stdout
    assert KEY not in blocked.stdout + passed.stdout
    prompt = server.bodies[0]["messages"][0]["content"]
    assert "Review the change that is about to be committed." in prompt
    assert "Branch: main" in prompt


def test_a_push_without_a_review_is_blocked(hooked: Hooked, tmp_path: Path) -> None:
    remote, repo = tmp_path / "remote.git", hooked.repo
    Repo(tmp_path).git("init", "-q", "--bare", "-b", "main", str(remote))
    repo.git("remote", "add", "origin", str(remote))
    repo.write("README.md", "as on main\n")
    repo.commit()
    repo.git("push", "-q", "origin", "main")
    repo.git("checkout", "-q", "-b", "topic")
    repo.write("app.py", "total = 1\n")
    repo.write("README.md", "as in the pushed commit\n")
    repo.write("docs/a.md", "documented in the pushed commit\n")
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.write(".aethr.yaml", WORKFLOW)
    repo.write("README.md", "as in the work tree\n")
    repo.write("docs/b.md", "only in the work tree\n")
    hooked.configure("--report", str(hooked.record))
    hooked.install("pre-push")
    done = hooked.git("push", "origin", "topic")
    assert done.returncode != 0
    assert repo.git("ls-remote", "origin", "topic") == ""
    assert "Aethr: the push of topic to origin" in done.stdout
    assert "exit code 4: not reviewed. To skip the review: SKIP=aethr-review git push" in done.stdout
    record = json.loads(hooked.record.read_text(encoding="utf-8"))
    files = [each for each in record["steps"][0]["context"] if each["source"] != "git_diff"]
    assert {each["path"]: each["sha256"] for each in files} == {
        "README.md": sha("as in the pushed commit\n"),
        "docs/a.md": sha("documented in the pushed commit\n"),
    }
    assert record["task"].endswith("Branch: topic")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_lines_are_plain_in_a_terminal_too(hooked: Hooked) -> None:
    hooked.install("pre-commit")
    hooked.repo.write("app.py", "total = 1\n")
    hooked.repo.git("add", "-A")
    output = in_terminal(["git", "commit", "-m", "one"], hooked.repo.root)
    shown = [line.strip() for line in output.split("\r\n")]
    for line in (
        "Aethr: the staged change: 1 file, +1 -0",
        "NOT REVIEWED: mock mode: no model was called",
        "exit code 0 instead of 4, because of --if-not-reviewed=pass",
    ):
        assert shown.count(line) == 1, output


def in_terminal(words: list[str], cwd: Path) -> str:
    """What a command shows on a terminal of its own."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        words, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as child:
        os.close(theirs)
        chunks = []
        try:
            while chunk := os.read(ours, 1 << 16):
                chunks.append(chunk)
        except OSError:  # on Linux a terminal whose last user is gone reads as an error
            pass
        os.close(ours)
        assert child.wait(60) == 0, b"".join(chunks)
    return b"".join(chunks).decode()
