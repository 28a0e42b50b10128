"""Prints how many tokens of a run's prompts a prefix cache serves, for a server that implements one.

    python -m benchmarks.prefix_cache [PATH/TO/aethr]

``cost`` is that of the prompts beside the same prompts without a cache: a token that is read costs a tenth,
and one that is written to Anthropic's cache costs 1.25 times as much. Nothing is timed, and no review passes,
so that each loop uses all of its passes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.preset_sizes import build
from tests.model_server import ModelServer
from tests.prefix_cache import Automatic, Counted, Marked, PrefixCache, counting

READ, WRITE = 0.1, 1.25
CACHES: Mapping[str, tuple[Callable[[], PrefixCache], str]] = {
    "Anthropic's": (Marked, "openrouter:anthropic/claude-sonnet-5-5"),
    "OpenAI's before gpt-5.6": (Automatic, "openai:gpt-5.4-mini"),
}
LOOP = """\
workflow: plan-implement-review
roles: {planner: "Plan.", implementer: "Implement.", reviewer: "Review."}
models: {planner: "openai:m", implementer: "openai:m", reviewer: "openai:m"}
steps:
  - {id: plan, role: planner, context: &all [git_diff, changed_files, tree, guidance]}
  - {id: implement, role: implementer, context: *all}
  - id: review
    role: reviewer
    context: *all
    repeat: {back_to: implement, until_review_pass: true, max_iterations: 3}
"""
"""A model in place of the agent: what an agent edits is another change in each pass."""
RUNS = {
    "plan-implement-review by models, 3 passes": (),
    "docs-sync, 2 passes": ("--preset", "docs-sync"),
    "review-thorough by one model": ("--preset", "review-thorough"),
    "the same, --jobs 1": ("--preset", "review-thorough", "--jobs", "1"),
    "review-existing-diff": ("--preset", "review-existing-diff"),
}
AT_ONCE = "review-thorough by one model"
"""Only for Anthropic's: the server cannot say what of calls at once another cache would have served."""


def main(program: str) -> None:
    print("| run | cache | calls | tokens in | read | written | cost |")
    print("| --- | --- | --: | --: | --: | --: | --: |")
    for name, words in RUNS.items():
        for cache, (make, model) in CACHES.items():
            if name == AT_ONCE and make is not Marked:
                continue
            counts = measure(program, make(), model, words)
            asked, read, written = map(sum, zip(*counts, strict=True))
            cost = (asked + (READ - 1) * read + (WRITE - 1) * written) / asked
            figures = f"{asked:,} | {read:,} ({read / asked:.0%}) | {written:,} | {cost:.2f}"
            print(f"| {name} | {cache} | {len(counts)} | {figures} |")


def measure(program: str, cache: PrefixCache, model: str, words: tuple[str, ...]) -> list[Counted]:
    """The counts of each call of ``aethr run`` on a change of four modules of a small shop."""
    counts: list[Counted] = []
    with tempfile.TemporaryDirectory() as folder, ModelServer(counting(cache, _answer, counts)) as server:
        root = Path(folder) / "shop"
        environ = {**os.environ, "HOME": folder, "GIT_CONFIG_NOSYSTEM": "1", "AETHR_LIVE": "1"}
        for name in ("OPENAI", "OPENROUTER"):
            environ |= {f"{name}_API_KEY": "sk-0123456789abcdef", f"{name}_API_BASE": server.base_url}
        environ |= {f"GIT_{who}_{what}": "b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

        def run(*command: str) -> None:
            done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)}: {done.stderr}")

        build(root)
        (root / ".aethr.yaml").write_text(LOOP)
        run("git", "init", "-q", "-b", "main")
        run("git", "add", "-A")
        run("git", "commit", "-q", "-m", "start")
        for file in (root / "src" / "shop").iterdir():
            text = file.read_text().replace("// 100", "/ 100").replace("int(cents)", "float(cents)")
            file.write_text(text * 4)
        run(program, "run", "--model", model, *words, "review the change")
    return counts


def _answer(prompt: str) -> str:
    verdict = "- [high] src/shop/cart.py:21 — a sum of {} cents is rounded\n\nReview status: revise"
    return f"What I found, at length: {'the tax is a float. ' * 100}\n\n" + verdict.format(len(prompt))


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).absolute()) if len(sys.argv) > 1 else "aethr")
