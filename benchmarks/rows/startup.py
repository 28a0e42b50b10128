"""Commands that call nothing, beside a Python that does nothing."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure, more, ratio
from benchmarks.measure import commands, take
from benchmarks.world import Bench

LINES = {"--help": ("--help",), "version": ("version",), "init --list": ("init", "--list")}


def startup(bench: Bench) -> Iterator[Figure]:
    work = {"floor": bench.python("-c", "pass")}
    work |= {name: bench.aethr(*words) for name, words in LINES.items()}
    samples = commands(work, 2 * bench.runs)
    floor = samples["floor"]
    for name in LINES:
        yield ratio(f"`aethr {name}`", take(samples[name], "wall_s"), take(floor, "wall_s"), 4)
        memory = take(samples[name], "rss_mb"), take(floor, "rss_mb")
        yield more(f"`aethr {name}`, memory", *memory, 25, "MB")


def local(bench: Bench) -> Iterator[Figure]:
    root = bench.small()
    bare = "import os, yaml; os.spawnlp(os.P_WAIT, 'git', 'git', 'diff')"
    work = {
        "floor": bench.python("-c", bare, cwd=root),
        "`aethr check`": bench.aethr("check", cwd=root),
        "`aethr run --show-prompt`": bench.aethr("run", "--show-prompt", "review", cwd=root),
        "`aethr run`, mock": bench.aethr("run", "review", cwd=root),
    }
    samples = commands(work, 2 * bench.runs)
    floor = take(samples.pop("floor"), "wall_s")
    for name, taken in samples.items():
        yield ratio(name, take(taken, "wall_s"), floor, 4)
