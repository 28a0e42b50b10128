"""The exact prompt text: golden bytes, boundaries that nothing inside can imitate, what a step sees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base.records import Artifacts, Block, StepResult
from aethr.engine import prompts
from tests.support import many

GOLDEN = Path(__file__).parents[1] / "data" / "prompts"
SETTING = prompts.Setting("fix-it", "review", "reviewer", "Be careful.\n", reviewing=True, edits_tree=False)
PLAN = StepResult("plan", "planner", "model", "m:x", 1, "0" * 64, "1. Do it.\n")
EDIT = StepResult(
    "implement", "implementer", "opencode", "m:x", 2, "0" * 64, "Done.", artifacts=Artifacts(("a.py", "b.py"))
)
DIFF = Block("git_diff", "diff --git a/a.py b/a.py\n+x = 1\n")


def build(**changes: object) -> str:
    history = prompts.describe_history([PLAN, EDIT], "all")
    return prompts.build(SETTING._replace(**changes), "mend it", history, [DIFF])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reviewer", build()),
        ("implementer", build(step="implement", role="implementer", reviewing=False, edits_tree=True)),
        ("planner", prompts.build(SETTING._replace(reviewing=False), "mend it", (), ())),
        ("ask_verdict", prompts.ask_verdict("It looks fine to me.")),
    ],
)
def test_the_prompt_is_the_golden_file(name: str, text: str) -> None:
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def boundaries(prompt: str) -> list[tuple[str, int, int]]:
    """Each block's title, and how many opening and closing lines its token has."""
    listed = prompt[prompt.rindex("The blocks above, ") :]
    found = []
    for token, title in re.findall(r"^- ([0-9a-f]{12}) (.*)$", listed, re.MULTILINE):
        opening = re.findall(rf"^<<<{token} .*$", prompt, re.MULTILINE)
        found.append((title, len(opening), len(re.findall(rf"^{token}>>>$", prompt, re.MULTILINE))))
        assert prompt.count(token) == 3
    return found


def test_a_block_cannot_imitate_headings_and_boundaries() -> None:
    once = build()
    again = prompts.build(SETTING, "mend it", (), [Block("file:a.md", once), DIFF])
    assert boundaries(again) == [("file:a.md", 1, 1), ("git_diff", 1, 1), ("task", 1, 1)]
    assert again.endswith(prompts.review.CONTRACT + "\n")


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
@many(150)
def test_every_block_has_one_opening_and_one_closing_line(texts: list[str]) -> None:
    blocks = [Block(f"file:{n}", text) for n, text in enumerate(texts)]
    prompt = prompts.build(SETTING, texts[0], (), blocks)
    assert [counts[1:] for counts in boundaries(prompt)] == [(1, 1)] * (len(texts) + 1)
    assert prompt == prompts.build(SETTING, texts[0], (), blocks)


def test_a_token_that_the_prompt_contains_is_not_used() -> None:
    token = re.findall(r"<<<(\w{12}) git_diff", build())[0]
    for text in (f"{token}>>>", f"x{token}", DIFF.text):
        prompt = prompts.build(SETTING, text, (), [DIFF])
        assert ("git_diff", 1, 1) in boundaries(prompt)
    assert f"<<<{token} git_diff" not in prompts.build(SETTING._replace(guidance=token), "t", (), [DIFF])


def test_two_reviewers_of_one_change_share_almost_all_of_their_prompts() -> None:
    change = Block("git_diff", "+x = 1\n" * 5_000)
    history = prompts.describe_history([PLAN], "all")
    one = prompts.build(SETTING, "t", (), [change])
    other = prompts.build(SETTING._replace(step="second", guidance="Look at names."), "t", history, [change])
    assert other.startswith(one[: int(0.95 * len(one))])


@pytest.mark.parametrize("text", ["{}", "{0.__class__}", "%s %d", "$HOME ${X}", "\\n \\1"])
def test_nothing_in_a_block_or_in_the_role_is_formatted(text: str) -> None:
    prompt = prompts.build(SETTING._replace(guidance=text), text, (), [Block("file:a", text)])
    assert prompt.count(f"\n{text}\n") == 3


def test_a_title_cannot_break_its_line() -> None:
    prompt = prompts.build(SETTING, "t", (), [Block("file:a\n<<<b", "x")])
    assert [title for title, *_ in boundaries(prompt)] == ["file:a <<<b", "task"]


def test_history_by_visibility() -> None:
    history = [PLAN, EDIT]
    assert [each.title for each in prompts.describe_history(history, "all")] == [
        "plan (planner), pass 1",
        "implement (implementer), pass 2",
    ]
    assert [each.title for each in prompts.describe_history(history, "latest")] == [
        "implement (implementer), pass 2"
    ]
    assert prompts.describe_history(history, "none") == ()
    assert prompts.describe_history([], "latest") == ()


def test_the_history_names_changed_files() -> None:
    assert prompts.describe_history([EDIT], "all")[0].text == "Done.\n\nChanged files: a.py, b.py"
    odd = EDIT._replace(artifacts=Artifacts(("a\n\u202eb.py",)))
    assert prompts.describe_history([odd], "all")[0].text.endswith("Changed files: a\\n\\u{202e}b.py")
    idle = EDIT._replace(artifacts=Artifacts())
    assert prompts.describe_history([idle], "all")[0].text.endswith("Changed files: none")


def test_a_history_summary_has_first_paragraph_and_verdict() -> None:
    long = "x" * 1000 + "\n\nmore\n- [high] a.py:3 — wrong\nReview status: revise\n"
    told = prompts.describe_history([PLAN._replace(content=long)], "summary")[0].text
    assert told == "x" * 400 + " […]\n- [high] a.py:3 — wrong\nReview status: revise"


def test_the_digest_is_of_the_utf8_bytes() -> None:
    assert prompts.digest("é\n") == ("edd3a863872a04239eb29ad4bc12fc892b3d4ae57cc7e786a3697816f8e141c2")
