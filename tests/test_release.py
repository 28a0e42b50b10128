"""What makes a release: the version in one place, and the scripts of the workflow, run as a runner does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from aethr import __version__
from tests.pages import ROOT
from tests.support import make_repo

FILES = (
    ".ci/release.py",
    "aethr/__init__.py",
    "aethr/cli/__init__.py",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
)
KEEP = re.compile(r"^(?:CHANGELOG\.md|tests/|benchmarks/|requirements\.txt|docs/.*\.svg|examples/|presets/)")
"""Where a version may stand that is not that of a release: of the past, of a peer, of a test."""
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
SHA = "a" * 40
GH = """#!/bin/bash
echo "$*" >>"$LOG"
case "$*" in
*"$FAILS"*) exit 1 ;;
*ci.yml*) echo "$CI" ;;
*selftest.yml*) echo "$SELFTEST" ;;
esac
"""


def release(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = (sys.executable, root / ".ci" / "release.py", *words)
    return subprocess.run(script, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that a release reads and writes."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("docs", ".github/ISSUE_TEMPLATE"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


# --- the version ---------------------------------------------------------------------------------


def test_every_copy_of_the_version_is_the_one_of_the_package() -> None:
    done = release(ROOT, "check")
    assert (done.returncode, done.stderr) == (0, ""), "run `python .ci/release.py set VERSION`"


def test_no_copy_of_the_version_is_unknown(copy: Path) -> None:
    """Everything that is left with the old version after ``set`` is one that nobody would have found."""
    assert release(copy, "set", "97.6.5").returncode == 0
    old = re.compile(rf"(?<![\w.]){re.escape(__version__)}(?![\w.])|\bv{re.escape(__version__)}\b")
    texts = [
        path for path in copy.rglob("*") if path.is_file() and path.suffix in (".md", ".py", ".toml", ".yml")
    ]
    assert len(texts) > 20
    left = [
        f"{path.relative_to(copy)}: {line.strip()}"
        for path in texts
        if not KEEP.match(path.relative_to(copy).as_posix())
        for line in path.read_text(encoding="utf-8").splitlines()
        if old.search(line)
    ]
    assert left == []


def test_a_new_version_is_written_everywhere(copy: Path) -> None:
    assert release(copy, "set", "2.3.4").returncode == 0
    assert '__version__ = "2.3.4"\n' in (copy / "aethr/__init__.py").read_text()
    assert '\nversion = "2.3.4"\n' in (copy / "pyproject.toml").read_text()
    pages = "".join(
        path.read_text(encoding="utf-8") for path in (copy / "README.md", *copy.glob("docs/*.md"))
    )
    assert set(re.findall(r"aethr/action(?:/merge)?@v([\d.]*\d)", pages)) == {"2", "2.3.4"}
    assert set(re.findall(r"^ +rev: (v\S+)$", pages, re.MULTILINE)) == {"v2.3.4"}
    changelog = (copy / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "\n## [Unreleased]\n\n## [2.3.4] - 20" in changelog
    assert f"\n[2.3.4]: https://github.com/aethr/action/compare/v{__version__}...v2.3.4\n" in changelog
    assert "\n[Unreleased]: https://github.com/aethr/action/compare/v2.3.4...HEAD\n" in changelog
    assert release(copy, "check", "v2.3.4").returncode == 0
    unreleased = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("## [Unreleased]\n")[1]
    assert release(copy, "notes", "v2.3.4").stdout.strip() == unreleased.split("\n## [")[0].strip()


def test_a_tag_that_is_not_the_version_is_refused() -> None:
    done = release(ROOT, "check", "v99.0.0")
    assert done.returncode == 1
    assert f"the tag is v99.0.0, and aethr/__init__.py says {__version__}" in done.stderr


def test_a_release_without_a_section_of_the_changelog_is_refused(copy: Path) -> None:
    changelog = copy / "CHANGELOG.md"
    changelog.write_text(changelog.read_text(encoding="utf-8").replace(f"## [{__version__}]", "## [0.0.1]"))
    assert release(copy, "check").returncode == 0
    done = release(copy, "check", f"v{__version__}")
    assert done.returncode == 1
    assert "CHANGELOG.md has no section" in done.stderr


def test_a_page_with_another_version_is_named(copy: Path) -> None:
    page = copy / "docs" / "hook.md"
    page.write_text(page.read_text(encoding="utf-8").replace(f"rev: v{__version__}", "rev: v0.9.0"))
    done = release(copy, "check")
    assert done.returncode == 1
    assert re.fullmatch(rf"docs[/\\]hook\.md:10: 0\.9\.0, not {re.escape(__version__)}\n", done.stderr)


@pytest.mark.parametrize(
    "words", [(), ("check", "a", "b"), ("notes", "main"), ("set", "1.2"), ("moves", "v1")]
)
def test_anything_else_shows_how_it_is_used(words: tuple[str, ...]) -> None:
    done = release(ROOT, *words)
    assert done.returncode == 1
    assert "python .ci/release.py check" in done.stderr


@pytest.mark.parametrize(
    ("tag", "moved"),
    [("v1.10.0", "v1"), ("v1.9.1", ""), ("v2.0.0", "v2"), ("v0.5.0", "")],
    ids=["the newest", "a fix of an older one", "a new major", "an old major"],
)
def test_only_the_newest_release_moves_its_major_tag(tag: str, moved: str, copy: Path) -> None:
    repo = make_repo(copy / "repo")
    (repo.root / ".ci").mkdir()
    shutil.copy(copy / ".ci/release.py", repo.root / ".ci")
    repo.commit("start")
    for each in ("v0.6.0", "v1", "v1.9.0", "v1.10.0", "v2.0.0-rc1", "nightly", tag):
        repo.git("tag", "-f", each)
    done = release(repo.root, "moves", tag)
    assert (done.returncode, done.stdout.strip()) == (0, moved)


# --- the workflow --------------------------------------------------------------------------------


def step(job: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in WORKFLOW["jobs"][job]["steps"] if each.get("name") == name)
    return dict(found)


def run(job: str, name: str, folder: Path, **about: str) -> tuple[int, list[str], str]:
    """Run a step's script with a ``gh`` that notes what it is asked: exit code, calls, output."""
    (folder / "bin").mkdir()
    (folder / "bin" / "gh").write_text(GH, encoding="utf-8")
    (folder / "bin" / "gh").chmod(0o755)
    log = folder / "log"
    log.touch()
    environ = {
        "PATH": os.pathsep.join((str(folder / "bin"), os.environ["PATH"])),
        "LOG": str(log),
        "FAILS": "nothing",
        "GITHUB_REPOSITORY": "aethr/action",
        "GITHUB_SHA": SHA,
        "GITHUB_REF_NAME": f"v{__version__}",
        "RUNNER_TEMP": str(folder),
        **about,
    }
    script = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(job, name)["run"])
    done = subprocess.run(script, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, log.read_text(encoding="utf-8").splitlines(), done.stdout + done.stderr


@pytest.mark.parametrize(("ci", "selftest", "code"), [("1", "2", 0), ("1", "0", 1), ("0", "1", 1)])
def test_nothing_is_released_before_ci_and_self_test(
    ci: str, selftest: str, code: int, tmp_path: Path
) -> None:
    ended, calls, output = run("proven", "The results for this commit", tmp_path, CI=ci, SELFTEST=selftest)
    assert ended == code, output
    assert all(f"head_sha={SHA} -f branch=main -f status=success" in call for call in calls)
    assert ("::error::" in output) is (code == 1)
    assert {"proven", "build", "test"} == set(WORKFLOW["jobs"]["attest"]["needs"])


def test_the_release_has_the_section_of_the_changelog(tmp_path: Path) -> None:
    ended, calls, output = run("github", "The changelog's section, the wheel and the tarball", tmp_path)
    assert ended == 0, output
    assert calls == [
        f"release create v{__version__} dist/* --verify-tag --title v{__version__}"
        f" --notes-file {tmp_path}/notes.md"
    ]
    assert (tmp_path / "notes.md").read_text(encoding="utf-8").startswith("### Added\n")


@pytest.mark.parametrize("fails", ["nothing", "git/ref/tags"], ids=["there", "not there yet"])
def test_the_major_tag_is_moved_or_made(fails: str, tmp_path: Path) -> None:
    major = f"v{__version__.partition('.')[0]}"
    ended, calls, output = run("major", "Move it to this release", tmp_path, FAILS=fails)
    assert ended == 0, output
    assert calls[1:] == [
        f"api --method PATCH repos/aethr/action/git/refs/tags/{major} -f sha={SHA} -F force=true"
        if fails == "nothing"
        else f"api --method POST repos/aethr/action/git/refs -f ref=refs/tags/{major} -f sha={SHA}"
    ]


def test_each_job_may_do_only_what_it_is_for() -> None:
    assert WORKFLOW["permissions"] == {}
    assert {name: job["permissions"] for name, job in WORKFLOW["jobs"].items()} == {
        "proven": {"actions": "read"},
        "build": {"contents": "read"},
        "test": {"contents": "read"},
        "attest": {"id-token": "write", "attestations": "write"},
        "github": {"contents": "write"},
        "index": {"id-token": "write"},
        "major": {"contents": "write"},
    }
    assert WORKFLOW["jobs"]["index"]["if"] == "vars.PUBLISH_TO_PYPI == 'true'"
    assert WORKFLOW["jobs"]["index"]["environment"] == "pypi"
    assert set(WORKFLOW["jobs"]["major"]["needs"]) == {"github", "index"}
    scripts = [each["run"] for job in WORKFLOW["jobs"].values() for each in job["steps"] if "run" in each]
    assert [script for script in scripts if "${{" in script] == [], (
        "a script takes values from its environment"
    )
