"""How well messages of the same defect are told from others: ``python benchmarks/same_defect.py FILE.json``.

The file has ``rows`` with ``pull_request``, ``defect``, ``reviewer`` and ``text``. Each two findings of
different reviewers on one pull request are compared as if they were at one place. The rates depend on the
pull requests: each of ``--samples`` takes a random half of them. ``--wrong N`` prints pairs that are judged
wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from aethr.review import panel


class Pair(NamedTuple):
    """Two findings of one pull request: whether they are one defect, and whether ``panel.alike`` says so."""

    pull_request: object
    one: str
    other: str
    same: bool
    alike: bool


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks/same_defect.py", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.json")
    parser.add_argument("--samples", type=int, default=200, metavar="N")
    parser.add_argument("--wrong", type=int, default=0, metavar="N")
    options = parser.parse_args(argv)
    rows = json.loads(options.file.read_text(encoding="utf-8"))["rows"]
    begin = time.process_time()
    pairs = list(compare(rows))
    each = (time.process_time() - begin) / len(pairs)
    for same, name in ((True, "same"), (False, "different")):
        of_kind = [pair for pair in pairs if pair.same is same]
        low, middle, high = spread(of_kind, options.samples)
        print(
            f"{name + ' defect':17} {len(of_kind):5,} pairs, {rate(of_kind):5.1f} % alike; "
            f"in half of the pull requests {low:.1f} to {high:.1f} %, median {middle:.1f} %"
        )
    print(f"{'a pair takes':17} {1e6 * each:5.0f} µs")
    wrong = [pair for pair in pairs if pair.same is not pair.alike]
    for pair in random.Random(0).sample(wrong, min(options.wrong, len(wrong))):
        print(f"\n{'missed' if pair.same else 'merged'}:\n  {pair.one}\n  {pair.other}")
    return 0


def compare(rows: Sequence[dict[str, str]]) -> Iterator[Pair]:
    for one, other in combinations(rows, 2):
        if one["pull_request"] == other["pull_request"] and one["reviewer"] != other["reviewer"]:
            alike = panel.alike(one["text"], other["text"])
            same = one["defect"] == other["defect"]
            yield Pair(one["pull_request"], one["text"], other["text"], same, alike)


def rate(pairs: Sequence[Pair]) -> float:
    """How many of 100 pairs are alike."""
    return 100 * sum(pair.alike for pair in pairs) / (len(pairs) or 1)


def spread(pairs: Sequence[Pair], samples: int) -> tuple[float, float, float]:
    """The rate that a tenth of the samples stays below, the median, and the rate that a tenth exceeds."""
    chance = random.Random(0)
    per_request: dict[object, list[Pair]] = {}
    for pair in pairs:
        per_request.setdefault(pair.pull_request, []).append(pair)
    of_each = list(per_request.values())
    rates = sorted(
        rate(list(chain(*chance.sample(of_each, (len(of_each) + 1) // 2)))) for _ in range(samples)
    )
    low, middle, high = (rates[int(share * samples)] for share in (0.1, 0.5, 0.9))
    return low, middle, high


if __name__ == "__main__":
    sys.exit(main())
