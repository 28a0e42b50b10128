"""``aethr check``: the map, the chart, and a worst case that is the one a budget is held against."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aethr import estimate, executor, workflow
from aethr.llm import prices, spending
from aethr.presets import PRESETS
from aethr.records import Allowance, Gate, Plan, Scope
from aethr.terms import Terms
from tests.model_server import ModelServer
from tests.support import Repo, aethr

LOOPS = """\
workflow: two loops
roles: {reviewer: strict, implementer: careful, thinker: slow}
models: {reviewer: {model: "openai:gpt-5-mini", max_tokens: 1000}, thinker: anthropic:claude-sonnet-4-5}
steps:
  - {id: think, role: thinker, context: [git_diff, "file:a.py"],
     repeat: {back_to: think, until_contains: DONE, max_iterations: 3}}
  - {id: implement, role: implementer, backend: opencode, unsafe_permissions: true}
  - {id: middle, role: thinker, history_visibility: latest}
  - {id: review, role: reviewer, context: [latest_diff, "command:false x"],
     repeat: {back_to: implement, until_review_pass: true, max_iterations: 2}}
"""

MAP = """\
.aethr.yaml: two loops, 4 steps, at most 9 calls and 2 agent runs
  ↻  1 think: thinker, anthropic:claude-sonnet-4-5
       sees git_diff: no changes in the working tree
       sees file:a.py: 1 file, 4 bytes
       back to think until the answer contains 'DONE', 3 passes at most
  ╭▸ 2 implement: implementer, no model, opencode edits the tree, without its permission checks
  │  3 middle: thinker, anthropic:claude-sonnet-4-5
  │    sees of earlier steps: latest
  ╰─ 4 review: reviewer, openai:gpt-5-mini, gives the verdict
"""


def planned(root: Path, **terms: object) -> Plan:
    project = workflow.open_project(root, None, None)
    settings = {"mode": "mock", "model": None, "gate": Gate(), "allowance": Allowance(), **terms}
    return workflow.plan(project, Scope(head_sha=None), Terms(**settings), {})


def worst(root: Path) -> dict[str, estimate.WorstCase]:
    plan = planned(root)
    return {row.model: row for row in estimate.worst_case(plan, list(executor.preview(plan)))}


@pytest.fixture
def project(repo: Repo) -> Repo:
    repo.write("a.py", "x=1\n")
    repo.commit()
    repo.write(".aethr.yaml", LOOPS)
    return repo


def test_the_map_shows_steps_context_loops_and_permissions(project: Repo) -> None:
    done = aethr("check", cwd=project.root)
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout
    assert shown.startswith(MAP), shown
    assert "sees latest_diff: the diff of the latest step that edits files will stand here" in shown
    assert "  runs the command: false x\n" in shown
    assert "its own calls and their cost are not known here" in shown


def test_the_worst_case_counts_every_pass_and_the_question_for_a_verdict(project: Repo) -> None:
    rows = worst(project.root)
    assert [(row.calls, row.output_tokens) for row in rows.values()] == [
        (5, 5 * spending.ANSWER_TOKENS),  # think three times, middle twice
        (2, 2 * spending.ANSWER_TOKENS),  # the agent
        (4, 4 * 1000),  # the review twice, each asked once more for its verdict
    ]
    reviewer = rows["openai:gpt-5-mini"]
    assert reviewer.input_tokens > 2 * 120_000 // spending.BYTES_PER_TOKEN  # what it sees is not known yet
    price = prices.lookup("openai:gpt-5-mini")
    assert price is not None
    assert reviewer.cost_usd == price.cost(reviewer.input_tokens, reviewer.output_tokens)


def test_a_review_that_was_asked_twice_is_told_to_later_steps_with_both_answers(project: Repo) -> None:
    roles = "{reviewer: strict, last: sum up}"
    models = "{reviewer: {model: openai:gpt-5-mini, max_tokens: 9000}, last: openai:gpt-5}"
    steps = "[{id: review, role: reviewer}, {id: last, role: last, history_visibility: latest}]"
    project.write(".aethr.yaml", f"workflow: two\nroles: {roles}\nmodels: {models}\nsteps: {steps}\n")
    assert worst(project.root)["openai:gpt-5"].input_tokens > 2 * 9000


def test_an_unknown_price_and_an_unknown_provider_are_said(project: Repo) -> None:
    project.write(".aethr.yaml", LOOPS.replace("anthropic:claude-sonnet-4-5", "anthropc:claude-x"))
    done = aethr("check", cwd=project.root)
    assert done.returncode == 0
    assert re.search(r"anthropc:claude-x: 5 calls, .*, cost unknown\n", done.stdout)
    assert re.search(r"together: 9 calls, .*, \$[\d.]+ and what is not known\n", done.stdout)
    assert done.stderr == (
        "note: anthropc:claude-x: no provider 'anthropc' is known here (did you mean 'anthropic'?)\n"
    )


def test_the_model_of_the_environment_is_checked_and_counted(project: Repo) -> None:
    done = aethr("check", cwd=project.root, env={"AETHR_MODEL": "xai:grok-4", "AETHR_LIVE": "1"})
    assert (done.returncode, "xai:grok-4: 9 calls" in done.stdout) == (0, True)
    done = aethr("check", cwd=project.root, env={"AETHR_MODEL": "gpt"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "AETHR_MODEL: 'gpt' is not provider:model" in done.stderr


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("columns", [40, 200])
def test_a_map_is_no_wider_than_its_terminal(tmp_path: Path, preset: str, columns: int) -> None:
    from aethr import overview

    aethr("init", preset, cwd=tmp_path)
    plan = planned(tmp_path)
    seen = overview.Overview.of(plan, list(executor.preview(plan)))
    assert max(map(len, overview.lines(seen, columns))) <= columns


def test_the_chart_is_mermaid_for_github(project: Repo) -> None:
    done = aethr("check", "--mermaid", cwd=project.root)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("```mermaid", "flowchart LR", "```")
    assert lines[2] == '  s0["think<br/>thinker<br/>anthropic:claude-sonnet-4-5"]'
    assert lines[6:9] == ["  s0 --> s1", "  s1 --> s2", "  s2 --> s3"]
    assert lines[9] == '  s0 -. "until the answer contains _DONE_, 3 passes at most" .-> s0'
    assert lines[10] == '  s3 -. "until the review passes, 2 passes at most" .-> s1'


def test_no_name_can_leave_its_label(project: Repo) -> None:
    hostile = 'x"]; click s0 href "javascript:alert(1)"\\n%%{init}%% #quot; `md` <b>'
    text = LOOPS.replace("DONE", repr(hostile)).replace("thinker", repr(hostile + "'"[:0]))
    project.write(".aethr.yaml", text)
    done = aethr("check", "--mermaid", cwd=project.root)
    assert done.returncode == 0, done.stderr
    label = r'"[A-Za-z0-9 ,._/:-]*(<br/>[A-Za-z0-9 ,._/:-]*)*"'
    shape = re.compile(rf"  s\d+(\[{label}\]| --> s\d+| -\. {label} \.-> s\d+)")
    assert all(shape.fullmatch(line) for line in done.stdout.splitlines()[2:-1]), done.stdout


def live(project: Repo, workflow: str, *words: str) -> tuple[int, str, int]:
    """The exit code, standard error, and how many calls arrived."""
    project.write(".aethr.yaml", workflow)
    with ModelServer(["fine\n\nReview status: pass"]) as server:
        env = {"AETHR_LIVE": "1", "OPENAI_API_KEY": "sk-none", "OPENAI_BASE_URL": server.base_url}
        done = aethr("run", *words, "review", cwd=project.root, env=env)
        return done.returncode, done.stderr, len(server.bodies)


REVIEW = """\
workflow: one
roles: {reviewer: strict}
models: {reviewer: openai:gpt-5-mini}
steps: [{id: review, role: reviewer, context: ["file:a.py"]}]
"""


@pytest.mark.slow
def test_a_budget_is_held_against_the_same_figures(project: Repo) -> None:
    project.write(".aethr.yaml", REVIEW)
    most = sum(row.cost_usd or 0 for row in worst(project.root).values())
    code, said, calls = live(project, REVIEW, "--max-cost", f"{most * 0.9:.6f}")
    assert (code, calls) == (0, 1)  # one call fits; two would not
    assert "at worst the models cost $" in said
    code, said, calls = live(project, REVIEW, "--max-cost", f"{most * 1.1:.6f}")
    assert (code, calls, "at worst" in said) == (0, 1, False)


def test_a_dollar_budget_without_a_price_is_refused_before_any_call(project: Repo) -> None:
    two = REVIEW.replace("gpt-5-mini}", "gpt-5-mini, last: openai:no-such-model}")
    two = two.replace("strict}", "strict, last: x}").replace("}]", "}, {id: last, role: last}]")
    code, said, calls = live(project, two, "--max-cost", "5")
    assert (code, calls) == (5, 0)
    assert "openai:no-such-model: its price is not known, so --max-cost cannot hold" in said
