"""The ids of findings through whole runs: from the files under review, at the time of the call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aethr.review.identity import is_same_code, place_id, removed_id
from tests.agents.test_failed_attempts import Desk, desk
from tests.live import TASK, Aethr, aethr, project, resume_words, serving, temp
from tests.model_server import error
from tests.support import Repo

__all__ = ("aethr", "desk", "project", "temp")

SHOP = """\
import os

def pay(order):
    total = order.total
    return charge(total)

def refund(order):
    total = order.total
    return charge(-total)
"""
WORKFLOW = """\
workflow: one
roles: {reviewer: "Review."}
models: {reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""


@pytest.fixture
def shop(project: Repo) -> Repo:
    """A repository whose only change edits the last line of ``shop.py``."""
    project.write(".aethr.yaml", WORKFLOW)
    project.write("shop.py", SHOP)
    project.commit("a shop")
    project.write("shop.py", SHOP.replace("-total", "-2 * total"))
    return project


def review(aethr: Aethr, patch: pytest.MonkeyPatch, answer: str, *words: str) -> list[dict[str, Any]]:
    with serving(patch, f"{answer}\n\nReview status: revise"):
        done = aethr("run", "--json", *words, TASK)
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = done.record["review"]["findings"]
    return found


def id_of(aethr: Aethr, patch: pytest.MonkeyPatch, answer: str, *words: str) -> str:
    [found] = review(aethr, patch, answer, *words)
    return str(found["id"])


NEW = SHOP.replace("-total", "-2 * total").split("\n")
LAST = "- [high] shop.py:9 — it refunds twice the total"


def test_another_wording_and_severity_keep_the_id(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = place_id("shop.py", NEW, 9)
    for answer in (LAST, "- [low] shop.py:9 — why times two?", "**High** `shop.py` line 9: wrong factor"):
        assert id_of(aethr, monkeypatch, answer) == expected


def test_edits_elsewhere_a_new_indentation_and_a_rename_keep_the_id(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = id_of(aethr, monkeypatch, LAST)
    moved = f"# a comment\n{(shop.root / 'shop.py').read_text()}"
    shop.write("shop.py", moved)
    assert id_of(aethr, monkeypatch, LAST.replace(":9", ":10")) == expected
    nested = moved.replace("\n    ", "\n      ")
    shop.write("shop.py", nested)
    assert id_of(aethr, monkeypatch, LAST.replace(":9", ":10")) == expected
    (shop.root / "shop.py").unlink()
    shop.write("src/till.py", moved)
    shop.git("add", "-A")
    assert (
        id_of(aethr, monkeypatch, LAST.replace("shop.py:9", "src/till.py:10"), "--diff", "head") == expected
    )


def test_a_rename_in_an_earlier_change_keeps_the_id_of_the_code(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = id_of(aethr, monkeypatch, LAST)
    shop.git("stash", "-q")
    shop.git("mv", "shop.py", "till.py")
    shop.commit("rename")
    shop.write("till.py", SHOP.replace("-total", "-2 * total"))
    after = id_of(aethr, monkeypatch, LAST.replace("shop", "till"))
    assert after != before
    assert is_same_code(after, before)


def test_the_side_that_is_reviewed_is_read(aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index or a commit, although the file on disk has other lines there."""
    expected = place_id("shop.py", NEW, 9)
    shop.git("add", "-A")
    shop.write("shop.py", "other\n" * 20)
    assert id_of(aethr, monkeypatch, LAST, "--diff", "staged") == expected
    assert id_of(aethr, monkeypatch, LAST, "--diff", "head") == place_id("shop.py", ["other"] * 20, 9)
    shop.git("commit", "-q", "-m", "factor")
    assert id_of(aethr, monkeypatch, LAST, "--diff", "HEAD~1..HEAD") == expected


def test_removed_lines_are_known_by_their_text(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    quoted = "- [high] shop.py:{} — the sign was right\n\n      return charge(-total)\n"
    expected = removed_id("shop.py", "return charge(-total)")
    assert id_of(aethr, monkeypatch, quoted.format(9)) == expected
    assert id_of(aethr, monkeypatch, quoted.format(4)) == expected
    assert id_of(aethr, monkeypatch, quoted.format(9).replace("-total", "-2 * total")) != expected


def test_a_removed_line_that_the_file_still_has_elsewhere_is_known_by_its_line(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = "def run():\n    do_step()\n    wait()\n    do_step()\n"
    shop.write("run.py", twice)
    shop.commit("run")
    once = twice.removesuffix("    do_step()\n")
    shop.write("run.py", once)
    answer = "- [high] run.py:2 — once is not enough\n\n      do_step()\n"
    assert id_of(aethr, monkeypatch, answer) == place_id("run.py", once.split("\n"), 2)


def test_findings_without_a_line_share_the_id_of_their_file(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = review(
        aethr,
        monkeypatch,
        "- [high] shop.py — no tests\n- [low] shop.py:99 — beyond its end\n"
        "- [low] gone/there.py:3 — not a file\n- [low] nothing says why",
    )
    ids = {each["message"]: each["id"] for each in found}
    assert ids == {
        "no tests": place_id("shop.py"),
        "beyond its end": place_id("shop.py"),
        "not a file": place_id("gone/there.py"),
        "nothing says why": place_id(""),
    }


def test_repeated_lines_and_two_defects_on_one_line(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = review(
        aethr,
        monkeypatch,
        "- [high] shop.py:4 — of the payment\n- [high] shop.py:8 — of the refund\n"
        "- [low] shop.py:8 — a bad name",
    )
    ids = {each["message"]: each["id"] for each in found}
    assert ids["of the payment"] != ids["of the refund"] == ids["a bad name"]


def test_a_project_in_a_folder_has_ids_from_the_top(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a change paths are from the repository's top, elsewhere they may be from the project's folder."""
    shop.write("web/.aethr.yaml", WORKFLOW)
    shop.write("web/shop.py", "def other():\n    pass\n")
    shop.write("web/tree.py", SHOP)
    shop.git("add", "web")
    shop.git("commit", "-q", "-m", "web")
    monkeypatch.chdir(shop.root / "web")
    found = review(
        aethr, monkeypatch, f"{LAST}\n- [low] tree.py:9 — its caller\n- [low] README.md:1 — out of date"
    )
    assert {each["path"]: each["id"] for each in found} == {
        "shop.py": place_id("shop.py", NEW, 9),
        "tree.py": place_id("web/tree.py", SHOP.split("\n"), 9),
        "README.md": place_id("README.md", ["# A shop"], 1),
    }


def test_files_that_may_not_be_read_have_the_id_of_the_whole(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(".env", "TOKEN=a\nKEY=b\n")
    (shop.root / "link.py").symlink_to("shop.py")
    shop.write("data.bin", b"a\0b\nc\n")
    shop.write("long.py", "a = 1\n" * 400_000)
    found = review(
        aethr,
        monkeypatch,
        "- [low] .env:1 — a\n- [low] .env:2 — b\n- [low] link.py:4 — c\n- [low] data.bin:2 — d\n"
        "- [low] ../shop.py:4 — e\n- [low] /etc/passwd:1 — f\n- [low] long.py:2 — g",
    )
    assert {each["message"]: each["id"] for each in found} == {
        "a": place_id(".env"),
        "b": place_id(".env"),
        "c": place_id("link.py"),
        "d": place_id("data.bin"),
        "e": place_id("../shop.py"),
        "f": place_id("/etc/passwd"),
        "g": place_id("long.py"),
    }


def test_a_resumed_run_keeps_the_ids_and_an_older_checkpoint_has_none(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(
        ".aethr.yaml",
        WORKFLOW.replace('"Review."}', '"Review.", writer: "Sum up."}').replace(
            'mini"}', 'mini", writer: "openai:gpt-4o-mini"}'
        )
        + "  - {id: sum, role: writer}\n",
    )
    with serving(monkeypatch, f"{LAST}\n\nReview status: revise", error(400)):
        failed = aethr("run", "--diff", "HEAD", TASK)
    words = resume_words(failed.err)
    [file] = [Path(word[1:]) for word in words if word.startswith("@")]
    older = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for line in older:
        line.get("step", {}).pop("places", None)
    with serving(monkeypatch, "In short."):
        done = aethr(*words, "--json")
    assert [each["id"] for each in done.record["review"]["findings"]] == [place_id("shop.py", NEW, 9)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in older), encoding="utf-8")
    with serving(monkeypatch, "In short."):
        done = aethr(*words, "--json")
    assert [each["id"] for each in done.record["review"]["findings"]] == [None]


def test_what_an_agent_edited_is_read_from_the_disk(desk: Desk) -> None:
    """Whatever the scope: the index has other lines, and those count for every other file."""
    desk.repo.write("app.py", "staged = 1\nstaged = 2\n")
    desk.repo.write("one.py", "staged = 1\nstaged = 2\n")
    desk.repo.git("add", "app.py", "one.py")
    desk.repo.write("app.py", "changed = 1\nchanged = 2\n")
    desk.agent("printf 'def one():\\n    return 1\\n' >one.py")
    answer = "- [high] one.py:2 — why one?\n- [low] app.py:2 — its caller\n\nReview status: revise"
    done = desk.run("run", "--json", "--diff", "staged", "do it", answers=(answer,))
    assert {each["path"]: each["id"] for each in done.record["review"]["findings"]} == {
        "one.py": place_id("one.py", ["def one():", "    return 1"], 2),
        "app.py": place_id("app.py", ["staged = 1", "staged = 2"], 2),
    }


def test_a_deleted_file_is_known_by_its_name_and_by_the_lines_that_are_quoted(
    aethr: Aethr, shop: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.git("checkout", "-q", "shop.py")
    (shop.root / "shop.py").unlink()
    found = review(
        aethr,
        monkeypatch,
        "- [high] shop.py:4 — still used\n- [high] shop.py — who refunds now?\n\n"
        "      def refund(order):\n          total = order.total\n",
    )
    assert {each["message"]: each["id"] for each in found} == {
        "still used": place_id("shop.py"),
        "who refunds now?": removed_id("shop.py", "def refund(order):\ntotal = order.total"),
    }
