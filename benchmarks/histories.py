"""How much of real changes Aethr can send: ``python benchmarks/histories.py CLONE=A..B[,C..D…] …``.

Each argument names a clone and the large ranges in it, such as releases. Those ranges and the latest 200
commits of each clone are planned as a run of the preset ``review-existing-diff`` would plan them; nothing is
called. The result is written to ``RESULTS-histories.md``.

Of each change, every changed line is counted once: sent, deleted (the old text of a file that the change
removes), excluded by a rule, or missing. What is missing keeps a gate from passing. Source is what is not a
test, documentation or data by its name. A large range is planned with as many parts as it needs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from aethr import git  # noqa: E402
from aethr.base.records import PARTS, Allowance, Collected, Gate, Receipt, View  # noqa: E402
from aethr.config import read_preset, workflow_file  # noqa: E402
from aethr.context.exclusion import importance  # noqa: E402
from aethr.workflow import planning  # noqa: E402

PRESET = "review-existing-diff"
COMMITS = 200
STATES = ("sent", "deleted", "excluded", "missing")


class Change(NamedTuple):
    """A planned change. ``lines`` and ``source`` count changed lines by their state.

    ``reasons`` counts the missing lines by why they are; what keeps a gate from passing may have none.
    """

    name: str
    files: int
    parts: int
    lines: Counter[str]
    source: Counter[str]
    reasons: Counter[str]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks/histories.py", description=__doc__)
    parser.add_argument("clones", nargs="+", metavar="CLONE=A..B[,C..D]")
    options = parser.parse_args(argv)
    ranges, histories = [], []
    for clone in options.clones:
        folder, _, given = clone.partition("=")
        root = Path(folder).resolve()
        ranges += [plan(root, text, all_parts=True) for text in given.split(",") if text]
        histories.append((root.name, [plan(root, text) for text in latest_commits(root)]))
    page = "\n".join(render(ranges, histories))
    (HERE / "RESULTS-histories.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


def latest_commits(root: Path) -> list[str]:
    """The latest commits that are not merges, each as a range."""
    words = ("git", "rev-list", "--no-merges", "--min-parents=1", f"--max-count={COMMITS}", "HEAD")
    listed = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True).stdout
    return [f"{commit}^..{commit}" for commit in listed.split()]


def plan(root: Path, text: str, *, all_parts: bool = False) -> Change:
    """The change of a range, cut as for a run of the preset, with ``all_parts`` as if no limit was set."""
    collected = collect(root, text, PARTS)
    needed = collected.needed
    if all_parts and needed > PARTS:
        collected = collect(root, text, needed)
    receipts = [each for blocks in collected.parts for block in blocks for each in block.receipts]
    lines, source, reasons = Counter[str](), Counter[str](), Counter[str]()
    for receipt in receipts:
        counts = dict(states(receipt))
        lines.update(counts)
        if receipt.path is not None and importance(receipt.path) == 0:
            source.update(counts)
        if not receipt.complete:
            reasons[reason(receipt)] += counts["missing"]
    if needed > PARTS:
        reasons[f"more than {PARTS} parts"] += 0
    files = len({each.path for each in receipts if each.path is not None})
    return Change(f"{root.name} {text}", files, needed, lines, source, reasons)


def collect(root: Path, text: str, most_parts: int) -> Collected:
    here = git.checkout(root)
    assert here is not None, f"{root} is not a clone"
    workflow = workflow_file.parse(read_preset(PRESET), PRESET, planning.vocabulary())
    terms = planning.Terms("mock", None, Gate(), Allowance())
    bound = planning.bind(planning.Project(root, workflow._replace(parts=most_parts)), terms, {})
    survey = git.survey(here, git.resolve_scope(root, text, here))
    return bound.steps[0].collect(View(root, survey.scope, strict=True, survey=survey, rules=workflow.rules))


def states(receipt: Receipt) -> Iterator[tuple[str, int]]:
    """The changed lines of a receipt by their state; each line has one."""
    rest = receipt.changed_lines - receipt.sent_lines
    yield "sent", receipt.sent_lines
    yield "excluded", rest if receipt.excluded else 0
    yield "deleted", rest if receipt.complete and not receipt.excluded else 0
    yield "missing", 0 if receipt.complete else rest


def reason(receipt: Receipt) -> str:
    """Why something is missing, in words without numbers."""
    return re.sub(r"\d[\d,]*|\b[0-9a-f]{7,}\b", "N", receipt.note or "")


def render(ranges: Sequence[Change], histories: Sequence[tuple[str, Sequence[Change]]]) -> Iterator[str]:
    yield "# Real histories\n"
    yield "Made by `python benchmarks/histories.py`, whose first lines say what is counted.\n"
    yield "## Large ranges\n"
    yield from heading("range", "files", "parts")
    for each in ranges:
        yield row(each.name, f"{each.files:,}", f"{each.parts:,}", shares(each.lines), shares(each.source))
    yield f"\n## The latest {COMMITS} commits\n"
    yield from heading("project", "in several parts", "most parts", "cannot pass a gate")
    for name, changes in histories:
        lines = sum((each.lines for each in changes), Counter[str]())
        source = sum((each.source for each in changes), Counter[str]())
        several, most = sum(each.parts > 1 for each in changes), max(each.parts for each in changes)
        stuck = sum(bool(each.reasons) for each in changes)
        yield row(name, f"{several}", f"{most}", f"{stuck}", shares(lines), shares(source))
    yield "\n## What is missing\n"
    yield row("what", "changes", "lines")
    yield row("---", "---:", "---:")
    everything = [*ranges, *(each for _, changes in histories for each in changes)]
    changes = Counter(why for each in everything for why in each.reasons)
    lines = sum((each.reasons for each in everything), Counter[str]())
    for why, times in changes.most_common():
        yield row(why, f"{times}", f"{lines[why]:,}")
    yield ""


def heading(*own: str) -> Iterator[str]:
    """Of a table with these columns and those of ``shares``, first for all changed lines, then for source."""
    yield row(*own, "changed lines", *STATES, "source lines", *STATES)
    yield row("---", *["---:"] * (len(own) + 2 * len(STATES) + 1))


def shares(counts: Counter[str]) -> str:
    """The cells of a sum and of each state's share in it."""
    total = counts.total()
    return " | ".join((f"{total:,}", *(f"{100 * counts[state] / (total or 1):.2f} %" for state in STATES)))


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
