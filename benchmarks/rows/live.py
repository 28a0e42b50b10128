"""Calls of a model that answers at once, beside the same call by a bare script.

The bare scripts send the same prompt and print the same text; none retries, checks or keeps anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.figures import Figure, differences, more, plain, ratio
from benchmarks.measure import Command, Sample, commands, run, take
from benchmarks.server import FIRST
from benchmarks.world import Bench

SCRIPTS = Path(__file__).parent.parent / "scripts"
CHUNK = 64
SIZES = {"0.5 MB": 8_000, "1 MB": 16_000, "2 MB": 32_000}


def first_token(bench: Bench) -> Iterator[Figure]:
    """The direct transport beside ``httpx``."""
    yield from _first_token(bench, "direct", "bare_httpx.py", bench.runs + 4, 4)


def first_token_litellm(bench: Bench) -> Iterator[Figure]:
    """LiteLLM as Aethr uses it beside LiteLLM as it comes."""
    yield from _first_token(bench, "litellm", "bare_litellm.py", bench.runs, 1)


def stream(bench: Bench) -> Iterator[Figure]:
    """A long answer on a pipe and on a terminal, whole processes."""
    root = bench.small()
    prompt = _prompt(bench, root)
    model = {size: f"stream-{chunks}x{CHUNK}" for size, chunks in SIZES.items()}
    work = {"floor": bare(bench, "bare_httpx.py", prompt, model["1 MB"])}
    for size, name in model.items():
        work[size] = live(bench, root, "direct", "--stream", model=name, sink="pipe")
    terminal = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    work["terminal"] = live(bench, root, "direct", model=model["1 MB"], sink="terminal", env=terminal)
    samples = commands(work, bench.runs)
    cpu = {name: take(taken, "cpu_s") for name, taken in samples.items()}
    rss = {name: take(taken, "rss_mb") for name, taken in samples.items()}
    yield ratio("1 MB in 16,000 chunks on a pipe, CPU", cpu["1 MB"], cpu["floor"], 2)
    yield plain("the same on a terminal", take(samples["terminal"], "wall_s"), 3)
    yield plain("the same on a terminal, CPU", cpu["terminal"])
    yield ratio(
        "from 1 MB to 2 MB beside from 0.5 MB to 1 MB, CPU",
        differences(cpu["2 MB"], cpu["1 MB"]), differences(cpu["1 MB"], cpu["0.5 MB"]), 2.4, note="linear is 2",
    )  # fmt: skip
    yield more("2 MB on a pipe beside 0.5 MB, memory", rss["2 MB"], rss["0.5 MB"], 15, "MB")


def bare(bench: Bench, script: str, prompt: Path, model: str = "m", python: str = "") -> Command:
    """One of the scripts, with the prompt in a file."""
    words = (str(SCRIPTS / script), bench.models, model, str(prompt))
    if python:
        return bench.program(python, *words, sink="pipe", mark=FIRST.encode())
    return bench.python(*words, sink="pipe", mark=FIRST.encode())


def live(
    bench: Bench, root: Path, transport: str, *words: str, model: str = "m",
    env: Mapping[str, str] | None = None, **more: object,
) -> Command:  # fmt: skip
    """A review by the model ``model`` of the server."""
    environ = {**bench.live, "AETHR_TRANSPORT": transport, **(env or {})}
    words = ("run", "--model", f"openai:{model}", *words, "review")
    return bench.aethr(*words, cwd=root, env=environ, **more)


def _first_token(bench: Bench, transport: str, script: str, runs: int, reach: float) -> Iterator[Figure]:
    root = bench.small()
    prompt = _prompt(bench, root)
    work = {
        "floor": bare(bench, script, prompt),
        "aethr": live(bench, root, transport, "--stream", sink="pipe", mark=FIRST.encode()),
    }
    samples = commands(work, runs)
    mine, floor = samples["aethr"], samples["floor"]
    by = f"by {transport}"
    yield ratio(f"first token {by}", take(mine, "first_s"), take(floor, "first_s"), reach)
    yield ratio(f"the process to its end {by}", take(mine, "wall_s"), take(floor, "wall_s"), reach)
    yield _memory(by, mine, floor, transport)


def _memory(by: str, mine: list[Sample], floor: list[Sample], transport: str) -> Figure:
    values, floors = take(mine, "rss_mb"), take(floor, "rss_mb")
    if transport == "direct":
        return plain(f"memory {by}", values, 100, "MB")
    return ratio(f"memory {by}", values, floors, unit="MB")


def _prompt(bench: Bench, root: Path) -> Path:
    """What Aethr would send, for the bare scripts to send too."""
    shown = run(bench.aethr("run", "--show-prompt", "review", cwd=root, sink="pipe"))
    path = bench.folder / "prompt.txt"
    path.write_bytes(shown.output)
    return path
