"""``instructions:`` reach the prompts of the steps that read a file that matches, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from aethr import engine
from aethr.base.records import Allowance, Gate, Plan, Scope
from aethr.llm import ATTEMPTS
from aethr.workflow import estimate, planning
from aethr.workflow.planning import Terms
from tests.fake_agent import DIALECTS, install
from tests.live import PASS, Aethr, aethr, project, serving, temp
from tests.model_server import ModelServer, text
from tests.support import Repo, prompts
from tests.support import aethr as command

__all__ = ["aethr", "project", "temp"]

WORKFLOW = """\
workflow: w
roles: {{reviewer: "Review it.", thinker: "Think."}}
models: {{reviewer: "openai:gpt-4o-mini", thinker: "openai:gpt-4o-mini"}}
steps:
  - {{id: think, role: thinker, context: ["file:README.md"]}}
  - {{id: review, role: reviewer, context: [git_diff], history_visibility: none}}
exclude: ["skipped/"]
instructions:
  - {{paths: [{paths}], text: "MIND THIS."}}
"""
LINE = "(patterns as in .gitignore):\n\nMIND THIS.\n"


def sent(server: ModelServer) -> list[str]:
    return [body["messages"][0]["content"] for body in server.bodies]


@pytest.mark.parametrize(
    ("paths", "reaches"),
    [
        ('"*.sql"', True),
        ("db/", True),
        ("/db/new.sql", True),
        ("old.sql", True),  # the name before the rename
        ('"*", "!*.sql"', True),  # app.py
        ("app.py, gone.txt", True),
        ("gone.txt", True),  # deleted
        ('"*.sql", "!db/new.sql", "!old.sql"', False),
        ("sql", False),
        ("new.sql/", False),
        ("README.md", False),  # read, but not changed
        ("skipped/", False),  # excluded by rule
        ('"*.lock"', False),  # excluded by default
        ('"DB/"', False),
    ],
)
def test_an_instruction_reaches_the_step_that_reads_a_file_that_matches(
    project: Repo, paths: str, reaches: bool
) -> None:
    rows = "".join(f"create table t{n};\n" for n in range(9))
    project.write("old.sql", rows)
    project.write("gone.txt", "gone\n")
    project.git("checkout", "-q", "app.py")
    project.write(".aethr.yaml", WORKFLOW.format(paths=paths))
    project.commit()
    project.write("app.py", "x = 1\n")
    project.write("db/new.sql", rows + "drop table users;\n")
    for name in ("old.sql", "gone.txt"):
        (project.root / name).unlink()
    for name in ("skipped/a.py", "yarn.lock"):
        project.write(name, "x\n")
    shown = prompts("--diff", "all", "look", cwd=project.root).decode()
    assert "rename from old.sql" in shown
    assert shown.count("MIND THIS") == reaches
    if reaches:
        told = ", ".join(f"`{each}`" for each in paths.replace('"', "").split(", "))
        assert f"\n\nReview it.\n\nFor the changed files that match {told} {LINE}\nThe blocks above" in shown


def test_patterns_are_relative_to_the_folder_of_the_workflow_file(project: Repo) -> None:
    project.write("shop/.aethr.yaml", WORKFLOW.format(paths="/a.py"))
    project.write("shop/README.md")
    project.write("a.py")
    project.commit()
    project.write("a.py", "x = 1\n")
    shop = project.root / "shop"
    assert "MIND THIS" not in prompts("look", cwd=shop).decode()
    project.write("shop/a.py", "x = 1\n")
    assert "MIND THIS" in prompts("--diff", "all", "look", cwd=shop).decode()


def test_instructions_follow_the_order_of_the_file_and_are_not_interpreted(project: Repo) -> None:
    project.write(
        ".aethr.yaml",
        WORKFLOW.format(paths='"*.py"')
        + '  - {paths: [nowhere], text: "NOT THIS."}\n'
        + '  - {paths: ["`a`", app.py], text: "{role} %s {0}\\nmore"}\n',
    )
    shown = prompts("look", cwd=project.root).decode()
    assert "NOT THIS" not in shown
    assert f"{LINE}\nFor the changed files that match ``a``, `app.py` " in shown
    assert "\n\n{role} %s {0}\nmore\n\nThe blocks above" in shown


def test_each_part_of_a_change_has_the_instructions_for_its_own_files(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.git("checkout", "-q", "app.py")
    workflow = WORKFLOW.format(paths="cart.py").replace("exclude:", "limits: {context_chars: 1500}\nexclude:")
    project.write(".aethr.yaml", workflow)
    project.commit()
    for name in ("cart", "order", "price", "stock"):
        project.write(f"{name}.py", "".join(f"{name}_{n} = {n}\n" for n in range(80)))
    with serving(monkeypatch, always=text(PASS)) as server:
        assert aethr("run", "--diff", "all", "--jobs", "1", "look").code == 0
    _, *parts = sent(server)
    assert len(parts) > 2
    assert [LINE in part for part in parts] == ["+cart_1 = 1\n" in part for part in parts]
    assert sum(LINE in part for part in parts) == 1


def test_what_an_agent_changed_decides_for_the_step_that_reads_it(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says = DIALECTS["opencode"]
    script = f"cat >{tmp_path}/prompt.txt\nmkdir -p db\necho x >>db/a.sql\n" + says.says(
        *says.text("Done."), *says.finish()
    )
    install(tmp_path / "bin", says, script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    project.write(
        ".aethr.yaml",
        'workflow: w\nroles: {coder: "Code.", reviewer: "Review it."}\n'
        'models: {coder: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}\n'
        "steps:\n  - {id: code, role: coder, backend: opencode, context: [git_diff]}\n"
        "  - {id: review, role: reviewer, context: [latest_diff]}\n"
        "instructions:\n  - {paths: [db/], text: FOR THE TABLES.}\n"
        "  - {paths: [app.py], text: FOR THE CODE.}\n",
    )
    project.git("add", ".aethr.yaml")
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr("run", "look")
    assert done.code == 0, done.err
    agents = (tmp_path / "prompt.txt").read_text(encoding="utf-8")
    assert ("FOR THE CODE" in agents, "FOR THE TABLES" in agents) == (True, False)
    [reviewed] = sent(server)
    assert ("FOR THE CODE" in reviewed, "FOR THE TABLES" in reviewed) == (False, True)


def test_a_changed_instruction_makes_the_results_of_its_readers_stale(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workflow = WORKFLOW.format(paths="app.py")
    folder = tmp_path / "checkpoints"
    project.write(".aethr.yaml", workflow)
    with serving(monkeypatch, *[text(PASS)] * 2) as server:
        assert aethr("run", f"--checkpoint-dir={folder}", "look").code == 0
        (file,) = folder.iterdir()
        project.write(".aethr.yaml", workflow.replace("MIND THIS", "MIND THAT"))
        done = aethr("run", f"--resume-checkpoint=@{file}")
    assert done.code == 2
    assert "step 'review' is finished in the checkpoint, and its instructions changed" in done.err
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ("git_diff", "1 file of the present change"),
        ("latest_diff", "the change is only known during the run"),
        ("file:app.py", "no step reads a change"),
    ],
)
def test_check_counts_the_files_that_match(project: Repo, context: str, said: str) -> None:
    workflow = WORKFLOW.format(paths='"*.py", "!b.py"').replace("git_diff", context)
    project.write(".aethr.yaml", workflow + "  - {paths: [nowhere], text: x}\n")
    project.write("b.py")
    project.git("add", "-N", "b.py")
    shown = command("check", cwd=project.root).stdout.splitlines()
    assert f"  instruction for *.py, !b.py: {said}" in shown
    assert f"  instruction for nowhere: {said.replace('1 file', '0 files')}" in shown


def test_a_pattern_is_checked_as_those_of_exclude_are(project: Repo) -> None:
    project.write(".aethr.yaml", WORKFLOW.format(paths='"a/../b", "#a", "b["'))
    said = command("check", cwd=project.root).stderr
    project.write(".aethr.yaml", WORKFLOW.format(paths="a").replace('"skipped/"', '"a/../b", "#a", "b["'))
    as_excluded = command("check", cwd=project.root).stderr
    messages = [line.split(": ", 1)[1] for line in as_excluded.splitlines() if line.startswith(".aethr")]
    assert len(messages) == 3
    assert [line.split(": ", 1)[1] for line in said.splitlines() if line.startswith(".aethr")] == messages


def planned(project: Repo, workflow: str) -> Plan:
    project.write(".aethr.yaml", workflow)
    bound = planning.bind(
        planning.open_project(project.root, None, None), Terms("mock", None, Gate(), Allowance()), {}
    )
    return planning.plan(bound, "look", Scope())


def test_the_most_that_a_run_needs_has_each_instruction_in_each_part_of_a_change_to_come(
    project: Repo,
) -> None:
    def most(instructions: Sequence[str]) -> int:
        workflow = WORKFLOW.format(paths="x").partition("instructions:")[0].replace("git_diff", "latest_diff")
        workflow += "limits: {context_chars: 2000}\n"
        listed = "".join(f"  - {{paths: [nowhere], text: {text}}}\n" for text in instructions)
        plan = planned(project, workflow + (f"instructions:\n{listed}" if listed else ""))
        return estimate.estimate(plan, engine.preview(plan)).most[0].input_tokens

    assert most(["x" * 1000, "é" * 500]) - most([]) >= 2 * 1000 * ATTEMPTS * 16
