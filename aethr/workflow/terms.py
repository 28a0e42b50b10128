"""The terms of a run: mock, scripted or live, which model, which gate, and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aethr.base.errors import NotReviewedError, UsageError
from aethr.base.options import GATES, RunOptions
from aethr.base.providers import split
from aethr.base.records import Allowance, Gate, Mode
from aethr.llm import routes


class Terms(NamedTuple):
    """``model`` overrides every model of the workflow; ``secrets`` are values to redact in all text."""

    mode: Mode
    model: str | None
    gate: Gate
    allowance: Allowance
    secrets: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether models are called."""
        return self.mode == "live"


def read(options: RunOptions, environ: Mapping[str, str], secrets: tuple[str, ...]) -> Terms:
    """The terms by the command line and the environment. Raises ``UsageError``, ``NotReviewedError``."""
    live = environ.get("AETHR_LIVE", "")
    if live not in ("", "0", "1"):
        raise UsageError(f"AETHR_LIVE={live}: neither 1 nor 0", "Set AETHR_LIVE to 1, or unset it.")
    routes.wanted(environ)  # in a mock run too, as with AETHR_LIVE
    model = options.model or environ.get("AETHR_MODEL") or None
    if model is not None:
        try:
            split(model)
        except ValueError as error:
            where = "--model" if options.model else "AETHR_MODEL"
            raise UsageError(f"{where}: {error}", "Name a model as provider:model.") from error
    called = live == "1" or (live == "" and model is not None)
    if options.replies:
        _refuse_a_review(options, "AETHR_LIVE=1" if live == "1" else f"the model {model}" if called else "")
    return Terms(
        mode="scripted" if options.replies else "live" if called else "mock",
        model=model,
        gate=Gate(
            fail_on=next(gate for gate in GATES if gate == options.fail_on),
            require_review=options.require_review,
        ),
        allowance=Allowance(options.max_cost, options.max_tokens),
        secrets=secrets,
    )


def _refuse_a_review(options: RunOptions, called: str) -> None:
    """Scripted answers are not a review, so ``--replies`` refuses options that ask for a real one."""
    if called:
        raise UsageError(f"--replies plays answers, and {called} asks for real ones", "Set AETHR_LIVE=0.")
    if options.require_review:
        raise NotReviewedError(
            "--require-review: the answers of --replies are not a review",
            "Leave it out: --fail-on alone is decided on the scripted answers.",
        )
