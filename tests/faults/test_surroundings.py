"""A full or unwritable disk, odd surroundings, checkpoints that are none: through the installed command."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live import TASK, TWO_STEPS, resume_line, resume_words
from tests.support import Repo, aethr

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits and modes"),
]

RUN = ("run", "--preset", "docs-sync", TASK)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where checkpoints and temporary files go."""
    made = tmp_path / "temporary"
    made.mkdir()
    return made


# --- the disk ----------------------------------------------------------------------------------


def small_files() -> None:
    """No file of this process can grow beyond 600 bytes: less than the checkpoint of one step."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))


def test_a_disk_that_is_full_shows_the_answer_and_leaves_no_half_file(project: Repo, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aethr", *RUN],
        env={**os.environ, "RUNNER_TEMP": str(folder)},
        preexec_fn=small_files,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "Mock answer" in done.stdout
    assert "cannot write the checkpoint: File too large" in done.stderr
    assert "--checkpoint-dir" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert [path.suffix for path in folder.iterdir() if path.stat().st_size] == []


def test_a_disk_that_fills_up_leaves_the_steps_before_to_resume(project: Repo, folder: Path) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    run = [sys.executable, "-m", "aethr", "run", TASK]
    env = {**os.environ, "RUNNER_TEMP": str(folder)}
    subprocess.run([*run, "--checkpoint-dir", "kept"], env=env, capture_output=True, check=True)
    (whole,) = Path("kept").iterdir()
    head, first, second = whole.read_bytes().splitlines(keepends=True)
    room = len(head + first) + len(second) // 2
    done = subprocess.run(
        run,
        env=env,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "File too large" in done.stderr) == (3, True), done.stderr
    resumed = subprocess.run(
        [sys.executable, "-m", "aethr", *resume_words(done.stderr)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (resumed.returncode, resumed.stdout.count("from the checkpoint")) == (0, 1), resumed.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_small_tmpfs(project: Repo, folder: Path) -> None:
    """A real full disk, mounted where the user may have a mount namespace of their own."""
    script = (
        f'mount -t tmpfs -o size=4k none "{folder}" && head -c 4096 /dev/zero > "{folder}/full"; '
        f'[ -e "{folder}/full" ] || exit 99; "{sys.executable}" -m aethr run --preset docs-sync x; '
        f'code=$?; ls "{folder}"; exit $code'
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env={**os.environ, "RUNNER_TEMP": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert "No space left on device" in done.stderr
    assert "Mock answer" in done.stdout


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--report", "out.md"], "--report out.md: cannot be written"),
        (["--checkpoint-dir", "kept"], "--checkpoint-dir kept: no checkpoint can be written there"),
        (["--save"], "/.aethr.yaml cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_first_call(
    project: Repo, words: list[str], said: str
) -> None:
    """A project that is mounted read-only: not even root may write there."""
    script = 'mount --bind . . && mount -o remount,ro,bind . && cd "$PWD" || exit 99; exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-m", "aethr", *RUN, *words],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("place", ["a-file/below", "/proc/nowhere"])
def test_no_place_for_a_checkpoint(project: Repo, place: str) -> None:
    project.write("a-file")
    done = aethr(*RUN, cwd=project.root, env={"RUNNER_TEMP": place})
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert "cannot write a checkpoint" in done.stderr
    assert "Mock answer" in done.stdout


# --- what is missing around a run --------------------------------------------------------------


@pytest.mark.parametrize("missing", ["HOME", "PATH", "TMPDIR", "LANG", "USER"])
def test_a_variable_that_is_not_there(project: Repo, folder: Path, missing: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != missing}
    done = subprocess.run(
        [sys.executable, "-m", "aethr", *RUN],
        env={**env, "RUNNER_TEMP": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "variables",
    [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"TMPDIR": "/nowhere"}],
)
def test_another_locale_or_no_temporary_folder(project: Repo, variables: dict[str, str]) -> None:
    project.write("app.py", "name = 'é → 日本'\n")
    done = aethr(*RUN[:-1], "é 日本", cwd=project.root, env=variables)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    ("on_path", "hooked"), [(True, False), (False, False), (True, True)], ids=["desk", "elsewhere", "hook"]
)
def test_the_resume_command_names_the_program_that_is_meant(
    project: Repo, folder: Path, on_path: bool, hooked: bool
) -> None:
    """pre-commit's environment is on PATH for its hooks only, and may be on nobody's."""
    program = Path(sys.executable).parent / "aethr"
    shutil.rmtree(project.root / ".git" / "objects")
    (project.root / ".git" / "objects").mkdir()
    path = f"{program.parent}:/usr/bin:/bin" if on_path else "/usr/bin:/bin"
    done = subprocess.run(
        [program, *RUN, "--preset", "review-existing-diff", "--diff", "worktree"],
        cwd=project.root,
        env={
            **os.environ,
            "PATH": path,
            "RUNNER_TEMP": str(folder),
            **({"PRE_COMMIT": "1"} if hooked else {}),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert resume_words(done.stderr)[0] == "run"
    assert resume_line(done.stderr).startswith("aethr run " if on_path and not hooked else f"{program} run ")


def test_a_program_that_is_told_a_name_without_its_suffix_still_says_how_to_go_on(
    project: Repo, folder: Path
) -> None:
    """On Windows aethr.exe is told that it is aethr, which is no file there."""
    shutil.rmtree(project.root / ".git" / "objects")
    (project.root / ".git" / "objects").mkdir()
    started = "import sys; sys.argv[0] = '/nowhere/aethr'; from aethr.cli import program; program()"
    done = subprocess.run(
        [sys.executable, "-c", started, *RUN, "--preset", "review-existing-diff", "--diff", "worktree"],
        cwd=project.root,
        env={**os.environ, "RUNNER_TEMP": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert resume_line(done.stderr).startswith("/nowhere/aethr run ")


VARIABLES = (
    *(
        "HOME",
        "TMPDIR",
        "LANG",
        "LC_ALL",
        "TERM",
        "COLUMNS",
        "LINES",
        "NO_COLOR",
        "FORCE_COLOR",
        "PYTHONIOENCODING",
        "TZ",
    ),
    *(
        "AETHR_LIVE",
        "AETHR_MODEL",
        "AETHR_TRANSPORT",
        "AETHR_RUN_FAIL_ON",
        "AETHR_RUN_MAX_COST",
        "AETHR_RUN_DIFF",
    ),
    *(
        "AETHR_RUN_CHECKPOINT_DIR",
        "AETHR_RUN_REPORT",
        "AETHR_RUN_RESUME_CHECKPOINT",
        "AETHR_RUN_REPLIES",
        "AETHR_X",
    ),
    *("RUNNER_TEMP", "GITHUB_ACTIONS", "PRE_COMMIT", "PRE_COMMIT_FROM_REF", "PRE_COMMIT_TO_REF"),
    *(
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_CONFIG_GLOBAL",
    ),
    *("GIT_EXEC_PATH", "GIT_SSH", "GIT_PREFIX", "GIT_TRACE", "GIT_OBJECT_DIRECTORY"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"),
    *("REQUESTS_CA_BUNDLE", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
)
ODD = (
    *(
        "",
        " ",
        "abc",
        "0",
        "1",
        "-1",
        "9" * 5000,
        "1e400",
        "/nowhere/x",
        "/",
        "/dev/null",
        "./app.py",
        ".",
        "{}",
        "%s",
    ),
    *(
        "\udcff\udcfe",
        "é\u202e\x1b[31m",
        "a\nb",
        "x" * 100_000,
        "http://[::1",
        ":8080",
        "[::1],fe80::/10",
        "ext::x",
    ),
)
WAYS = (RUN, ("run", "--json", *RUN[1:]), ("check",), ("hook",), ("auth", "status"), ("action",))


@pytest.mark.parametrize("seed", range(40))
def test_no_environment_is_a_bug(project: Repo, folder: Path, seed: int) -> None:
    """Odd values in variables that Aethr, git, Python or httpx read: a documented exit code, no traceback."""
    generator = random.Random(seed)
    odd = {name: generator.choice(ODD) for name in generator.sample(VARIABLES, generator.randint(1, 4))}
    live = {
        "AETHR_LIVE": "1",
        "AETHR_MODEL": "openai:gpt-4o-mini",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    }
    environ = {"RUNNER_TEMP": str(folder), **(live if seed % 3 == 0 else {}), **odd}
    project.git("add", "-A")
    done = aethr(*generator.choice(WAYS), cwd=project.root, env=environ)
    assert (done.returncode in range(6), "Traceback" in done.stderr) == (True, False), (odd, done.stderr)


# --- checkpoints that are none -----------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """A checkpoint that does not fit: how it came to be, the exit code, and what is said."""

    name: str
    breaks: Callable[[Path, Repo], object]
    said: str
    words: tuple[str, ...] = ()
    code: int = 2


def edited(path: Path, **fields: object) -> None:
    head, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(head), **fields}), *rest]))


def reordered(path: Path, order: Callable[[list[str]], list[str]]) -> None:
    """With the lines of the steps, behind that of the run, as ``order`` gives them."""
    head, *steps = path.read_text().splitlines()
    path.write_text("\n".join([head, *order(steps)]))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN = (
    Broken("empty", lambda path, _: path.write_text(""), "it is empty"),
    Broken("cut", lambda path, _: path.write_text(path.read_text()[:30]), "cut short"),
    Broken("foreign", lambda path, _: path.write_text('{"name": "x"}'), "its schema is None, not 3"),
    Broken("of the future", lambda path, _: edited(path, schema=4), "its schema is 4, not 3"),
    Broken("a folder", lambda path, _: a_folder(path), "not a regular file"),
    Broken("missing", lambda path, _: path.unlink(), "cannot read the checkpoint"),
    Broken("not UTF-8", lambda path, _: path.write_bytes(b"\xff\xfe{}"), "not UTF-8 text"),
    Broken("deep", lambda path, _: path.write_text("[" * 100_000), "not a checkpoint"),
    Broken(
        "infinite",
        lambda path, _: path.write_text(path.read_text().replace("0.0", "1e400")),
        "not a checkpoint",
    ),
    Broken("of another task", lambda *_: None, "of another task", ("something else",)),
    Broken("of another diff", lambda *_: None, "of --diff worktree", ("--diff", "staged")),
    Broken(
        "of another workflow",
        lambda _, repo: repo.write(".aethr.yaml", TWO_STEPS.replace("id: think", "id: ponder")),
        "a step 'think' that the workflow does not have",
    ),
    Broken(
        "of another role",
        lambda _, repo: repo.write(".aethr.yaml", TWO_STEPS.replace("Think.", "Ponder.")),
        "its role text changed since then",
    ),
    Broken("of a live run", lambda path, _: edited(path, mode="live"), "of a live run, and this one is mock"),
    Broken(
        "in another order",
        lambda path, _: reordered(path, lambda steps: steps[::-1]),
        "it has step 'review' (pass 1) where 'think' (pass 1) comes next",
    ),
    Broken(
        "with more than a run has",
        lambda path, _: reordered(path, lambda steps: steps * 2),
        "step 'think' comes after its end",
    ),
    Broken(
        "of another commit, with a gate",
        lambda _, repo: repo.commit("another"),
        "HEAD moved since the checkpoint",
        ("--require-review",),
        4,
    ),
    Broken(
        "of another change, with a gate",
        lambda _, repo: repo.write("app.py", "x = 2\n"),
        "the change is not the one that step 'review' reviewed",
        ("--require-review",),
        4,
    ),
)


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_a_checkpoint_that_does_not_fit(project: Repo, folder: Path, case: Broken) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    project.commit("with a workflow")
    project.write("app.py", "x = 1\n")
    assert aethr("run", "--checkpoint-dir", str(folder), TASK, cwd=project.root).returncode == 0
    (path,) = folder.iterdir()
    case.breaks(path, project)
    before = path.read_bytes() if path.is_file() else None
    done = aethr("run", "--resume-checkpoint", f"@{path}", *case.words, cwd=project.root)
    assert (done.returncode, case.said in done.stderr.splitlines()[0]) == (case.code, True), done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert done.stdout == ""
    assert (path.read_bytes() if path.is_file() else None) == before


def test_another_change_without_a_gate_is_said(project: Repo, folder: Path) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    project.commit("with a workflow")
    project.write("app.py", "x = 1\n")
    assert aethr("run", "--checkpoint-dir", str(folder), TASK, cwd=project.root).returncode == 0
    (path,) = folder.iterdir()
    kept = path.read_bytes()
    said = "note: the change is not the one that step 'review' reviewed before the checkpoint"
    for text, expected in (("x = 1\n", False), ("x = 2\n", True)):
        project.write("app.py", text)
        path.write_bytes(kept)
        done = aethr("run", "--resume-checkpoint", f"@{path}", cwd=project.root)
        assert (done.returncode, said in done.stderr) == (0, expected), done.stderr


def test_half_a_character_in_a_checkpoint_is_replaced(project: Repo, folder: Path) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    assert aethr("run", "--checkpoint-dir", str(folder), TASK, cwd=project.root).returncode == 0
    (path,) = folder.iterdir()
    head, step = map(json.loads, path.read_text().splitlines()[:2])
    head["task"] += " \udfff"
    step["step"]["content"] = "half \ud800 of one"
    path.write_text(f"{json.dumps(head)}\n{json.dumps(step)}\n")
    done = aethr("run", "--json", "--resume-checkpoint", f"@{path}", cwd=project.root)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"][0]["content"] == "half ? of one"
