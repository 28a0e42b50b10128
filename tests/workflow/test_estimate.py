"""The estimate before a run: what it says, and that no run against an honest server passes it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Generator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from aethr import engine
from aethr.base.records import (
    Allowance,
    Artifacts,
    Completion,
    Estimate,
    Gate,
    Need,
    Notice,
    Plan,
    Request,
    RunFinished,
    Scope,
    Spent,
    TextDelta,
    Usage,
)
from aethr.cli import main
from aethr.llm import ATTEMPTS, spending
from aethr.output import wording
from aethr.workflow import estimate, planning
from aethr.workflow.planning import Terms
from tests.live import PASS, TASK, Aethr, aethr, project, resume_words, serving, temp
from tests.model_server import ModelServer, Reply, error, text
from tests.support import Repo, log_git

__all__ = ["aethr", "project", "temp"]

ROOM = 3_000
REVIEW = f"""\
workflow: parts
roles: {{thinker: think, reviewer: strict}}
models:
  thinker: {{model: "openai:gpt-5.4-mini", max_tokens: 500}}
  reviewer: {{model: "openai:gpt-5.4-mini", max_tokens: 700}}
steps:
  - {{id: think, role: thinker, context: [git_diff], history_visibility: none}}
  - {{id: review, role: reviewer, context: [git_diff, "file:README.md"]}}
limits: {{context_chars: {ROOM}}}
"""


def write_change(repo: Repo, files: int, seed: int = 1) -> None:
    """New, staged files of 10 to 40 lines, in letters of one to four bytes."""
    dice = random.Random(seed)
    for number in range(files):
        letters = dice.choice(["abcdef", "äöüéèç", "日本語中文", "😀😁😂"])
        lines = ("".join(dice.choices(letters, k=40)) + "\n" for _ in range(dice.randint(10, 40)))
        repo.write(f"src/f{number}.py", "".join(lines))
    repo.git("add", "src")


def first_lines(out: str) -> list[str]:
    return out.split("\n== ")[0].splitlines()


# --- what is said ------------------------------------------------------------------------------


def test_a_live_run_says_parts_calls_tokens_and_dollars_first(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.git("checkout", "-q", "app.py")
    write_change(project, 6)
    project.write(".aethr.yaml", REVIEW)
    with serving(monkeypatch, always=text(PASS)) as server:
        done = aethr("run", TASK)
    parts = len(server.bodies) // 2
    assert parts > 2
    subject, price = first_lines(done.out)
    assert re.fullmatch(rf"reviewing staged changes: 6 files, \+\d+ -0, in {parts} parts", subject)
    figures = re.fullmatch(
        r"about (\d+) calls, ([\d,]+) tokens, (\$[\d.]+); "
        r"at most (\d+) calls, (\$[\d.]+) \(openai:gpt-5\.4-mini\)",
        price,
    )
    assert figures, price
    assert int(figures[1]) == len(server.bodies)
    assert int(figures[4]) == (parts + 2 * parts) * ATTEMPTS  # each review may be asked for its verdict


def test_check_says_the_same_of_its_own_prompts(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", "changed = True\n" * 720)
    project.write(".aethr.yaml", REVIEW)
    with serving(monkeypatch, always=text(PASS)):
        price = first_lines(aethr("run", TASK).out)[1]
    checked = aethr("check").out.splitlines()[1]
    figures = r"\d[\d,.]*(?= tokens)|(?<=\$)[\d.]+"  # a check has no task
    assert re.sub(figures, "N", checked) == "  " + re.sub(figures, "N", price)
    assert "runs for each of 7 parts of the change" in aethr("check").out
    assert "about 14 calls" in price


def test_what_is_not_called_has_no_price(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.git("checkout", "-q", "app.py")
    project.write(".aethr.yaml", REVIEW.replace("role: thinker, context: [git_diff]", "role: thinker"))
    with serving(monkeypatch, always=text("fine")) as server:
        done = aethr("run", TASK)
    assert (done.code, len(server.bodies)) == (0, 1)
    assert "reviewing unstaged changes: nothing" in done.out
    assert "about 1 call, " in done.out
    assert f"at most {ATTEMPTS} calls, " in done.out
    monkeypatch.setenv("AETHR_LIVE", "1")
    with serving(monkeypatch) as server:
        empty = aethr("run", "--preset", "review-existing-diff", TASK)
    assert (empty.code, server.bodies) == (0, [])
    assert "at most" not in empty.out


def test_a_mock_run_says_no_price(aethr: Aethr, project: Repo) -> None:
    project.write(".aethr.yaml", REVIEW)
    assert "at most" not in aethr("run", TASK).out


def test_an_unknown_price_is_named(aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    two = REVIEW.replace('thinker: {model: "openai:gpt-5.4-mini"', 'thinker: {model: "openai:no-such-model"')
    project.write(".aethr.yaml", two)
    with serving(monkeypatch, always=text(PASS)):
        price = first_lines(aethr("run", TASK).out)[1]
    assert re.search(r"; at most 9 calls, [\d,]+ tokens, \$[\d.]+ \(", price), price
    assert price.endswith(" (2 models; the price of openai:no-such-model is not known)"), price
    unknown = (Need("a:b", None, 1, 2, 3, None),), (Need("a:b", None, 3, 9, 9, None),)
    alone = wording.estimate(Estimate(*unknown))
    assert alone == "about 1 call, 5 tokens; at most 3 calls, 18 tokens (a:b; the price of a:b is not known)"


def test_the_estimate_reads_no_change_twice_and_runs_no_command(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_change(project, 6)
    project.write("count.sh", "echo run >>ran\n")
    command = "command:sh count.sh"
    project.write(".aethr.yaml", REVIEW.replace('"file:README.md"', f'"file:README.md", "{command}"'))
    log = log_git(tmp_path, monkeypatch)
    called: dict[str, int] = {}
    for mode in ("live", "mock"):
        log.write_text("")
        with serving(monkeypatch, always=text(PASS)):
            monkeypatch.setenv("AETHR_LIVE", "1" if mode == "live" else "0")
            assert aethr("run", "--diff", "staged", TASK).code == 0
        called[mode] = log.read_text().split().count("diff")
    assert called["live"] == called["mock"] > 0
    assert (project.root / "ran").read_text() == "run\n"


def test_a_resumed_run_says_what_is_still_to_pay(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_change(project, 6)
    project.write(".aethr.yaml", REVIEW)
    with serving(monkeypatch, text("fine"), text("fine"), error(401)) as server:
        stopped = aethr("run", "--diff", "staged", TASK)
    price = first_lines(stopped.out)[1]
    calls = int(price.split()[1])
    assert (stopped.code, len(server.bodies)) == (3, 3)
    with serving(monkeypatch, always=text(PASS)) as server:
        resumed = aethr(*resume_words(stopped.err))
    assert resumed.code == 0
    assert f"about {calls - 2} calls, " in resumed.out
    assert len(server.bodies) == calls - 2
    most = re.search(r"at most (\d+) calls", resumed.out)
    assert most
    assert int(most[1]) == int(price.split("at most ")[1].split()[0]) - 2 * ATTEMPTS


@pytest.mark.parametrize(
    ("words", "option"),
    [(["--max-cost", "0.005"], "--max-cost 0.005"), (["--max-tokens", "9000"], "--max-tokens 9000")],
)
def test_a_budget_below_about_is_announced(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, words: list[str], option: str
) -> None:
    write_change(project, 6)
    project.write(".aethr.yaml", REVIEW)
    with serving(monkeypatch, always=Reply((PASS,), usage=(3000, 700))):
        done = aethr("run", "--diff", "staged", *words, TASK)
    assert done.code == 5
    assert re.search(rf"note: .* about .*, more than {option} leaves: the run will probably stop", done.err)


def test_the_record_keeps_the_estimate_and_the_receipt_compares(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", REVIEW)
    with serving(monkeypatch, always=text(PASS)):
        kept = aethr("run", "--json", TASK).record["estimate"]
    assert [need["calls"] for need in (*kept["about"], *kept["most"])] == [2, 3 * ATTEMPTS]
    assert kept["late_parts"] == 0


# --- what is not sent --------------------------------------------------------------------------


def test_what_no_part_has_is_said_once_and_first(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_change(project, 12)
    project.write("logo.bin", b"\0\1\2")
    project.git("add", "logo.bin")
    project.write("README.md", "x" * 40 + "\n")
    few = REVIEW.replace("{context_chars", "{parts: 2, context_chars").replace(
        '"file:README.md"', '"file:gone.md"'
    )
    project.write(".aethr.yaml", few)
    with serving(monkeypatch, always=text(PASS)) as server:
        done = aethr("run", "--diff", "staged", TASK)
    assert len(server.bodies) == 4
    said = [line for line in done.out.splitlines() if line.startswith("warning: not sent: ")]
    change, file = said
    assert change in first_lines(done.out)
    assert re.search(r"\d+ files, \d+ changed lines \(largest: .*\): over the limit of 2 parts", change)
    assert "logo.bin (binary)" in change
    assert file == "warning: not sent: gone.md (no such file)"
    assert "note: so the review will be incomplete; to fix: " in done.out


def test_a_gate_that_needs_more_parts_is_refused_without_a_price(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_change(project, 12)
    project.write(".aethr.yaml", REVIEW.replace("{context_chars", "{parts: 2, context_chars"))
    with serving(monkeypatch) as server:
        done = aethr("run", "--diff", "staged", "--fail-on", "high", TASK)
    assert (done.code, server.bodies) == (4, [])
    assert "parts, and limits.parts allows 2" in done.err
    assert "at most" not in done.out


# --- at most is never below what happened ------------------------------------------------------


def bound(root: Path, workflow: str) -> Plan:
    (root / ".aethr.yaml").write_text(workflow)
    terms, scope = Terms("live", None, Gate(), Allowance()), Scope("staged", "staged")
    return planning.plan(planning.bind(planning.open_project(root, None, None), terms, {}), TASK, scope)


class Honest:
    """A backend whose server honours each limit, counts a token for each byte, and can fail twice."""

    def __init__(self, seed: int, reviews: Sequence[str]) -> None:
        self.dice = random.Random(seed)
        self.reviews = cycle(reviews)
        self.calls = 0
        self.used: list[Usage] = []

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def complete(self, request: Request) -> Generator[TextDelta | Spent | Notice, None, Completion]:
        assert request.model is not None
        limit = spending.answer_limit(request.model, spending.estimate_tokens(request.prompt))
        asked = len(request.prompt.encode())
        rates = spending.highest_rates(request.model.name, asked)
        assert rates is not None
        usage = Usage.of(asked, limit, rates.cost(asked, limit))
        for _ in range(ATTEMPTS - 1):
            self.calls += 1
            self.used.append(usage)
            yield Spent(usage)
        self.calls += 1
        self.used.append(usage)
        end = next(self.reviews) if request.reviewing else "."
        content = ("x" * (limit - len(end) - 2) + "\n\n" + end) if limit > len(end) + 2 else end
        return Completion(content, request.model.name, "stop", usage=usage)


class Editing(Honest):
    """An agent that leaves a diff of another size each time; its calls are not counted."""

    def complete(self, _: Request) -> Generator[TextDelta | Spent | Notice, None, Completion]:
        files = [(f"a{n}.py", self.dice.randint(1, 60)) for n in range(self.dice.randint(1, 9))]
        diff = "".join(
            f"diff --git a/{name} b/{name}\nindex 1111111..2222222 100644\n--- a/{name}\n+++ b/{name}\n"
            f"@@ -0,0 +1,{lines} @@\n" + f"+{'😀' * 20}\n" * lines
            for name, lines in files
        )
        names = tuple(name for name, _ in files)
        return Completion("edited", "", "stop", artifacts=Artifacts(names, "", diff))
        yield  # a generator, as every backend's


LOOP = f"""\
workflow: loop
roles: {{implementer: careful, thinker: slow, reviewer: strict}}
models:
  thinker: {{model: "openai:gpt-5.4-mini", max_tokens: 300}}
  reviewer: {{model: "openai:gpt-5.4-mini", max_tokens: 400}}
  implementer: {{model: "openai:gpt-5.4-mini", max_tokens: 100}}
steps:
  - {{id: plan, role: thinker, context: [git_diff]}}
  - {{id: implement, role: implementer, backend: opencode}}
  - {{id: think, role: thinker, context: [latest_diff, git_diff], history_visibility: HISTORY}}
  - {{id: review, role: reviewer, context: [latest_diff],
      repeat: {{back_to: implement, until_review_pass: true, max_iterations: 3}}}}
  - {{id: last, role: thinker, context: [latest_diff]}}
limits: {{context_chars: {ROOM}, parts: 4}}
"""


def happened(plan: Plan, model: Honest, agent: Honest) -> None:
    steps = tuple(step._replace(backend=agent if step.edits_tree else model) for step in plan.steps)
    *_, last = engine.run(plan._replace(steps=steps))
    assert isinstance(last, RunFinished)


def test_a_step_after_an_edit_may_read_the_answers_to_every_part_before_it(repo: Repo) -> None:
    repo.write("README.md")
    repo.commit()
    write_change(repo, 6)

    def most(history: str) -> int:
        text = LOOP.replace("HISTORY", history).replace("max_tokens: 300", "max_tokens: 5000")
        plan = bound(repo.root, text.replace("max_iterations: 3", "max_iterations: 1"))
        parts.append(len([each for each in engine.preview(plan, agents=False) if each.id == "plan"]))
        return estimate.estimate(plan, engine.preview(plan, agents=False)).most[0].input_tokens

    parts: list[int] = []
    more = most("all") - most("none")  # in each of the 4 parts that the step may have
    assert parts[0] > 2
    assert more >= ATTEMPTS * 4 * parts[0] * 5000


CASES = [
    ("all", 3),
    *((history, seed) for history in ("latest", "summary", "none", "all") for seed in (0, 1, 5)),
]


@pytest.mark.parametrize(
    ("history", "seed"), [CASES[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])]
)
def test_no_loop_over_a_change_in_parts_passes_at_most(repo: Repo, history: str, seed: int) -> None:
    repo.write("README.md")
    repo.commit()
    write_change(repo, 1 + seed, seed)
    plan = bound(repo.root, LOOP.replace("HISTORY", history))
    found = estimate.estimate(plan, engine.preview(plan, agents=False))
    most = {need.agent: need for need in found.most}
    model = Honest(seed, ["Review status: revise", "what a change"])
    happened(plan, model, Editing(seed, ()))
    used = Usage.sum(model.used)
    need = most[None]
    assert model.calls <= need.calls
    assert used.prompt_tokens is not None
    assert used.prompt_tokens <= need.input_tokens
    assert used.completion_tokens is not None
    assert used.completion_tokens <= need.output_tokens
    assert used.cost_usd is not None
    assert need.cost_usd is not None
    assert used.cost_usd <= need.cost_usd
    assert found.late_parts == 4


Answer = Callable[[dict[str, Any]], Reply]


def count_bytes(answer: str, limit: int, per_token: int) -> Answer:
    """Replies of a server that counts a token for so many bytes of the prompt, and answers to its limit."""

    def reply(body: dict[str, Any]) -> Reply:
        prompt = "".join(message["content"] for message in body["messages"])
        asked = -(-len(prompt.encode()) // per_token)
        return Reply((answer,), usage=(asked, min(limit, body["max_completion_tokens"])))

    return reply


Run = Callable[[Callable[[dict[str, Any]], Reply], int, str], tuple[dict[str, Any], int]]


@pytest.fixture
def run(repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a workflow over a change made from a seed; the record, and how many calls the server got."""

    def run_live(
        reply: Callable[[dict[str, Any]], Reply], seed: int, workflow: str
    ) -> tuple[dict[str, Any], int]:
        repo.write("README.md")
        repo.commit()
        write_change(repo, 2 + 3 * seed, seed)
        repo.write(".aethr.yaml", workflow)
        monkeypatch.chdir(repo.root)
        with ModelServer(reply) as server:
            monkeypatch.setenv("AETHR_LIVE", "1")
            monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            main(["run", "--json", "--jobs", "1", "--diff", "staged", TASK])
        return json.loads(capsys.readouterr().out), len(server.bodies)

    return run_live


@pytest.mark.parametrize("seed", range(3))
def test_about_is_what_happens_when_all_goes_well(run: Run, seed: int) -> None:
    workflow = REVIEW.replace("max_tokens: 500", "max_tokens: 700")
    record, _ = run(count_bytes(PASS, 700, spending.BYTES_PER_TOKEN), seed, workflow)
    assert record["exit_code"] == 0
    totals, (about,) = record["totals"], record["estimate"]["about"]
    assert (about["calls"], about["output_tokens"]) == (totals["calls"], totals["completion_tokens"])
    # The answers that a later step reads are as long as their limit in the estimate, and short here.
    parts = totals["calls"] // 2
    assert 0 <= about["input_tokens"] - totals["prompt_tokens"] <= 720 * parts
    assert about["cost_usd"] >= totals["cost_usd"] > 0


@pytest.mark.parametrize("seed", range(3))
def test_no_run_in_parts_passes_at_most(run: Run, seed: int) -> None:
    """Each call fails twice, each review gives no verdict at first, each byte is a token."""
    answer, tries = count_bytes("no verdict", 700, 1), cycle([True, True, False])

    def reply(body: dict[str, Any]) -> Reply:
        return error(429, Retry_After="0") if next(tries) else answer(body)

    record, calls = run(reply, seed, REVIEW)
    totals, (most,) = record["totals"], record["estimate"]["most"]
    assert calls == most["calls"] == ATTEMPTS * totals["calls"]
    assert totals["prompt_tokens"] * ATTEMPTS <= most["input_tokens"]
    assert totals["completion_tokens"] * ATTEMPTS <= most["output_tokens"]
    assert totals["cost_usd"] * ATTEMPTS <= most["cost_usd"]
