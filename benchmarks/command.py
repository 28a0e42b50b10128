"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import counting, environment, peers, plot, report
from benchmarks.figures import NotHere
from benchmarks.measure import Failed
from benchmarks.report import Result
from benchmarks.rows import ROWS, Row
from benchmarks.server import serving
from benchmarks.world import Bench, Peer

HERE = Path(__file__).parent
INTRODUCTION = """\
# Results

Made by `python benchmarks/run.py`; [README.md](README.md) says how to read them.

![How much of what is allowed each figure uses](results.svg)
"""


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.list:
        for row in ROWS:
            print(f"{row.name:<22}against {row.floor}")
        return 0
    if options.count:
        return counting.main(options.bound)
    chosen = [row for row in ROWS if not options.only or row.name in options.only]
    environments, absent = peers.environments() if options.peers else ({}, [])
    facts = report.machine()
    with tempfile.TemporaryDirectory() as temporary:
        measured = environment.made(Path(temporary))
        results = [_measured(row, measured, options.runs, environments) for row in chosen]
    facts["load after"] = f"{os.getloadavg()[0]:.2f}"
    before = report.scores(HERE / "results.json")
    text = _page(facts, results, before, absent)
    print(text)
    if not options.only:
        _keep(text, facts, results)
    return 1 if any(result.failed for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python benchmarks/run.py", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="one row; repeatable")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--runs", type=int, default=7, help="rounds that count, at least (default 7)")
    parser.add_argument(
        "--peers", action="store_true", help="measure other tools too, in their own environments"
    )
    parser.add_argument(
        "--count", action="store_true", help="count instead of measuring; exit 1 on a regression"
    )
    parser.add_argument(
        "--bound", action="append", default=[], metavar="NAME=N", help="with --count: another bound"
    )
    return parser


def _measured(row: Row, measured: Path, runs: int, environments: Mapping[str, Peer]) -> Result:
    began = time.monotonic()
    print(f"{row.name} …", end=" ", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as temporary, serving("models") as models:
        try:
            bench = Bench(Path(temporary), measured, runs, models, environments)
            result = Result(row.name, row.floor, tuple(row.measure(bench)))
        except NotHere as error:
            result = Result(row.name, row.floor, missing=str(error))
        except Failed as error:  # the other rows are still worth having
            result = Result(row.name, row.floor, missing=str(error), failed=True)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return result


def _keep(text: str, facts: Mapping[str, str], results: Sequence[Result]) -> None:
    figures = [(result.name, figure) for result in results for figure in result.figures]
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
    text = report.dumps(facts, results)
    (HERE / "results.json").write_text(text, encoding="utf-8")
    plot.write_beside(json.loads(text))
    (HERE / "results.svg").write_text(plot.svg(figures), encoding="utf-8")


def _page(
    facts: Mapping[str, str], results: Sequence[Result], before: Mapping[str, float], absent: Sequence[str]
) -> str:
    about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    missing = "".join(f"- not measured: {line}\n" for line in absent)
    return f"{INTRODUCTION}\n{about}\n{missing}\n{report.table(results, before)}"
