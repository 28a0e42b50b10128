"""How a review is scored: a table of traps, and what must hold for any findings."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base.records import Finding, Lines, Opinion
from aethr.evaluation.scoring import Score, assign, score
from aethr.evaluation.trials import Case, Expected, Renamed, Trial, Where
from tests.evaluation.support import CASE, CLEAN, DEFECT, DROPPED, PATH, PLACE, finding, trial
from tests.support import many

# --- traps -------------------------------------------------------------------------------------


class Trap(NamedTuple):
    """What a trial of ``CASE`` or of ``case`` should give: each finding's role, and ``found`` as below."""

    name: str
    trial: Trial
    found: str
    roles: tuple[str, ...]
    case: Case = CASE


def expecting(*expected: Expected) -> Case:
    return CASE._replace(expected=expected)


def saying(*words: str) -> Case:
    return expecting(DEFECT._replace(words=words))


CALLER = Where("app/views.py", Lines(40, 40))
RENAMED = (Renamed("app/old.py", PATH),)
OTHER = Expected("low", (Where(PATH, Lines(30, 30)),), ("leak",))
TRAPS = (
    Trap("on the first line", trial(finding(line=12)), "at place", ("hit",)),
    Trap("3 lines before", trial(finding(line=9)), "at place", ("hit",)),
    Trap("4 lines before", trial(finding(line=8)), "elsewhere", ("hit",)),
    Trap("3 lines after", trial(finding(line=17)), "at place", ("hit",)),
    Trap("4 lines after", trial(finding(line=18)), "elsewhere", ("hit",)),
    Trap("a range around it", trial(finding(line=1, end_line=90)), "at place", ("hit",)),
    Trap("a range that ends 3 lines before", trial(finding(line=1, end_line=9)), "at place", ("hit",)),
    Trap("a range that ends 4 lines before", trial(finding(line=1, end_line=8)), "elsewhere", ("hit",)),
    Trap("a range upside down", trial(finding(line=90, end_line=14)), "at place", ("hit",)),
    Trap(
        "a place of one line, a range that meets it",
        trial(finding(line=10, end_line=12)),
        "at place",
        ("hit",),
        expecting(DEFECT._replace(places=(Where(PATH, Lines(12, 12)),))),
    ),
    Trap("without a line", trial(finding(line=None)), "elsewhere", ("hit",)),
    Trap(
        "without a line, for a place without lines",
        trial(finding(line=None)),
        "at place",
        ("hit",),
        expecting(DEFECT._replace(places=(Where(PATH),))),
    ),
    Trap("without a path", trial(finding(path=None)), "missed: reported without a file", ("extra",)),
    Trap(
        "in another file",
        trial(finding(path="app/other.py")),
        "missed: reported for app/other.py:13",
        ("extra",),
    ),
    Trap(
        "the old name of a renamed file",
        trial(finding(path="app/old.py"), renamed=RENAMED),
        "at place",
        ("hit",),
    ),
    Trap(
        "the old name of another file",
        trial(finding(path="app/old.py"), renamed=(Renamed("app/old.py", "app/new.py"),)),
        "missed: reported for app/old.py:13",
        ("extra",),
    ),
    Trap(
        "another file, beside a renamed one",
        trial(finding(path="app/other.py"), renamed=RENAMED),
        "missed: reported for app/other.py:13",
        ("extra",),
    ),
    Trap(
        "a path that differs in case",
        trial(finding(path="App/pages.py")),
        "missed: reported for App/pages.py:13",
        ("extra",),
    ),
    Trap(
        "duplicates",
        trial(finding(), finding("A race."), finding(line=99)),
        "at place",
        ("hit", "duplicate", "duplicate"),
    ),
    Trap(
        "one finding for two defects",
        trial(finding("An off-by-one, and it leaks.", line=13)),
        "at place; missed: the finding that fits it is that of another defect",
        ("hit",),
        expecting(DEFECT, OTHER),
    ),
    Trap(
        "one finding at the places of two defects, with the words of one",
        trial(finding(line=13)),
        "at place; missed: not reported",
        ("hit",),
        expecting(DEFECT, OTHER._replace(places=(PLACE,))),
    ),
    Trap(
        "a word of a missed defect in the finding of one in another file",
        trial(finding("A race.", 40, path="app/views.py")),
        "missed: not reported; at place",
        ("hit",),
        expecting(DEFECT, DEFECT._replace(places=(CALLER,))),
    ),
    Trap(
        "two findings that both fit both defects",
        trial(finding("off by one, and a leak", line=30), finding("a leak, and off by one", line=12)),
        "at place; at place",
        ("hit", "hit"),
        expecting(DEFECT, OTHER),
    ),
    Trap(
        "the nearer one is needed for the other defect",
        trial(finding("off by one, and a leak", line=13), finding("off by one", line=50)),
        "elsewhere; elsewhere",
        ("hit", "hit"),
        expecting(DEFECT, OTHER),
    ),
    Trap(
        "at another place that is right too",
        trial(finding(path="app/views.py", line=43)),
        "at place",
        ("hit",),
        expecting(DEFECT._replace(places=(PLACE, CALLER))),
    ),
    Trap(
        "near another place that is right too",
        trial(finding(path="app/views.py", line=44)),
        "elsewhere",
        ("hit",),
        expecting(DEFECT._replace(places=(PLACE, CALLER))),
    ),
    Trap(
        "the right place before the right severity",
        trial(finding(line=13, severity="low"), finding(line=60)),
        "as low at place",
        ("hit", "duplicate"),
    ),
    Trap(
        "the nearer severity before the smaller distance",
        trial(finding(line=13, severity="medium"), finding(line=15)),
        "at place",
        ("duplicate", "hit"),
    ),
    Trap("the smaller distance", trial(finding(line=9), finding(line=15)), "at place", ("duplicate", "hit")),
    Trap(
        "an extra one in a case with a defect",
        trial(finding(), finding("A typo.", 80)),
        "at place",
        ("hit", "extra"),
    ),
    Trap("a low extra one too", trial(finding("A typo.", 80, "low")), "missed: not reported", ("extra",)),
    Trap("nothing", trial(outcome="pass"), "missed: not reported", ()),
    Trap(
        "at the place without its words",
        trial(finding("The name is unclear.")),
        "missed: something else at the place",
        ("beside",),
    ),
    Trap(
        "at the place without its words, beside one that finds it",
        trial(finding(), finding("The name is unclear.")),
        "at place",
        ("hit", "extra"),
    ),
    Trap("in the file without its words", trial(finding("Unclear.", 60)), "missed: not reported", ("extra",)),
    Trap(
        "a word inside another one",
        trial(finding("The trace is lost.")),
        "missed: something else at the place",
        ("beside",),
    ),
    Trap(
        "one of two words",
        trial(finding("In brackets.")),
        "missed: something else at the place",
        ("beside",),
        saying("bracket size"),
    ),
    Trap("another form of a word", trial(finding("Two workers are racing.")), "at place", ("hit",)),
    Trap("the plural of a word", trial(finding("There are races here.")), "at place", ("hit",)),
    Trap(
        "words that only begin alike",
        trial(finding("The author is lost.")),
        "missed: something else at the place",
        ("beside",),
        saying("authorization"),
    ),
    Trap("words in capitals, with dashes", trial(finding("OFF–BY‑ONE error")), "at place", ("hit",)),
    Trap("words with underscores", trial(finding("test_off_by_one fails")), "at place", ("hit",)),
    Trap(
        "words in another order",
        trial(finding("One by off.")),
        "missed: something else at the place",
        ("beside",),
    ),
    Trap("words over two lines", trial(finding("It is off\n    by one.")), "at place", ("hit",)),
    Trap(
        "words over two texts",
        trial(finding("It is off", evidence="by one")),
        "missed: something else at the place",
        ("beside",),
    ),
    Trap("words in Markdown", trial(finding("A **race** in `load`.")), "at place", ("hit",)),
    Trap(
        "composed and decomposed letters",
        trial(finding("Die Gro\u0308\u00dfe fehlt.")),
        "at place",
        ("hit",),
        saying("GR\u00d6SSE"),
    ),
    Trap("letters of full width", trial(finding("\uff32\uff21\uff23\uff25 here")), "at place", ("hit",)),
    Trap(
        "a language without spaces",
        trial(finding("この競合状態は危険です")),
        "at place",
        ("hit",),
        saying("競合状態"),
    ),
    Trap("signs only", trial(finding("Use `!=` here")), "at place", ("hit",), saying("!=")),
    Trap(
        "other signs",
        trial(finding("Use `==` here")),
        "missed: something else at the place",
        ("beside",),
        saying("!="),
    ),
    Trap(
        "an empty word says nothing",
        trial(finding("Unclear.")),
        "missed: something else at the place",
        ("beside",),
        saying(" "),
    ),
    Trap(
        "a word in the evidence only",
        trial(finding("Look here.", evidence="def race():")),
        "at place",
        ("hit",),
    ),
    Trap(
        "a word in the suggestion only",
        trial(finding("Use this.", suggestion="# no race")),
        "at place",
        ("hit",),
    ),
    Trap(
        "a word in what another reviewer wrote",
        trial(finding("Look here.", also=(Opinion(("second",), "low", "A race."),))),
        "at place",
        ("hit",),
    ),
    Trap(
        "a word that is denied still counts", trial(finding("There is no race here.")), "at place", ("hit",)
    ),
    Trap("as less severe", trial(finding(severity="low")), "as low at place", ("hit",)),
    Trap(
        "as more severe",
        trial(finding()),
        "at place",
        ("hit",),
        expecting(DEFECT._replace(severity="low")),
    ),
    Trap(
        "dropped by verify",
        trial(finding(check=DROPPED)),
        "missed: reported, but dropped by verify",
        ("set-aside",),
    ),
    Trap("disputed by verify", trial(finding(check=DROPPED._replace(dropped=False))), "at place", ("hit",)),
    Trap("answered", trial(finding(state="answered")), "missed: reported, but answered", ("set-aside",)),
    Trap("resolved", trial(finding(state="resolved")), "missed: reported, but resolved", ("set-aside",)),
    Trap(
        "dropped, and found by another reviewer",
        trial(finding(check=DROPPED), finding("A race.")),
        "at place",
        ("hit", "set-aside"),
    ),
    Trap("in a file that a rule excludes", trial(excluded=(PATH,)), "missed: a rule excludes its file", ()),
    Trap("found in a file that a rule excludes", trial(finding(), excluded=(PATH,)), "at place", ("hit",)),
    Trap("in a file that was not shown", trial(missing=(PATH,)), "missed: no prompt had all of its file", ()),
    Trap(
        "in a file that was shown in part",
        trial(finding(), missing=(PATH,), outcome="incomplete"),
        "at place",
        ("hit",),
    ),
    Trap(
        "a cut answer",
        trial(finding("A typo.", 80), outcome="incomplete"),
        "missed: not reported, the review is incomplete",
        ("extra",),
    ),
    Trap("a cut answer that has it", trial(finding(), outcome="incomplete"), "at place", ("hit",)),
    Trap("not reviewed", trial(finding(), outcome="not-reviewed"), "missed: not reviewed", ("set-aside",)),
    Trap(
        "a run that failed",
        trial(finding(), outcome="incomplete", error="HTTP 429"),
        "missed: the run failed: HTTP 429",
        ("set-aside",),
    ),
    Trap(
        "nothing to review",
        trial(outcome="nothing-to-review", excluded=(PATH,)),
        "missed: a rule excludes its file",
        (),
    ),
    Trap(
        "a line that the change deletes",  # the place is where it was; reviewers name a line beside it
        trial(finding("The lock is gone: a race.", 11)),
        "at place",
        ("hit",),
        expecting(DEFECT._replace(places=(Where(PATH, Lines(12, 12)),))),
    ),
    Trap("clean, and passed", trial(case="tempting", outcome="pass"), "right", (), CLEAN),
    Trap("clean, with a high finding", trial(finding(), case="tempting"), "alarm", ("extra",), CLEAN),
    Trap(
        "clean, with a medium finding",
        trial(finding(severity="medium"), case="tempting"),
        "alarm",
        ("extra",),
        CLEAN,
    ),
    Trap(
        "clean, with a low finding",
        trial(finding(severity="low"), case="tempting"),
        "right",
        ("remark",),
        CLEAN,
    ),
    Trap(
        "clean, with a finding without a path",
        trial(finding(path=None), case="tempting"),
        "alarm",
        ("extra",),
        CLEAN,
    ),
    Trap(
        "clean, with a finding that was dropped",
        trial(finding(check=DROPPED), case="tempting", outcome="pass"),
        "right",
        ("set-aside",),
        CLEAN,
    ),
    Trap("clean, revise without a finding", trial(case="tempting"), "alarm", (), CLEAN),
    Trap("clean, and incomplete", trial(case="tempting", outcome="incomplete"), "right", (), CLEAN),
    Trap(
        "clean, and nothing to review",
        trial(case="tempting", outcome="nothing-to-review"),
        "right",
        (),
        CLEAN,
    ),
    Trap("clean, and not reviewed", trial(case="tempting", outcome="not-reviewed"), "neither", (), CLEAN),
    Trap(
        "clean, and failed",
        trial(finding(), case="tempting", error="HTTP 429"),
        "neither",
        ("set-aside",),
        CLEAN,
    ),
)


def say(scored: Score) -> str:
    """``as low at place``, ``elsewhere``, ``missed: why`` for each defect; for a clean case ``alarm``."""
    if scored.is_clean:
        assert not (scored.is_alarm and scored.is_right)
        return "alarm" if scored.is_alarm else "right" if scored.is_right else "neither"
    assert (scored.is_alarm, scored.is_right) == (False, False)
    return "; ".join(
        f"missed: {each.missed}"
        if each.by is None
        else (f"as {each.by.severity} " if each.is_lower else "")
        + ("at place" if each.at_place else "elsewhere")
        for each in scored.detections
    )


@pytest.mark.parametrize("trap", TRAPS, ids=[trap.name for trap in TRAPS])
def test_a_trap_is_scored_as_the_page_says(trap: Trap) -> None:
    scored = score(trap.case, trap.trial)
    assert say(scored) == trap.found
    assert tuple(each.role for each in scored.rated) == trap.roles


def test_a_finding_names_the_defect_that_it_hits_or_repeats() -> None:
    found = (finding("a leak", 30), finding(), finding("a leak again", 31), finding("unclear", 60))
    scored = score(expecting(DEFECT, OTHER), trial(*found))
    assert [(each.role, each.defect) for each in scored.rated] == [
        ("hit", 0),
        ("hit", 1),
        ("duplicate", 1),
        ("extra", None),
    ]


# --- properties --------------------------------------------------------------------------------

WORDS = ("race", "leak", "naming")
SEVERITY = st.sampled_from(("high", "medium", "low"))
FINDINGS = st.builds(
    finding,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(" and ".join),
    st.sampled_from((None, 8, 9, 13, 20, 30, 33)),
    SEVERITY,
    st.sampled_from((PATH, PATH, "app/views.py", None)),
    state=st.sampled_from((None, None, None, "answered")),
)
EXPECTED = st.builds(
    lambda severity, line, word: Expected(severity, (Where(PATH, Lines(line, line + 1)),), (word,)),
    SEVERITY,
    st.sampled_from((8, 13, 30)),
    st.sampled_from(WORDS[:2]),
)
CASES = st.lists(EXPECTED, max_size=3).map(lambda expected: Case("any", Path(), tuple(expected)))
MANY = st.lists(FINDINGS, max_size=5)


def count_found(scored: Score) -> int:
    return sum(each.by is not None for each in scored.detections)


@many(50)
@given(CASES, MANY, st.randoms(use_true_random=False))
def test_the_order_of_findings_does_not_matter(case: Case, found: list[Finding], random) -> None:
    mixed = random.sample(found, len(found))
    one, other = score(case, trial(*found)), score(case, trial(*mixed))
    assert (one.detections, one.rated) == (other.detections, other.rated)


@many(50)
@given(CASES, MANY.filter(bool), st.data())
def test_a_finding_twice_changes_only_the_duplicates(
    case: Case, found: list[Finding], data: st.DataObject
) -> None:
    before = score(case, trial(*found))
    hits = [each.finding for each in before.rated if each.role == "hit"]
    if not hits:
        return
    again = data.draw(st.sampled_from(hits))
    after = score(case, trial(*found, again))
    if count_found(after) == count_found(before):
        assert len(after.having("duplicate")) == len(before.having("duplicate")) + 1
        for role in ("extra", "beside", "remark", "set-aside"):
            assert after.having(role) == before.having(role)
    else:  # the copy is free for another defect that it fits too
        assert count_found(after) == count_found(before) + 1


@many(50)
@given(CASES, MANY, FINDINGS)
def test_one_finding_more_never_lowers_what_is_found(case: Case, found: list[Finding], more: Finding) -> None:
    assert count_found(score(case, trial(*found, more))) >= count_found(score(case, trial(*found)))


@many(50)
@given(CASES, MANY)
def test_every_finding_has_one_role(case: Case, found: list[Finding]) -> None:
    scored = score(case, trial(*found))
    assert sorted(map(repr, found)) == sorted(repr(each.finding) for each in scored.rated)
    assert len(scored.having("hit")) == count_found(scored)
    for each in scored.rated:
        assert (each.role == "set-aside") == (not each.finding.is_open)


COSTS = st.integers(0, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.none() | st.integers(0, 9), min_size=width, max_size=width), max_size=4
    )
)


@many(80)
@given(COSTS)
def test_an_assignment_is_as_good_as_the_best_of_all(costs: list[list[int | None]]) -> None:
    def weigh(taken) -> tuple[int, int]:
        chosen = [costs[row][at] for row, at in enumerate(taken) if at is not None]
        assert None not in chosen
        return -len(chosen), sum(chosen)

    width = len(costs[0]) if costs else 0
    columns = [*range(width), *[None] * len(costs)]
    every = [
        [at if at is not None and costs[row][at] is not None else None for row, at in enumerate(chosen)]
        for chosen in set(permutations(columns, len(costs)))
    ]
    taken = assign(costs)
    used = [at for at in taken if at is not None]
    assert len(used) == len(set(used))
    assert weigh(taken) == min(map(weigh, every))


def test_many_findings_that_all_fit_many_defects_are_each_scored() -> None:
    expected = tuple(DEFECT._replace(places=(Where(PATH, Lines(at, at)),)) for at in range(1, 31))
    found = [finding(f"race {at}", at) for at in range(1, 301)]
    scored = score(expecting(*expected), trial(*found))
    assert [each.by.line for each in scored.detections if each.by] == list(range(1, 31))
    assert len(scored.having("duplicate")) == 270
