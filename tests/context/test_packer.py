"""The packer: what is dropped over budget, and that every changed line is accounted for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from aethr.base.records import (
    Block,
    Entry,
    Fragment,
    Piece,
    Remark,
    Withhold,
)
from aethr.context.exclusion import is_generated
from aethr.context.packer import Packer
from tests.support import many


def pack(parts: list[Fragment], budget: int) -> Block:
    packer = Packer(budget)
    packer.take(0, parts)
    return packer.block(0, "git_diff")


def hunk(letter: str, lines: int) -> Piece:
    text = f"+{letter}\n" * lines
    return Piece(text, len(text), changed=lines)


def test_what_fits_is_sent_unchanged() -> None:
    block = pack([Entry("a.py", 1, header="H\n"), hunk("a", 2), hunk("b", 1)], 100)
    assert block.text == "H\n+a\n+a\n+b\n"
    (receipt,) = block.receipts
    assert (receipt.bytes_sent, receipt.bytes_omitted, receipt.complete, receipt.note) == (11, 0, True, None)
    assert receipt.sha256 == hashlib.sha256(block.text.encode()).hexdigest()
    assert (receipt.changed_lines, receipt.sent_lines) == (3, 3)


def test_the_largest_hunk_goes_and_its_file_says_so() -> None:
    block = pack(
        [Entry("a.py", 1, header="H\n"), hunk("a", 9), hunk("b", 1), Entry("b.py", 2), hunk("c", 1)], 20
    )
    assert block.text == (
        "H\n+b\n[a.py: 1 of 2 hunks not sent, 9 changed lines, over the budget of 20 characters]\n+c\n"
    )
    first, second = block.receipts
    assert (first.complete, first.sent_lines, first.changed_lines, first.bytes_omitted) == (False, 1, 10, 27)
    assert second.complete


def test_a_file_without_a_kept_hunk_is_only_named() -> None:
    block = pack([Entry("z.py", 1, header="H\n"), hunk("a", 1_234)], 100)
    assert block.text == "[not sent: z.py, 1,234 changed lines, over the budget of 100 characters]\n"
    (receipt,) = block.receipts
    assert (receipt.bytes_sent, receipt.sha256, receipt.bytes_omitted) == (0, None, 2 + 3 * 1_234)


def test_generated_files_go_before_larger_ones() -> None:
    parts: list[Fragment] = [Entry("uv.lock", 1), hunk("l", 3), Entry("a.py", 2), hunk("a", 10)]
    block = pack(parts, 32)
    assert block.text.startswith("+a\n" * 10)
    assert "[not sent: uv.lock, 3 changed lines" in block.text


def test_a_hunk_over_the_whole_budget_displaces_no_other() -> None:
    parts: list[Fragment] = [Entry("a.py", 1), hunk("a", 500), Entry("go.sum", 2), hunk("s", 2)]
    assert pack(parts, 100).text.startswith("+s\n+s\n[not sent: a.py")


def test_a_header_alone_is_content() -> None:
    block = pack([Entry("run.sh", 1, header="old mode 100644\nnew mode 100755\n")], 100)
    assert block.text == "old mode 100644\nnew mode 100755\n"
    assert block.receipts[0].complete


def test_one_budget_holds_for_all_sources() -> None:
    packer = Packer(40)
    packer.take(0, [Entry("a.py", 1), hunk("a", 8)])
    packer.take(1, [Entry("b.md", 1), hunk("b", 10)])
    assert packer.block(0, "git_diff").text == "+a\n" * 8
    assert "[not sent: b.md" in packer.block(1, "file:b.md").text


def test_withheld_files_are_named_and_do_not_use_the_budget() -> None:
    parts: list[Fragment] = [Entry(".env", 1, withheld="a file that holds secrets"), hunk("k", 2)]
    parts += [
        Entry("latin.py", 2),
        hunk("x", 9),
        Withhold("not UTF-8 text"),
        Entry("ok.py", 3),
        hunk("o", 10),
    ]
    block = pack(parts, 30)
    assert block.text == (
        "+o\n" * 10 + "[not sent: .env, 2 changed lines, a file that holds secrets]\n"
        "[not sent: latin.py, 9 changed lines, not UTF-8 text]\n"
    )
    assert [receipt.complete for receipt in block.receipts] == [False, False, True]
    assert block.receipts[0].note == "a file that holds secrets"


def test_missing_files_are_listed_up_to_a_cap_receipts_not() -> None:
    parts: list[Fragment] = [part for n in range(60) for part in (Entry(f"f{n}.py", n), hunk("x", 10))]
    block = pack(parts, 5)
    assert block.text.count("[not sent: ") == 51
    assert block.text.endswith("[not sent: 10 more files, 100 changed lines]\n")
    assert len(block.receipts) == 60


def test_a_final_newline_is_added_only_before_more_content() -> None:
    assert pack([Entry("a", 1), Piece("x", 1)], 9).text == "x"
    assert pack([Entry("a", 1), Piece("x", 1), Remark("note")], 9).text == "x\n[note]\n"


def test_remarks_are_receipts_too_and_carry_an_empty_change() -> None:
    block = pack([Remark("no changes", change=False)], 9)
    assert (block.text, block.change) == ("[no changes]\n", False)
    assert (block.receipts[0].note, block.receipts[0].path, block.receipts[0].complete) == (
        "no changes",
        None,
        True,
    )


def test_revealed_characters_are_in_the_note() -> None:
    block = pack([Entry("a", 1), Piece("x", 1, revealed=2)], 9)
    assert block.receipts[0].note == "2 invisible characters shown by their code"


@dataclass(frozen=True)
class File:
    """A random file: its name, its header and the lengths of its hunks, some too large to hold."""

    name: str
    header: str
    hunks: tuple[int, ...]


FILES = st.lists(
    st.builds(
        File,
        st.sampled_from(["a.py", "b.py", "yarn.lock", "dist/x.js", "c.min.js"]),
        st.sampled_from(["", "HEAD\n", "A LONGER HEADER\n"]),
        st.lists(st.integers(1, 30), max_size=5).map(tuple),
    ),
    max_size=8,
)


def parts_of(files: list[File]) -> list[Fragment]:
    return [
        part
        for order, file in enumerate(files)
        for part in (Entry(file.name, order, header=file.header), *(hunk("x", n) for n in file.hunks))
    ]


def offline(files: list[File], budget: int) -> set[tuple[int, int]]:
    """The rule, with everything in memory: drop the worst until the rest fits."""
    pieces = {
        (order, number): (size * 3 if file.hunks else len(file.header), len(file.header) * bool(file.hunks))
        for order, file in enumerate(files)
        for number, size in enumerate(file.hunks or ((1,) if file.header else ()))
    }

    def worse(key: tuple[int, int]) -> tuple[bool, int, int, int]:
        return (is_generated(files[key[0]].name), pieces[key][0], *key)

    kept = sorted((key for key, (size, head) in pieces.items() if size + head <= budget), key=worse)
    while (
        sum(pieces[key][0] for key in kept) + sum({key[0]: pieces[key][1] for key in kept}.values()) > budget
    ):
        kept.pop()
    return set(kept)


@many(200)
@given(FILES, st.integers(0, 200))
def test_the_packer_keeps_what_the_sorted_rule_keeps(files: list[File], budget: int) -> None:
    block = pack(parts_of(files), budget)
    kept = offline(files, budget)
    for order, (file, receipt) in enumerate(zip(files, block_receipts(block, files), strict=True)):
        lines = sum(n for number, n in enumerate(file.hunks) if (order, number) in kept)
        assert receipt == (lines, sum(file.hunks))


def block_receipts(block: Block, files: list[File]) -> list[tuple[int, int]]:
    assert [receipt.path for receipt in block.receipts] == [file.name for file in files]
    return [(receipt.sent_lines, receipt.changed_lines) for receipt in block.receipts]


@many(200)
@given(FILES, st.integers(0, 200))
def test_nothing_is_lost_and_the_budget_holds(files: list[File], budget: int) -> None:
    block = pack(parts_of(files), budget)
    content = "".join(line for line in block.text.splitlines(True) if not line.startswith("["))
    assert len(content) <= budget
    for file, receipt in zip(files, block.receipts, strict=True):
        whole = len(file.header) + 3 * sum(file.hunks)
        assert receipt.bytes_sent + receipt.bytes_omitted == whole
        assert receipt.complete == (receipt.bytes_omitted == 0)
    assert content.count("+x\n") == sum(receipt.sent_lines for receipt in block.receipts)
