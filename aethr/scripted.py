"""``--replies``: a backend that plays a file of answers, to test a workflow without a model.

What a run makes of them is real: conditions, loops and the gate. What it gives is no review.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import NamedTuple

from aethr.config import replies
from aethr.config.replies import Replies, Reply
from aethr.errors import ConfigError
from aethr.records import NO_USAGE, Artifacts, Completion, Notice, Request, RunResult, TextDelta

UNNAMED = ("scripted-change",)
"""What an agent's step has changed where its answer does not say."""

_DIFF = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-before\n+after\n"


class Script(NamedTuple):
    """Stands in for every backend: the answer to a step's nth pass is the nth of its replies.

    A review without a verdict is asked for it once more, and says the same again.
    """

    replies: Replies
    editing: frozenset[str]

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing: ``load`` has refused it."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def complete(self, request: Request) -> Generator[TextDelta | Notice, None, Completion]:
        """Raises ``ConfigError`` for a pass without an answer."""
        reply = self._reply(request)
        yield TextDelta(reply.answer)
        return Completion(
            content=reply.answer,
            model=request.model.name if request.model is not None else "",
            finish_reason="stop",
            usage=NO_USAGE,
            transport="scripted",
            artifacts=_artifacts(reply) if request.step in self.editing else None,
        )

    def left_over(self, result: RunResult) -> ConfigError | None:
        """The refusal of a script of which this run did not ask for every answer."""
        passes = Counter(step.id for step in result.steps)
        spared = {skipped.step for skipped in result.skipped}
        for step, answers in self.replies.answers.items():
            if passes[step] < len(answers):
                ended = f"the run ended after {passes[step]}"
                if step in spared:
                    ended = "there was nothing to read, so it was not called"
                said = f"{len(answers)} for the step '{step}', and {ended}: this answer was not asked for"
                return self.replies.refuse(step, passes[step], said)
        return None

    def _reply(self, request: Request) -> Reply:
        step, answers = request.step, self.replies.answers[request.step]
        if request.iteration > len(answers):
            message = f"no answer for pass {request.iteration} of the step '{step}': it has {len(answers)}"
            raise self.replies.refuse(step, len(answers) - 1, message)
        return answers[request.iteration - 1]


def load(path: Path, steps: Collection[str], editing: Collection[str]) -> Script:
    """The script in a file for these steps, of which ``editing`` change files. Raises ``ConfigError``."""
    return Script(replies.load(path, steps, editing), frozenset(editing))


def _artifacts(reply: Reply) -> Artifacts:
    """Made up: nothing is edited. There is a diff, so that a step that reads ``latest_diff`` is complete."""
    changed = UNNAMED if reply.changed is None else reply.changed
    return Artifacts(changed, git_diff="".join(map(_DIFF.format, changed)))
