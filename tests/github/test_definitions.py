"""action.yml and the workflows, checked by linters that know GitHub's schema and pitfalls."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = [ROOT / "action.yml", ROOT / "merge" / "action.yml"]


def tool(name: str) -> str:
    """A linter beside the Python that runs the tests, else on PATH; without one the test is skipped."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: pip install {name}")
    return found


def passes(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_actions_fit_their_schema() -> None:
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.github-actions", *ACTIONS)


def test_the_workflows_fit_their_schema() -> None:
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


def test_the_bots_configuration_fits_its_schema() -> None:
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.renovate", ".github/renovate.json")


@pytest.mark.parametrize(
    ("schema", "names"), [("forms", ("bug.yml", "feature.yml")), ("config", ("config.yml",))]
)
def test_the_forms_for_issues_fit_their_schema(schema: str, names: tuple[str, ...]) -> None:
    files = [ROOT / ".github" / "ISSUE_TEMPLATE" / name for name in names]
    passes(tool("check-jsonschema"), "--builtin-schema", f"vendor.github-issue-{schema}", *files)


def test_the_bot_finds_the_agents_and_the_actions_that_people_copy() -> None:
    """Its custom managers, read as it reads them: the pattern of the file, then that of the text."""
    found: dict[str, set[str]] = {}
    tracked = subprocess.run(
        ("git", "ls-files"), cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for manager in load(ROOT / ".github" / "renovate.json")["customManagers"]:
        files = [each.strip("/") for each in manager["managerFilePatterns"]]
        for name in (name for name in tracked if any(re.search(each, name) for each in files)):
            for pattern in manager["matchStrings"]:
                text = (ROOT / name).read_text(encoding="utf-8")
                for match in re.finditer(pattern.replace("(?<", "(?P<"), text):
                    found.setdefault(match["depName"], set()).add(match["currentValue"])
    agents = {"opencode-ai", "@anthropic-ai/claude-code", "@openai/codex"}
    assert agents | {"actions/checkout", "github/codeql-action"} <= found.keys()
    assert [name for name in agents if len(found[name]) != 1] == [], "CI and CONTRIBUTING.md name one version"


def test_zizmor_at_its_strictest_finds_nothing() -> None:
    passes(tool("zizmor"), "--offline", "--strict-collection", "--persona", "auditor", ".")


@pytest.mark.parametrize("file", [*ACTIONS, *WORKFLOWS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_third_party_actions_are_pinned_by_commit(file: Path) -> None:
    used = re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8"))
    assert used
    assert [name for name in used if name != "./" and not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []


def test_the_workflow_of_the_docs_is_short_and_fits_its_schema(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "action.md").read_text(encoding="utf-8")
    block = text.split("```yaml\n", 1)[1].split("```", 1)[0]
    assert len(block.splitlines()) < 20
    (tmp_path / "review.yml").write_text(block, encoding="utf-8")
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", tmp_path / "review.yml")


def test_the_docs_list_every_input_and_output() -> None:
    text = (ROOT / "docs" / "action.md").read_text(encoding="utf-8")
    rows = {
        name
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`([a-z-]+)`", row)
    }
    for action in map(load, ACTIONS):
        assert set(action["inputs"]) | set(action["outputs"]) <= rows


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def test_what_both_actions_have_is_the_same_in_both() -> None:
    review, merge = map(load, ACTIONS)
    assert {name: review["inputs"][name] for name in merge["inputs"]} == merge["inputs"]
    said = {name: each["description"] for name, each in review["outputs"].items()}
    assert {name: each["description"] for name, each in merge["outputs"].items()}.items() <= said.items()
    of_review, of_merge = (
        {step.get("id"): step for step in each["runs"]["steps"]} for each in (review, merge)
    )
    assert of_review["python"] == of_merge["python"]
    assert of_merge["merge"]["env"].items() <= of_review["review"]["env"].items()


def test_the_merge_has_every_input_but_those_of_a_call() -> None:
    review, merge = map(load, ACTIONS)
    calls = {
        "task",
        "max-cost",
        "max-tokens",
        "shard",
        "jobs",
        "fresh",
        "no-fallback",
        *(n for n in review["inputs"] if n.endswith("-on-pull-requests")),
    }
    assert set(merge["inputs"]) == set(review["inputs"]) - calls
    assert set(review["outputs"]) - set(merge["outputs"]) == {"checkpoint", "record"}


def test_the_workflow_on_demand_has_the_rights_and_the_guards_that_its_section_explains() -> None:
    text = (ROOT / "docs" / "action.md").read_text(encoding="utf-8")
    section = text.partition("\n## On demand\n")[2]
    # The key `on` is True in YAML 1.1.
    found = yaml.safe_load(section.split("```yaml\n", 1)[1].split("```", 1)[0])
    job = found["jobs"]["review"]
    checkout, aethr = job["steps"]
    assert found[True] == {"issue_comment": {"types": ["created"]}}
    assert found["permissions"] == {"contents": "read", "pull-requests": "write", "statuses": "write"}
    assert "concurrency" not in found, "any comment would join it"
    assert "github.event.issue.number" in job["concurrency"]["group"]
    assert "cancel-in-progress" not in job["concurrency"], "a command of anybody would stop a review"
    assert "ref" not in checkout["with"]
    assert set(aethr["with"]) == {"api-key"}
