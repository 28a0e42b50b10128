"""The results as JSON, to compare the next ones with, and as a table for people."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure


@dataclass(frozen=True, slots=True)
class Result:
    """What one row gave: figures, or why there are none; ``failed`` when that is a fault."""

    name: str
    floor: str
    figures: tuple[Figure, ...] = ()
    missing: str = ""
    failed: bool = False


def machine() -> dict[str, str]:
    """What the figures depend on beside the code."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "git": git.removeprefix("git version ").strip(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def scores(path: Path) -> dict[str, float]:
    """The scores of earlier results by row and figure; none where there are no earlier results."""
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {f"{row['name']}: {each['what']}": each["score"] for row in rows for each in row["figures"]}


def dumps(facts: Mapping[str, str], results: Sequence[Result]) -> str:
    document: dict[str, Any] = {"machine": facts, "rows": [asdict(result) for result in results]}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def table(results: Iterable[Result], before: Mapping[str, float]) -> str:
    """One Markdown table for each row."""
    return "\n".join(line for result in results for line in _rows(result, before))


def _rows(result: Result, before: Mapping[str, float]) -> Iterator[str]:
    yield f"### {result.name}\n\nFloor: {result.floor}.\n"
    if result.missing:
        yield f"Not measured: {result.missing}\n"
        return
    yield "| what | takes | floor | score | reach | holds | before | noise |"
    yield "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |"
    for each in result.figures:
        then = before.get(f"{result.name}: {each.what}")
        cells = (
            each.what + (f" ({each.note})" if each.note else ""),
            _amount(each.value, each.unit),
            "" if each.floor is None else _amount(each.floor, each.unit),
            _score(each, each.score),
            "" if each.reach is None else f"≤ {_score(each, each.reach)}",
            "" if each.reach is None else "yes" if each.holds else "**no**",
            "" if then is None else _score(each, then),
            "" if each.noise is None else f"{each.noise:.0%}",
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _score(figure: Figure, score: float) -> str:
    if figure.kind == "x":
        return f"{score:.2f}x"
    return ("+" if figure.kind == "more" and score >= 0 else "") + _amount(score, figure.unit)


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.0f} ms" if abs(value) < 1 else f"{value:.2f} s"
    return f"{value:.1f} {unit}" if unit else f"{value:g}"
