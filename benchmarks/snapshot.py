"""What a pair of snapshots costs beside ``git stash create``, on 20,000 files of 200 MB together.

    python benchmarks/snapshot.py [--files N] [--runs N]

Each run edits ten files in between, as an agent would. The rounds are interleaved; the table has medians,
and how much that is of ``git stash create`` in the same rounds.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aethr import snapshot

FILE_BYTES = 10_000
EDITED = 10
FLOOR = "git stash create"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary, "tree")
        build(tree, options.files)
        os.sync()  # so that writing the new tree to the disk is no part of the figures
        times: dict[str, list[float]] = {}
        for number in range(options.runs):
            measure_snapshots(tree, number, times)
            edit(tree, f"stash {number}")
            times.setdefault(FLOOR, []).append(timed(lambda: git(tree, "stash", "create")))
            edit(tree, "")
            git(tree, "checkout", "-q", "--", ".")
        print(
            f"{options.files:,} files, {options.files * FILE_BYTES / 1e6:.0f} MB, medians of {options.runs}"
        )
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        for name, seconds in medians.items():
            print(f"{name:<34}{seconds * 1000:8.1f} ms{seconds / medians[FLOOR]:8.2f}")


def measure_snapshots(tree: Path, number: int, times: dict[str, list[float]]) -> None:
    def note(name: str, seconds: float) -> None:
        times.setdefault(name, []).append(seconds)

    began = time.perf_counter()
    with snapshot.opened(tree, os.environ) as recorder:
        opened = time.perf_counter()
        before = snapshot.take(recorder)
        first = time.perf_counter()
        edit(tree, f"agent {number}")
        edited = time.perf_counter()
        after = snapshot.take(recorder)
        second = time.perf_counter()
        change = snapshot.compare(recorder, before, after)
        compared = time.perf_counter()
    closed = time.perf_counter()
    assert len(change.artifacts.changed_files) == EDITED
    note("open", opened - began)
    note("first snapshot", first - opened)
    note("second snapshot", second - edited)
    note("difference", compared - second)
    note("remove", closed - compared)
    note("before the agent, together", first - began)
    note("after the agent, together", closed - edited)


def build(tree: Path, files: int) -> None:
    rng = random.Random(1)
    for number in range(files):
        path = tree / f"d{number % 50}" / f"e{number % 400}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{rng.random()}\n" * (FILE_BYTES // 20))
    git(tree, "init", "-q")
    git(tree, "config", "gc.auto", "0")  # or git packs the objects in the background, while we measure
    git(tree, "add", "-A")
    git(tree, "-c", "user.name=b", "-c", "user.email=b@b.invalid", "commit", "-q", "-m", "all")


def edit(tree: Path, text: str) -> None:
    for path in sorted((tree / "d0" / "e0").iterdir())[:EDITED]:
        path.write_text(f"{text}\n" + path.read_text())


def git(tree: Path, *args: str) -> None:
    identity = {f"GIT_{who}_{what}": "b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(
        ["git", *args], cwd=tree, env={**os.environ, **identity}, stdout=subprocess.DEVNULL, check=True
    )


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
