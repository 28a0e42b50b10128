"""What the rows have in common: a closed environment, Aethr as it is installed, repositories."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import MAXRSS_PER_MB, Command, run

INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SYSTEMROOT")
PROBE = Path(__file__).parent / "probe.py"
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""For other users of LiteLLM: their import does not wait for a download that cannot be."""
WORKFLOW = """\
workflow: bench
roles: {{reviewer: "Review."}}
models: {{reviewer: "openai:m"}}
steps:
  - {{id: review, role: reviewer, context: ["{source}"]}}
"""
"""One reviewing step with one source, in the form that every version of Aethr reads."""
REVIEW = """\
workflow: review
roles: {reviewer: Review the change.}
models: {reviewer: {model: "openai:gpt-5.4-mini", max_tokens: 32000}}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""
CHANGED = "def total(prices):\n    return sum(prices) + 1\n"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another tool: its name and version, and the folder of its program and its Python."""

    label: str
    bin: Path


@dataclass(frozen=True, slots=True)
class Bench:
    """What a row gets. ``folder`` is its own and goes away; ``models`` is the server's base URL.

    ``bin`` is the folder of the measured ``aethr`` and its Python.
    """

    folder: Path
    bin: Path
    runs: int
    models: str
    peers: Mapping[str, Peer] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """No settings of whoever runs this: no key, no home, no configuration of git."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        who = {f"GIT_{role}_{what}": "b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return {**kept, **who, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}

    @property
    def live(self) -> dict[str, str]:
        """The variables that send the calls of each protocol's models to the server on loopback."""
        origin = self.models.removesuffix("/v1")
        bases = {"OPENAI_BASE_URL": self.models, "ANTHROPIC_BASE_URL": origin, "GEMINI_API_BASE": origin}
        keys = {f"{name}_API_KEY": "sk-bench" for name in ("OPENAI", "ANTHROPIC", "GOOGLE")}
        return {**bases, **keys, "NO_COLOR": "1"}

    def aethr(self, *words: str, cwd: Path | None = None, **more: object) -> Command:
        """The installed command, as a person calls it; ``env`` among ``more`` is on top of the closed one."""
        return self.program(str(self.bin / "aethr"), *words, cwd=cwd, **more)

    def python(self, *words: str, cwd: Path | None = None, **more: object) -> Command:
        """The Python that Aethr runs on."""
        return self.program(str(self.bin / "python"), *words, cwd=cwd, **more)

    def program(self, *argv: str, cwd: Path | None = None, **more: object) -> Command:
        env = {**self.env, **(more.pop("env", None) or {})}  # type: ignore[dict-item]
        return Command(argv, cwd or self.folder, env, **more)  # type: ignore[arg-type]

    def probe(self, *words: str, cwd: Path, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What ``probe.py`` notes of a command of Aethr; ``own_mb`` is the peak without its children."""
        notes = self.folder / "notes.json"
        run(self.python(str(PROBE), str(notes), *words, cwd=cwd, env=env))
        told: dict[str, Any] = json.loads(notes.read_text(encoding="utf-8"))
        return {**told, "own_mb": told["maxrss"] / MAXRSS_PER_MB}

    def git(self, root: Path, *args: str) -> None:
        subprocess.run(
            ["git", *args], cwd=root, env=self.env, check=True, stdout=subprocess.DEVNULL, timeout=300
        )

    def small(self, name: str = "small") -> Path:
        """A repository whose workflow reviews the change alone, and a module in which one line is changed."""
        root = self.folder / name
        root.mkdir()
        (root / ".aethr.yaml").write_text(REVIEW)
        (root / "README.md").write_text("# A shop\n")
        (root / "app.py").write_text("def total(prices):\n    return sum(prices)\n")
        self.commit(root)
        (root / "app.py").write_text(CHANGED)
        return root

    def commit(self, root: Path) -> None:
        """A repository of everything in ``root``; git never packs it while we measure."""
        self.git(root, "init", "-q", "-b", "main")
        for name in ("gc.auto", "maintenance.auto"):
            self.git(root, "config", name, "0")
        self.git(root, "add", "-A")
        self.git(root, "commit", "-q", "-m", "all")
        os.sync()  # or the disk is busy with the new tree while we measure


def fill(root: Path, files: int, size: int, seed: int = 1) -> Iterator[Path]:
    """Text files of so many bytes in folders of some hundred, no two the same; gives each."""
    rng = random.Random(seed)
    for number in range(files):
        path = root / f"d{number % 50}" / f"e{number % 400}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        line = f"{rng.random():.17f}\n"
        path.write_text((line * (size // len(line) + 1))[: size - 1] + "\n")
        yield path
