"""The hook under pre-commit, and the Action on a runner without GitHub."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from unittest.mock import patch

from benchmarks.figures import Figure, NotHere, more, plain
from benchmarks.measure import Sample, Work, interleaved, run, take, timed
from benchmarks.server import ROOT, serving
from benchmarks.world import CHANGED, Bench

BIN = Path(sys.executable).parent
STEPS = {
    "Main Install Aethr": "a stand-in for uv: the shell alone; the real one is below",
    "Main Review": "one process of Aethr: git, one call of the model, the comment",
}


def hook(bench: Bench) -> Iterator[Figure]:
    """``git commit`` with the review, and with a hook of the same kind that does nothing."""
    if not (BIN / "pre-commit").exists():
        raise NotHere('pre-commit is not installed beside this Python: pip install -e ".[dev]"')
    work = {
        "floor": _committing(bench, "empty", f"{bench.bin / 'python'} -c pass"),
        "aethr": _committing(bench, "review", f"{bench.bin / 'aethr'} hook --model openai:m"),
    }
    samples = interleaved(work, bench.runs)
    walls = [take(samples[name], "wall_s") for name in ("aethr", "floor")]
    yield more("`git commit` with a review", walls[0], walls[1], 0.6)


def action(bench: Bench) -> Iterator[Figure]:
    """The job of a consumer under `act`, and the installation by uv from a warm cache."""
    from tests.github.rig import runner as rig

    if (why := rig.missing()) is not None:
        raise NotHere(why)
    jobs: list[Mapping[str, float]] = []
    with patch.dict(os.environ, bench.env), serving("github") as github:
        attempt = _attempts(bench, github, jobs)
        work = {"job": attempt, "start": lambda: run(bench.aethr("version"))}
        samples = interleaved(work, bench.runs)
    whole, jobs = take(samples["job"], "wall_s"), jobs[1:]
    yield plain("the job, with a model that answers at once", whole)
    for step, note in STEPS.items():
        yield plain(f"its step {step.removeprefix('Main ')}", [job[step] for job in jobs], note=note)
    rest = [wall - sum(job[step] for step in STEPS) for wall, job in zip(whole, jobs, strict=True)]
    yield plain("the runner itself", rest, note="checkout, two more actions to read, its own start")
    yield plain("`aethr version` beside it", take(samples["start"], "wall_s"))
    yield from _installation(bench)


def _attempts(bench: Bench, github: str, jobs: list[Mapping[str, float]]) -> Work:
    from tests.github.rig import runner as rig
    from tests.github.support import KEY, open_pull_request, runner_environment
    from tests.github.test_runner import TAKEN

    place = bench.folder / "action"
    place.mkdir()
    runner = rig.Runner(place / "runner")
    request = open_pull_request(place)
    work = request.checkout()
    work.write(".github/workflows/review.yml", rig.workflow())
    numbers = count(500)

    def attempt() -> Sample:
        environ = runner_environment(request, work.root, github, run_id=next(numbers))
        variables = {name: environ[name] for name in TAKEN} | {"OPENAI_BASE_URL": bench.models}
        secrets = {"TOKEN": environ["GITHUB_TOKEN"], "OPENAI_API_KEY": KEY}
        done = []
        sample = timed(lambda: done.append(runner.run(work.root, "pull_request", variables, secrets)))
        assert done[0].result == "success", done[0].log
        jobs.append(done[0].seconds)
        return sample

    return attempt


def _installation(bench: Bench) -> Iterator[Figure]:
    """The Action's own script with the real uv; the first round, which fills the cache, does not count."""
    uv = shutil.which("uv", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        return
    numbers = count()
    caches = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_", "HTTPS_"))}
    settings = {
        "UV_CACHE_DIR": str(Path.home() / ".cache" / "uv"), **caches,
        "PATH": f"{Path(uv).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(ROOT), "AETHR_PYTHON": sys.executable,
    }  # fmt: skip

    def install() -> Sample:
        temp = bench.folder / f"machine-{next(numbers)}"
        temp.mkdir()
        env = {**settings, "RUNNER_TEMP": str(temp)}
        sample = run(bench.program("bash", str(ROOT / ".github" / "install.sh"), env=env))
        shutil.rmtree(temp)
        return sample

    note = "an environment, the package built, all dependencies linked"
    walls = take(interleaved({"install": install}, bench.runs)["install"], "wall_s")
    yield plain("Install Aethr with uv, warm cache", walls, note=note)


def _committing(bench: Bench, name: str, entry: str) -> Callable[[], Sample]:
    """Commits in a repository whose one hook is ``entry``."""
    root = bench.small(name)
    hook = {
        "id": name, "name": name, "entry": entry, "language": "system",
        "pass_filenames": False, "always_run": True, "verbose": True,
    }  # fmt: skip
    config = {"repos": [{"repo": "local", "hooks": [hook]}]}
    (root / ".pre-commit-config.yaml").write_text(json.dumps(config))
    bench.git(root, "add", ".pre-commit-config.yaml")
    run(bench.program(str(BIN / "pre-commit"), "install", cwd=root))
    commit = bench.program(
        "git", "commit", "-m", "change", cwd=root, env={**bench.live, "AETHR_TRANSPORT": "direct"}
    )
    numbers = count()

    def committed() -> Sample:
        (root / "app.py").write_text(CHANGED + f"N = {next(numbers)}\n")
        bench.git(root, "add", "app.py")
        return run(commit)

    return committed
