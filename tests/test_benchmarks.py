"""The benchmarks: what they measure with is right, and the counting half can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import measure, plot, report
from benchmarks.counting import Count, regressions
from benchmarks.figures import Figure, more, plain, ratio, spread
from benchmarks.measure import Command, Failed, interleaved, run, timed
from benchmarks.report import Result
from benchmarks.rows.trees import Watch
from tests.support import nightly

ROOT = Path(__file__).parent.parent
HOLDS = plain("a `file`", [2.0, 1.0, 3.0], reach=2)
FAILS = ratio("two < three", [9.0, 8.0, 7.0], [1.0, 2.0, 1.0], 4, note="a note")


def python(program: str, **more: object) -> Command:
    return Command((sys.executable, "-c", program), Path.cwd(), os.environ, **more)  # type: ignore[arg-type]


def test_a_command_is_measured_with_all_that_it_took() -> None:
    program = "import sys; held = b'x' * 60_000_000; sys.stdout.write('a' * 100_000 + 'first' + 'b')"
    sample = run(python(program, sink="pipe", mark=b"first"))
    assert (len(sample.output), sample.output[-6:]) == (100_006, b"firstb")
    assert sample.first_s > 0
    assert 0 < sample.cpu_s < sample.wall_s * (os.cpu_count() or 1) + 1
    assert 60 < sample.rss_mb < 100
    assert sample.written in (-1, 100_006)


def test_the_memory_of_who_measures_is_not_counted() -> None:
    held = b"x" * 80_000_000
    assert run(python("pass")).rss_mb < 40 < len(held) / 1e6


def test_a_terminal_is_a_terminal() -> None:
    seen = run(python("import sys; print(sys.stdout.isatty(), sys.stderr.isatty())", sink="terminal"))
    assert seen.output == b"True True\r\n"


@pytest.mark.parametrize(
    ("program", "more", "says"),
    [
        ("raise SystemExit('oh no')", {}, "oh no"),
        ("print('x')", {"sink": "pipe", "mark": b"y"}, "never said"),
    ],
)
def test_a_command_that_does_not_do_its_work_is_no_measurement(
    program: str, more: dict[str, object], says: str
) -> None:
    with pytest.raises(Failed, match=says):
        run(python(program, **more))


def test_rounds_take_turns_and_the_first_does_not_count() -> None:
    order: list[str] = []
    samples = interleaved({name: lambda name=name: timed(lambda: order.append(name)) for name in "ab"}, 3)
    assert order == list("abbaabba")
    assert [len(samples[name]) for name in "ab"] == [3, 3]


def test_scores_are_medians_of_rounds() -> None:
    assert (FAILS.value, FAILS.floor, FAILS.score, FAILS.holds) == (8.0, 1.0, 7.0, False)
    assert more("m", [3.0, 5.0], [1.0, 1.0], reach=3).holds
    assert not more("m", [3.0, 5.1], [1.0, 1.0], reach=3).holds
    assert spread([1.0, 1.0, 1.0, 1.0]) == 0
    assert spread([1.0, 2.0, 3.0]) == 1


def test_results_are_compared_with_those_before(tmp_path: Path) -> None:
    results = [Result("row", "a floor", (HOLDS, FAILS)), Result("gone", "none", missing="no rig")]
    before = tmp_path / "results.json"
    assert report.scores(before) == {}
    before.write_text(report.dumps({}, results))
    table = report.table(results, report.scores(before))
    assert "| two < three (a note) | 8.00 s | 1.00 s | 7.00x | ≤ 4.00x | **no** | 7.00x | 100% |" in table
    assert "Not measured: no rig" in table


def test_the_picture_is_one() -> None:
    figures: list[tuple[str, Figure]] = [("row", HOLDS), ("row", FAILS), ("row", plain("no reach", [1.0]))]
    drawn = ElementTree.fromstring(plot.svg(figures))
    assert len(drawn.findall("{*}rect")) == 2
    assert "row: two < three" in [each.text for each in drawn.findall("{*}text")]


def test_a_regression_is_named() -> None:
    counts = [Count("a", 3, "(x)"), Count("b", 2), Count("c", 1)]
    assert regressions(counts, {"a": 3, "b": 2, "c": 1}) == []
    assert regressions(counts, {"a": 2, "c": 1, "d": 0}) == [
        "REGRESSION: a: 3, at most 2 (x)",
        "REGRESSION: b: it has no bound in benchmarks/bounds.py",
        "REGRESSION: d: it was not counted",
    ]


def test_a_folder_that_is_listed_is_noticed(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    top = tmp_path / "ignored"
    (top / "below").mkdir(parents=True)
    watch = Watch(top)
    if "not known" in watch.how:
        pytest.skip(watch.how)
    assert watch.read() == 0
    assert list((top / "below").iterdir()) == []
    assert watch.read() == 1


@nightly(".ci/run counts in a step of its own")
@pytest.mark.slow
def test_counting_fails_on_a_regression_and_on_nothing_else() -> None:
    words = [sys.executable, "benchmarks/run.py", "--count", "--bound", "version: modules=1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1, done.stderr
    assert [line.partition(", ")[2] for line in done.stdout.splitlines() if "REGRESSION" in line] == [
        "at most 1"
    ]
    assert "REGRESSION: version: modules: " in done.stdout


def test_the_rows_can_be_listed() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "snapshots" in done.stdout
    assert measure.LAUNCH.is_file()


def test_the_pictures_of_the_readme_show_the_results() -> None:
    from benchmarks import plot

    results = json.loads((plot.FOLDER / "results.json").read_text(encoding="utf-8"))
    for theme in plot.THEMES:
        picture = (plot.FOLDER / f"beside-{theme}.svg").read_text(encoding="utf-8")
        assert picture == plot.beside(results, theme), "run `python -m benchmarks.plot`"
        assert "pr-agent 0.49.0, start: --help" in picture
