"""Large trees: changes, many files, snapshots, each beside the git command that does the same."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from aethr import snapshot
from benchmarks.figures import Figure, differences, plain, ratio
from benchmarks.measure import Sample, commands, interleaved, take, timed
from benchmarks.world import WORKFLOW, Bench, fill

EDITED = 10
LISTED = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.py")


def diff_large(bench: Bench) -> Iterator[Figure]:
    """100 files of 500 kB, every line of each changed: a diff of 100 MB."""
    yield from _diff(bench, 100, 500_000, "100 MB")


def diff_many(bench: Bench) -> Iterator[Figure]:
    yield from _diff(bench, 20_000, 100, "20,000 files")


def diff_vast(bench: Bench) -> Iterator[Figure]:
    """3,000 files of 50 kB, every line of each changed: a diff of 300 MB. And half of them."""
    yield from _diff(bench, 3_000, 50_000, "3,000 files and 300 MB")
    half = _changed(bench, "half", 1_500, 50_000)
    work = {
        "aethr": bench.aethr("run", "--show-prompt", "review", cwd=bench.folder / "tree"),
        "floor": bench.aethr("run", "--show-prompt", "review", cwd=half),
    }
    samples = commands(work, bench.runs)
    yield ratio("the same beside half of it, CPU (linear is 2)", *_pair(samples, "cpu_s"), 2.2)


def glob(bench: Bench) -> Iterator[Figure]:
    """100,000 tracked files of which half are Python's, and 30,000 more in an ignored folder."""
    root = bench.folder / "tree"
    ignored = root / "node_modules"
    for number in range(100_000):
        _touch(root / f"d{number % 100}" / f"e{number % 700}" / f"f{number}.{'py' if number % 2 else 'txt'}")
    (root / ".gitignore").write_text("node_modules/\n")
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source="glob:**/*.py"))
    (root / "one-file.yaml").write_text(WORKFLOW.format(source="file:.gitignore"))
    bench.commit(root)
    for number in range(30_000):
        _touch(ignored / f"p{number % 300}" / f"f{number}.py")
    work = {
        "floor": bench.program(*LISTED, cwd=root),
        "aethr": bench.aethr("run", "--show-prompt", "review", cwd=root),
        "one file": bench.aethr("run", "--config", "one-file.yaml", "--show-prompt", "review", cwd=root),
    }
    watch = Watch(ignored)
    samples = commands(work, 2 * bench.runs)
    values, floors = _pair(samples, "wall_s")
    yield ratio("`glob:**/*.py` of 100,000 files", values, floors, 2)
    alone = differences(values, take(samples["one file"], "wall_s"))
    yield ratio("the source alone", alone, floors, 2, note="beside the same run with one file")
    yield ratio("the same, memory", *_pair(samples, "rss_mb"), unit="MB")
    yield plain("ignored folders that were read", [float(watch.read())], 0, "", watch.how)


def snapshots(bench: Bench) -> Iterator[Figure]:
    """Both snapshots around an agent's step that edits ten files; 20,000 files, 200 MB together."""
    root = bench.folder / "tree"
    root.mkdir()
    edited = [path for path in fill(root, 20_000, 10_000) if path.parent == root / "d0" / "e0"][:EDITED]
    bench.commit(root)
    number = count()
    parts: dict[str, list[float]] = {"before the step": [], "after the step": []}

    def edit() -> None:
        for path in edited:
            path.write_text(f"{next(number)}\n" + path.read_text())

    def pair() -> Sample:
        began = time.perf_counter()
        with snapshot.open_shadow(root, bench.env) as recorder:
            before = snapshot.take(recorder)
            taken = time.perf_counter()
            edit()
            edited_at = time.perf_counter()
            change = snapshot.since(recorder, before)
        ended = time.perf_counter()
        assert len(change.artifacts.changed_files) == EDITED
        bench.git(root, "checkout", "-q", "--", ".")
        parts["before the step"].append(taken - began)
        parts["after the step"].append(ended - edited_at)
        return Sample(taken - began + ended - edited_at)

    def stash() -> Sample:
        edit()
        sample = timed(lambda: bench.git(root, "stash", "create"))
        bench.git(root, "checkout", "-q", "--", ".")
        return sample

    def looks() -> Sample:
        before = timed(lambda: _look(bench, root))
        edit()
        after = timed(lambda: _look(bench, root))
        bench.git(root, "checkout", "-q", "--", ".")
        return Sample(before.wall_s + after.wall_s)

    samples = interleaved({"floor": stash, "aethr": pair, "looks": looks}, 3 * bench.runs)
    values, floors = _pair(samples, "wall_s")
    yield ratio("both snapshots and their difference", values, floors, 1)
    yield ratio("the same, beside two stashes", values, [2 * floor for floor in floors])
    for name, seconds in parts.items():
        yield ratio(f"of that {name}", seconds[1:], floors)
    bare = take(samples["looks"], "wall_s")
    yield ratio("git's two looks alone", bare, floors, note="nothing recorded, nothing compared")


def _look(bench: Bench, root: Path) -> None:
    """What has changed and what is new, by name, as fast as git tells: both questions at once."""
    questions = ("diff-files --name-only", "ls-files --others --exclude-standard")
    asked = [
        subprocess.Popen(["git", *words.split()], cwd=root, env=bench.env, stdout=subprocess.DEVNULL)
        for words in questions
    ]
    assert [child.wait() for child in asked] == [0, 0]


class Watch:
    """Whether anybody lists a folder or one below it: the time of the last access tells.

    The kernel notes an access when the one before is older than the last change, so the folders get old
    times. A control folder tells whether this file system notes accesses at all.
    """

    def __init__(self, top: Path) -> None:
        self._folders = [top, *(path for path in top.iterdir() if path.is_dir())]
        control = top.parent / ".git" / "control"
        control.mkdir()
        for folder in (*self._folders, control):
            os.utime(folder, (1, 2))
        os.listdir(control)  # noqa: PTH208 - it is the listing itself that counts
        self._noted = control.stat().st_atime != 1
        control.rmdir()

    @property
    def how(self) -> str:
        return "by the times of access" if self._noted else "not known: this file system notes no access"

    def read(self) -> int:
        return sum(folder.stat().st_atime != 1 for folder in self._folders) if self._noted else 0


def _diff(bench: Bench, files: int, size: int, what: str) -> Iterator[Figure]:
    root = _changed(bench, "tree", files, size)
    work = {
        "floor": bench.program("git", "diff", cwd=root),
        "aethr": bench.aethr("run", "--show-prompt", "review", cwd=root),
    }
    samples = commands(work, bench.runs)
    yield ratio(f"`git_diff` of {what}", *_pair(samples, "wall_s"), 1.3)
    yield ratio(f"`git_diff` of {what}, CPU", *_pair(samples, "cpu_s"), 1.3)
    own = [bench.probe("run", "--show-prompt", "review", cwd=root)["own_mb"] for _ in range(3)]
    note = f"of its own; git's {take(samples['floor'], 'rss_mb')[0]:.0f} MB"
    yield plain(f"`git_diff` of {what}, memory", own, 150, "MB", note)


def _changed(bench: Bench, name: str, files: int, size: int) -> Path:
    """A repository in which every line of so many files of this size is changed."""
    root = bench.folder / name
    root.mkdir()
    (root / ".aethr.yaml").write_text(WORKFLOW.format(source="git_diff"))
    assert len(list(fill(root, files, size))) == files
    bench.commit(root)
    assert len(list(fill(root, files, size, seed=2))) == files
    return root


def _pair(samples: dict[str, list[Sample]], field: str) -> tuple[list[float], list[float]]:
    return take(samples["aethr"], field), take(samples["floor"], field)


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x = 1\n")
