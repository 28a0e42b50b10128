"""The README's commands are run as written, and what it shows of them is what they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support import Repo

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def block_after(comment: str, page: Path = README) -> str:
    text = page.read_text(encoding="utf-8")
    match = re.search(rf"^<!-- {comment} -->\n```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert match, f"no block after <!-- {comment} -->"
    return match[1]


def shape(output: str) -> str:
    """Output with what differs from one commit to the next taken out: ids, places, times."""
    output = re.sub(r"\b[0-9a-f]{12}\b", "ID", output)
    output = re.sub(r"\S+:\d+ —", "PLACE —", output)
    return re.sub(r"\d+(\.\d+)? ?s\b", "TIME", output)


def test_the_first_command_stands_before_line_20_and_shows_its_real_output(repo: Repo) -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.index("<!-- first command -->") < 19
    repo.write("app.py", "x = 1\n")
    repo.commit()
    repo.write("app.py", "x = 2\n")
    repo.commit()
    command = block_after("first command").splitlines()[-1]
    assert command.startswith(".venv/bin/aethr ")
    done = subprocess.run(
        ["bash", "-c", command.replace(".venv/bin/aethr", f'"{sys.executable}" -m aethr', 1)],
        cwd=repo.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert shape(done.stdout) == shape(block_after("its output"))


def test_the_page_on_testing_a_workflow_is_run_as_written(repo: Repo) -> None:
    page = ROOT / "docs" / "testing.md"
    repo.write("replies.yaml", block_after("replies.yaml", page))
    command = block_after("command", page).replace("aethr", f'"{sys.executable}" -m aethr', 1)

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command], cwd=repo.root, capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert shape(done.stdout).endswith(shape(block_after("its last lines", page)))
    repo.write("replies.yaml", block_after("replies.yaml", page).replace("status: pass", "status: revise"))
    assert run().returncode == 1


def test_every_promise_about_security_names_tests_that_are_there() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row) for row in rows]
    assert all(named)
    missing = [
        name for found in named for path, name in found if f"\ndef {name}(" not in (ROOT / path).read_text()
    ]
    assert missing == []
