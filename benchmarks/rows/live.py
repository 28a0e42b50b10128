"""Calls of a model that answers at once, beside the same call by a bare script.

The bare scripts send the same prompt and print the same text; none retries, checks or keeps anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.figures import Figure, differences, more, plain, ratio
from benchmarks.measure import Command, commands, run, take
from benchmarks.server import FIRST
from benchmarks.world import OFFLINE, WORKFLOW, Bench

SCRIPTS = Path(__file__).parent.parent / "scripts"
CHUNK = 64
PARTS = 8
SLOW = "slow-1500"
SECOND = "slow-1000"
CASES = Path(__file__).parent.parent.parent / "cases"
SIZES = {"0.5 MB": 8_000, "1 MB": 16_000, "2 MB": 32_000}


def first_token(bench: Bench) -> Iterator[Figure]:
    """The direct transport beside ``httpx``."""
    yield from _first_token(bench, "direct", "bare_httpx.py", bench.runs + 4, 4)


def first_token_lanes(bench: Bench) -> Iterator[Figure]:
    """Anthropic's Messages and Gemini, called directly."""
    root = bench.small()
    prompt = _prompt(bench, root)
    for lane in ("anthropic", "google"):
        words = (str(SCRIPTS / "bare_lane.py"), lane, bench.models.removesuffix("/v1"), str(prompt))
        work = {
            "floor": bench.python(*words, sink="pipe", mark=FIRST.encode()),
            "mine": live(bench, root, "direct", "--stream", provider=lane, sink="pipe", mark=FIRST.encode()),
        }
        samples = commands(work, bench.runs + 4)
        first = take(samples["floor"], "first_s")
        yield ratio(f"{lane}: first token", take(samples["mine"], "first_s"), first, 1.6)
        yield plain(f"{lane}: memory", take(samples["mine"], "rss_mb"), 50, "MB")


def first_token_litellm(bench: Bench) -> Iterator[Figure]:
    """LiteLLM as Aethr uses it beside LiteLLM as it comes."""
    yield from _first_token(bench, "litellm", "bare_litellm.py", bench.runs, 1)


def first_token_responses(bench: Bench) -> Iterator[Figure]:
    """The direct transport beside ``httpx``, in OpenAI's Responses."""
    root = bench.small()
    work = {
        "floor": bare(bench, "bare_responses.py", _prompt(bench, root)),
        "mine": live(
            bench, root, "direct", "--stream", model="responses/m", sink="pipe", mark=FIRST.encode()
        ),
    }
    samples = commands(work, bench.runs + 4)
    first = {name: take(taken, "first_s") for name, taken in samples.items()}
    yield ratio("first token", first["mine"], first["floor"], 1.6)
    yield plain("memory", take(samples["mine"], "rss_mb"), 50, "MB")


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
        differences(cpu["2 MB"], cpu["1 MB"]),
        differences(cpu["1 MB"], cpu["0.5 MB"]),
        2.4,
        note="linear is 2",
    )
    yield more("2 MB on a pipe beside 0.5 MB, memory", rss["2 MB"], rss["0.5 MB"], 15, "MB")


def at_once(bench: Bench) -> Iterator[Figure]:
    """A change of eight parts, by a model that takes a second and a half for each."""
    root = bench.small("parts")
    (root / "app.py").write_text("def total(prices):\n    return sum(prices)\n")
    for number in range(PARTS):
        (root / f"f{number}.txt").write_text(f"a line of file {number}\n" * 50)
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source="git_diff") + "limits: {context_chars: 1500}\n")
    bench.git(root, "add", "-A")
    jobs = {f"--jobs {number}": ("--jobs", str(number)) for number in (1, PARTS)}
    work = {
        name: live(bench, root, "direct", *words, "--diff", "staged", model=SLOW, sink="pipe")
        for name, words in jobs.items()
    }
    work["floor"] = live(bench, bench.small(), "direct", model=SLOW, sink="pipe")
    wall = {name: take(taken, "wall_s") for name, taken in commands(work, bench.runs).items()}
    yield ratio("eight parts, --jobs 8", wall[f"--jobs {PARTS}"], wall["floor"], 1.3)
    yield ratio("the same, --jobs 1", wall["--jobs 1"], wall["floor"])


def evaluation(bench: Bench) -> Iterator[Figure]:
    """The cases that come with Aethr, by a model that takes a second for each."""
    root = bench.small()
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source="git_diff"))
    environ = {**bench.live, "AETHR_TRANSPORT": "direct"}
    words = ("eval", str(CASES), "--model", f"openai:{SECOND}", "--jobs", str(PARTS))
    count = sum(1 for _ in CASES.glob("*/expect.yaml"))
    script = (str(SCRIPTS / "bare_calls.py"), bench.models, SECOND, str(_prompt(bench, root)))
    work = {
        "floor": bench.python(*script, str(count), str(PARTS), sink="pipe"),
        "mine": bench.aethr(*words, cwd=root, env=environ, sink="pipe"),
    }
    wall = {name: take(taken, "wall_s") for name, taken in commands(work, bench.runs).items()}
    yield ratio(f"{count} cases, --jobs {PARTS}", wall["mine"], wall["floor"], 1.3)


def bare(bench: Bench, script: str, prompt: Path, model: str = "m") -> Command:
    """One of the scripts, with the prompt in a file."""
    words = (str(SCRIPTS / script), bench.models, model, str(prompt))
    return bench.python(*words, sink="pipe", mark=FIRST.encode())


def live(
    bench: Bench, root: Path, transport: str, *words: str, model: str = "m", provider: str = "openai",
    env: Mapping[str, str] | None = None, **more: object,
) -> Command:  # fmt: skip
    """A review by the model ``model`` of the server, in the protocol of ``provider``."""
    environ = {**bench.live, "AETHR_TRANSPORT": transport, **(env or {})}
    words = ("run", "--model", f"{provider}:{model}", *words, "review")
    return bench.aethr(*words, cwd=root, env=environ, **more)


def _first_token(bench: Bench, transport: str, script: str, runs: int, reach: float) -> Iterator[Figure]:
    root = bench.small()
    prompt = _prompt(bench, root)
    work = {
        "floor": bare(bench, script, prompt),
        "mine": live(bench, root, transport, "--stream", sink="pipe", mark=FIRST.encode()),
    }
    if transport == "direct":
        work |= {name: make(bench, root, prompt) for name, make in PEERS.items() if name in bench.peers}
    samples = commands(work, runs)
    mine, floor = samples["mine"], samples["floor"]
    first, ends = take(floor, "first_s"), take(floor, "wall_s")
    note = f"the record says: {_carried_by(bench, root, transport)}"
    yield ratio("first token", take(mine, "first_s"), first, reach, note=note)
    yield ratio("the process to its end", take(mine, "wall_s"), ends, reach)
    if transport == "direct":
        yield plain("memory", take(mine, "rss_mb"), 100, "MB")
    else:
        yield ratio("memory", take(mine, "rss_mb"), take(floor, "rss_mb"), unit="MB")
    for name in [name for name in PEERS if name in samples]:
        yield ratio(f"peer {bench.peers[name].label}: first token", take(samples[name], "first_s"), first)


def _carried_by(bench: Bench, root: Path, transport: str) -> str:
    """The transport by the run's own record; before there was a choice it said nothing."""
    record = json.loads(run(live(bench, root, transport, "--json", sink="pipe")).output)
    return str(record["steps"][0].get("transport", "litellm"))


def _llm(bench: Bench, root: Path, prompt: Path) -> Command:
    """Simon Willison's `llm`, which sends the same prompt and keeps no log."""
    settings = bench.folder / "llm"
    settings.mkdir()
    model = {"model_id": "bench", "model_name": "m", "api_base": bench.models}
    (settings / "extra-openai-models.yaml").write_text(json.dumps([model]))
    words = ("-m", "bench", "--no-log", "--key", "sk-bench", prompt.read_text(encoding="utf-8"))
    program = str(bench.peers["llm"].bin / "llm")
    env = {"LLM_USER_PATH": str(settings)}
    return bench.program(program, *words, cwd=root, env=env, sink="pipe", mark=FIRST.encode())


def _public(bench: Bench, _root: Path, _prompt: Path) -> Command:
    """The public Aethr on the same change, by its own prompt."""
    root = bench.small("public")
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source="git_diff"))
    env = {**bench.live, **OFFLINE, "AETHR_LIVE": "1", "OPENAI_API_BASE": bench.models}
    program = str(bench.peers["aethr"].bin / "aethr")
    return bench.program(program, "run", "review", cwd=root, env=env, sink="pipe", mark=FIRST.encode())


PEERS: Mapping[str, Callable[[Bench, Path, Path], Command]] = {"aethr": _public, "llm": _llm}
"""pr-agent is not among them: before its first call it fetches a tokenizer from a host on the internet."""


def _prompt(bench: Bench, root: Path) -> Path:
    """What Aethr would send, for the bare scripts to send too."""
    shown = run(bench.aethr("run", "--show-prompt", "review", cwd=root, sink="pipe"))
    path = bench.folder / "prompt.txt"
    path.write_bytes(shown.output)
    return path
