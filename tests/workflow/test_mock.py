from __future__ import annotations

from pathlib import Path

import pytest

from aethr.base.records import Completion, ModelSpec, Request, TextDelta, Usage
from aethr.workflow.backends import MockBackend

DIFF = """\
diff --git a/src/a b.py b/src/a b.py
--- a/src/a b.py
+++ b/src/a b.py
@@ -3,4 +17,5 @@ def f():
-old
+new
"""


def ask(
    prompt: str = "look", role: str = "writer", reviewing: bool = False, model: str | None = None
) -> Completion:
    spec = ModelSpec(model) if model else None
    request = Request("step", role, prompt, spec, Path(), reviewing=reviewing)
    stream = MockBackend().complete(request)
    pieces = []
    while True:
        try:
            event = next(stream)
        except StopIteration as end:
            completion = end.value
            break
        assert isinstance(event, TextDelta)
        pieces.append(event.text)
    assert "".join(pieces) == completion.content
    assert len(pieces) > 1
    assert isinstance(completion, Completion)
    return completion


def test_the_mock_answer_depends_on_the_prompt() -> None:
    assert ask("one") == ask("one")
    assert ask("one").content != ask("two").content


def test_the_mock_says_that_no_model_was_called() -> None:
    first = ask().content.splitlines()[0]
    assert first.startswith("Mock answer ")
    assert first.endswith("no model was called.")


def test_a_mock_review_names_the_first_changed_line() -> None:
    content = ask(DIFF, role="reviewer", reviewing=True).content
    assert "\n- [low] src/a b.py:17 — " in content
    assert content.splitlines()[-1] == "Review status: pass"


def test_a_mock_review_finds_a_new_file_by_its_hunk() -> None:
    diff = "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1,2 @@\n+a\n+b\n"
    assert "- [low] new.py:1 — " in ask(diff, reviewing=True).content


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "no diff here",
        "--- a/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n",
        "+++ b/x\n@@ -1 +99999999999 @@",
    ],
)
def test_a_mock_review_without_a_changed_line_has_a_verdict(prompt: str) -> None:
    lines = ask(prompt, reviewing=True).content.splitlines()
    assert lines[-1] == "Review status: pass"
    assert any(line.startswith("- [low]") for line in lines)


def test_a_mock_plan_has_numbered_steps_and_no_verdict() -> None:
    content = ask(role="planner").content
    assert "\n1. " in content
    assert "Review status" not in content


def test_a_mock_answer_names_any_other_role() -> None:
    assert "documenter" in ask(role="documenter").content


def test_a_mock_costs_nothing_and_is_marked() -> None:
    completion = ask(model="openai:gpt-4o-mini")
    assert completion.usage == Usage(0, 0, 0, 0.0)
    assert (completion.transport, completion.finish_reason, completion.truncated) == ("mock", "stop", False)
    assert completion.model == "openai:gpt-4o-mini"
    assert completion.artifacts is None
    assert ask().model == "mock"


def test_the_mock_of_an_agent_does_not_touch_the_tree(tmp_path: Path) -> None:
    backend = MockBackend()
    backend.preflight([])
    for _ in backend.complete(Request("implement", "implementer", "do it", None, tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []
