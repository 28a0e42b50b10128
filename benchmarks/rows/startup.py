"""Commands that call nothing, beside a Python that does nothing."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure, more, ratio
from benchmarks.measure import Command, commands, take
from benchmarks.world import OFFLINE, WORKFLOW, Bench, Peer

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
    yield from _peers(bench)


def _peers(bench: Bench) -> Iterator[Figure]:
    """The other tools, beside a Python of their own that does nothing."""
    for name, peer in bench.peers.items():
        work = {
            "floor": bench.program(str(peer.bin / "python"), "-c", "pass"),
            "peer": bench.program(str(peer.bin / name), "--help", env=OFFLINE),
        }
        samples = commands(work, bench.runs)
        mine, floor = (take(samples[each], "wall_s") for each in ("peer", "floor"))
        yield ratio(f"peer {peer.label}: `{name} --help`", mine, floor, note="beside its own Python")


def local(bench: Bench) -> Iterator[Figure]:
    root = bench.small()
    bare = "import os, yaml; os.spawnlp(os.P_WAIT, 'git', 'git', 'diff')"
    work = {
        "floor": bench.python("-c", bare, cwd=root),
        "`aethr check`": bench.aethr("check", cwd=root),
        "`aethr run --show-prompt`": bench.aethr("run", "--show-prompt", "review", cwd=root),
        "`aethr run`, mock": bench.aethr("run", "review", cwd=root),
    }
    if "aethr" in bench.peers:
        work["peer"] = _public(bench, bench.peers["aethr"])
    samples = commands(work, 2 * bench.runs)
    floor = take(samples.pop("floor"), "wall_s")
    public = samples.pop("peer", None)
    for name, taken in samples.items():
        yield ratio(name, take(taken, "wall_s"), floor, 4)
    if public is not None:
        label = bench.peers["aethr"].label
        yield ratio(f"peer {label}: `aethr run`, mock", take(public, "wall_s"), floor)


def _public(bench: Bench, peer: Peer) -> Command:
    """The public Aethr on the same change, by its own file of the same workflow; it may fetch nothing."""
    root = bench.small("public")
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source="git_diff"))
    return bench.program(str(peer.bin / "aethr"), "run", "review", cwd=root, env=OFFLINE)
