"""A case is read as a whole: mistakes at their places, and no file from outside of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aethr.base.errors import ConfigError, UsageError
from aethr.base.records import Lines
from aethr.evaluation import cases, trees
from aethr.evaluation.trials import Expected, Where
from aethr.git import building
from tests.evaluation.making import BASE, CLEAN, make_case, write_files
from tests.support import Repo, compile_below

FULL = """\
message: Page through the totals
tags: [python, boundary]
findings:
  - file: app.py
    lines: 1-2
    severity: high
    words: [off by one, last page]
    why: The last page is never shown.
    also: [{file: app.py, lines: 2}, {file: other.py}]
  - {file: app.py, severity: low, words: [name]}
"""


def read(*folders: Path) -> tuple[cases.Loaded, ...]:
    return cases.read(cases.find([str(each) for each in folders], Path.cwd()))


def mistakes_of(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder)
    return str(caught.value)


def test_everything_that_a_case_says_is_read(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "pages", FULL, {"other.py": "x = 1\n"})
    (only,) = read(folder)
    assert (only.case.name, only.case.message) == ("pages", "Page through the totals")
    assert only.case.tags == ("python", "boundary")
    first, second = only.case.expected
    assert first == Expected(
        "high",
        (Where("app.py", Lines(1, 2)), Where("app.py", Lines(2, 2)), Where("other.py")),
        ("off by one", "last page"),
        "The last page is never shown.",
    )
    assert second.places == (Where("app.py"),)
    assert only.base.keys() == {"app.py"}
    assert only.head.keys() == {"app.py", "other.py"}


def test_a_patch_gives_the_same_case_as_the_files_that_it_makes(tmp_path: Path) -> None:
    whole = make_case(tmp_path / "a" / "case", CLEAN, {"app.py": "x = 1\n", "neu ü.py": "y = 2\n"})
    patched = make_case(tmp_path / "b" / "case", CLEAN)
    for file in (patched / "head").iterdir():
        file.unlink()
    (patched / "head").rmdir()
    diff = Repo(tmp_path).git("diff", "--no-index", "a/case/base", "a/case/head", check=False)
    (patched / "change.patch").write_text(
        diff.replace("a/case/base/", "").replace("a/case/head/", ""), encoding="utf-8"
    )
    (one,), (other,) = read(whole), read(patched)
    assert other.head == one.head
    assert other.case.sha256 == one.case.sha256


def test_bytecode_is_not_part_of_a_case(tmp_path: Path) -> None:
    """pip compiles the cases that come with Aethr, so the change would have files that are not text."""
    folder = make_case(tmp_path / "pages", FULL, {"other.py": "x = 1\n"})
    before = read(folder)
    assert compile_below(folder) == 3
    assert read(folder) == before


def test_names_are_paths_below_the_folder_that_was_given(tmp_path: Path) -> None:
    for name in ("b", "a/deep/er", "a/x", ".hidden/x"):
        make_case(tmp_path / "set" / name, CLEAN)
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    assert list(cases.find([str(tmp_path / "set")], tmp_path)) == ["a/deep/er", "a/x", "b"]
    assert list(cases.find(["set/a", "set/b"], tmp_path)) == ["b", "deep/er", "x"]
    make_case(tmp_path / "other" / "b", CLEAN)
    with pytest.raises(UsageError, match="two cases have the name 'b'"):
        cases.find(["set", "other"], tmp_path)


@pytest.mark.parametrize("part", ["base", "head", "change.patch"])
def test_a_part_of_a_case_is_not_left_out(tmp_path: Path, part: str) -> None:
    make_case(tmp_path / "set" / "a", CLEAN)
    make_case(tmp_path / "set" / "base" / "b", CLEAN)
    (tmp_path / "set" / "c" / part).mkdir(parents=True)
    found = cases.find(["set"], tmp_path)
    assert list(found) == ["a", "base/b", "c"]
    with pytest.raises(ConfigError, match=r"c/expect\.yaml: no such file"):
        cases.read(found)


@pytest.mark.parametrize("path", ["nothing", "empty", "file"])
def test_a_folder_without_a_case_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=f"^{path}: (no case in it|not a folder)"):
        cases.find([path], tmp_path)


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("", "expect.yaml:1:1: the file is empty"),
        ("{}", "a case needs 'findings' or 'clean'"),
        ("clean: false", "can only be true"),
        ("clean: true\nfindings: [{file: app.py, severity: low, words: [x]}]", "is not clean"),
        ("findings: []", "needs at least one finding"),
        ("findings: [{file: app.py, severity: low}]", "1:12: a finding needs the key 'words'"),
        ("findings: [{file: app.py, severity: low, words: []}]", "needs at least one word"),
        ("findings: [{file: app.py, severity: lwo, words: [x]}]", "(did you mean 'low'?)"),
        ("findings: [{file: ap.py, severity: low, words: [x]}]", "no file 'ap.py' after the change"),
        ("findings: [{file: app.py, lines: 3, severity: low, words: [x]}]", "'app.py' has 2 lines"),
        ("findings: [{file: app.py, lines: 2-1, severity: low, words: [x]}]", "a line such as 12"),
        ("findings: [{file: app.py, lines: 0, severity: low, words: [x]}]", "a line such as 12"),
        ("findings: [{file: app.py, lines: [1], severity: low, words: [x]}]", "a line such as 12"),
        (
            "findings: [{file: app.py, severity: low, words: [x], also: [{file: no.py}]}]",
            "1:68: no file 'no.py' after the change",
        ),
        ("clean: true\ntag: [x]", "2:1: unknown key 'tag' (did you mean 'tags'?)"),
    ],
)
def test_a_mistake_is_shown_at_its_place(tmp_path: Path, expect: str, said: str) -> None:
    assert said in mistakes_of(make_case(tmp_path / "case", expect))


def test_all_mistakes_of_all_cases_are_shown_together(tmp_path: Path) -> None:
    make_case(tmp_path / "a", "clean: maybe")
    os.mkfifo(make_case(tmp_path / "b", "findings: [{file: no.py}]") / "head" / "pipe")
    said = mistakes_of(tmp_path)
    assert "a/expect.yaml:1:8: expected true or false" in said
    assert "b/head/pipe: is not a regular file" in said
    assert "b/expect.yaml:1:12: a finding needs the key 'severity'" in said


def test_a_case_without_a_change_or_with_two_is_a_mistake(tmp_path: Path) -> None:
    same = make_case(tmp_path / "same", CLEAN, BASE)
    both = make_case(tmp_path / "both", CLEAN)
    (both / "change.patch").write_text("")
    neither = make_case(tmp_path / "neither", CLEAN)
    (neither / "head").rename(neither / "other")
    no_base = make_case(tmp_path / "no-base", CLEAN)
    (no_base / "base").rename(no_base / "other")
    assert "there is no change: base/ and head/ are the same" in mistakes_of(same)
    assert "has both head/ and change.patch" in mistakes_of(both)
    assert "needs one of head/ and change.patch" in mistakes_of(neither)
    assert "no-base/base: no such folder" in mistakes_of(no_base)


@pytest.mark.parametrize(
    "name", [".git/config", "sub/.GIT/hooks/pre-commit", "git~1/x", ".git", ".gi\u200ct/x"]
)
def test_files_of_git_itself_are_refused(tmp_path: Path, name: str) -> None:
    folder = make_case(tmp_path / "case", CLEAN, {name: "x"})
    assert "git keeps its own files under this name" in mistakes_of(folder)


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../secret", "sub/../../..", "loop/../../../x", ".git/config"]
)
def test_a_link_that_leaves_the_case_is_refused(tmp_path: Path, target: str) -> None:
    folder = make_case(tmp_path / "case", CLEAN)
    (folder / "head" / "sub").mkdir()
    (folder / "head" / "loop").symlink_to(".")
    (folder / "head" / "link").symlink_to(target)
    said = mistakes_of(folder)
    assert "head/link: is a link that leaves the case" in said or "git keeps its own files" in said


def test_a_link_inside_is_a_link_in_the_repository(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "case", CLEAN)
    (folder / "head" / "link").symlink_to("app.py")
    (only,) = read(folder)
    assert only.head["link"] == building.Blob("120000", b"app.py")
    made = tmp_path / "made"
    made.mkdir()
    building.make_repository(made, only.base, only.head, "Change")
    assert (made / "link").readlink() == Path("app.py")


@pytest.mark.parametrize("part", ["base", "head", "expect.yaml", "change.patch"])
def test_no_part_of_a_case_may_be_a_link(tmp_path: Path, part: str) -> None:
    folder = make_case(tmp_path / "case", CLEAN)
    if part == "change.patch":
        (folder / "head").rename(folder / "away")
        (folder / "elsewhere").write_text("")
    else:
        (folder / part).rename(folder / "elsewhere")
    (folder / part).symlink_to(folder / "elsewhere")
    assert f"case/{part}: is " in mistakes_of(folder)


@pytest.mark.parametrize(
    "patch",
    [
        "--- /dev/null\n+++ b/../../evil\n@@ -0,0 +1 @@\n+x\n",
        "--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n",
        "diff --git a/link b/link\nnew file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+../..\n"
        "\\ No newline at end of file\n",
        "--- a/no.py\n+++ b/no.py\n@@ -1 +1 @@\n-x\n+y\n",
        "not a patch\n",
        "",
    ],
)
def test_a_patch_that_leaves_the_case_or_does_not_apply_is_refused(tmp_path: Path, patch: str) -> None:
    folder = make_case(tmp_path / "deep" / "case", CLEAN)
    (folder / "head").rename(folder / "away")
    (folder / "change.patch").write_text(patch)
    assert "change.patch" in mistakes_of(folder)
    assert not (tmp_path / "evil").exists()
    assert not list(tmp_path.glob("**/evil"))


def test_a_case_that_is_too_large_is_refused(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "case", CLEAN)
    with (folder / "head" / "large").open("wb") as file:
        file.truncate(trees.MOST_BYTES + 1)
    assert "too large: a case has at most 2,000 files and 16 MiB" in mistakes_of(folder)


def test_a_repository_has_the_same_commits_every_time_and_no_settings_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(
        Path.home(),
        {
            ".gitconfig": "[init]\ndefaultBranch = x\ntemplateDir = ~/template\n[core]\nautocrlf = true\n"
            '[filter "evil"]\nsmudge = touch ~/ran\n',
            ".config/git/attributes": "* filter=evil\n",
            "template/hooks/post-checkout": "#!/bin/sh\ntouch ~/ran\n",
        },
    )
    (Path.home() / "template/hooks/post-checkout").chmod(0o755)
    tree = {
        'a "b"\n\\ü.py': building.Blob("100755", b"x\r\n\0"),
        ".gitattributes": building.Blob("100644", b"* filter=evil\n"),
    }
    seen = []
    for name in ("one", "two"):
        monkeypatch.setenv("GIT_AUTHOR_DATE", f"{len(seen) + 1}000000000 +0000")
        (tmp_path / name).mkdir()
        survey = building.make_repository(tmp_path / name, {}, tree, "Add\n\na file")
        seen.append((survey.scope.base, survey.scope.head))
    assert seen[0] == seen[1]
    made = Repo(tmp_path / "two")
    assert made.git("rev-parse", "base", "HEAD").split() == list(seen[0])
    assert made.git("log", "-1", "--format=%B").strip() == "Add\n\na file"
    assert (made.root / 'a "b"\n\\ü.py').read_bytes() == b"x\r\n\0"
    assert not (Path.home() / "ran").exists()
    assert not any((made.root / ".git" / "hooks").glob("*"))
