"""What noise cannot move: modules loaded, processes started, redraws, requests, memory held, bytes written.

Every count has its most in ``bounds.BOUNDS``. Nothing here looks at a clock but the rate of redraws, which a
slow machine can only make smaller.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import environment
from benchmarks.bounds import BOUNDS
from benchmarks.measure import run
from benchmarks.rows import runs as long_runs
from benchmarks.rows.live import live
from benchmarks.rows.trees import Watch
from benchmarks.server import serving
from benchmarks.world import WORKFLOW, Bench, fill

HEAVY = frozenset((
    "asyncio", "dotenv", "httpx", "jsonschema", "litellm", "logging", "markdown_it", "openai", "pydantic",
    "rich", "ssl", "tempfile", "yaml",
))  # fmt: skip
CHUNKS = 4_000
REDRAW = b"\r\x1b[2K"
"""What every redraw of the live region begins with: back to the start of the line, and erase it."""


@dataclass(frozen=True, slots=True)
class Count:
    """How much of something there was; ``detail`` says what exactly, where the number alone does not."""

    name: str
    value: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """A command of which everything is counted; ``needs`` are the heavy modules that it may load.

    With None neither is counted: what LiteLLM loads and starts is not ours.
    """

    name: str
    words: tuple[str, ...]
    needs: frozenset[str] | None = frozenset()
    env: Mapping[str, str] = field(default_factory=dict)


PRESET = ("--preset", "review-existing-diff")
"""It reads functions, changed files, commits, the pull request and guidance."""
READS = frozenset(("yaml", "tempfile"))
SCENES = (
    Scene("version", ("version",)),
    Scene("--help", ("--help",)),
    Scene("init --list", ("init", "--list")),
    Scene("check", ("check",), READS),
    Scene("models", ("models", "gpt-5.4-mini"), READS | {"ssl"}),
    Scene("run --show-prompt", ("run", "--show-prompt", "review"), READS),
    Scene("run, mock", ("run", "review"), READS),
    Scene("hook, mock", ("hook", "--if-not-reviewed", "pass"), READS, {"PRE_COMMIT": "1"}),
    Scene("run, mock, all context", ("run", *PRESET, "review"), READS),
)
TRANSPORTS = {"direct": READS | {"asyncio", "httpx", "logging", "ssl"}, "litellm": None}


def main(overrides: Sequence[str] = ()) -> int:
    """Count, print one line for each, and give 1 where a bound is passed or a count is missing.

    ``overrides`` are other bounds, each as ``NAME=MOST``.
    """
    bounds = BOUNDS | {name: float(most) for name, _, most in (each.rpartition("=") for each in overrides)}
    with tempfile.TemporaryDirectory() as temporary, serving("models", Path(temporary, "log")) as models:
        measured = environment.made(Path(temporary, "environment"))
        counts = list(_all(Bench(Path(temporary), measured, 1, models)))
    for count in counts:
        print(f"{count.name:<52}{count.value:>8g}  at most {bounds.get(count.name, 0):g}")
    failures = regressions(counts, bounds)
    print(*failures, f"{len(counts)} counts, {len(failures)} regressions", sep="\n")
    return 1 if failures else 0


def regressions(counts: Sequence[Count], bounds: Mapping[str, float]) -> list[str]:
    """A line for each count above its bound, without a bound, or not counted although it has one."""
    lines = []
    for count in counts:
        most = bounds.get(count.name)
        if most is None:
            lines.append(f"REGRESSION: {count.name}: it has no bound in benchmarks/bounds.py")
        elif count.value > most:
            found = f"{count.value:g}, at most {most:g} {count.detail}"
            lines.append(f"REGRESSION: {count.name}: {found.rstrip()}")
    missing = sorted(bounds.keys() - {count.name for count in counts})
    return lines + [f"REGRESSION: {name}: it was not counted" for name in missing]


def _all(bench: Bench) -> Iterator[Count]:
    steps: tuple[Callable[[Bench], Iterator[Count]], ...] = (
        scenes, calls, redraws, writes, held, asked, ignored, checkpoints,
    )  # fmt: skip
    for step in steps:
        yield from step(bench)


def scenes(bench: Bench) -> Iterator[Count]:
    """Modules and processes of the commands that call nothing."""
    root = bench.small()
    bench.git(root, "add", "-A")
    for scene in SCENES:
        yield from _probed(bench, root, scene)


def calls(bench: Bench) -> Iterator[Count]:
    """A live run of one step: one request, whatever carries it; and a live hook."""
    log = bench.folder / "log"
    root = bench.small("called")
    for transport, needs in TRANSPORTS.items():
        env = {**bench.live, "AETHR_TRANSPORT": transport}
        scene = Scene(f"run, {transport}", ("run", "--model", "openai:m", "review"), needs, env)
        already = _lines(log)
        yield from _probed(bench, root, scene)
        yield Count(f"{scene.name}: requests", _lines(log) - already)
    root = bench.small("hooked")
    bench.git(root, "add", "-A")
    env = {**bench.live, "AETHR_TRANSPORT": "direct", "PRE_COMMIT": "1"}
    words = ("hook", "--model", "openai:m", "--fail-on", "never", "--if-not-reviewed", "pass")
    yield from _probed(bench, root, Scene("hook, direct", words, TRANSPORTS["direct"], env))
    words = (*words, *PRESET)
    yield from _probed(bench, root, Scene("hook, direct, all context", words, TRANSPORTS["direct"], env))


def redraws(bench: Bench) -> Iterator[Count]:
    """Of a long answer on a terminal: how often it is redrawn a second."""
    terminal = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    root = bench.small("watched")
    sample = run(live(bench, root, "direct", model=f"stream-{CHUNKS}x64", sink="terminal", env=terminal))
    yield Count("terminal: redraws a second", round(sample.output.count(REDRAW) / sample.wall_s, 1))


def writes(bench: Bench) -> Iterator[Count]:
    """Of the same answer on a pipe: calls of write for each chunk."""
    root = bench.small("piped")
    sample = run(live(bench, root, "direct", "--stream", model=f"stream-{CHUNKS}x64", sink="pipe"))
    if sample.writes >= 0:
        yield Count("pipe: writes for each chunk", round(sample.writes / CHUNKS, 2))


def held(bench: Bench) -> Iterator[Count]:
    """Memory for a change of 40 MB more than for one of 20 MB."""
    peaks = []
    for files in (80, 160):
        root = bench.folder / f"diff-{files}"
        root.mkdir()
        for seed in (1, 2):
            assert len(list(fill(root, files, 125_000, seed))) == files
            if seed == 1:
                (root / ".aethr.yaml").write_text(WORKFLOW.format(source="git_diff"))
                bench.commit(root)
        peaks.append(bench.probe("run", "--show-prompt", "review", cwd=root)["own_mb"])
    yield Count("git_diff: MB more for 40 MB than for 20 MB", round(max(0.0, peaks[1] - peaks[0]), 1))


def asked(bench: Bench) -> Iterator[Count]:
    """Calls of git for a change of many files in several parts, and for a small one beside a ``glob:``."""
    root = bench.folder / "many"
    root.mkdir()
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source="git_diff"))
    for seed in (1, 2):
        assert len(list(fill(root, 3_000, 100, seed))) == 3_000
        for number in range(300):
            (root / "d0" / f"{number}.png").write_bytes(b"\0%d" % seed)
        if seed == 1:
            (root / ".gitattributes").write_text("d1/** -diff\n")
            bench.commit(root)
    children = bench.probe("run", "--show-prompt", "review", cwd=root)["children"]
    yield Count("git_diff of 3,300 files: processes", len(children))
    root = bench.small("beside")
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source='git_diff", "glob:**/*.py'))
    bench.git(root, "add", "-A")
    children = bench.probe("run", "--diff", "staged", "--show-prompt", "review", cwd=root)["children"]
    yield Count("git_diff beside glob: processes", len(children))


def ignored(bench: Bench) -> Iterator[Count]:
    """Folders that git ignores and ``glob:`` reads all the same."""
    root = bench.folder / "globbed"
    for name in ("src/a.py", *(f"node_modules/p{number}/b.py" for number in range(20))):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n")
    (root / ".gitignore").write_text("node_modules/\n")
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source="glob:**/*.py"))
    bench.commit(root)
    watch = Watch(root / "node_modules")
    run(bench.aethr("run", "--show-prompt", "review", cwd=root))
    yield Count("glob: ignored folders read", watch.read(), watch.how)


def checkpoints(bench: Bench) -> Iterator[Count]:
    """Bytes written by the steps after the first of a run of 21 beside those of a run of 11."""
    written = []
    for steps in (1, 11, 21):
        root = bench.folder / f"steps-{steps}"
        (root / "notes").mkdir(parents=True)
        for number in range(40):  # receipts of 40 files make a step's result as long as an answer
            (root / "notes" / f"{number}.md").write_text(f"note {number}\n")
        (root / ".aethr.yaml").write_text(
            long_runs.steps(steps, 'history_visibility: none, context: ["glob:notes/*.md"]')
        )
        written.append(run(bench.aethr("run", "go", cwd=root)).written)
    if min(written) >= 0:
        one, ten, twenty = written
        yield Count("checkpoint: bytes of 20 steps / of 10", round((twenty - one) / (ten - one), 2))


def _probed(bench: Bench, root: Path, scene: Scene) -> Iterator[Count]:
    told = bench.probe(*scene.words, cwd=root, env=scene.env)
    if scene.needs is None:
        return
    heavy = sorted(HEAVY.intersection(told["modules"]) - scene.needs)
    yield Count(f"{scene.name}: modules", len(told["modules"]))
    yield Count(f"{scene.name}: modules it must not load", len(heavy), f"({', '.join(heavy)})")
    children = Counter(" ".join(_subcommand(words)) for words in told["children"])
    each = ", ".join(f"{name} {times}x" for name, times in children.items())
    yield Count(f"{scene.name}: processes", children.total(), f"({each})")


def _subcommand(words: Sequence[str]) -> Iterator[str]:
    """The program, and the first word after its own options: `git diff`."""
    yield words[0]
    rest = iter(words[1:])
    for word in rest:
        if word == "-c":
            next(rest)
        elif not word.startswith("-"):
            yield word
            return


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n") if path.exists() else 0
