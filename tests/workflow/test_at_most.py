"""No run passes "at most": generated changes and workflows, and a server that keeps its limits."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import pytest

from aethr import engine
from aethr.base.records import Allowance, Gate, Scope
from aethr.cli import main
from aethr.workflow import estimate, planning
from aethr.workflow.planning import Terms
from tests.live import KEY, TASK
from tests.model_server import ModelServer, Reply, error
from tests.support import Repo, tiered

ALPHABETS = ("abcdefghij (){}=:,.", "äöüéèçß", "日本語中文字", "😀😁😂🤣", "\u202e\u200b\x07ab", "\\\"'<>`")
ENDS = (
    "Review status: pass", "Review status: revise", "- [high] f0.py:2 — it is wrong\n\nReview status: revise",
    "no verdict", "I think so.",
)  # fmt: skip
MODELS = ("openai:gpt-5.4-mini", "openai:gpt-4o-mini", "openai:gpt-5.4")


class Server:
    """Answers of random length within the limit of each call; a token is one to four bytes.

    Some calls fail and are counted nevertheless, but none three times, except those of a model that is down.
    A server at its ``worst`` lets each one fail twice, counts each byte, answers up to the limit, gives no
    verdict. ``prompt`` and ``completion``
    are sums of what it counted.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._worst = dice.random() < 0.5
        self._per_token = 1 if self._worst else dice.choice([1, 2, 4])
        self._lock = threading.Lock()
        self._failed = 0
        self._down = dice.choice(MODELS).partition(":")[2] if dice.random() < 0.3 else ""
        self._findings = "### Medium\n" + "".join(f"- {each:x}\n" for each in dice.sample(range(4096), 4096))
        self.prompt = self.completion = 0

    def __call__(self, body: dict[str, Any]) -> Reply:
        if body["model"] == self._down:
            return error(429, Retry_After="0")
        with self._lock:
            fails = self._failed < 2 and (self._worst or self._dice.random() < 0.2)
            self._failed = self._failed + 1 if fails else 0
            answer = self._answer(body)
            return error(self._dice.choice([429, 500, 503]), Retry_After="0") if fails else answer

    def _answer(self, body: dict[str, Any]) -> Reply:
        limit = next(body[name] for name in ("max_completion_tokens", "max_tokens") if name in body)
        prompt = "".join(message["content"] for message in body["messages"])
        end = "\n\n" + ("no verdict" if self._worst else self._dice.choice(ENDS))
        most = max(0, limit * self._per_token - len(end.encode()))
        length = most if self._worst else self._dice.choice([most, self._dice.randint(0, most), 0])
        said = (self._findings[:length] if self._dice.random() < 0.5 else "x" * length) + end
        asked = self._count(prompt)
        answered = min(limit, self._count(said))
        self.prompt += asked
        self.completion += answered
        is_cut = not self._worst and self._dice.random() < 0.1
        return Reply((said,), "length" if is_cut else "stop", usage=(asked, answered))

    def _count(self, text: str) -> int:
        return -(-len(text.encode()) // self._per_token)


def write_change(repo: Repo, dice: random.Random) -> None:
    for name in ("README.md", "old.py"):
        repo.write(name, "".join(f"line {number}\n" for number in range(dice.randint(1, 80))))
    repo.commit("start")
    for number in range(dice.randint(1, 10)):
        letters = dice.choice(ALPHABETS)
        lines = (
            "".join(dice.choices(letters, k=dice.randint(0, 90))) + "\n" for _ in range(dice.randint(1, 60))
        )
        repo.write(dice.choice(["src/", "tests/", ""]) + f"f{number}.py", "".join(lines))
    (repo.root / "old.py").unlink()
    repo.git("add", "-A")


def write_workflow(repo: Repo, dice: random.Random) -> None:
    """One to three steps, of which the last one reviews, with a loop or without."""
    names = ["reviewer", "writer", "checker"][: dice.randint(1, 3)][::-1]
    models = {name: (dice.choice(MODELS), dice.randint(20, 900)) for name in names}
    lines = [
        "workflow: generated",
        f"limits: {{context_chars: {dice.choice([2_000, 3_000, 20_000])}, parts: 40}}",
    ]
    lines += ["roles:", *(f"  {name}: 'do it'" for name in names)]
    lines += ["models:"]
    for name, (model, most) in models.items():
        others = dice.sample([each for each in MODELS if each != model], dice.randint(0, 2))
        fallback = f", fallback: {json.dumps(others)}" if others else ""
        lines.append(f'  {name}: {{model: "{model}", max_tokens: {most}{fallback}}}')
    lines += ["steps:"]
    for name in names:
        other = dice.sample(["file:README.md", "glob:**/*.py", "file:src/f0.py"], dice.randint(0, 2))
        context = ", ".join(f'"{source}"' for source in dice.sample(["git_diff", *other], 1 + len(other)))
        history = dice.choice(["all", "latest", "summary", "none"])
        lines.append(f"  - {{id: {name}, role: {name}, context: [{context}], history_visibility: {history}")
        if name == "reviewer" and dice.random() < 0.6:
            back_to, most = dice.choice(names), dice.randint(1, 4)
            lines[-1] += f", repeat: {{back_to: {back_to}, until_review_pass: true, max_iterations: {most}}}"
        lines[-1] += "}"
    if dice.random() < 0.5:  # a last step that checks what the reviewer found
        name, history = dice.choice(names), dice.choice(["all", "latest", "summary", "none"])
        context = dice.choice(["git_diff", "'file:README.md'"])
        lines.append(f"  - {{id: verify, role: {name}, context: [{context}], history_visibility: {history}")
        lines[-1] += ", verify: [reviewer]}"
    repo.write(".aethr.yaml", "\n".join(lines) + "\n")


@pytest.mark.parametrize("seed", tiered(range(200), fast=3, ci=20))
def test_no_run_passes_at_most(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    dice = random.Random(seed)
    write_change(repo, dice)
    write_workflow(repo, dice)
    monkeypatch.chdir(repo.root)
    answers = Server(dice)
    with ModelServer(answers) as server:
        env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.base_url, "AETHR_LIVE": "1"}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        terms, scope = Terms("live", None, Gate(), Allowance()), Scope("staged", "staged")
        bound = planning.bind(planning.open_project(repo.root, None, None), terms, env)
        plan = planning.plan(bound, TASK, scope)
        needs = estimate.estimate(plan, list(engine.preview(plan))).most
        code = main(["run", "--json", "--diff", "staged", TASK])
    spent = json.loads(capsys.readouterr().out)["totals"]
    assert code in (0, 3), "it ran to its end, or to a call that failed each time"
    costs = [need.cost_usd for need in needs if need.cost_usd is not None]
    assert len(costs) == len(needs)
    assert spent["cost_usd"] <= sum(costs)
    assert 0 < len(server.bodies) <= sum(need.calls for need in needs)
    assert answers.prompt <= sum(need.input_tokens for need in needs)
    assert answers.completion <= sum(need.output_tokens for need in needs)
