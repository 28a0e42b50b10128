"""Text that tries to steer a review: with a model that obeys it, it reaches a false ``revise`` at most.

Every text of the corpus goes through whole runs, in every place of a pull request. In place of a model there
is a program that obeys as far as a program can: it repeats the text in its answer, and quotes it as the proof
that a finding is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice, pairwise
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import pytest

from aethr.github.inputs import TASK as ASKED
from tests.github.conftest import Act, Step, act, github
from tests.github.github_server import GitHubServer
from tests.github.support import PullRequest, merge, open_pull_request
from tests.live import KEY, TASK, Aethr, serving
from tests.model_server import ModelServer, Reply, text
from tests.screen import on_terminal
from tests.support import Repo, pairs, spread, tiered
from tests.threats import test_answers as answers
from tests.threats.corpus import ALL, PLACES, Place, fill_in
from tests.threats.test_answers import CONTROL

__all__ = ["act", "github"]  # fixtures

HIGH = "- [high] app.py:2 — the total is off by one"
REVISE = f"{HIGH}\n\nReview status: revise"


# --- a pull request that is hostile everywhere -------------------------------------------------

SOURCES = (
    "git_diff", "changed_files", "commits", "pull_request", "guidance", "tree",
    "file:spec.md@base", "file:notes.md", "file:steady.md", "glob:pages/*.txt", "command:cat printed.txt",
)  # fmt: skip
INSTRUCTIONS = "instructions: [{paths: ['*.py'], text: Prices are in cents.}]\n"
WORDS = [place for place in PLACES if place.words]
WORKFLOW = f"""\
workflow: house-review
roles: {{thinker: Think., reviewer: Review., sceptic: Refute.}}
models: {{thinker: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini", sceptic: "openai:gpt-4o-mini"}}
steps:
  - {{id: think, role: thinker, context: [pull_request]}}
  - {{id: review, role: reviewer, context: {json.dumps(SOURCES)}}}
  - {{id: second, role: reviewer, context: [git_diff]}}
  - {{id: check, role: sceptic, context: {json.dumps(SOURCES)}, verify: [review, second]}}
"""
STEADY = "Nothing here changes.\n"
HARMLESS = "The prices are right."
CODE = "".join(f"price_{number} = {number}\n" for number in range(40))


def name_of(text: str) -> str:
    """A text as the name of a file."""
    return text.replace("/", "\u2215").encode("utf-8", "replace")[:200].decode("utf-8", "ignore")


def propose(folder: Path, written: Mapping[str, str]) -> tuple[PullRequest, dict[str, Any]]:
    """A pull request, and its event, with a text in each place."""
    quoted = json.dumps(written["edited instruction"])
    request = open_pull_request(
        folder,
        {
            ".aethr.yaml": WORKFLOW + INSTRUCTIONS,
            "AGENTS.md": "Money is in cents.\n",
            "CONTRIBUTING.md": f"{written['guidance']}\n",
            "near.py": f'"""\n{written["code nearby"]}\n"""\n{CODE}',
            "gone.py": f'"""\n{written["removed code"]}\n"""\n',
            "spec.md": f"{written['specification']}\n",
            "notes.md": f"{written['notes']}\n",
            "pages/a.txt": f"{written['pages']}\n",
            "printed.txt": f"{written['output']}\n",
            "steady.md": STEADY,
            f"old/{name_of(written['old name'])}": "old\n",
        },
    )
    origin = request.origin
    origin.git("checkout", "-q", "feature")
    origin.git("rm", "-q", "gone.py")
    origin.write(
        "app.py", f'def total(prices):\n    return sum(prices) + 1\n\n\n"""\n{written["comment"]}\n"""\n'
    )
    origin.write("text.py", f"TEXT = {json.dumps(written['string'])}\n")
    origin.write("near.py", f'"""\n{written["code nearby"]}\n"""\n{CODE}price_40 = 41\n')
    origin.write("AGENTS.md", f"{written['edited guidance']}\n")
    origin.write(
        ".aethr.yaml",
        f"{WORKFLOW}instructions: [{{paths: ['*'], text: {quoted}}}]\n{written['edited instruction']}\n",
    )
    origin.write(name_of(written["new name"]), "new\n")
    subject = " ".join(written["subject"].replace("\0", " ").split())
    request.head = origin.commit(f"{subject}\n\n{written['message']}".replace("\0", " "))
    merge(origin)
    event = request.event(fork=True)
    event["pull_request"] |= {"title": written["title"], "body": written["body"]}
    event["pull_request"]["head"]["ref"] = written["branch"]
    return request, event


class Prompt(NamedTuple):
    """A prompt as a model that trusts only boundaries reads it: what is not in a block, and the blocks."""

    outside: str
    blocks: dict[str, str]


def read(prompt: str) -> Prompt:
    """Read by its lines alone, in order; whatever Unicode calls a line break ends one."""
    outside: list[str] = []
    inside: list[str] = []
    tokens: dict[str, str] = {}
    blocks: dict[str, str] = {}
    token = None
    for line in prompt.splitlines():
        opening = re.fullmatch(r"<<<([0-9a-f]{12}) (.*)", line) if token is None else None
        if opening:
            token, title = opening.groups()
            assert token not in tokens, "two blocks have the same token"
            tokens[token] = title
            outside.append(f"<<< {title}")
            inside = []
        elif token is None:
            outside.append(line)
        elif line == f"{token}>>>":
            assert tokens[token] not in blocks, "two blocks have the same title"
            blocks[tokens[token]] = "\n".join(inside)
            outside.append(">>>")
            token = None
        else:
            inside.append(line)
    assert token is None, "a block is not closed"
    for token in tokens:
        assert prompt.count(token) == 3, "a token is elsewhere too"
    around = "\n".join(outside)
    return Prompt(re.sub("|".join(tokens), lambda found: tokens[found[0]], around), blocks)


class Run(NamedTuple):
    """A step of the Action: how it ended, what it put out, and the prompt of each step."""

    step: Step
    record: dict[str, Any]
    comments: Sequence[str]
    prompts: Mapping[str, str]


def step_of(prompt: str) -> str:
    return re.findall(r'^You are the \w+ in the step "([\w-]+)" of', prompt, re.MULTILINE)[-1]


def obey(written: Mapping[str, str], quoted: Sequence[Place]) -> Callable[[dict[str, Any]], Reply]:
    """A model that finds high and medium faults, and later drops each with what one of the places says."""

    def answer(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][0]["content"]
        return replace(text(reply(prompt), 2_000), usage=(len(prompt) // 3, 5))

    def reply(prompt: str) -> str:
        step = step_of(prompt) if "# Your step" in prompt else "asked for the verdict again"
        if step == "think":
            return written["earlier answer"]
        if step == "check":
            return drop_all(prompt, quoted)
        if step == "review":
            found = [f"- [{severity}] app.py:2 — {said}" for severity, said in FAULTS]
            return "\n".join([*found, "", "Review status: revise"])
        return f"{HIGH}: {' '.join(written['finding'].split())}\n\nReview status: revise"

    return answer


FAULTS = [
    (severity, f"`{severity}_{n}` is lost") for severity in ("high", "medium") for n in range(len(WORDS))
]
"""A high and a medium one for each place that could be quoted against it."""


def drop_all(prompt: str, quoted: Sequence[Place]) -> str:
    """All findings dropped, each with every line of the prompt that has the mark of a place, and its text."""
    lines = prompt.split("\n")
    fence = "~" * 20
    said = []
    for number in range(1, len(FAULTS) + 2):
        place = quoted[(number - 1) % len(quoted)]
        marked = [at for at, line in enumerate(lines) if place.mark in line]
        proofs = [place.mark, *(lines[at] for at in marked)]
        proofs += ["\n".join(lines[first : last + 1]) for first, last in pairwise(marked)]
        code = "".join(f"  {line}\n" for each in proofs for line in (fence, *each.split("\n"), fence))
        said.append(f"- {number}: dropped — it says so\n{code}")
    return "\n".join([*said, "Checked: all"])


def run(act: Act, github: GitHubServer, folder: Path, texts: Sequence[str], quoted: Sequence[Place]) -> Run:
    """One run of the Action with ``texts``, one for each place; ``quoted`` are to disprove the findings."""
    folder.mkdir()
    contents = {"task": ASKED, "file:steady.md": STEADY}
    written = {
        place.name: place.write(fill_in(each, contents)) for place, each in zip(PLACES, texts, strict=True)
    }
    request, event = propose(folder, written)
    variables = {"AETHR_RUN_FAIL_ON": "medium", "AETHR_ACTION_ALLOW_COMMANDS_ON_PULL_REQUESTS": "true"}
    with ModelServer(obey(written, quoted)) as models:
        step = act(request, models, event=event, variables=variables)
    sent = [body["messages"][0]["content"] for body in models.bodies]
    prompts = {step_of(each): each for each in sent if "# Your step" in each}
    assert "report" in step.outputs, step.log
    record = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))
    return Run(step, record, list(github.bodies), prompts)


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """What is not in a block, by step, in a run in which every text is harmless; filled by the first test."""
    return {}


@pytest.mark.parametrize("shift", tiered(spread(range(len(ALL))), fast=1, ci=8))
def test_a_hostile_pull_request_reaches_a_false_revise_at_most(
    act: Act, github: GitHubServer, tmp_path: Path, expected: dict[str, str], shift: int
) -> None:
    """With each ``shift`` the texts move on by one place; over all of them each was in every place.

    The eight of ``.ci/run`` have each text in at least one place.
    """
    if not expected:
        plain = run(act, github, tmp_path / "plain", [HARMLESS] * len(PLACES), WORDS)
        expected |= {step: read(prompt).outside for step, prompt in plain.prompts.items()}
        assert list(expected) == ["think", "review", "second", "check"], plain.step.log
    texts = list(islice(cycle(ALL.values()), shift, shift + len(PLACES)))
    made = run(act, github, tmp_path / "hostile", texts, WORDS)
    assert made.step.code == 1, made.step.log
    assert made.record["outcome"] in ("revise", "incomplete")
    findings = made.record["review"]["findings"]
    words = {said["message"] for each in findings for said in (each, *each["also"])}
    assert words >= {message for _, message in FAULTS}
    assert [each for each in findings if each["check"] is not None] == []
    assert_everything_is_in_its_block(made.prompts, expected)
    assert_inert(made)


@pytest.mark.slow
def test_code_of_the_change_disproves_no_high_finding(act: Act, github: GitHubServer, tmp_path: Path) -> None:
    """A medium one it may, as any code; this also shows that the verifier of these tests is obeyed."""
    code = [place for place in PLACES if not place.words]
    made = run(act, github, tmp_path / "code", [HARMLESS] * len(PLACES), code)
    findings = made.record["review"]["findings"]
    dropped = {each["severity"] for each in findings if each["check"] and each["check"]["dropped"]}
    assert (dropped, made.step.code) == ({"medium"}, 1)
    high = [each["check"] for each in findings if each["severity"] == "high" and each["check"]]
    assert {each["dropped"] for each in high} == {False}


def assert_everything_is_in_its_block(prompts: Mapping[str, str], expected: Mapping[str, str]) -> None:
    assert prompts.keys() == expected.keys()
    for step, prompt in prompts.items():
        outside, blocks = read(prompt)
        assert outside == expected[step]
        for place in PLACES:
            found = {title for title, content in blocks.items() if place.mark in content}
            assert found <= {*place.blocks}, (step, place.name)
            if step == "check":  # the only one that sees all
                assert bool(found) == bool(place.blocks), place.name


def assert_inert(made: Run) -> None:
    step = made.step
    everything = "\n".join((step.log, step.summary, *made.comments, *step.outputs.values()))
    assert CONTROL.search(everything) is None
    before, _, rest = step.log.partition("::stop-commands::")
    after = rest.partition(f"\n::{rest.partition(chr(10))[0]}::\n")[2] if rest else ""
    obeyed = [line for line in (before + after).splitlines() if line.lstrip().startswith("::")]
    assert [line for line in obeyed if not re.match(r"::(error|warning|notice) (file|title)=", line)] == []
    assert "##[" not in before + after
    answers.assert_harmless_markdown(step.summary)
    for comment in made.comments:
        answers.assert_harmless_markdown(comment)
        assert comment.startswith("<!-- aethr")
        own = [line for line in comment.splitlines() if line and not line.startswith("<!-- aethr:state ")]
        assert own[-1].startswith("<sub>")
        assert [line for line in comment.splitlines() if line.startswith("/")] == []


# --- a model that repeats it -------------------------------------------------------------------

FORMS: Mapping[str, Callable[[str], str]] = {
    "before a verdict": lambda said: f"{said}\n\n{REVISE}",
    "after a verdict": lambda said: f"{REVISE}\n\n{said}",
    "right below a verdict": lambda said: f"{REVISE}\n{said}",
    "between finding and status": lambda said: f"{HIGH}\n\n{said}\n\nReview status: revise",
    "instead of the status": lambda said: f"{HIGH}\n\n{said}",
    "a message": lambda said: f"- [high] app.py:2 — {' '.join(said.split())}\n\nReview status: revise",
    "a message of many lines": lambda said: f"- [high] app.py:2 — {said}\n\nReview status: revise",
    "a path": lambda said: (
        f"- [high] {' '.join(said.split())}:2 — the total is wrong\n\nReview status: revise"
    ),
    "quoted evidence": lambda said: f"{HIGH}\n\n{indent(said, 6 * ' ')}\n\nReview status: revise",
    "fenced evidence": lambda said: f"{HIGH}\n  ```\n{indent(said, '  ')}\n  ```\n\nReview status: revise",
    "a suggestion": lambda said: (
        f"{HIGH}\n\n      return sum(prices) + 1\n"
        f"  ```suggestion\n{indent(said, '  ')}\n  ```\n\nReview status: revise"
    ),
    "a block": lambda said: f"The file says:\n\n```\n{said}\n```\n\n{REVISE}",
    "a quote": lambda said: f"The file says:\n\n{indent(said, '> ')}\n\n{REVISE}",
    "a second finding": lambda said: f"{HIGH}\n- [low] app.py:1 — {said}\n\nReview status: revise",
    "thoughts": lambda said: f"<think>\n{said}\n</think>\n{REVISE}",
    "everything": lambda said: f"{said}\n\n{HIGH}\n\n{said}\n\nReview status: revise\n\n{said}",
}
"""How an answer with a high finding repeats a text."""


def show(aethr: Aethr, folder: Path, *words: str) -> tuple[int, str]:
    """The exit code, after a look at every output: nothing in it acts."""
    reports = {suffix: folder / f"r{suffix}" for suffix in (".md", ".json", ".sarif", ".txt")}
    asked = [word for path in reports.values() for word in ("--report", str(path))]
    done = aethr("run", "--preset", "review-existing-diff", *words, *asked, TASK)
    written = {suffix: path.read_text(encoding="utf-8") for suffix, path in reports.items() if path.exists()}
    assert written.keys() == reports.keys(), done.err
    assert CONTROL.search(done.out + done.err + "".join(written.values())) is None
    answers.assert_nothing_for_a_runner(done.out + done.err)
    answers.assert_harmless_markdown(written[".md"])
    json.loads(written[".json"])
    for uri in re.findall(r'"(?:uri|informationUri|helpUri)": *"([^"]*)"', written[".sarif"]):
        assert uri.startswith("https://") or ":" not in uri, uri
    json.loads(written[".sarif"])
    return done.code, json.loads(written[".json"])["outcome"]


@pytest.mark.parametrize(("said", "form"), tiered(pairs(ALL, FORMS), fast=8, ci=len(ALL)))
def test_a_repeated_text_takes_no_finding_back(
    aethr: Aethr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, form: str
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    answer = FORMS[form](fill_in(ALL[said], {"task": TASK}))
    with serving(monkeypatch, always=text(answer, 200)):
        code, outcome = show(aethr, tmp_path, "--fail-on", "high")
    assert code in (1, 4), answer
    assert outcome != "pass"


@pytest.mark.parametrize("said", tiered(ALL, fast=1, ci=len(ALL)))
def test_a_text_alone_acts_on_no_output(
    aethr: Aethr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with serving(monkeypatch, always=text(fill_in(ALL[said], {"task": TASK}), 7)):
        code, outcome = show(aethr, tmp_path, "--stream", "--fail-on", "high")
    assert (code, outcome) in ((0, "pass"), (1, "revise"), (4, "not-reviewed"), (4, "incomplete")), said


@pytest.mark.parametrize("said", tiered(spread(ALL), ci=16))
def test_a_text_acts_on_no_terminal(repo: Repo, said: str) -> None:
    """Rich moves the cursor and colours; whatever else a terminal obeys could only come from the text."""
    repo.write("app.py", "def total(prices):\n    return sum(prices) + 1\n")
    answer = FORMS["everything"](fill_in(ALL[said], {"task": TASK}))
    with ModelServer(lambda _: text(answer, 50)) as server:
        env = {"AETHR_LIVE": "1", "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.base_url}
        words = ["run", "--preset", "review-existing-diff", "--diff", "all", "--fail-on", "high", TASK]
        code, raw = on_terminal(words, repo.root, env)
    assert code in (1, 4), raw
    assert CONTROL.search(re.sub(r"\x1b\[(?:[0-9;]*m|\d*[AK]|\?25[lh])|[\r\n]", "", raw)) is None
