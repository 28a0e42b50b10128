"""Long runs: what 50 steps and 50 passes take beside half of that, with a model that answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.figures import Figure, differences, more, ratio
from benchmarks.measure import commands, take
from benchmarks.rows.live import live
from benchmarks.world import Bench

ANSWER = "stream-64x64"
"""Each answer is of 4 kB."""
SIZES = (1, 25, 50)
HEAD = """\
workflow: bench
roles: {worker: "Work."}
models: {worker: "openai:m"}
steps:
"""


def steps(count: int, more: str = "history_visibility: latest") -> str:
    """A workflow of so many steps, each of which sees the one before, or what ``more`` says."""
    lines = [f"  - {{id: s{n}, role: worker, {more}}}\n" for n in range(count)]
    return HEAD + "".join(lines)


def passes(count: int) -> str:
    """A workflow of two steps that never finds what it repeats for."""
    loop = f"repeat: {{back_to: think, until_contains: NEVER, max_iterations: {count}}}"
    return (
        f"{HEAD}  - {{id: think, role: worker, history_visibility: latest}}\n"
        f"  - {{id: judge, role: worker, history_visibility: latest, {loop}}}\n"
    )


def long_run(bench: Bench) -> Iterator[Figure]:
    yield from _grows(bench, "steps", steps)


def long_loop(bench: Bench) -> Iterator[Figure]:
    yield from _grows(bench, "passes", passes)


def _grows(bench: Bench, what: str, workflow: Callable[[int], str]) -> Iterator[Figure]:
    work = {}
    for count in SIZES:
        root = bench.folder / f"{what}-{count}"
        root.mkdir()
        (root / ".aethr.yaml").write_text(workflow(count))
        work[str(count)] = live(bench, root, "direct", "--no-stream", model=ANSWER)
    samples = commands(work, bench.runs)
    one, half, whole = (samples[str(count)] for count in SIZES)
    yield ratio(f"50 {what} beside 25, time", take(whole, "wall_s"), take(half, "wall_s"), 2.2)
    start = take(one, "cpu_s")  # less noisy than the clock, which also counts the disk
    more_cpu, cpu = (differences(take(each, "cpu_s"), start) for each in (whole, half))
    yield ratio(f"50 {what} beside 25, CPU without the start", more_cpu, cpu, 2.4, note="linear is 2")
    yield more(f"50 {what} beside 25, memory", take(whole, "rss_mb"), take(half, "rss_mb"), 5, "MB")
    more_bytes, fewer = ([count / 1e6 for count in take(each, "written")] for each in (whole, half))
    yield ratio(f"50 {what} beside 25, written", more_bytes, fewer, 2.4, "MB", "linear is 2")
