"""A real runner without GitHub: nektos/act in host mode, with a cache that stays from attempt to attempt.

It differs from GitHub's: steps get a terminal, which the ``bash`` in front of PATH takes away; the host's
environment would leak in, so it starts with an empty one; ``actions/checkout`` takes the folder as it is.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support import PACKAGE

ROOT = Path(__file__).parents[3]
RIG = Path(__file__).parent

_BASH = """#!/bin/bash
/bin/bash "$@" </dev/null 2>&1 | cat
exit "${PIPESTATUS[0]}"
"""
_REQUIRE = "import{createRequire as r}from'module';const require=r(import.meta.url);"
_UV = """#!/bin/bash
# Stands for uv: what it would install is the Aethr under test, which is there already.
if [ "$1" = venv ]; then
    venv=${!#}
    mkdir -p "$venv/bin"
    printf '#!/bin/bash\\nexec %q "$@"\\n' "$AETHR_UNDER_TEST" >"$venv/bin/python"
    chmod +x "$venv/bin/python"
fi
"""


@dataclass(frozen=True)
class Job:
    """How a job ended; ``outputs`` by the id of the step, ``annotations`` as the runner understood them.

    ``seconds`` is what each step took, by stage and name: ``Main Review``.
    """

    result: str
    outputs: Mapping[str, Mapping[str, str]]
    log: str
    annotations: tuple[str, ...]
    summary: str
    seconds: Mapping[str, float]


def missing() -> str | None:
    """Why there can be no runner here; None where there is one."""
    if not act().is_file():
        return "act is not here: pip install --require-hashes --no-deps -r tests/github/rig/requirements.txt"
    if not (RIG / "node_modules").is_dir():
        return "the cache's client is not here: npm ci --prefix tests/github/rig"
    return None if shutil.which("node") else "node is not here"


def act() -> Path:
    """The runner beside the Python that runs the tests, else the one on PATH."""
    beside = Path(sys.executable).parent / "act"
    return beside if beside.is_file() else Path(shutil.which("act") or beside)


class Runner:
    """One repository's runners; ``home`` is that of every machine, ``cache`` the server's folder.

    Without ``uv``, a real one, a stand-in installs nothing: the package is the one under test.
    """

    def __init__(self, folder: Path, uv: Path | None = None) -> None:
        self._folder = folder
        self._bin = folder / "bin"
        self._cache_action = folder / "cache-action"
        self._bin.mkdir(parents=True)
        for name, text in (("bash", _BASH), ("uv", _UV)):
            (self._bin / name).write_text(text, encoding="utf-8")
            (self._bin / name).chmod(0o755)
        if uv is not None:
            (self._bin / "uv").unlink()
            (self._bin / "uv").symlink_to(uv)
        _bundle(self._cache_action)
        self._action = _unpacked(folder / "action")

    def run(
        self, workspace: Path, event: str, variables: Mapping[str, str], secrets: Mapping[str, str]
    ) -> Job:
        """Run the workflow in ``workspace`` for an event by name; ``variables`` are those of the runner."""
        [job] = self.run_all(workspace, event, variables, secrets).values()
        return job

    def run_all(
        self,
        workspace: Path,
        event: str,
        variables: Mapping[str, str],
        secrets: Mapping[str, str],
        only: Sequence[str] = (),
    ) -> dict[str, Job]:
        """The same for a workflow of several jobs, by id: ``review``, or ``shard 2/3`` in a matrix.

        ``only`` are the runner's options that choose jobs.
        """
        command = [os.fspath(act()), event, "--json", *self._options(variables, secrets), *only]
        home = self._folder / f"home-{variables['GITHUB_RUN_ATTEMPT']}-{variables['GITHUB_RUN_ID']}"
        home.mkdir(exist_ok=True)
        environ = {"PATH": f"{self._bin}:{os.environ['PATH']}", "HOME": os.fspath(home), "LANG": "C.UTF-8"}
        done = subprocess.run(
            command, cwd=workspace, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        jobs: dict[str, list[Any]] = defaultdict(list)
        for line in done.stdout.splitlines():
            each = json.loads(line) if line.startswith("{") else {}
            if "jobID" in each:
                jobs[" ".join((each["jobID"], *map(str, (each.get("matrix") or {}).values())))].append(each)
        assert jobs, done.stderr[-2000:]
        return {name: _read(events) for name, events in jobs.items()}

    def _options(self, variables: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
        local = {
            _used("actions/cache/"): self._cache_action,
            _used("actions/setup-python"): RIG / "setup-python",
            _used("actions/upload-artifact"): RIG / "upload-artifact",
            "aethr/action@v1": self._action,
        }
        server = variables["GITHUB_SERVER_URL"]
        pairs = [f"--local-repository={server}/{name}={folder}" for name, folder in local.items()]
        pairs += [f"--env={name}={value}" for name, value in variables.items()]
        pairs += [f"--secret={name}={value}" for name, value in secrets.items()]
        return [
            "-P", "ubuntu-latest=-self-hosted", "-e", variables["GITHUB_EVENT_PATH"],
            "--cache-server-path", os.fspath(self._folder / "cache"), "--cache-server-addr", "127.0.0.1",
            f"--env=AETHR_UNDER_TEST={sys.executable}", *pairs,
        ]  # fmt: skip


def _used(action: str) -> str:
    """The repository and commit of an action that ``action.yml`` names."""
    steps = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
    name, _, commit = next(u for step in steps if (u := step.get("uses", "")).startswith(action)).partition(
        "@"
    )
    return f"{'/'.join(name.split('/')[:2])}@{commit}"


def _unpacked(folder: Path) -> Path:
    """The action as a runner unpacks it: without ``.git``."""
    for name in (".github", "merge"):
        (folder / name).mkdir(parents=True)
    for name in ("action.yml", "merge/action.yml", ".github/install.sh", "requirements.txt", *PACKAGE):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def _bundle(folder: Path) -> None:
    shutil.copytree(RIG / "cache", folder)
    for name in ("restore", "save"):
        esbuild = RIG / "node_modules" / ".bin" / "esbuild"
        options = [
            "--bundle",
            "--platform=node",
            "--format=esm",
            "--log-level=error",
            f"--banner:js={_REQUIRE}",
        ]
        out = f"--outfile={folder}/{name}.bundle.mjs"
        subprocess.run([esbuild, RIG / "cache" / f"{name}.mjs", *options, out], check=True)


def _read(events: Sequence[Any]) -> Job:
    outputs: dict[str, dict[str, str]] = {}
    for each in events:
        if each.get("command") == "set-output":
            step = each["stepID"][-1] if isinstance(each.get("stepID"), list) else str(each.get("stepID"))
            outputs.setdefault(step, {})[each["name"]] = each["arg"]
    result = next((each["jobResult"] for each in events if "jobResult" in each), "none")
    return Job(
        result,
        outputs,
        "\n".join(str(each.get("msg", "")).rstrip("\n") for each in events),
        tuple(_annotation(each) for each in events if each.get("command") in ("error", "warning", "notice")),
        "\n".join(str(each.get("content", "")) for each in events if each.get("command") == "summary"),
        {_step(each["msg"]): each["executionTime"] / 1e9 for each in events if "executionTime" in each},
    )


def _step(message: str) -> str:
    """``  ✅  Success - Main Review [865.8ms]`` is of the step ``Main Review``."""
    return message.partition(" - ")[2].rpartition(" [")[0]


def _annotation(event: Mapping[str, Any]) -> str:
    return f"{event['command']}: {event.get('arg', '')}"


@functools.lru_cache
def workflow(action: str = "aethr/action@v1", **inputs: str) -> str:
    """The workflow of a consumer."""
    step = {
        "id": "aethr",
        "uses": action,
        "with": {
            "github-token": "${{ secrets.TOKEN }}",
            **{name.replace("_", "-"): v for name, v in inputs.items()},
        },
        "env": {"OPENAI_API_KEY": "${{ secrets.OPENAI_API_KEY }}"},
    }
    job = {"runs-on": "ubuntu-latest", "steps": [{"uses": "actions/checkout@v4"}, step]}
    return yaml.safe_dump({"on": ["pull_request"], "jobs": {"review": job}})
