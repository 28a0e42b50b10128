"""Parts: each changed line of a change is in exactly one prompt, or its file is named as excluded or missing.

The prompts themselves are read, by a reader of diffs that is written here and knows nothing of Aethr's own,
and compared with what git says of the same change.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aethr.context.parts import Sized, cut
from tests.support import Repo, aethr, make_repo, tiered

SEEDS = tiered(range(60), fast=4, ci=16)

WORKFLOW = """\
workflow: large
roles: {{reviewer: "Review."}}
limits: {{context_chars: {room}, parts: {parts}}}
steps:
  - {{id: review, role: reviewer, context: [git_diff]}}
"""

FORMS = {
    "git_diff": [],
    "git_diff:0": ["-U0"],
    "git_diff:40": ["-U40"],
    "git_diff:function": ["--function-context"],
}
"""The forms of the source, each with git's own option."""

# --- a reader of diffs ---------------------------------------------------------------------------


@dataclass
class FileDiff:
    """One file of a diff: its header, and its hunks, each with the lines below its ``@@`` line.

    ``size`` counts its characters with the numbers in front of its lines.
    """

    header: str
    hunks: list[tuple[str, list[str]]] = field(default_factory=list)
    size: int = 0

    @property
    def changed(self) -> list[str]:
        return [line for _, lines in self.hunks for line in lines if line[0] in "+-"]


def read_diff(text: str, *, numbered: bool = False) -> tuple[dict[str, FileDiff], list[str]]:
    """The files of a diff by the first lines of their headers, and the notes between them.

    If it is ``numbered``, each line must have its right number.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    files: dict[str, FileDiff] = {}
    notes: list[str] = []
    at = 0
    current = FileDiff("")
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith(("diff --git ", "diff --cc ")):
            current = FileDiff(line)
            assert line not in files, "a file is in one part twice"
            files[line] = current
        elif line.startswith("["):
            notes.append(line)
        elif ranges := re.match(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", line):
            left = [int(ranges[2] or 1), int(ranges[4] or 1)]
            number, body = int(ranges[3]), []
            width = len(str(number + left[1] - 1)) if numbered and left[1] else -1
            while left != [0, 0] or (at < len(lines) and lines[at][width + 1 :].startswith("\\")):
                own = lines[at][width + 1 :]
                sign = own[0]
                assert sign in "+- \\", lines[at]
                in_front = "" if sign in "-\\" else f"{number}"
                assert lines[at] == own if width < 0 else lines[at] == f"{in_front:>{width}} {own}"
                left[0] -= sign in "- "
                left[1] -= sign in "+ "
                number += sign in "+ "
                assert min(left) >= 0, line
                body.append(own)
                current.size += len(lines[at])
                at += 1
            current.hunks.append((line, body))
            current.size += len(line)
        else:
            current.header += line
    for each in files.values():
        each.size += len(each.header)
    return files, notes


def blocks(prompt: str, title: str = "git_diff") -> str:
    """The text of the prompt's block with this title."""
    opened = re.search(rf"^<<<(\w+) {re.escape(title)}\n", prompt, re.MULTILINE)
    assert opened
    end = prompt.index(f"\n{opened[1]}>>>", opened.end() - 1)
    return prompt[opened.end() : end + 1]


# --- repositories --------------------------------------------------------------------------------

NAMES = (
    "src/app{}.py", "src/deep/er/lib{}.c", "tests/test_{}.py", "docs/page{}.md", "deps{}.lock", "a b {}.js",
    "é{}.rb", 'quote"{}.ts', "tab\t{}.sh", "data{}.json", "bs\\{}.pl", "-dash{}.go",
)  # fmt: skip
LINES = (
    "same\n", "x = {}\n", "", "-- minus {}\n", "++ plus {}\n", "@@ -1,3 +1,9 @@ {}\n", "crlf {}\r\n",
    "diff --git a/x{} b/x\n", "é – ü {}\n", "[not sent: {}]\n", "\n", "\\ No newline at end of file {}\n",
    "y" * 150 + "{}\n",
)  # fmt: skip


def content(rng: random.Random, most: int) -> str:
    text = "".join(rng.choice(LINES).format(rng.randrange(10**6)) for _ in range(rng.randrange(1, most)))
    return text.rstrip("\r\n") if rng.random() < 0.2 else text


def edit(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(lines) + 1)
        new = content(rng, 12).splitlines(keepends=True)
        if at < len(lines):
            new = [line if line.endswith("\n") else line + "\n" for line in new]
        lines[at : at + rng.randrange(4)] = new
    return "".join(lines)


def changed_repo(root: Path, seed: int) -> Repo:
    """A repository whose change has every kind of file, all of it text that git shows."""
    rng = random.Random(seed)
    repo = make_repo(root)
    names = [rng.choice(NAMES).format(n) for n in range(rng.randrange(4, 40))]
    for name in names:
        repo.write(name, content(rng, rng.choice([5, 60, 400])))
    repo.commit()
    for name in names:
        path = repo.root / name
        kind = rng.choice(["edit", "edit", "edit", "rewrite", "delete", "rename", "mode", "move+edit"])
        text = path.read_bytes().decode()
        if kind == "delete":
            path.unlink()
        elif kind == "mode":
            path.chmod(0o755)
        else:
            if kind == "rewrite":
                path.write_bytes(content(rng, 300).encode())
            if kind in ("edit", "move+edit"):
                path.write_bytes(edit(rng, text).encode())
            if kind in ("rename", "move+edit"):
                path.rename(path.with_name("moved-" + path.name))
    for n in range(rng.randrange(12)):
        repo.write(rng.choice(NAMES).format(100 + n), content(rng, rng.choice([3, 100, 900])))
    repo.git("add", "-A")
    return repo


def diff_of(repo: Repo, *options: str) -> str:
    words = ["git", "diff", "--no-ext-diff", "--cached", *options]
    return subprocess.run(words, cwd=repo.root, capture_output=True, check=True).stdout.decode()


@dataclass
class Sent:
    """What a run sends of a change: the block of each part, and the receipts of each part."""

    room: int
    blocks: list[str]
    receipts: list[list[dict[str, Any]]]


def send(
    repo: Repo, room: int, parts: int = 1000, workflow: str = WORKFLOW, source: str = "git_diff"
) -> Sent:
    text = workflow.format(room=room, parts=parts).replace("[git_diff", f"['{source}'")
    repo.write(".aethr.yaml", text)
    words = ("run", "--diff", "staged")
    shown = aethr(*words, "--show-prompt", "--json", "review", cwd=repo.root)
    assert shown.returncode == 0, shown.stderr
    ran = aethr(*words, "--json", "review", cwd=repo.root)
    steps = json.loads(ran.stdout)["steps"]
    prompts = json.loads(shown.stdout)
    assert [each["part"] for each in prompts] == list(range(1, len(prompts) + 1))
    assert [each["prompt_sha256"] for each in prompts] == [each["prompt_sha256"] for each in steps]
    return Sent(
        room, [blocks(each["prompt"], source) for each in prompts], [each["context"] for each in steps]
    )


@dataclass
class Account:
    """What all prompts together have of a change, read again from their text."""

    files: dict[str, FileDiff]
    notes: list[str]

    @classmethod
    def of(cls, sent: Sent) -> Account:
        """Also checks that no part has more than the room, and none is empty."""
        files: dict[str, FileDiff] = {}
        notes: list[str] = []
        for block in sent.blocks:
            read, said = read_diff(block, numbered=True)
            notes += said
            assert read or said
            assert sum(each.size for each in read.values()) <= sent.room
            for name, each in read.items():
                known = files.setdefault(name, FileDiff(each.header))
                assert known.header == each.header
                known.hunks += each.hunks
        return cls(files, notes)


def numstat(repo: Repo) -> Counter[str]:
    """How many lines git counts as changed in each file, by its new name as ``git diff`` prints it."""
    counted: Counter[str] = Counter()
    rows = iter(repo.git("diff", "--cached", "--numstat", "-z").split("\0"))
    for row in rows:
        if row:
            added, removed, name = row.split("\t", 2)
            if not name:
                next(rows)
                name = next(rows)
            counted[name.replace("\t", "\\t")] = int(added) + int(removed)
    return counted


@pytest.mark.parametrize("seed", SEEDS)
def test_every_changed_line_is_in_one_prompt_and_the_receipts_say_so(tmp_path: Path, seed: int) -> None:
    repo = changed_repo(tmp_path / "r", seed)
    source, options = list(FORMS.items())[seed % len(FORMS)]
    sent = send(repo, random.Random(seed).choice([800, 3_000, 20_000]), source=source)
    account = Account.of(sent)
    of_git, _ = read_diff(diff_of(repo, *options))
    deleted = {name for name, each in of_git.items() if "\ndeleted file mode" in each.header}
    locks = {name for name in of_git if name.endswith(".lock\n")}  # excluded, unless they are executable
    assert account.files.keys() >= of_git.keys() - deleted - locks
    for name, each in account.files.items():
        assert each.header == of_git[name].header
        assert each.changed == of_git[name].changed
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for receipt in (each for part in sent.receipts for each in part if each["path"]):
        sums[receipt["path"]][0] += receipt["changed_lines"]
        sums[receipt["path"]][1] += receipt["sent_lines"]
        assert receipt["complete"], receipt
    assert Counter({name: changed for name, (changed, _) in sums.items()}) == numstat(repo)
    lost = sum(len(of_git[name].changed) for name in of_git.keys() - account.files.keys())
    assert sum(sent for _, sent in sums.values()) == sum(numstat(repo).values()) - lost
    named = [note for note in account.notes if "deleted; its old text is not sent]" in note]
    ruled = [note for note in account.notes if note.startswith("[excluded by rule: ")]
    assert len(ruled) + len(named) == len(of_git.keys() - account.files.keys())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_pieces_of_a_cut_hunk_make_the_hunk_that_git_shows(tmp_path: Path, seed: int) -> None:
    repo = changed_repo(tmp_path / "r", seed)
    account = Account.of(send(repo, 4_000))
    of_git, _ = read_diff(diff_of(repo))
    for name, each in account.files.items():
        assert joined(each) == joined(of_git[name]), name


def joined(file: FileDiff) -> list[tuple[list[int], list[str]]]:
    """The ranges and lines of each hunk; one that begins where the one before it ends continues that one."""
    found: list[tuple[list[int], list[str]]] = []
    for head, lines in file.hunks:
        numbers = re.match(r"@@ -(\d+)(,0)?\S* \+(\d+)(,0)?", head)
        assert numbers
        begin = [int(numbers[at]) + bool(numbers[at + 1]) for at in (1, 3)]
        if found and found[-1][0][2:] == begin:
            found[-1][1].extend(lines)
        else:
            found.append(([*begin, *begin], list(lines)))
        signs = Counter(line[0] for line in found[-1][1])
        for at, own in enumerate("-+"):
            found[-1][0][2 + at] = found[-1][0][at] + signs[own] + signs[" "]
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_source_comes_before_tests_and_tests_before_the_rest(tmp_path: Path, seed: int) -> None:
    def kind(receipt: Mapping[str, Any]) -> int:
        if receipt["bytes_sent"] == 0:  # the old text of a deleted file comes last
            return 3
        path = receipt["path"]
        return 1 if path.startswith("tests/") else 2 if path.endswith((".md", ".json", ".lock")) else 0

    repo = changed_repo(tmp_path / "r", seed)
    deleted = set(repo.git("diff", "--cached", "--name-only", "--diff-filter=D", "-z").split("\0"))
    kinds = [
        [
            kind(each)
            for each in part
            if each["path"] and not each["excluded"] and each["path"].replace("\\t", "\t") not in deleted
        ]
        for part in send(repo, 3_000).receipts
    ]
    for one, following in pairwise(each for each in kinds if each):
        assert max(one) <= min(following)


@pytest.mark.slow
def test_what_cannot_be_shown_is_named_in_one_part_and_costs_no_room(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r")
    other = make_repo(tmp_path / "other")
    other.write("a", "a")
    other.commit()
    repo.write("run.sh", "run\n")
    repo.write("gone.bin", b"\0\1\2" * 999)
    repo.commit()
    repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.root), "sub")
    repo.write("picture.bin", b"\0\1\2" * 9_999)
    repo.write("latin.py", "caf\xe9\n".encode("latin-1") * 100)
    repo.write("one-line.js", "z" * 10_000_000)
    repo.write("large.py", "".join(f"x = {n}  # {'y' * 40}\n" for n in range(90_000)))
    repo.write(
        "model.lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
    )
    (repo.root / os.fsdecode(b"odd\xff\n.py")).write_text("odd\n")
    (repo.root / "run.sh").chmod(0o755)
    (repo.root / "gone.bin").unlink()
    repo.git("add", "-A")
    sent = send(repo, 120_000)
    receipts = [each for part in sent.receipts for each in part if each["path"]]
    missing = {each["path"]: each["note"] for each in receipts if not each["complete"]}
    assert missing == {
        "latin.py": "not UTF-8 text",
        "model.lfs": "a git-lfs pointer; the file itself is not shown",
        "one-line.js": "larger than the budget of 120,000 characters",
        "picture.bin": "binary",
        "sub": missing["sub"],
    }
    assert missing["sub"].startswith("a submodule, new at ")
    account = Account.of(sent)
    large = account.files["diff --git a/large.py b/large.py\n"]
    assert large.changed == [f"+x = {n}  # {'y' * 40}\n" for n in range(90_000)]
    assert len(sent.blocks) <= 1 + 1.1 * sum(map(len, sent.blocks)) / 120_000
    assert any("odd" in each["path"] for each in receipts)
    for path in (*missing, "run.sh", "gone.bin", "large.py"):
        parts = [n for n, part in enumerate(sent.receipts) if any(each["path"] == path for each in part)]
        assert len(parts) == (len(large.hunks) if path == "large.py" else 1), path


HUNKS = {
    "a hunk that fits only without its header": ("x = 1\n" * 130, 130),
    "invisible characters, which are shown longer": ("x\x1b = 1\n" * 85, 85),
    "only invisible characters": (("\x1b" * 20 + "\n") * 40, 40),
    "short lines beside one that is too long": ("x = 1\n" * 90 + "y" * 5_000 + "\n" + "z = 1\n" * 90, 180),
}


@pytest.mark.parametrize("form", HUNKS)
def test_every_line_that_fits_into_a_part_is_sent(tmp_path: Path, form: str) -> None:
    text, fitting = HUNKS[form]
    repo = make_repo(tmp_path / "r")
    repo.write("a.py", text)
    repo.git("add", "-A")
    sent = send(repo, 1_000)
    assert sum(each["sent_lines"] for part in sent.receipts for each in part) == fitting
    assert len(Account.of(sent).files["diff --git a/a.py b/a.py\n"].changed) == fitting


def test_a_deleted_file_takes_no_room_from_other_context(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r")
    repo.write("old.py", "x = 1\n" * 900)
    repo.write("README.md", "# A shop\n")
    repo.commit()
    repo.git("rm", "-q", "old.py")
    repo.write("a.py", "x = 1\n")
    repo.git("add", "a.py")
    workflow = WORKFLOW.replace("[git_diff]", "[git_diff, file:README.md]")
    sent = send(repo, 1_000, workflow=workflow)
    assert [[each["path"] for each in part if each["bytes_sent"]] for part in sent.receipts] == [
        ["a.py", "README.md"]
    ]
    assert all(each["complete"] for part in sent.receipts for each in part)


# --- where a change is cut -----------------------------------------------------------------------


def sized(rng: random.Random) -> list[Sized]:
    """Files of a change, in the order of their names: many small ones and a few that almost fill a part."""
    sizes = [
        min(1_000, int(rng.paretovariate(1.1) * rng.choice([10, 30, 80])))
        for _ in range(rng.randrange(1, 150))
    ]
    return sorted(Sized(f"d{rng.randrange(6)}/f{rng.randrange(10**9)}", size) for size in sizes)


def cut_names(items: Sequence[Sized]) -> list[tuple[str, ...]]:
    found = cut(items, 1_000)
    assert [at for part in found for at in part] == list(range(len(items)))
    assert all(sum(items[at].size for at in part) <= 1_000 for part in found)
    return [tuple(items[at].name for at in part) for part in found]


def test_parts_are_about_two_thirds_full() -> None:
    fills = []
    for seed in range(200):
        items = sized(random.Random(seed))
        if (total := sum(item.size for item in items)) > 3_000:
            fills.append(total / 1_000 / len(cut_names(items)))
    assert len(fills) > 100
    assert sum(fills) / len(fills) > 0.66
    assert min(fills) > 0.45


def moved(items: list[Sized], at: int, into: list[Sized]) -> int:
    """How far from the part of the file at this place the furthest part lies that an edit changes."""
    before, after = cut_names(items), set(cut_names([*items[:at], *into, *items[at + 1 :]]))
    own = next(n for n, part in enumerate(before) if items[at].name in part)
    return max((abs(n - own) for n, part in enumerate(before) if part not in after and n != own), default=0)


EDITS: Mapping[str, Callable[[random.Random, Sized], list[Sized]]] = {
    "a few lines": lambda rng, item: [Sized(item.name, min(1_000, item.size + rng.randrange(20)))],
    "rewritten": lambda rng, item: [Sized(item.name, rng.randrange(1, 1_000))],
    "a file added": lambda rng, item: [item, Sized(f"{item.name}.new", rng.randrange(1, 300))],
    "removed": lambda _, __: [],
    "renamed": lambda _, item: [Sized(f"{item.name}.new", item.size)],
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_its_own_part_and_rarely_more_than_a_neighbour(edit: str) -> None:
    distances: Counter[int] = Counter()
    for seed in range(120):
        rng = random.Random(seed)
        items = sized(rng)
        at = rng.randrange(len(items))
        distances[moved(items, at, EDITS[edit](rng, items[at]))] += 1
    assert distances[0] > (114 if edit == "a few lines" else 60)
    assert distances[0] + distances[1] > 110
    assert max(distances) <= 3
