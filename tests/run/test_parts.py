"""Runs over a change that is cut into parts: what each call sees, what a resume pays, how the run ends."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live import KEY, PASS, TASK, Aethr, aethr, project, resume_words, temp
from tests.model_server import ModelServer, Reply, error
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]

HEAD = """\
workflow: large
roles: {thinker: "Think.", reviewer: "Review.", teller: "Tell."}
models: {thinker: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini", teller: "openai:gpt-4o-mini"}
limits: {context_chars: 1000}
steps:
"""
REVIEW = HEAD + "  - {id: review, role: reviewer, context: [git_diff]}\n"
FILES = 9
"""Files of the change, which make more than two parts."""

Answer = Callable[[str], "Reply | str"]


@pytest.fixture
def large(project: Repo) -> Repo:
    """A repository with a change of several parts."""
    project.git("checkout", "-q", "app.py")
    project.write(".aethr.yaml", REVIEW)
    project.commit()
    for n in range(FILES):
        project.write(f"f{n}.py", f"x = {n}\n" * 30)
    project.git("add", "-A")
    return project


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> Iterator[ModelServer]:
    """A server that answers each prompt."""
    with ModelServer(lambda body: answer(body["messages"][0]["content"])) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("AETHR_LIVE", "1")
        yield server


def passes(_prompt: str) -> str:
    return PASS


def role(prompt: str) -> str:
    """What the role's own text says, which stands behind all blocks."""
    return re.findall(r"^(Think|Review|Tell)\.$", prompt, re.MULTILINE)[-1]


def files(prompt: str) -> list[str]:
    return re.findall(r"^\+\+\+ b/(\S+)$", prompt, re.MULTILINE)


def sent(server: ModelServer, by: str = "Review") -> list[list[str]]:
    """The files in each prompt for this role."""
    prompts = [body["messages"][0]["content"] for body in server.bodies]
    return [files(prompt) for prompt in prompts if role(prompt) == by]


# --- what a part sees ----------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", ["all", "latest", "summary", "none"])
def test_a_part_sees_the_answer_to_the_same_part_and_a_writer_sees_all(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch, visibility: str
) -> None:
    large.write(
        ".aethr.yaml",
        HEAD + "  - {id: think, role: thinker, context: [git_diff]}\n"
        f"  - {{id: review, role: reviewer, context: [git_diff], history_visibility: {visibility}}}\n"
        "  - {id: tell, role: teller, history_visibility: latest}\n"
        "  - {id: again, role: teller}\n",
    )
    shown: list[tuple[str, list[str], list[str]]] = []

    def answer(prompt: str) -> str:
        said = re.findall(r"^(?:idea|verdict) of .*$", prompt, re.MULTILINE)
        shown.append((role(prompt), files(prompt), said))
        about = " ".join(files(prompt))
        return {"Think": f"idea of {about}", "Review": f"verdict of {about}\n\n{PASS}", "Tell": "told"}[
            role(prompt)
        ]

    with answering(monkeypatch, answer):
        record = aethr("run", "--diff", "staged", "--json", "--require-review", TASK).record
    assert (record["outcome"], record["review"]["coverage"]) == ("pass", 1.0)
    # The parts are those of the files' names, whatever the order in which the calls arrived.
    ideas = sorted(f"idea of {' '.join(seen)}" for by, seen, _ in shown if by == "Think")
    verdicts = sorted(f"verdict of {' '.join(seen)}" for by, seen, _ in shown if by == "Review")
    assert len(ideas) == len(verdicts) > 2
    for by, seen, history in shown:
        if by == "Review":
            assert history == ([] if visibility == "none" else [f"idea of {' '.join(seen)}"])
    assert [history for by, _, history in shown if by == "Tell"] == [verdicts, [*ideas, *verdicts]]


def test_no_prompt_says_which_part_it_is_or_names_the_other_files(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(monkeypatch, passes) as server:
        assert aethr("run", "--diff", "staged", TASK).code == 0
    for body in server.bodies:
        prompt = body["messages"][0]["content"]
        assert "reviewed separately" in prompt
        assert "part 1 of" not in prompt
        assert {f"f{n}.py" for n in range(FILES) if f"f{n}.py" in prompt} == set(files(prompt))


# --- three planted bugs --------------------------------------------------------------------------


def test_three_bugs_in_forty_files_are_found(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(40)
    project.write(".aethr.yaml", REVIEW.replace("1000", "60000"))
    project.commit()
    bugs = {4: "os.system(name)", 19: "return total - 1", 37: "except: pass"}
    for n in range(40):
        lines = [f"value_{rng.randrange(10**6)} = {rng.randrange(10**9)}\n" for _ in range(278)]
        if n in bugs:
            lines.insert(100 + n, f"    {bugs[n]}\n")
        project.write(f"src/module_{n}.py", "".join(lines))
    project.git("add", "-A")
    assert 290_000 < len(project.git("diff", "--cached")) < 310_000

    def answer(prompt: str) -> Reply:
        found = [f"- [high] src/module_{n}.py:{101 + n} — {bug}" for n, bug in bugs.items() if bug in prompt]
        said = "\n".join([*found, "", f"Review status: {'revise' if found else 'pass'}"])
        return Reply((said,), usage=(30_000, 9))

    with answering(monkeypatch, answer) as server:
        done = aethr("run", "--diff", "staged", "--json", "--fail-on", "high", TASK)
    record = done.record
    places = [(each["path"], each["line"]) for each in record["review"]["findings"]]
    assert sorted(places) == sorted((f"src/module_{n}.py", 101 + n) for n in bugs)
    assert (done.code, record["outcome"], record["review"]["coverage"]) == (1, "revise", 1.0)
    assert len(server.bodies) <= 8
    once = Counter(name for prompt in sent(server) for name in prompt)
    assert once == {**{f"src/module_{n}.py": 1 for n in range(40)}}


# --- a part that was not reviewed ----------------------------------------------------------------


def test_a_missing_verdict_is_asked_for_that_part_alone(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "It looks fine to me." if "+++ b/f4.py" in prompt else PASS

    with answering(monkeypatch, answer):
        done = aethr("run", "--diff", "staged", "--json", "--require-review", TASK)
    steps = done.record["steps"]
    assert sorted(step["calls"] for step in steps) == [*[1] * (len(steps) - 1), 2]
    assert len(asked) == len(steps) + 1
    assert (done.code, done.record["outcome"]) == (0, "pass")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply((PASS,), finish_reason="length"), r"INCOMPLETE: the answer of {} was cut \(length\)$"),
        (Reply((PASS,), usage=(9, 9)), r"INCOMPLETE .*: the server did not read the whole prompt of {}: "),
    ],
    ids=["a cut answer", "a cut prompt"],
)
def test_a_part_without_a_whole_review_makes_it_incomplete_by_name(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch, reply: Reply, reason: str
) -> None:
    large.write(".aethr.yaml", REVIEW.replace("1000", "20000"))
    for n in range(FILES):
        large.write(f"f{n}.py", f"x = {n}\n" * 1_400)
    large.git("add", "-A")
    good = Reply((PASS,), usage=(9_000, 9))
    with answering(monkeypatch, lambda prompt: reply if "+++ b/f4.py" in prompt else good) as server:
        done = aethr("run", "--diff", "staged", "--fail-on", "high", TASK)
    parts = sorted(sent(server))
    part = next(n for n, seen in enumerate(parts, start=1) if "f4.py" in seen)
    assert done.code == 4
    assert re.search(reason.format(f"step 'review', part {part} of {len(parts)}"), done.out, re.MULTILINE)


# --- more parts than the limit -------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "hook"])
def test_too_many_parts_are_refused_before_the_first_call_with_a_gate(
    aethr: Aethr, large: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    large.write(".aethr.yaml", REVIEW.replace("1000", "1000, parts: 2"))
    words = ("run", "--diff", "staged", "--fail-on", "high", TASK) if command == "run" else ("hook",)
    with answering(monkeypatch, passes) as server:
        done = aethr(*words)
    assert (done.code, server.bodies) == (4, [])
    said = done.out + done.err
    needed = re.search(r"the change needs (\d+) parts, and limits.parts allows 2", said)
    assert needed
    assert f"Set `limits: {{parts: {needed[1]}}}` in .aethr.yaml" in said
    assert "--resume-checkpoint" not in said
    assert list(temp.iterdir()) == []
    large.write(".aethr.yaml", REVIEW.replace("1000", f"1000, parts: {needed[1]}"))
    with answering(monkeypatch, passes) as server:
        assert aethr(*words).code == 0
    assert len(server.bodies) == int(needed[1])


def test_without_a_gate_the_first_parts_are_reviewed(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.write(".aethr.yaml", REVIEW.replace("1000", "1000, parts: 2"))
    with answering(monkeypatch, passes) as server:
        done = aethr("run", "--diff", "staged", "--json", TASK)
    record = done.record
    assert (done.code, record["outcome"], len(server.bodies)) == (0, "incomplete", 2)
    receipts = [each for step in record["steps"] for each in step["context"] if each["path"]]
    assert sum(each["changed_lines"] for each in receipts) == 30 * FILES
    assert sum(each["sent_lines"] for each in receipts) == 30 * sum(map(len, sent(server)))
    assert {each["note"] for each in receipts if not each["complete"]} == {"over the limit of 2 parts"}
    assert "over the limit of 2 parts" in done.err


def test_a_mock_and_a_script_have_the_same_parts(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(monkeypatch, passes):
        live = aethr("run", "--diff", "staged", "--json", TASK).record
    monkeypatch.setenv("AETHR_LIVE", "0")
    mock = aethr("run", "--diff", "staged", "--json", TASK).record
    (large.root / "replies.yaml").write_text(f"review: [{json.dumps(PASS)}]\n")
    scripted = aethr("run", "--diff", "staged", "--json", "--replies", "replies.yaml", TASK).record
    hashes = [[step["prompt_sha256"] for step in each["steps"]] for each in (live, mock, scripted)]
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(hashes[0]) > 2


# --- resume --------------------------------------------------------------------------------------

SEALED = ("run", "--diff", "staged", "--fail-on", "high")


def stop_after(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, finished: int, words: Sequence[str] = SEALED
) -> tuple[Path, list[list[str]]]:
    """The checkpoint of a run that stopped when so many parts were finished, and what was sent of them."""
    left = [finished]

    def answer(_prompt: str) -> Reply | str:
        left[0] -= 1
        return PASS if left[0] >= 0 else error(401, "no")

    with answering(monkeypatch, answer) as server:
        done = aethr(*words, "--jobs", "1", TASK)
    assert done.code == 3, done.err
    return Path(resume_words(done.err)[-1][1:]), sent(server)[:finished]


@pytest.mark.parametrize("finished", [1, 2, 3])
def test_a_resume_pays_for_the_missing_parts_alone(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    path, before = stop_after(aethr, monkeypatch, finished)
    with answering(monkeypatch, passes) as server:
        done = aethr(*SEALED, "--json", "--resume-checkpoint", f"@{path}")
    assert (done.code, done.record["outcome"], done.record["review"]["coverage"]) == (0, "pass", 1.0)
    every = [name for part in (*before, *sent(server)) for name in part]
    assert sorted(every) == [f"f{n}.py" for n in range(FILES)]
    steps = done.record["steps"]
    assert [(step["part"], step["parts"]) for step in steps] == [
        (n + 1, len(steps)) for n in range(len(steps))
    ]
    assert len(before) + len(server.bodies) == len(steps)


def test_the_parts_run_again_if_the_change_moved(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = stop_after(aethr, monkeypatch, 2)
    large.write(before[0][0], "y = 1\n" * 30)
    large.git("add", "-A")
    with answering(monkeypatch, passes) as server:
        done = aethr(*SEALED, "--resume-checkpoint", f"@{path}")
    assert done.code == 0, done.err
    assert "2 finished parts of the next step will run again" in done.err
    assert sorted(name for part in sent(server) for name in part) == [f"f{n}.py" for n in range(FILES)]


@pytest.mark.parametrize("limits", ["700", "3000", "100000", "1000, parts: 40"])
def test_a_resume_with_other_limits_reviews_all_of_it(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch, limits: str
) -> None:
    path, before = stop_after(aethr, monkeypatch, 2)
    large.write(".aethr.yaml", REVIEW.replace("1000", limits))
    with answering(monkeypatch, passes) as server:
        done = aethr(*SEALED, "--json", "--resume-checkpoint", f"@{path}")
    assert (done.code, done.record["outcome"], done.record["review"]["coverage"]) == (0, "pass", 1.0)
    same = "parts: 40" in limits
    every = [name for part in (*(before if same else ()), *sent(server)) for name in part]
    assert set(every) == {f"f{n}.py" for n in range(FILES)}
    assert ("will run again" in done.err) == (not same)


def edit(number: int, **values: Any) -> Callable[[list[str]], list[str]]:
    """Change values of the result in a line of a checkpoint; its first line has the number 0."""

    def forge(lines: list[str]) -> list[str]:
        record = json.loads(lines[number])
        record["step"].update(values)
        return [*lines[:number], json.dumps(record), *lines[number + 1 :]]

    return forge


FORGED: dict[str, Callable[[list[str]], list[str]]] = {
    "a part twice": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "another part's number": edit(2, part=1),
    "a part over the number of parts": edit(2, part=99),
    "part zero": edit(1, part=0),
    "part minus one": edit(1, part=-1),
    "no parts": edit(1, parts=0),
    "another number of parts": edit(2, parts=3),
    "a part that is no number": edit(1, part="1"),
    "a part that is a truth value": edit(1, part=True),
}


@pytest.mark.parametrize("form", FORGED)
@pytest.mark.parametrize("gate", [True, False], ids=["gate", "no gate"])
def test_a_forged_part_is_refused(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch, form: str, gate: bool
) -> None:
    path, _ = stop_after(aethr, monkeypatch, 2)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(FORGED[form](lines)) + "\n", encoding="utf-8")
    words = SEALED if gate else SEALED[:3]
    with answering(monkeypatch, passes) as server:
        done = aethr(*words, "--resume-checkpoint", f"@{path}")
    assert (done.code in ((2, 4) if gate else (2,)), server.bodies) == (True, []), done.err
    assert len([line for line in done.err.splitlines() if line.startswith("aethr: ")]) == 1


def test_parts_in_another_order_are_refused_with_a_gate_and_sorted_without(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = stop_after(aethr, monkeypatch, 3)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], *lines[3:0:-1], *lines[4:]]) + "\n", encoding="utf-8")
    with answering(monkeypatch, passes) as server:
        assert aethr(*SEALED, "--resume-checkpoint", f"@{path}").code == 4
        assert server.bodies == []
        done = aethr(*SEALED[:3], "--json", "--resume-checkpoint", f"@{path}")
    assert done.record["outcome"] == "incomplete"  # its seals prove nothing any more
    assert [step["part"] for step in done.record["steps"]] == [
        n + 1 for n in range(len(done.record["steps"]))
    ]


@pytest.mark.parametrize(("limits", "code"), [("100000", 0), ("700", 0), ("250", 4)])
def test_a_finished_review_counts_as_long_as_its_files_were_sent_whole(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch, limits: str, code: int
) -> None:
    two = REVIEW + "  - {id: tell, role: teller}\n"
    large.write(".aethr.yaml", two)

    def answer(prompt: str) -> Reply | str:
        return PASS if role(prompt) == "Review" else error(401, "no")

    with answering(monkeypatch, answer):
        done = aethr(*SEALED, TASK)
    checkpoint = resume_words(done.err)[-1]
    large.write(".aethr.yaml", two.replace("1000", limits))
    with answering(monkeypatch, passes) as server:
        done = aethr(*SEALED, "--resume-checkpoint", checkpoint)
    assert (done.code, len(server.bodies)) == (code, 0 if code else 1), done.err


# --- what a person reads -------------------------------------------------------------------------


def test_reports_name_each_part_and_the_last_line_counts_the_calls(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(prompt: str) -> str:
        return f"- [low] {files(prompt)[0]}:3 — the same line again\n\n{PASS}"

    with answering(monkeypatch, answer) as server:
        done = aethr("run", "--diff", "staged", "--report", "r.md", "--report", "r.sarif", TASK)
    count = len(server.bodies)
    assert f"in {count} parts" in done.out.splitlines()[0]
    assert re.search(rf"^1 step, {count} calls, ", done.out, re.MULTILINE)
    page = (large.root / "r.md").read_text(encoding="utf-8")
    for part in range(1, count + 1):
        assert f"\n## review, part {part} of {count}\n" in page
        assert f"\n| review, part {part} of {count} |" in page
    results = json.loads((large.root / "r.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]
    assert len(results) == count


@pytest.mark.parametrize("during", ["the run", "a pause"])
def test_a_deleted_file_that_comes_back_is_another_change(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    project.write(".aethr.yaml", REVIEW + "  - {id: tell, role: teller}\n")
    project.write("gone.py", "x = 1\n" * 400)
    project.commit()
    (project.root / "gone.py").unlink()
    project.write("app.py", "def total(prices):\n    return 0\n")

    def answer(prompt: str) -> Reply | str:
        if role(prompt) == "Tell" and during == "a pause":
            return error(400, "not now")
        if role(prompt) == "Tell":
            project.write("gone.py", "x = 2\n" * 400)
        else:
            assert "not sent: gone.py, 400 changed lines, deleted" in prompt
        return PASS

    words = ("run", "--diff", "head", "--require-review", TASK)
    with answering(monkeypatch, answer):
        done = aethr(*words)
    if during == "a pause":
        assert done.code == 3
        project.write("gone.py", "x = 2\n" * 400)
        with answering(monkeypatch, passes):
            done = aethr(*resume_words(done.err))
    assert (done.code, "the change" in done.out + done.err) == (4, True)
