"""The hook under pre-commit, and the Action on a runner without GitHub."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, NotHere, more
from benchmarks.measure import Sample, interleaved, run, take
from benchmarks.world import CHANGED, Bench


def hook(bench: Bench) -> Iterator[Figure]:
    """``git commit`` with the review, and with a hook of the same kind that does nothing."""
    bin_folder = Path(sys.executable).parent
    if not (bin_folder / "pre-commit").exists():
        raise NotHere('pre-commit is not installed beside this Python: pip install -e ".[dev]"')
    work = {
        "floor": _committing(bench, "empty", f"{sys.executable} -c pass"),
        "aethr": _committing(bench, "review", f"{bin_folder / 'aethr'} hook --model openai:m"),
    }
    samples = interleaved(work, bench.runs)
    yield more("`git commit` with a review", take(samples["aethr"], "wall_s"), take(samples["floor"], "wall_s"), 0.6)


def _committing(bench: Bench, name: str, entry: str):
    root = bench.small(name)
    hooks = [{"id": name, "name": name, "entry": entry, "language": "system", "pass_filenames": False}]
    config = {"repos": [{"repo": "local", "hooks": [{**hooks[0], "always_run": True, "verbose": True}]}]}
    (root / ".pre-commit-config.yaml").write_text(json.dumps(config))
    bench.git(root, "add", ".pre-commit-config.yaml")
    pre_commit = str(Path(sys.executable).parent / "pre-commit")
    run(bench.program(pre_commit, "install", cwd=root))
    number = 0

    def commit() -> Sample:
        nonlocal number
        number += 1
        (root / "app.py").write_text(CHANGED + f"N = {number}\n")
        bench.git(root, "add", "app.py")
        return run(bench.program("git", "commit", "-m", "change", cwd=root, env={**bench.live, "AETHR_TRANSPORT": "direct"}, sink="pipe"))

    return commit
