"""Files that are written: whole or not at all, through no link, over nobody else's file."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aethr.base import disk
from aethr.base.errors import DiskError
from aethr.base.records import StepFinished
from aethr.engine import checkpoint
from aethr.run.recorder import Recorder
from tests.engine.test_checkpoint import DONE, plan
from tests.live import PASS, TASK
from tests.model_server import ModelServer, Reply
from tests.screen import on_terminal
from tests.support import Repo, aethr

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs links, modes and limits of POSIX")

TRAP = "somebody else's\n"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file elsewhere that must stay as it is."""
    file = tmp_path / "elsewhere" / "victim"
    file.parent.mkdir()
    file.write_text(TRAP)
    yield file
    assert file.read_text() == TRAP
    assert [each.name for each in file.parent.iterdir()] == ["victim"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "own"
    made.mkdir()
    return made


# --- the one way to write ----------------------------------------------------------------------


def test_a_file_is_complete_and_leaves_no_other(folder: Path) -> None:
    path = folder / "a"
    disk.write(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    disk.write(path, "\udcff", mode=0o640, durable=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"?", 0o640)
    assert list(folder.iterdir()) == [path]


def test_without_a_mode_the_umask_decides(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        disk.write(folder / "a", "")
        disk.write(folder / "b", "", mode=0o664)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in "ab"] == [0o640, 0o664]


def test_a_name_of_the_longest_length_can_be_written(folder: Path) -> None:
    disk.write(folder / ("n" * 255), "x")
    assert (folder / ("n" * 255)).read_text() == "x"


def test_a_link_is_replaced_and_not_followed(folder: Path, victim: Path) -> None:
    (folder / "a").symlink_to(victim)
    disk.write(folder / "a", "ours")
    assert not (folder / "a").is_symlink()
    (folder / "hard").hardlink_to(victim)
    disk.write(folder / "hard", "ours")


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_nothing_is_overwritten_unless_allowed(folder: Path, make: Callable[[Path], object]) -> None:
    make(folder / "a")
    with pytest.raises(FileExistsError):
        disk.write(folder / "a", "ours", overwrite=False)
    assert [each.name for each in folder.iterdir()] == ["a"]
    assert not (folder / "nowhere").exists()


def test_a_failed_write_leaves_only_the_old_file(folder: Path) -> None:
    (folder / "a").write_text("old")
    script = (
        "import resource, sys; from pathlib import Path; from aethr.base import disk\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "with disk.failing_as('a: cannot write', 'Do this.'):\n"
        "    disk.write(Path(sys.argv[1]), 'x' * 200)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "a")], capture_output=True, text=True, check=False
    )
    assert "DiskError: a: cannot write: File too large" in done.stderr
    assert ([each.name for each in folder.iterdir()], (folder / "a").read_text()) == (["a"], "old")
    with (
        pytest.raises(DiskError, match="b: cannot write: Is a directory"),
        disk.failing_as("b: cannot write"),
    ):
        disk.write(folder, "x")
    assert [each.name for each in folder.iterdir()] == ["a"]


def swap_link(path: Path, victim: Path) -> None:
    path.unlink()
    path.symlink_to(victim)


def swap_file(path: Path, _: Path) -> None:
    """Of the same size; a file system may well give it the same inode."""
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(b"x" * size)


def swap_pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def swap_nothing(path: Path, _: Path) -> None:
    path.unlink()


def edit(path: Path, _: Path) -> None:
    with path.open("a") as file:
        file.write("more\n")


SWAPS = (swap_link, swap_file, swap_pipe, swap_nothing, edit)


@pytest.mark.parametrize("swap", SWAPS)
def test_only_the_file_that_was_written_is_appended_to(
    folder: Path, victim: Path, swap: Callable[[Path, Path], None]
) -> None:
    path = folder / "a"
    left = disk.write(path, "one\n")
    left = disk.append(path, "two\n", left) or left
    assert path.read_text() == "one\ntwo\n"
    swap(path, victim)
    before = path.read_bytes() if path.is_file() else None
    assert disk.append(path, "three\n", left) is None
    assert (path.read_bytes() if path.is_file() else None) == before


# --- checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("swap", SWAPS)
def test_a_replaced_checkpoint_is_written_anew(
    folder: Path, victim: Path, swap: Callable[[Path, Path], None]
) -> None:
    steps = [DONE._replace(iteration=number) for number in (1, 2, 3)]
    recorder = Recorder(plan(), (), folder, None)
    recorder.take(StepFinished(steps[0]))
    assert recorder.file is not None
    swap(recorder.file, victim)
    for step in steps[1:]:
        recorder.take(StepFinished(step))
    assert recorder.file.read_text(encoding="utf-8") == checkpoint.dump(plan(), steps)
    assert stat.S_IMODE(recorder.file.lstat().st_mode) == 0o600


TWO_STEPS = """\
workflow: two
roles: {planner: "Think.", reviewer: "Review."}
models: {planner: openai:m, reviewer: openai:m}
steps: [{id: think, role: planner}, {id: review, role: reviewer, context: [git_diff]}]
"""


@pytest.mark.slow
@pytest.mark.parametrize("trap", ["link", "file", "folder", "pipe"])
def test_a_resume_ignores_files_beside_its_checkpoint(
    repo: Repo, folder: Path, victim: Path, trap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.write(".aethr.yaml", TWO_STEPS)
    repo.write("app.py", "x = 1\n")
    repo.commit()
    repo.write("app.py", "x = 2\n")
    for name, value in (("OPENAI_API_KEY", "sk-test-0123456789"), ("AETHR_LIVE", "1")):
        monkeypatch.setenv(name, value)
    with ModelServer(["A plan.", Reply(status=401, body="{}"), PASS]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        stopped = aethr("run", "--checkpoint-dir", str(folder), TASK, cwd=repo.root)
        assert stopped.returncode == 3, stopped.stderr
        [saved] = folder.iterdir()
        waiting = saved.with_name(saved.name + ".part")
        if trap == "link":
            waiting.symlink_to(victim)
        elif trap == "file":
            waiting.touch(mode=0o666)
        elif trap == "folder":
            waiting.mkdir()
        else:
            os.mkfifo(waiting)
        before = waiting.lstat()
        done = aethr("run", "--resume-checkpoint", f"@{saved}", cwd=repo.root)
    assert done.returncode == 0, done.stderr
    after = waiting.lstat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert stat.S_IMODE(saved.lstat().st_mode) == 0o600
    assert len(checkpoint.load(f"@{saved}").steps) == 2


# --- reports -----------------------------------------------------------------------------------

RUN = ("run", "--preset", "review-existing-diff", TASK)


def test_a_report_is_replaced_in_one_step_with_its_mode(repo: Repo) -> None:
    report = repo.write("out.md", "old")
    report.chmod(0o664)
    inode = report.stat().st_ino
    assert aethr(*RUN, "--report", "out.md", cwd=repo.root).returncode == 0
    assert report.read_text().startswith("#")
    assert (stat.S_IMODE(report.stat().st_mode), report.stat().st_ino != inode) == (0o664, True)
    assert sorted(each.name for each in repo.root.iterdir()) == [".git", "out.md"]


def test_a_report_follows_the_users_link_or_pipe(repo: Repo, tmp_path: Path) -> None:
    real, pipe = tmp_path / "real.txt", repo.root / "out.json"
    real.write_text("old")
    for name, target in (("a.md", real), ("b.md", tmp_path / "new.txt"), ("c.md", Path("/dev/null"))):
        (repo.root / name).symlink_to(target)
    (repo.root / "d.md").symlink_to("/dev/stdout")
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    words = [word for name in ("a.md", "b.md", "c.md", "d.md", "out.json") for word in ("--report", name)]
    done = aethr(*RUN, *words, cwd=repo.root)
    reader.join(timeout=20)
    assert done.returncode == 0, done.stderr
    assert (repo.root / "a.md").is_symlink()
    assert real.read_text() == (tmp_path / "new.txt").read_text()
    assert done.stdout.endswith(real.read_text())
    assert read[0].startswith("{")


@pytest.mark.parametrize("link", ["out.md", "sub/out.md"])
def test_a_report_refuses_a_tracked_link_that_leads_out(repo: Repo, victim: Path, link: str) -> None:
    if link == "out.md":
        (repo.root / "out.md").symlink_to(victim)
    else:
        (repo.root / "sub").symlink_to(victim.parent)
    (repo.root / "hook.md").symlink_to(".git/hooks/pre-commit")
    repo.commit()
    for name in (link, "hook.md"):
        done = aethr(*RUN, "--report", name, cwd=repo.root)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--report {name}: a link that git tracks leads it out of the repository" in done.stderr
    assert not (repo.root / ".git" / "hooks" / "pre-commit").exists()


def test_a_report_follows_a_link_within_the_repository(repo: Repo) -> None:
    repo.write("reports/latest.md", "old")
    (repo.root / "out.md").symlink_to("reports/latest.md")
    repo.commit()
    assert aethr(*RUN, "--report", "out.md", cwd=repo.root).returncode == 0
    assert (repo.root / "out.md").is_symlink()
    assert (repo.root / "reports" / "latest.md").read_text().startswith("#")


def test_a_report_replaces_a_link_made_during_the_run(repo: Repo, tmp_path: Path, victim: Path) -> None:
    """Made by the editor that writes the task, which is after all that is looked at beforehand."""
    editor = tmp_path / "editor.py"
    editor.write_text(
        f"import os, sys\nos.symlink({str(victim)!r}, 'out.md')\nopen(sys.argv[1], 'w').write('look')\n"
    )
    words = ("run", "--preset", "custom", "--report", "out.md")
    code, shown = on_terminal(words, repo.root, {"EDITOR": f"{sys.executable} {editor}"})
    assert code == 0, shown
    assert not (repo.root / "out.md").is_symlink()
    assert (repo.root / "out.md").read_text().startswith("#")


# --- .env and the workflow file ----------------------------------------------------------------


def test_no_predictable_file_name_is_followed(repo: Repo, victim: Path) -> None:
    for name in (".aethr.yaml.part", ".env.part", "out.md.part"):
        (repo.root / name).symlink_to(victim)
    assert (
        aethr("run", "--preset", "custom", "--save", "--report", "out.md", TASK, cwd=repo.root).returncode
        == 0
    )
    assert aethr("init", "custom", "--force", cwd=repo.root).returncode == 0
    key = f"sk-{random.Random(8).randbytes(16).hex()}"
    done = aethr("auth", "login", "openai", "--key-stdin", cwd=repo.root, stdin=key)
    assert done.returncode == 0, done.stderr
    assert key in (repo.root / ".env").read_text()
    assert stat.S_IMODE((repo.root / ".env").stat().st_mode) == 0o600
