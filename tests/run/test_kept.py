"""The state as text, and findings compared with those of the review before."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from aethr.base import codec
from aethr.base.errors import ExitCode
from aethr.base.records import (
    Artifacts,
    Digest,
    Finding,
    KeptAnswer,
    Review,
    RunOutcome,
    RunResult,
    Scope,
    StepResult,
    Totals,
)
from aethr.engine import seal as seals
from aethr.output import wording
from aethr.review.identity import place_id
from aethr.run import kept
from aethr.run.kept import Folder, KeptState, Known, StateError, advance, make_seal, pack, unpack

PASS = "Review status: pass"
KEY = "sk-one-0123456789abcdef"
SEAL = make_seal([KEY], repository="octo/shop", pull_request="7", comment_key="default")
ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
LINES = ["def one():", "    return 1", "def two():", "    return 2"]


def answer(key: str, text: str = "Review status: pass", finds: bool = False) -> KeptAnswer:
    digest = Digest("git_diff", "0" * 64)
    return KeptAnswer(key, "review", 1, text, 0, "openai:x", "stop", "direct", ONE, finds, (digest,), ())


def finding(message: str, line: int, path: str = "a.py", severity: str = "high", **more: object) -> Finding:
    own = {"by": ("review",), "id": place_id(path, LINES, line), **more}
    return Finding(severity, path, line, message)._replace(**own)  # type: ignore[arg-type]


def result(*found: Finding, outcome: RunOutcome = "revise", content: str = "x") -> RunResult:
    step = StepResult("review", "reviewer", "model", "openai:x", 1, "0" * 64, content, answer_key="k")
    return RunResult(
        "task", "w", "live", Scope(), (step,), (), Review("revise", found), Totals(), ExitCode.OK,
        outcome=outcome,
    )  # fmt: skip


def states(of: RunResult) -> dict[str, str | None]:
    return {each.message: each.state for each in of.review.findings}


def there(_path: str) -> bool:
    return True


# --- the text -------------------------------------------------------------------------------------


def test_a_state_comes_back_as_it_was() -> None:
    state = KeptState(ONE, (answer("a", "ü\u2028 <!-- -->"),), (Known(finding("wrong", 2), ONE),))
    packed = pack(state, SEAL, 10_000)
    assert packed.answers == 1
    assert unpack(packed.text, SEAL) == state
    assert set(packed.text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


@pytest.mark.parametrize("name", ["repository", "pull_request", "comment_key"])
def test_a_state_belongs_to_one_comment(name: str) -> None:
    bound = {"repository": "octo/shop", "pull_request": "7", "comment_key": "default", name: "another"}
    text = pack(KeptState(ONE), make_seal([KEY], **bound), 10_000).text
    with pytest.raises(StateError, match=f"made for another {name.replace('_', ' ')}"):
        unpack(text, SEAL)


def test_a_state_of_another_contract_or_schema_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SEAL._replace(binding={**SEAL.binding, "contract": "0"})
    with pytest.raises(StateError, match="made for another contract"):
        unpack(pack(KeptState(ONE), other, 10_000).text, SEAL)
    with monkeypatch.context() as patch:
        patch.setattr(kept, "SCHEMA", 0)
        text = pack(KeptState(ONE), SEAL, 10_000).text
    with pytest.raises(StateError, match="its schema is 0, not 3"):
        unpack(text, SEAL)


def test_a_seal_of_a_record_does_not_fit_a_state() -> None:
    """A shard's record is sealed with the same key, and others may read it."""
    import base64
    import json
    import zlib

    record = {"schema": kept.SCHEMA, "state": codec.to_json(KeptState(ONE))}
    sealed = seals.seal_record(record, SEAL.keys, SEAL.binding)
    text = base64.b64encode(zlib.compress(json.dumps(sealed).encode())).decode()
    with pytest.raises(StateError, match="not sealed with a key of this run"):
        unpack(text, SEAL)


def test_any_changed_character_is_noticed() -> None:
    text = pack(KeptState(ONE, (answer("a"),)), SEAL, 10_000).text
    chance = random.Random(1)
    for _ in range(300):
        at = chance.randrange(len(text))
        new = chance.choice("ABCxyz019+/= \n<é")
        edited = chance.choice([text[:at] + new + text[at + 1 :], text[:at], text[:at] + text[at + 1 :]])
        if edited != text:
            with pytest.raises(StateError):
                unpack(edited, SEAL)


def test_a_text_that_grows_without_end_is_refused() -> None:
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(b" " * (kept.MAX_BYTES + 1))).decode()
    with pytest.raises(StateError, match="too large"):
        unpack(bomb, SEAL)


def test_short_keys_seal_nothing() -> None:
    assert make_seal(["EMPTY", "sk-no-key-required"]).keys == ()


def noise(length: int, seed: int) -> str:
    """A text that cannot be compressed to much less than two thirds."""
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


def test_the_last_answers_are_dropped_first() -> None:
    answers = tuple(answer(str(at), noise(1000 * at, at)) for at in (3, 1, 2))
    for room, keys in ((20_000, "3 1 2"), (5_000, "3 1"), (3_500, "3"), (800, "")):
        packed = pack(KeptState(ONE, answers), SEAL, room)
        assert len(packed.text) <= room
        assert [each.key for each in unpack(packed.text, SEAL).answers] == keys.split(), room
    assert pack(KeptState(ONE, answers), SEAL, 100) == ("", 0)


def test_answers_with_findings_come_first_and_then_the_shortest() -> None:
    said = {
        "long": PASS + "x" * 300,
        "short": PASS,
        "found": f"- [low] a.py:2 — odd\n\n{'x' * 900}\n\n{PASS}",
    }
    step = result().steps[0]
    steps = tuple(step._replace(answer_key=key, content=text) for key, text in said.items())
    _, state = advance(KeptState(), result()._replace(steps=steps), ONE, there)
    assert [each.key for each in state.answers] == ["found", "short", "long"]


@pytest.mark.parametrize(
    "partial",
    [{"truncated": True}, {"cut_prompt": "4096 tokens"}, {"content": ""}, {"artifacts": Artifacts()},
     {"over_limit": "wrote 900 tokens"}, {"answer_key": ""}, {"skipped": "nothing changed"}],
)  # fmt: skip
def test_only_whole_answers_of_models_are_kept(partial: dict[str, object]) -> None:
    step = result().steps[0]
    own = result()._replace(steps=(step, step._replace(**{"answer_key": "other", **partial})))  # type: ignore[arg-type]
    assert [each.key for each in advance(KeptState(), own, ONE, there)[1].answers] == ["k"]


# --- findings and the review before ---------------------------------------------------------------


def test_findings_are_new_still_there_and_resolved() -> None:
    first, state = advance(
        KeptState(), result(finding("a is wrong", 2), finding("b is wrong", 4)), ONE, there
    )
    assert states(first) == {"a is wrong": None, "b is wrong": None}
    second, state = advance(state, result(finding("a is worse", 2, severity="low")), TWO, there)
    assert states(second) == {"a is worse": "open"}
    assert [(each.finding.message, each.commit) for each in second.review.resolved] == [("b is wrong", TWO)]
    assert wording.counts(second.review) == ("1 low finding (1 still there)",)
    third, state = advance(state, result(finding("a is worse", 2), finding("b is wrong", 4)), THREE, there)
    assert states(third) == {"a is worse": "open", "b is wrong": "new"}, "it came back"
    assert third.review.resolved == ()


def test_the_same_commit_says_the_same_again() -> None:
    _, before = advance(KeptState(), result(finding("b is wrong", 4)), ONE, there)
    first, state = advance(before, result(finding("a is wrong", 2)), TWO, there)
    again, _ = advance(state, result(finding("a is wrong", 2)), TWO, there)
    assert again.review == first.review
    assert [each.commit for each in again.review.resolved] == [TWO]


@pytest.mark.parametrize("outcome", ["incomplete", "not-reviewed"])
def test_a_review_that_is_not_reliable_resolves_nothing(outcome: RunOutcome) -> None:
    _, state = advance(KeptState(), result(finding("a is wrong", 2), finding("b is wrong", 4)), ONE, there)
    second, state = advance(state, result(finding("a is wrong", 2), outcome=outcome), TWO, there)
    assert second.review.resolved == ()
    third, _ = advance(state, result(finding("b is wrong", 4)), THREE, there)
    assert states(third) == {"b is wrong": "open"}
    assert [each.finding.message for each in third.review.resolved] == ["a is wrong"]


def test_a_step_that_no_longer_reviews_resolves_nothing() -> None:
    _, state = advance(KeptState(), result(finding("a is wrong", 2, by=("security",))), ONE, there)
    second, _ = advance(state, result(), TWO, there)
    assert second.review.resolved == ()


def test_a_renamed_file_keeps_its_findings_and_a_copy_does_not() -> None:
    _, state = advance(KeptState(), result(finding("a is wrong", 2)), ONE, there)
    moved = result(finding("a is wrong", 2, path="b.py"))
    assert states(advance(state, moved, TWO, "b.py".__eq__)[0]) == {"a is wrong": "open"}
    copied, _ = advance(state, moved, TWO, there)
    assert states(copied) == {"a is wrong": "new"}
    assert len(copied.review.resolved) == 1


def test_two_findings_at_one_place_are_told_apart_by_what_they_say() -> None:
    overflow, leak = "the sum overflows for large prices", "the file handle is never closed"
    _, state = advance(KeptState(), result(finding(overflow, 2), finding(leak, 2)), ONE, there)
    second, _ = advance(state, result(finding(leak, 2)), TWO, there)
    assert states(second) == {leak: "open"}
    assert [each.finding.message for each in second.review.resolved] == [overflow]


def test_a_finding_of_a_panel_is_still_there_whichever_reviewers_see_it() -> None:
    """Over which of four reviewers see it, and whose lines are shown: one is enough, push after push."""
    seeded = random.Random(18)
    ids = {name: name * 12 for name in "abcd"}
    for _ in range(40):
        seen = seeded.sample(sorted(ids), seeded.randrange(1, 5))
        state, known, firsts = None, set(seen), set()
        for number, commit in enumerate((ONE, TWO, THREE)):
            own = [ids[name] for name in sorted(seen)]
            shown = finding("wrong sum of all prices", 2, id=seeded.choice(own))
            shown = shown._replace(ids=tuple(own) if len(own) > 1 else ())
            after, state = advance(state, result(shown), commit, there)
            [told] = after.review.findings
            assert (told.state, after.review.resolved) == ("open" if number else None, ())
            assert (told.id, state.findings[0].since) == (shown.id, ONE)
            assert set(told.every_id) == {ids[name] for name in known}
            firsts.add(told.every_id[0])
            assert len(firsts) == 1
            seen = [seeded.choice(sorted(known)), *seeded.sample(sorted(ids), seeded.randrange(3))]
            seen = sorted(set(seen))
            known |= set(seen)
    gone, _ = advance(state, result(finding("wrong sum of all prices", 2, id="e" * 12)), "4" * 40, there)
    assert [each.state for each in gone.review.findings] == ["new"]
    assert [each.finding.every_id for each in gone.review.resolved] == [told.every_id]


def test_a_finding_of_a_panel_that_was_resolved_is_new_again_by_any_of_its_ids() -> None:
    merged = finding("wrong", 2, id="a" * 12)._replace(ids=("a" * 12, "b" * 12))
    _, state = advance(None, result(merged), ONE, there)
    _, state = advance(state, result(outcome="pass"), TWO, there)
    assert len(state.resolved) == 1
    again, state = advance(state, result(finding("wrong", 2, id="b" * 12)), THREE, there)
    assert (states(again), state.resolved) == ({"wrong": "new"}, ())


def test_the_ids_of_a_finding_are_bounded_and_the_first_one_stays() -> None:
    state = None
    for number in range(2 * kept.MOST_IDS):
        own = finding("wrong", 2, id=f"{number:012x}", ids=(f"{number:012x}", f"{number + 1:012x}"))
        after, state = advance(state, result(own), f"{number:040x}", there)
    [told] = after.review.findings
    assert told.every_id == (
        f"{0:012x}",
        *(f"{n:012x}" for n in range(kept.MOST_IDS + 1, 2 * kept.MOST_IDS + 1)),
    )


def test_an_answered_finding_stays_answered_and_a_resolved_one_gates_nothing() -> None:
    _, state = advance(KeptState(), result(finding("a is wrong", 2)), ONE, there)
    answered = finding("a is wrong", 2, state="answered")
    second, _ = advance(state, result(answered), TWO, there)
    assert states(second) == {"a is wrong": "answered"}
    assert second.review.resolved == ()
    assert not finding("b", 4, state="resolved").is_open


# --- a folder -------------------------------------------------------------------------------------


def test_two_runs_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "new" / "x.answers", SEAL)
    step = result().steps[0]
    read: list[KeptState] = []

    def work(number: int) -> None:
        for at in range(10):
            folder.add([step._replace(answer_key=f"{number}-{at}", content="y" * 500)], ONE)
            read.append(folder.read())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 40
    assert all(each.answers for each in read)
    assert [each.name for each in folder.file.parent.iterdir()] == ["x.answers"]


def test_a_folder_is_bounded_and_keeps_the_latest(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "x.answers", SEAL)
    step = result().steps[0]
    for at in range(5):
        folder.add([step._replace(answer_key=str(at), content=noise(400_000, at))], ONE)
    assert folder.file.stat().st_size <= kept.FOLDER_BYTES
    assert "4" in {each.key for each in folder.read().answers}
