"""Every preset and every example, live: what its role texts speak of is in the prompts that are sent."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from aethr.config import PRESETS
from tests.fake_agent import DIALECTS, install
from tests.live import PASS, Aethr, aethr, project, serving, temp
from tests.model_server import Reply, text
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]

ROOT = Path(__file__).parents[2]
TASK = "THE TASK: charge a fee"
BODY = "".join(f"    net += {number}\n" for number in range(20))
APP = f"""\
def total(prices):
    net = sum(prices)
{BODY}    return net


def cheapest(prices):
    return min(prices)
"""
FILES = {
    "app.py": APP,
    "README.md": "# Shop\n\nTHE README: prices are whole cents.\n",
    "CONTRIBUTING.md": "THE GUIDANCE: no floats for money.\n",
    "docs/prices.md": "THE PAGE: a total has no fee.\n",
    "tests/test_app.py": "def test_total():\n    assert 'THE TEST'\n",
    "lib/elsewhere.py": "x = 1\n",
}
CHANGED = APP.replace("    return net\n", "    net += FEE\n    return net\n")

SPOKEN: dict[str, tuple[str, ...]] = {
    r"the task": (TASK,),
    r"(the|this|each) change\b(?! was)|the diff\b": ("+    net += FEE\n", "+edited = "),
    r"function around": ("def total(prices):\n",),
    r"changed files": ("    return min(prices)\n",),
    r"the commits": ("THE COMMIT: bill a fee",),
    r"pull request": (" pull_request\n",),
    r"guidance": ("THE GUIDANCE",),
    r"README": ("THE README",),
    r"names of the project's files": ("\nlib/elsewhere.py\n",),
    r"the documentation\b": ("THE PAGE",),
    r"none of the tests|tests that are there|those that are there": ("THE TEST",),
    r"output of the tests|tests print|in the output": ("OUTPUT OF tests",),
    r"the plan\b": ("ANSWER OF plan",),
    r"investigator found": ("ANSWER OF investigate",),
    r"analyst's list": ("ANSWER OF analyse",),
    r"reader's list": ("ANSWER OF find",),
    r"drafted passages": ("ANSWER OF draft",),
    r"the author wrote": ("ANSWER OF write",),
    r"the proposal": ("ANSWER OF think",),
    r"each finding against": ("the total forgets the fee",),
}
"""What a role text may speak of, and what is then in the prompt: one of these texts."""
AGAIN = r"a review (of an earlier pass )?is given"
"""What it may speak of from the second pass on."""
DISPROVED = """\
- {}: dropped — the fee is added
  ```
      net += 18
      net += 19
      net += FEE
      return net
  ```
"""
FINDING = "- [medium] app.py:23 — the total forgets the fee\n\nReview status: revise"
SLOW = ("add-tests", "debug-failing-test")
"""Each has an agent, as plan-implement-review has. The examples load LiteLLM."""
WORKFLOWS = [
    pytest.param(
        file,
        id=f"{file.parent.name}-{file.stem}",
        marks=[pytest.mark.slow] * (file.stem in SLOW or file.parent.name == "examples"),
    )
    for file in (
        *(ROOT / "presets" / f"{name}.yaml" for name in PRESETS),
        *sorted((ROOT / "examples").glob("*.yaml")),
    )
]


class Models:
    """Answers each step of a workflow, and keeps its prompts by the step's id.

    A reviewer in a loop finds something in its first pass. What a step is there to verify is found each time,
    by reviewers that answer when all of them have been asked, and is disproved.
    """

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self.prompts: dict[str, list[str]] = {step["id"]: [] for step in steps}
        self._steps = {step["id"]: step for step in steps}
        self._verified = [name for step in steps for name in step.get("verify", ())]
        self._all_asked = threading.Event()

    def __call__(self, body: dict[str, Any]) -> Reply:
        content = body["messages"][-1]["content"]
        prompt = content if isinstance(content, str) else "".join(part["text"] for part in content)
        [name] = re.findall(r'^You are the \S+ in the step "(\S+)" of the workflow', prompt, re.MULTILINE)
        self.prompts[name].append(prompt)
        step = self._steps[name]
        if name in self._verified:
            if all(self.prompts[each] for each in self._verified):
                self._all_asked.set()
            return replace(text(FINDING), gate=self._all_asked)
        if "verify" in step:
            count = len(re.findall(r"^\d+\. \[medium\] ", prompt, re.MULTILINE))
            assert count
            return text("".join(DISPROVED.format(number) for number in range(1, count + 1)) + "Checked: all")
        if step["role"] == "reviewer":
            return text(FINDING if "repeat" in step and len(self.prompts[name]) == 1 else PASS)
        return text(f"ANSWER OF {name}")


@pytest.fixture
def shop(project: Repo) -> Repo:
    """A change in the middle of a function, beside files that nothing touches."""
    project.git("checkout", "-q", "app.py")
    for name, content in FILES.items():
        project.write(name, content)
    project.commit()
    return project


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """An agent that edits, and tests that pass once it has edited twice; the prompts that the agent got."""
    says, kept = DIALECTS["opencode"], folder / "agent"
    kept.mkdir()
    count = f"$(ls {kept} | wc -l)"
    script = f'cat >{kept}/{count}\necho "edited = {count}" >>fee.py\n'
    install(folder / "bin", says, script + says.says(*says.text("ANSWER OF an agent"), *says.finish()))
    tests = folder / "bin" / "pytest"
    tests.write_text("#!/bin/sh\necho 'OUTPUT OF tests'\ngrep -sq 'edited = 1' fee.py\n")
    tests.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return lambda: [file.read_text(encoding="utf-8") for file in sorted(kept.iterdir())]


@pytest.mark.parametrize("file", WORKFLOWS)
def test_what_a_role_text_speaks_of_is_in_its_prompt(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    agents = stand_in(tmp_path, monkeypatch)
    shop.write("flow.yaml", file.read_text(encoding="utf-8"))
    shop.commit()
    shop.write("app.py", CHANGED)
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    roles, steps = workflow["roles"], workflow["steps"]
    scope = []
    if "commits" in steps[0]["context"]:
        shop.git("checkout", "-q", "-b", "topic")
        shop.commit("THE COMMIT: bill a fee")
        scope = ["--diff", "main...HEAD"]
    models = Models(steps)
    reviews = any(step["role"] == "reviewer" or step.get("review") for step in steps)
    gate = ["--fail-on", "medium"] if reviews else []
    with serving(monkeypatch, always=models):
        done = aethr("run", "--config", "flow.yaml", "--json", *gate, *scope, TASK)
    assert done.code == 0, done.err
    assert json.loads(done.out)["outcome"] == ("pass" if reviews else "not-reviewed")
    for step in steps:
        prompts, role = models.prompts[step["id"]] or agents(), roles[step["role"]]
        spoken = [found for phrase, found in SPOKEN.items() if re.search(phrase, role)]
        assert spoken, f"{step['id']}: its role speaks of nothing that the table has"
        for prompt in prompts:
            for found in spoken:
                assert any(each in prompt for each in found), (step["id"], found)
        if re.search(AGAIN, role):
            assert len(prompts) == 2
            assert "the total forgets the fee" in prompts[1]
