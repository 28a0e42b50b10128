"""The recipe of one workflow file for terminal, hook and Action: the page's files end the same in each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from aethr.cli import main
from tests.github.conftest import Act
from tests.github.support import PullRequest, open_pull_request
from tests.live import KEY
from tests.model_server import ModelServer
from tests.pages import of_kind
from tests.worlds import HIGH, LOW

pytestmark = pytest.mark.slow

PAGE = "docs/recipes.md"
SECTION = next(
    block for block in of_kind("file") if block.page == PAGE and "house-review" in block.text
).section
FILES = {
    block.about: block.text for block in of_kind("file") if (block.page, block.section) == (PAGE, SECTION)
}


@pytest.fixture
def pull_request(tmp_path: Path) -> PullRequest:
    """A pull request onto a branch that has the recipe's files."""
    return open_pull_request(tmp_path, {"README.md": "# A shop\n", **FILES})


@pytest.mark.parametrize(("answer", "code", "status"), [(HIGH, 1, "revise"), (LOW, 0, "pass")])
def test_one_workflow_ends_the_same_in_each_way_to_run_it(
    pull_request: PullRequest,
    act: Act,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    answer: str,
    code: int,
    status: str,
) -> None:
    action = yaml.safe_load(FILES[".github/workflows/review.yml"])["jobs"]["review"]["steps"][1]["with"]
    hook = yaml.safe_load(FILES[".pre-commit-config.yaml"])["repos"][0]["hooks"][0]["args"]
    with ModelServer([answer] * 3) as server:
        step = act(pull_request, server, variables={"AETHR_RUN_FAIL_ON": action["fail-on"]})
        local = pull_request.checkout("local", commit=pull_request.base)
        local.write("app.py", pull_request.origin.git("show", f"{pull_request.head}:app.py"))
        local.git("add", "-A")
        for name, value in {
            "AETHR_LIVE": "1",
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": KEY,
            "RUNNER_TEMP": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(local.root)
        by_hand = main(["run", "--diff", "staged", "--fail-on", "high", "--json", "review this"])
        record = json.loads(capsys.readouterr().out)
        hooked = main(["hook", *hook, "--report", str(tmp_path / "hook.json")])
    assert (step.code, by_hand, hooked) == (code, code, code), step.log
    assert (step.outputs["status"], record["review"]["status"]) == (status, status)
    assert record["review"] == json.loads((tmp_path / "hook.json").read_text())["review"]
    assert record["review"] == json.loads(Path(step.outputs["report"]).read_text())["review"]
    reviewed = [[line for line in diff_of(body) if line[:1] in "+-"] for body in server.bodies]
    assert reviewed[0] == reviewed[1] == reviewed[2] != []


def diff_of(body: dict[str, list[dict[str, str]]]) -> list[str]:
    """The lines of the change in a prompt."""
    prompt = body["messages"][0]["content"]
    return prompt[prompt.index("diff --git") : prompt.index("# Task")].splitlines()
