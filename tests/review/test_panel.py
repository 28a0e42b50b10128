"""Several reviewers, one list: which messages are one defect, and what becomes of their findings."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from aethr.base.records import SEVERITIES, Check, Finding, Opinion, Quote
from aethr.review.panel import alike, merge, share_ids

SAME = [
    (
        "`parse_port` returns None for an empty string, and `connect()` then fails with a TypeError",
        "connect() raises TypeError because parse_port('') gives back None, which nobody checks",
    ),
    (
        "The lock is released before the counter is written, so two workers can get the same ticket number",
        "Race: the ticket counter is updated after releasing the lock, so workers may draw identical numbers",
    ),
    (
        "SQL injection: the table name from the request is concatenated into the query",
        "The query is built by concatenating the requested table name, which allows SQL injection",
    ),
    (
        "Unused import of `timedelta`",
        "`timedelta` is imported, but the import is unused",
    ),
    (
        "The temporary directory is never removed when `unpack` raises, so failed uploads fill the disk",
        "If unpack() throws, nothing deletes the temporary directory; failed uploads fill up the disk",
    ),
    (
        "retry_after is in seconds, but sleepMillis expects milliseconds, so retries are 1000 times too fast",
        "Unit mismatch: `sleepMillis` gets `retry_after` in seconds and retries almost immediately",
    ),
    (
        "Off by one: the loop stops at len(rows) - 1 and never exports the last row",
        "The last row is not exported, because the loop ends at `len(rows) - 1`",
    ),
    (
        "The session token is logged in clear text at INFO level",
        "Logging the session token in plain text exposes it to everyone who can read the logs",
    ),
    (
        "Typo: `recieve_batch` should be `receive_batch`",
        "Misspelled function name `recieve_batch` (receive_batch)",
    ),
    (
        "一時ディレクトリが例外時に削除されず、ディスクがいっぱいになる",
        "例外が発生すると一時ディレクトリが削除されないため、ディスクが満杯になる",
    ),
]  # fmt: skip
DIFFERENT = [
    (
        "`billing_address` may be None here and is dereferenced without a check",
        "`shipping_address` may be None here and is dereferenced without a check",
    ),
    (
        "The timeout was changed from 30 to 70 seconds, which nobody asked for",
        "The timeout was changed from 70 to 30 seconds, which nobody asked for",
    ),
    (
        "The response of upload_chunk with status 409 is treated as a success",
        "The response of upload_chunk with status 503 is treated as a success",
    ),
    (
        "The null check of the customer is redundant: load_customer always returns one, a guest if need be",
        "load_customer returns nothing for a guest, so a null check of the customer is missing here",
    ),
    (
        "`parse_port` returns None for an empty string, and `connect()` then fails with a TypeError",
        "`parse_port` accepts 70000, although a port has 16 bits",
    ),
    (
        "The lock is released before the counter is written, so two workers can get the same ticket number",
        "The lock is held while the ticket is sent by mail, so that all workers wait for the mail server",
    ),
    ("Missing test", "Missing documentation"),
    ("Wrong name", "Wrong type"),
    (
        "The session token is logged in clear text at INFO level",
        "The session token does not expire, so a stolen one can be used forever",
    ),
    (
        "会话令牌以明文写入日志",
        "会话令牌不会过期，被盗后可以一直使用",
    ),
]  # fmt: skip
"""Pairs that could be about the same lines. ``benchmarks/same_defect.py`` gives the rates on real ones."""
POOL = [message for pair in SAME + DIFFERENT for message in pair]
LOST, UNEXPORTED = SAME[6]
LEAK = "The session token is logged in clear text at INFO level"


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_defect_in_two_wordings_is_alike(one: str, other: str) -> None:
    assert alike(one, other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_defects_of_one_place_are_not_alike(one: str, other: str) -> None:
    assert not alike(one, other)


def test_likeness_has_no_direction_and_a_message_is_like_itself() -> None:
    for one, other in itertools.combinations(POOL, 2):
        assert alike(one, other) is alike(other, one)
    for message in (*POOL, "", "?!", "1"):
        assert alike(message, message)
        assert alike(message, f"  {message}\n")
    assert not alike("?!", "!?")


def test_a_line_number_in_a_message_is_not_what_it_is_about() -> None:
    message = "The last row is not exported, because the loop ends too early"
    assert alike(f"{message} (line 41)", f"Around line 40: {message}")
    assert not alike(f"{message} (41 of 42)", f"{message} (40 of 41)")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("validation logging settings", "validates logs setting"),
        ("missing authorization, exceptions thrown", "raises exception, lacks permission"),
        ("zeroIfNull parseHTTPHeader", "zero if null; parse HTTP header"),
        ("当user_name为空时parse_port抛出异常", "parse_port在user_name为空时会抛出异常"),
    ],
)
def test_forms_of_a_word_are_one_word(one: str, other: str) -> None:
    assert alike(one, other)


WORDS = [f"{first}{second}zk" for first in "bcdfghjklmnp" for second in "aeiou"]


def test_the_beginning_of_a_long_message_counts() -> None:
    message = SAME[1][0]
    assert alike(message, f"{message}. {' '.join(WORDS)}")
    assert not alike(message, f"{' '.join(WORDS)} {message}")


def test_long_messages_share_words_by_chance() -> None:
    """Four of nine words in common are more than fifteen of thirty-five."""
    assert alike(" ".join(WORDS[:9]), " ".join(WORDS[5:14]))
    assert not alike(" ".join(WORDS[:35]), " ".join(WORDS[20:55]))


def test_a_name_in_code_counts_for_more_than_a_word() -> None:
    assert alike("`retry_at` is naive", "The local clock is compared with `retry_at`")
    assert not alike("The retry is naive", "The local clock is compared with the retry")


def test_messages_of_any_length_are_compared_quickly() -> None:
    begin = time.process_time()
    for text in (
        "a" * 10**6,
        "aB" * 10**5,
        "line 1 " * 10**5,
        "lines 1" + ", 2" * 10**5,
        "1." * 10**5,
        "é " * 10**5,
    ):
        alike(text, text + " too")
    assert time.process_time() - begin < 2


# --- merged findings ---------------------------------------------------------------------------


def found(message: str, line: int | None = 7, *more: object, by: str = "review", **fields: object) -> Finding:
    return Finding("medium", "app.py", line, message, by=(by,))._replace(**fields)  # type: ignore[arg-type]


def test_the_findings_of_two_reviewers_are_one_with_all_names_and_words() -> None:
    one = found(LOST, severity="low", place="change")
    other = found(UNEXPORTED, by="audit", severity="high", place="tree")
    third = found(UNEXPORTED, by="second", severity="low")
    merged = Finding(
        "high",
        "app.py",
        7,
        UNEXPORTED,
        "change",
        by=("review", "audit", "second"),
        also=(Opinion(("review",), "low", LOST), Opinion(("second",), "low", UNEXPORTED)),
    )
    assert merge([[one], [other], [third]], ["review", "audit", "second"]) == (merged,)
    assert merge([[one], [other], [third]]) == (merged._replace(by=("audit", "review", "second")),)


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ((7, None), (7, None), 1),
        ((7, None), (8, None), 2),
        ((7, 9), (9, 12), 1),
        ((7, 9), (8, None), 1),
        ((7, 9), (10, 12), 2),
        ((1, 100), (50, None), 1),
        ((7, None), (None, None), 2),
        ((None, None), (None, None), 2),
    ],
)
def test_lines_have_to_overlap(
    one: tuple[int | None, int | None], other: tuple[int | None, int | None], count: int
) -> None:
    """Where a line is missing, messages that are alike are not enough."""
    findings = [found(LOST, one[0], end_line=one[1]), found(UNEXPORTED, other[0], end_line=other[1])]
    assert len(merge([findings[:1], findings[1:]])) == count


def test_nearly_the_same_words_are_enough_without_a_line() -> None:
    one = found("The new option is not in the reference and not in the change log of this project", None)
    other = one._replace(
        message="This new option is not in the change log of the project, nor in its reference"
    )
    for line in (None, 7):
        assert merge([[one], [other._replace(line=line)]])[0][2] == line
        assert len(merge([[one], [other._replace(line=line)]])) == 1
    assert len(merge([[one], [other._replace(path="b.py")]])) == 2
    assert len(merge([[one._replace(path=None)], [other._replace(path=None)]])) == 1
    assert len(merge([[one._replace(path=None)], [other]])) == 2


def test_other_files_and_other_defects_stay_apart() -> None:
    assert len(merge([[found(LOST)], [found(LOST, path="lib/app.py")]])) == 2
    assert len(merge([[found(LOST)], [found(LEAK)]])) == 2


def test_one_answer_means_two_defects_unless_it_says_the_same_twice() -> None:
    assert len(merge([[found(LOST), found(UNEXPORTED)]])) == 2
    assert len(merge([[found(LOST), found(LOST)]])) == 1
    assert merge([[found(LOST), found(f" {LOST}\n", severity="high")]])[0].severity == "high"
    both = merge([[found(LOST), found(UNEXPORTED)], [found(LOST, by="audit")]])
    assert sorted((each.message, each.by) for each in both) == [
        (LOST, ("audit", "review")),
        (UNEXPORTED, ("review",)),
    ]


def test_of_two_that_are_as_like_the_one_with_the_same_lines_is_joined() -> None:
    once, twice = found(LOST, 1), found(LOST, 1, end_line=3)
    (_, merged) = merge([[once, twice], [found(UNEXPORTED, 1, by="audit", end_line=3)]])
    assert (merged.end_line, merged.by) == (3, ("audit", "review"))


def test_two_parts_of_a_step_are_two_answers() -> None:
    (merged,) = merge([[found(LOST)], [found(UNEXPORTED)]])
    assert merged.by == ("review",)
    assert {merged.message, *(each.message for each in merged.also)} == {LOST, UNEXPORTED}


def test_a_chain_is_cut_where_it_is_weakest() -> None:
    """The second is like the first and the third, which are about two defects: it joins the closer one."""
    first = "The cursor of fetch_orders is not closed after an error, and the connection stays open"
    second = (
        "After an error the connection of fetch_orders stays open, and the order cache keeps its old rows"
    )
    third = "The order cache keeps old rows after a write, so customers see cancelled orders"
    assert (alike(first, second), alike(second, third), alike(first, third)) == (True, True, False)
    one, two, three = (found(text, by=f"step{n}") for n, text in enumerate((first, second, third)))
    merged = {merge(list(order)) for order in itertools.permutations([[one], [two], [three]])}
    assert len(merged) == 1
    assert sorted(each.by for each in merged.pop()) == [("step0", "step1"), ("step2",)]


def test_a_suggestion_keeps_the_lines_that_it_replaces() -> None:
    severe = found(LOST, 5, by="audit", severity="high", end_line=9, evidence="for row in rows:")
    fixed = found(
        UNEXPORTED, 7, severity="low", evidence="    n = len(rows) - 1", suggestion="    n = len(rows)"
    )
    (merged,) = merge([[severe], [fixed]])
    assert (merged.severity, merged.message) == ("high", LOST)
    assert (merged.line, merged.end_line, merged.evidence, merged.suggestion) == (7, None, *fixed[9:11])
    (merged,) = merge([[severe], [fixed._replace(suggestion=None)]])
    assert (merged.line, merged.end_line, merged.evidence) == (5, 9, severe.evidence)
    (merged,) = merge([[severe._replace(evidence=None)], [fixed._replace(suggestion=None)]])
    assert (merged.line, merged.end_line, merged.evidence) == (5, 9, fixed.evidence)


def test_the_most_severe_comes_first_then_the_order_of_the_files() -> None:
    findings = [
        found(LEAK, 9, path="b.py"),
        found(LEAK, 3, path="b.py", severity="low"),
        found(LEAK, 3, path="a.py"),
        found(LEAK, 30, path="b.py", severity="high"),
        found(LEAK, None, path=None),
    ]
    assert [(each.severity, each.path, each.line) for each in merge([findings])] == [
        ("high", "b.py", 30),
        ("medium", None, None),
        ("medium", "a.py", 3),
        ("medium", "b.py", 9),
        ("low", "b.py", 3),
    ]


def draw(chance: random.Random, step: str) -> Finding:
    """A finding that meets many others: there are few places, messages and steps."""
    line = chance.choice([None, 1, 2, 3])
    return Finding(
        chance.choice(SEVERITIES),
        chance.choice(["a.py", "a.py", "b.py", None]),
        line,
        chance.choice(POOL[:8]),
        chance.choice(["change", "tree", None]),
        chance.choice([None, 3, 4]) if line else None,
        (step,),
        evidence=chance.choice([None, "x = 1", "y = 2"]),
        suggestion=chance.choice([None, "x = 2"]) if line else None,
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_answers_and_of_findings_does_not_matter(seed: int) -> None:
    chance = random.Random(seed)
    steps = [chance.choice(["review", "audit", "second"]) for _ in range(chance.randrange(1, 6))]
    answers = [[draw(chance, step) for _ in range(chance.randrange(8))] for step in steps]
    merged = merge(answers)
    for _ in range(3):
        for each in (answers, *answers):
            chance.shuffle(each)
        assert merge(answers) == merged
    assert merge([merged]) == merged

    for each in itertools.chain(*answers):
        kept = [found for found in merged if _has(found, each)]
        assert any(SEVERITIES.index(found.severity) <= SEVERITIES.index(each.severity) for found in kept)
    assert all(any(_has(found, each) for each in itertools.chain(*answers)) for found in merged)


def _has(found: Finding, each: Finding) -> bool:
    """Whether a merged finding holds this one: its path, its reviewer, and what that reviewer wrote."""
    opinions = (Opinion(found.by, found.severity, found.message), *found.also)
    return found.path == each.path and any(
        " ".join(each.message.split()) == " ".join(opinion.message.split())
        and set(each.by) <= set(opinion.by)
        for opinion in opinions
    )


def test_many_findings_are_merged_quickly() -> None:
    chance = random.Random(0)
    words = " ".join(POOL).split()
    answers = [
        [found(" ".join(chance.sample(words, 20)), chance.randrange(1, 5), by=f"step{n}") for _ in range(100)]
        for n in range(4)
    ]
    begin = time.process_time()
    merge(answers)
    assert time.process_time() - begin < 5


# --- what verifying steps have said about them -----------------------------------------------------


def checked(finding: Finding, *, dropped: bool, reason: str = "it is refused above") -> Finding:
    quote = Quote("if not rows: raise ValueError", "git_diff", "app.py", 3, 3)
    return finding._replace(check=Check("verify", reason, quote, dropped))


def test_a_merged_finding_is_dropped_only_if_every_one_is() -> None:
    one, other = found(LOST), found(UNEXPORTED, by="audit")
    [both] = merge([[checked(one, dropped=True)], [checked(other, dropped=True)]])
    assert not both.is_open
    for half in (
        [[checked(one, dropped=True)], [other]],
        [[one], [checked(other, dropped=True)]],
        [[checked(one, dropped=False)], [other]],
        [[checked(one, dropped=False)], [checked(other, dropped=True)]],
    ):
        [merged] = merge(half)
        assert merged.is_open
        assert merged.check is not None
        assert not merged.check.dropped
        assert merged.by == ("audit", "review")
    assert merge([[one], [other]])[0].check is None


def test_what_was_dropped_gives_an_open_finding_neither_severity_nor_suggestion() -> None:
    high = found(LOST, severity="high", suggestion="rows", evidence="rows[:-1]", end_line=8, id="a" * 12)
    low = found(UNEXPORTED, by="audit", severity="low", id="b" * 12)
    [merged] = merge([[checked(high, dropped=True)], [low]])
    assert (merged.severity, merged.message, merged.suggestion) == ("low", UNEXPORTED, None)
    assert (merged.evidence, merged.end_line, merged.id) == (None, None, "b" * 12)
    assert merged.also == (Opinion(("review",), "high", LOST),)


def test_the_id_is_that_of_the_lines_that_are_shown() -> None:
    wide = found(LOST, severity="high", end_line=9, id="a" * 12)
    exact = found(UNEXPORTED, by="audit", suggestion="rows", id="b" * 12)
    [merged] = merge([[wide], [exact]])
    assert (merged.severity, merged.line, merged.end_line, merged.id) == ("high", 7, None, "b" * 12)


def test_a_merged_finding_has_the_ids_of_all_who_found_it_whoever_is_shown() -> None:
    """Over severities, suggestions, orders, and which of the reviewers find it."""
    seeded, ranges, shown = random.Random(18), {"a": (7, 9), "b": (6, 7), "c": (7, None)}, set()
    for _ in range(200):
        steps = seeded.sample(sorted(ranges), seeded.randrange(1, 4))
        answers = [
            [
                found(
                    seeded.choice([LOST, UNEXPORTED]),
                    ranges[by][0],
                    by=by,
                    end_line=ranges[by][1],
                    severity=seeded.choice(SEVERITIES),
                    suggestion=seeded.choice([None, "rows"]),
                    id=by * 12,
                )
            ]
            for by in steps
        ]
        [merged] = merge(answers)
        assert merged.every_id == tuple(by * 12 for by in sorted(steps))
        assert merged.id in merged.every_id
        assert merge([merge(answers[:1]), *answers[1:]]) == (merged,)
        assert [each.every_id for answer in share_ids(answers) for each in answer] == [merged.every_id] * len(
            steps
        )
        assert merge(share_ids(answers)) == (merged,)
        shown.add(merged.id)
    assert len(shown) == 3


def test_findings_that_stay_apart_share_no_id() -> None:
    apart = [[found(LOST, id="a" * 12)], [found(LEAK, by="audit", id="b" * 12)]]
    assert share_ids(apart) == apart
    assert [each.ids for each in merge(apart)] == [(), ()]


def test_merging_neither_opens_nor_closes_a_gate() -> None:
    """For every threshold, the merged list reaches it exactly if one of the findings alone does."""
    seeded = random.Random(18)
    for _ in range(300):
        answers = [
            [
                checked(each, dropped=seeded.random() < 0.6) if seeded.random() < 0.5 else each
                for each in (
                    found(
                        seeded.choice(POOL),
                        seeded.choice([7, 8, None]),
                        by=by,
                        severity=seeded.choice(SEVERITIES),
                    )
                    for _ in range(seeded.randrange(4))
                )
            ]
            for by in ("one", "two", "three")
        ]
        every = [each for answer in answers for each in answer]
        merged = merge(answers)
        for severity in SEVERITIES:
            level = SEVERITIES.index(severity)
            alone, together = (
                any(each.is_open and SEVERITIES.index(each.severity) <= level for each in findings)
                for findings in (every, merged)
            )
            assert alone == together
        said = {(by, each.message) for each in merged for by in each.by}
        said |= {(by, other.message) for each in merged for other in each.also for by in other.by}
        assert {(each.by[0], each.message) for each in every} <= said


@pytest.mark.slow
def test_thousands_of_findings_of_one_line_are_merged_quickly() -> None:
    seeded = random.Random(3)
    answers = [
        [found(f"{seeded.choice(POOL)} {' '.join(seeded.choices(WORDS, k=3))}", by=by) for _ in range(3_000)]
        for by in ("one", "two")
    ]
    begin = time.process_time()
    assert len(merge(answers)) > 3_000
    assert time.process_time() - begin < 12
