"""``aethr check``: the map, the chart, and what a run needs, typically and at most."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aethr import engine
from aethr.base.records import Allowance, Estimate, Gate, Need, Plan, Scope
from aethr.config import PRESETS
from aethr.llm import spending
from aethr.output import wording
from aethr.workflow import estimate, planning
from aethr.workflow.planning import Terms
from tests.model_server import ModelServer, Reply
from tests.support import Repo, aethr

LOOPS = """\
workflow: two loops
roles: {reviewer: strict, implementer: careful, thinker: slow}
models: {reviewer: {model: "openai:gpt-5.4-mini", max_tokens: 1000}, thinker: anthropic:claude-sonnet-5-5}
steps:
  - {id: think, role: thinker, context: [git_diff, "file:a.py"],
     repeat: {back_to: think, until_contains: DONE, max_iterations: 3}}
  - {id: implement, role: implementer, backend: opencode, unsafe_permissions: true, allow: [npm test, pytest]}
  - {id: middle, role: thinker, history_visibility: latest}
  - {id: review, role: reviewer, context: [latest_diff, "command:false x"],
     repeat: {back_to: implement, until_review_pass: true, max_iterations: 2}}
"""

MAP = """\
.aethr.yaml: two loops, 4 steps
  about 3 calls, {about} tokens, {cost}, and 1 agent run; at most 207 calls, {most}, and 2 agent runs, if \
each change needs 16 parts (2 models; the agents' own calls are not known)
  ↻  1 think: thinker, anthropic:claude-sonnet-5-5
       sees git_diff: no changes, staged or unstaged
       sees file:a.py: 1 file, 4 bytes
       back to think until the answer contains 'DONE', 3 passes at most
  ╭▸ 2 implement: implementer, no model, opencode edits the tree, without its permission checks, which \
allow npm test, pytest
  │  3 middle: thinker, anthropic:claude-sonnet-5-5
  │    sees of earlier steps: latest
  ╰─ 4 review: reviewer, openai:gpt-5.4-mini, gives the verdict
"""


def planned(root: Path, **terms: object) -> Plan:
    project = planning.open_project(root, None, None)
    settings = {"mode": "mock", "model": None, "gate": Gate(), "allowance": Allowance(), **terms}
    return planning.plan(planning.bind(project, Terms(**settings), {}), "", Scope())


def estimated(root: Path) -> Estimate:
    plan = planned(root)
    return estimate.estimate(plan, engine.preview(plan))


def most(root: Path) -> dict[str, Need]:
    return {need.model: need for need in estimated(root).most}


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
    needs = estimated(project.root)
    called = [need for need in needs.about if need.agent is None]
    about = sum(need.input_tokens + need.output_tokens for need in called)
    costs = (sum(need.cost_usd or 0 for need in each) for each in (needs.about, needs.most))
    cost, most_cost = map(wording.cost, costs)
    assert shown.startswith(MAP.format(about=f"{about:,}", cost=cost, most=most_cost)), shown
    assert "sees latest_diff: the diff of the latest step that edits files will stand here" in shown
    assert "  runs the command: false x\n" in shown
    assert "its own calls and their cost are not known here" in shown


def test_at_most_counts_passes_retries_and_verdicts(project: Repo) -> None:
    needs = most(project.root)
    own = spending.lookup("anthropic:claude-sonnet-5-5")
    assert own is not None
    assert own.max_output is not None
    assert [(need.calls, need.output_tokens) for need in needs.values()] == [
        (3 * 5, 3 * 5 * own.max_output),  # think three times, middle twice, each tried three times
        (2, 0),  # the agent
        # The review twice, each part of a change that may need 16, each asked once more for its verdict.
        (3 * 4 * 16, 3 * 4 * 16 * 1000),
    ]
    reviewer = needs["openai:gpt-5.4-mini"]
    assert reviewer.input_tokens > 3 * 2 * 120_000  # what it sees is not known yet


def test_about_counts_a_run_without_retries(project: Repo) -> None:
    about = {need.model: need for need in estimated(project.root).about}
    assert [(need.calls, need.output_tokens) for need in about.values()] == [
        (2, 2 * spending.ANSWER_TOKENS),
        (1, 0),
        (1, 1000),
    ]
    reviewer = about["openai:gpt-5.4-mini"]
    assert 0 < reviewer.input_tokens < 4 * spending.ANSWER_TOKENS
    rates = spending.highest_rates("openai:gpt-5.4-mini", reviewer.input_tokens)
    assert rates is not None
    assert reviewer.cost_usd == pytest.approx(rates.cost(reviewer.input_tokens, 1000))


def test_a_long_prompt_counts_at_the_price_of_a_long_one(project: Repo) -> None:
    project.write("a.py", "x" * 400_000)
    project.write(".aethr.yaml", REVIEW.replace("openai:gpt-5.4-mini", "xai:grok-4.7") + LARGE)
    (about,), (need,), _ = estimated(project.root)
    short = spending.highest_rates("xai:grok-4.7", 1000)
    assert short is not None
    assert about.input_tokens < 200_000 < need.input_tokens / need.calls
    assert need.cost_usd is not None
    assert need.cost_usd > 1.5 * short.cost(need.input_tokens, need.output_tokens)


def test_no_prompt_counts_more_than_its_models_window(project: Repo) -> None:
    project.write("a.py", "x" * 400_000)
    project.write(".aethr.yaml", REVIEW.replace("gpt-5.4-mini", "gpt-4o-mini") + LARGE)
    (need,) = estimated(project.root).most
    assert need.input_tokens < need.calls * 128_000


LARGE = "limits: {context_chars: 500000}\n"


def test_both_answers_of_a_review_count_in_later_steps(project: Repo) -> None:
    roles = "{reviewer: strict, last: sum up}"
    models = "{reviewer: {model: openai:gpt-5.4-mini, max_tokens: 9000}, last: openai:gpt-6-sol}"
    steps = "[{id: review, role: reviewer}, {id: last, role: last, history_visibility: latest}]"
    project.write(".aethr.yaml", f"workflow: two\nroles: {roles}\nmodels: {models}\nsteps: {steps}\n")
    assert most(project.root)["openai:gpt-6-sol"].input_tokens > 3 * 2 * 9000


def test_check_names_an_unknown_price_and_provider(project: Repo) -> None:
    project.write(".aethr.yaml", LOOPS.replace("anthropic:claude-sonnet-5-5", "anthropc:claude-x"))
    done = aethr("check", cwd=project.root)
    assert done.returncode == 0
    assert re.search(r"anthropc:claude-x: 15 calls, .*, cost unknown\n", done.stdout)
    assert re.search(r"at most 207 calls, [\d,]+ tokens, \$[\d.]+, and 2 agent runs", done.stdout)
    assert "the price of anthropc:claude-x is not known)\n" in done.stdout
    assert done.stderr == (
        "note: anthropc:claude-x: the provider 'anthropc' is not known here (did you mean 'anthropic'?)\n"
    )


def test_check_counts_the_model_of_the_environment(project: Repo) -> None:
    done = aethr("check", cwd=project.root, env={"AETHR_MODEL": "xai:grok-4", "AETHR_LIVE": "1"})
    assert (done.returncode, "xai:grok-4: 207 calls" in done.stdout) == (0, True)
    done = aethr("check", cwd=project.root, env={"AETHR_MODEL": "gpt"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "AETHR_MODEL: 'gpt' is not provider:model" in done.stderr


def test_check_reads_env_as_a_run_does(repo: Repo) -> None:
    workflow = (
        "workflow: w\nroles: {r: x}\nsteps: [{id: a, role: r}]\n"
        "models: {r: {model: 'openai:gpt-5.4-mini', endpoint: MY_BASE_URL}}\n"
    )
    repo.write(".aethr.yaml", workflow)
    repo.commit()
    repo.write(".env", "MY_BASE_URL=http://127.0.0.1:9/v1\nOTHER=1\n")
    done = aethr("check", cwd=repo.root)
    assert "  calls 127.0.0.1:9 (MY_BASE_URL): openai:gpt-5.4-mini\n" in done.stdout
    assert "are read from it: OTHER\n" in done.stderr
    elsewhere = aethr("check", cwd=repo.root, env={"MY_BASE_URL": "http://127.0.0.1:8/v1"})
    assert "  calls 127.0.0.1:8 (MY_BASE_URL): " in elsewhere.stdout, "the environment wins"
    repo.write(".aethr.yaml", f"{workflow}hosts: [api.openai.com]\n")
    refused = aethr("check", cwd=repo.root)
    assert (refused.returncode, "127.0.0.1:9" in refused.stderr) == (2, True)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("columns", [40, 200])
def test_a_map_is_no_wider_than_its_terminal(tmp_path: Path, preset: str, columns: int) -> None:
    from aethr.workflow import overview

    aethr("init", preset, cwd=tmp_path)
    plan = planned(tmp_path)
    assert max(map(len, overview.lines(plan, columns, {}))) <= columns


def test_the_chart_is_mermaid_for_github(project: Repo) -> None:
    done = aethr("check", "--mermaid", cwd=project.root)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("```mermaid", "flowchart LR", "```")
    assert lines[2] == '  s0["think<br/>thinker<br/>anthropic:claude-sonnet-5-5"]'
    assert lines[6:9] == ["  s0 --> s1", "  s1 --> s2", "  s2 --> s3"]
    assert lines[9] == '  s0 -. "until the answer contains _DONE_, 3 passes at most" .-> s0'
    assert lines[10] == '  s3 -. "until the review passes, 2 passes at most" .-> s1'


def test_no_name_escapes_its_label_in_the_chart(project: Repo) -> None:
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
models: {reviewer: openai:gpt-5.4-mini}
steps: [{id: review, role: reviewer, context: ["file:a.py"]}]
"""


@pytest.mark.slow
def test_budgets_use_the_figures_of_check(project: Repo) -> None:
    project.write(".aethr.yaml", REVIEW)
    cost = sum(need.cost_usd or 0 for need in most(project.root).values())
    code, said, calls = live(project, REVIEW, "--max-cost", f"{cost * 0.9:.6f}")
    assert (code, calls) == (0, 1)
    assert f"the models can cost {wording.cost(cost)} at most, more than --max-cost" in said
    code, said, calls = live(project, REVIEW, "--max-cost", f"{cost * 1.1:.6f}")
    assert (code, calls, "at most" in said) == (0, 1, False)


@pytest.mark.parametrize("answered", [1, 700])
@pytest.mark.parametrize("verdict", [True, False])
def test_no_run_costs_more_than_at_most(project: Repo, answered: int, verdict: bool) -> None:
    """Against a server that honours the limit, and counts a token for every byte."""
    limited = REVIEW.replace("openai:gpt-5.4-mini}", '{model: "openai:gpt-5.4-mini", max_tokens: 700}}')
    project.write(".aethr.yaml", limited)
    project.write("a.py", "".join(f"{n:08x}" for n in range(2000)))
    (need,) = estimated(project.root).most
    text = "fine" + "\n\nReview status: pass" * verdict

    def reply(body: dict[str, object]) -> Reply:
        assert body["max_completion_tokens"] == 700
        asked = len(json.dumps(body, ensure_ascii=False))
        return Reply((text,), usage=(asked, answered))

    with ModelServer(reply) as server:
        env = {"AETHR_LIVE": "1", "OPENAI_API_KEY": "sk-none", "OPENAI_BASE_URL": server.base_url}
        done = aethr("run", "--json", "review", cwd=project.root, env=env)
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout)["totals"]
    assert totals["calls"] == (1 if verdict else 2)
    assert need.cost_usd is not None
    assert totals["cost_usd"] < need.cost_usd


def test_a_dollar_budget_without_a_price_is_refused(project: Repo) -> None:
    two = REVIEW.replace("gpt-5.4-mini}", "gpt-5.4-mini, last: openai:no-such-model}")
    two = two.replace("strict}", "strict, last: x}").replace("}]", "}, {id: last, role: last}]")
    code, said, calls = live(project, two, "--max-cost", "5")
    assert (code, calls) == (5, 0)
    assert "openai:no-such-model: its price is not known, so --max-cost cannot hold" in said


def test_a_dollar_budget_uses_the_providers_own_cost(project: Repo, tmp_path: Path) -> None:
    models = "{reviewer: openrouter:acme/m, last: openrouter:acme/m}"
    two = REVIEW.replace("{reviewer: openai:gpt-5.4-mini}", models).replace("strict}", "strict, last: x}")
    project.write(".aethr.yaml", two.replace("}]", "}, {id: last, role: last}]"))
    for budget, code, calls in ((0.5, 0, 2), (0.3, 5, 2), (0.1, 5, 1)):
        with ModelServer(lambda _: stated(0.2)) as server:
            env = {"AETHR_LIVE": "1", "OPENROUTER_API_KEY": "sk-none", "OPENROUTER_API_BASE": server.base_url}
            env["RUNNER_TEMP"] = str(tmp_path)
            done = aethr("run", "--json", "--max-cost", str(budget), "review", cwd=project.root, env=env)
        assert (done.returncode, len(server.bodies)) == (code, calls), done.stderr
        assert (
            "openrouter:acme/m: its price is not known before a call, so --max-cost stops the run"
            in done.stderr
        )
        record = json.loads(done.stdout)
        assert (len(record["steps"]), record["totals"]["cost_usd"]) == (calls, pytest.approx(0.2 * calls))
        assert (f"$0.1000 over --max-cost {budget}" in done.stderr) is (code == 5)


def test_a_provider_without_its_promised_cost_ends_the_run(project: Repo, tmp_path: Path) -> None:
    project.write(".aethr.yaml", REVIEW.replace("openai:gpt-5.4-mini", "openrouter:acme/m"))
    with ModelServer(["fine\n\nReview status: pass"]) as server:
        env = {"AETHR_LIVE": "1", "OPENROUTER_API_KEY": "sk-none", "OPENROUTER_API_BASE": server.base_url}
        env["RUNNER_TEMP"] = str(tmp_path)
        done = aethr("run", "--max-cost", "1", "review", cwd=project.root, env=env)
    assert done.returncode == 5
    assert "openrouter:acme/m did not report its cost, so --max-cost cannot hold" in done.stderr


def stated(cost: float) -> Reply:
    counted = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": cost}
    end = {"index": 0, "delta": {"content": "fine\n\nReview status: pass"}, "finish_reason": "stop"}
    event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [end]}
    body = f"data: {json.dumps({**event, 'usage': counted})}\n\ndata: [DONE]\n\n"
    return Reply(body=body, content_type="text/event-stream")
