"""What the snapshots around an agent's step cannot show is named, and is never a complete review."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aethr import snapshot
from aethr.snapshot import Change, listing
from tests.fake_agent import DIALECTS, install
from tests.live import PASS, TASK, Aethr, aethr, project, serving, temp
from tests.model_server import text
from tests.support import Repo, make_repo

__all__ = ["aethr", "project", "temp"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="agents need Linux or macOS")

IGNORED = "*.log\nbuild/\nnode_modules/\n__pycache__/\n.env\nlib/\n"
ANOTHER = "the project's own repository (.git) is gone, or is another one"
HELD = "committed or staged, and not what lies in the tree: a.py"


@pytest.fixture
def tree(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A project with ignored files and with another repository in it; made once, and copied."""
    made = tmp_path_factory.getbasetemp() / "a project with blind spots"
    if not made.exists():
        repo = make_repo(made)
        for name in ("a.py", "b.py", "d/x.py", "e/y.py", "id.py"):
            repo.write(name, "$Id$\n" if name == "id.py" else "x = 1\n")
        repo.write(".gitignore", IGNORED)
        repo.write(".gitattributes", "lib/** linguist-generated\n")
        inside = make_repo(repo.root / "sub")
        inside.write("s.py")
        inside.commit()
        repo.commit()
        for name in ("build/o.js", "node_modules/n.js", ".env"):
            repo.write(name)
    return Repo(shutil.copytree(made, tmp_path / "p"))


def after(repo: Repo, script: str) -> Change:
    """What is told of a script of shell, which runs at the top of the project."""
    with snapshot.opened(repo.root, os.environ) as recorder:
        before = snapshot.take(recorder)
        subprocess.run(["sh", "-ec", script], cwd=repo.root, check=True, capture_output=True)
        return snapshot.since(recorder, before)


# --- what is shown after all ---


def test_files_of_repositories_made_in_the_step_are_shown_like_others(tree: Repo) -> None:
    found = after(
        tree,
        """
        git init -q new; echo LINE-1 > new/f.py
        git init -q committed; echo LINE-2 > committed/f.py
        git -C committed add -A; git -C committed commit -qm x
        git init -q new/deeper; echo LINE-3 > new/deeper/f.py
        git init -q d; echo LINE-4 > d/f.py
        git init -q --bare bare.git; echo LINE-5 > bare.git/f.py
        git init -q empty
        """,
    )
    for number in range(1, 6):
        assert f"+LINE-{number}\n" in found.artifacts.git_diff
    assert {"new/f.py", "committed/f.py", "new/deeper/f.py", "d/f.py"} < set(found.artifacts.changed_files)
    assert "Subproject" not in found.artifacts.git_diff
    assert found.artifacts.unseen == ()
    assert found.notes[0] == "the agent made a repository: committed, d, empty, new, new/deeper"


def test_what_is_ignored_in_a_new_repository_is_not_sent(tree: Repo) -> None:
    found = after(
        tree,
        """
        git init -q new; echo 'own*' > new/.gitignore; echo SECRET | tee new/own.py new/.env
        mkdir new/node_modules; echo SECRET > new/node_modules/x.js
        """,
    )
    assert found.artifacts.changed_files == ("new/.gitignore",)
    assert "SECRET" not in found.artifacts.git_diff
    assert found.artifacts.unseen == ("in another repository: new/.env, new/own.py",)
    assert found.artifacts.generated == ("made again by tools, so not reviewed: new/node_modules",)


@pytest.mark.parametrize(
    "attributes",
    [
        "echo '*.py ident' > .gitattributes",
        "echo '*.py ident' > .gitattributes; echo .gitattributes >> .gitignore",
        pytest.param("echo '*.py ident' > .git/info/attributes", marks=pytest.mark.slow),
        pytest.param("echo '*.py working-tree-encoding=UTF-7' > .gitattributes", marks=pytest.mark.slow),
        "echo '*.py -diff -text binary diff=evil filter=evil' > .gitattributes",
        pytest.param(
            "git config core.attributesFile .git/own; echo '*.py ident' > .git/own", marks=pytest.mark.slow
        ),
    ],
)
def test_no_attribute_of_the_agent_rewrites_or_hides_what_is_shown(tree: Repo, attributes: str) -> None:
    found = after(tree, attributes + "; echo '$Id: +AGg- BACKDOOR $' > id.py")
    assert "-$Id$\n+$Id: +AGg- BACKDOOR $\n" in found.artifacts.git_diff


def test_line_endings_hidden_by_a_new_attribute_are_shown(tree: Repo) -> None:
    odd = 'new"\n\\name.py'
    (tree.root / odd).write_text("x = 1\n")
    write = "for f in a.py new*; do printf 'x = 1\\r\\n' > \"$f\"; done"
    script = f"echo '*.py text eol=crlf' > .gitattributes; touch b.py; {write}"
    found = after(tree, script)
    assert found.artifacts.changed_files == (".gitattributes", "a.py", odd)
    assert "+x = 1\r\n" in found.artifacts.git_diff


def test_bits_that_keep_git_from_looking_hide_nothing(tree: Repo) -> None:
    found = after(
        tree,
        """
        git update-index --assume-unchanged a.py; git update-index --skip-worktree b.py
        echo LINE-1 > a.py; echo LINE-2 > b.py
        echo z.py >> .git/info/exclude; echo LINE-3 > z.py
        """,
    )
    for number in range(1, 4):
        assert f"+LINE-{number}\n" in found.artifacts.git_diff
    assert "the agent changed the index (git add, git rm or git reset)" in found.notes


def test_a_file_that_became_a_folder_and_the_reverse(tree: Repo) -> None:
    script = "rm a.py b.py; mkdir a.py b.py; echo LINE > a.py/z; rm -r d e; echo LINE > d; ln -s /etc e"
    found = after(tree, script)
    assert found.artifacts.changed_files == ("a.py", "a.py/z", "b.py", "d", "d/x.py", "e", "e/y.py")
    assert found.artifacts.unseen == ()


# --- what cannot be shown is named ---


def test_what_lies_in_the_tree_and_cannot_be_shown_is_named(tree: Repo) -> None:
    bind = "import socket; socket.socket(socket.AF_UNIX).bind('b.py')"
    found = after(
        tree,
        f"""
        echo x > build/p.js; echo x > .env; rm build/o.js; echo x > n.log
        echo z.py >> .gitignore; echo x > z.py; echo '*' > e/.gitignore; echo x > e/z.py
        mkdir -p fake/.git; echo x > fake/.git/f.py
        git init -q build/n; echo x > build/n/f.py
        echo y > sub/s.py; echo y > sub/n.py
        mkdir one two; echo 'gitdir: ../sub/.git' > one/.git; echo 'gitdir: /none' > two/.git
        git worktree add -q three
        rm a.py b.py; mkfifo a.py fifo; '{sys.executable}' -c "{bind}"
        git init -q hooked; echo x > hooked/.git/hooks/pre-commit
        git init -q set; git -C set config core.fsmonitor x
        """,
    )
    assert found.artifacts.unseen[:3] == (
        "ignored by git: .env, build/o.js, build/p.js, e/.gitignore, e/z.py, fake/.git/f.py, n.log, z.py",
        "in another repository: build/n/f.py, sub/n.py, sub/s.py",
        "cannot be shown: a.py (a FIFO), b.py (a socket), fifo (a FIFO), one/.git (leads git elsewhere), "
        "three/.git (leads git elsewhere), two/.git (leads git elsewhere)",
    )
    assert "in a repository that was made: hooked/.git/hooks/pre-commit, set/.git/config" in (
        found.artifacts.unseen
    )


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("rm -r sub", "in another repository: sub/s.py"),
        ("git config core.fsmonitor x", "in the project's repository: .git/config"),
        ("git rm -q --cached a.py", HELD),
        ("rm .git/HEAD; mkfifo .git/HEAD", ANOTHER),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("cd sub; echo y > s.py; git commit -qam y", "in another repository: sub/s.py"),
                ("echo x > .git/hooks/pre-push", "in the project's repository: .git/hooks/pre-push"),
                (
                    "git sparse-checkout set d",
                    "in the project's repository: .git/config, .git/config.worktree, "
                    ".git/info/sparse-checkout",
                ),
                (
                    'git -c protocol.file.allow=always submodule add -q "$PWD/sub" m',
                    "cannot be shown: m/.git (leads git elsewhere)",
                ),
                ("echo y > a.py; git add a.py; echo 'x = 1' > a.py", HELD),
                ("echo y > a.py; git commit -qam y; echo 'x = 1' > a.py", HELD),
                (
                    "git switch -qc n; echo y > a.py; git commit -qam y; git switch -q -",
                    "commits that are not checked out: refs/heads/n",
                ),
                ("echo y > a.py; git stash -q", "commits that are not checked out: the stash"),
                ("mv .git ../moved; ln -s ../moved .git", ANOTHER),
                ("rm -r .git; git init -q -b main; git add -A; git commit -qm y", ANOTHER),
                ("rm .git/index; mkfifo .git/index", ANOTHER),
                ("rm .git/config; mkfifo .git/config", ANOTHER),
            )
        ),
    ],
)
def test_what_moved_and_cannot_be_shown_is_named_in_a_line(tree: Repo, script: str, line: str) -> None:
    found = after(tree, script)
    assert line in found.artifacts.unseen
    assert found.moved


@pytest.mark.parametrize(
    "way",
    [
        "find .git -delete",
        *(
            pytest.param(way, marks=pytest.mark.slow)
            for way in ("rm -r .git", "mv .git ../moved", "mv .git old; echo 'gitdir: old' > .git")
        ),
    ],
)
def test_without_its_repository_the_written_files_are_named(tree: Repo, way: str) -> None:
    found = after(tree, f"{way}; echo y > a.py; rm b.py; echo y > z.py")
    assert {"a.py", "b.py", "z.py"} <= set(found.artifacts.changed_files)
    assert "d/x.py" not in found.artifacts.changed_files
    assert ANOTHER in found.artifacts.unseen


@pytest.mark.parametrize("name", [".gitignore", "d/.gitattributes"])
def test_nothing_waits_at_a_fifo_that_git_would_read(tree: Repo, name: str) -> None:
    found = after(tree, f"rm -f {name}; mkfifo {name}; echo y > a.py")
    assert "a.py" in found.artifacts.changed_files
    assert f"{name} is a FIFO" in found.artifacts.unseen[0]


def test_a_damaged_encoding_is_no_failed_step(tree: Repo) -> None:
    found = after(tree, "echo '*.py working-tree-encoding=UTF-16' > .gitattributes; echo y > a.py")
    assert found.artifacts.changed_files == (".gitattributes", "a.py")
    assert len(found.artifacts.unseen) == 1


LOOK = """
import os, sys
from pathlib import Path
from tests.support import Repo
from tests.snapshot.test_unseen import after
for script in sys.argv[1:]:
    print(after(Repo(Path.cwd()), script).artifacts.unseen)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="root gives up a right that only Linux can take from it")
def test_what_cannot_be_read_is_named_also_when_it_was_so_before(repo: Repo) -> None:
    for name in ("kept.py", "closed.py", "shut/x.py", "hidden.py"):
        repo.write(name)
    repo.commit()
    repo.write("hidden.py", "one\n").chmod(0)
    edit = "chmod 600 hidden.py; echo y > hidden.py; chmod 0 hidden.py; echo y > closed.py"
    words = [sys.executable, "-c", LOOK, "true", f"{edit}; chmod 0 closed.py shut"]
    path = str(Path(__file__).parents[2])
    prctl = ctypes.CDLL(None).prctl

    def read_like_others() -> None:
        for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; 24 is PR_CAPBSET_DROP
            prctl(24, right, 0, 0, 0)

    done = subprocess.run(
        words,
        cwd=repo.root,
        env={**os.environ, "PYTHONPATH": path},
        preexec_fn=read_like_others,
        capture_output=True,
        text=True,
        check=False,
    )
    (repo.root / "shut").chmod(0o700)
    untouched, touched = done.stdout.splitlines()
    assert untouched == "()", done.stderr
    line = "cannot be shown: closed.py (not readable), hidden.py (not readable), shut (not readable)"
    assert line in touched


def test_a_tree_of_which_not_all_was_looked_at_is_said_to(tree: Repo) -> None:
    top = os.fsencode(tree.root)
    assert listing.walk(top, b"", most=100).whole
    part = listing.walk(top, b"", most=5)
    assert (part.whole, len(part.files) < 20) == (False, True)
    with snapshot.opened(tree.root, os.environ) as recorder:
        before = snapshot.take(recorder)
        cut = before.look._replace(walk=before.look.walk._replace(whole=False))
        found = snapshot.since(recorder, before._replace(look=cut))
    assert found.artifacts.unseen == ("not all was looked at: there are more than 1,000,000 files",)


# --- what tools make again ---


def test_caches_and_installed_packages_are_noted_and_no_gap(tree: Repo) -> None:
    found = after(
        tree,
        """
        mkdir -p e/__pycache__ lib
        echo y >> node_modules/n.js; echo y > e/__pycache__/y.pyc; echo y > lib/made.js
        """,
    )
    assert found.artifacts.unseen == ()
    assert found.artifacts.generated == (
        "made again by tools, so not reviewed: e/__pycache__, lib/made.js, node_modules",
    )
    assert found.moved


def test_an_attribute_of_the_step_itself_calls_nothing_generated(tree: Repo) -> None:
    found = after(tree, "echo 'build/** linguist-generated' >> .gitattributes; echo y > build/p.js")
    assert found.artifacts.unseen == ("ignored by git: build/p.js",)


def test_a_folder_of_tools_that_git_tracks_is_shown(tree: Repo) -> None:
    tree.git("add", "-f", "node_modules/n.js")
    tree.git("commit", "-qm", "kept here")
    found = after(tree, "echo y > node_modules/n.js; echo y > node_modules/new.js")
    assert found.artifacts.changed_files == ("node_modules/n.js",)
    assert found.artifacts.generated == ("made again by tools, so not reviewed: node_modules/new.js",)


def test_where_nothing_moved_nothing_is_said(tree: Repo) -> None:
    found = after(
        tree, "git status; git log; git diff; touch a.py; git gc -q; git pack-refs --all; mkdir -p q/r"
    )
    assert not found.moved
    assert found.artifacts == type(found.artifacts)()


def test_what_an_agent_usually_does_with_git_leaves_no_gap(tree: Repo) -> None:
    for script in (
        "echo y > a.py; git add a.py",
        "git commit -qm y",
        "git switch -qc topic; echo z > b.py; echo n > n.py; git add -A; git commit -qm z",
        "echo n > m.py; git add -N m.py",
        "git tag v1; git switch -q -; git merge -q topic",
        "git reset -q; git mv d/x.py d/X.py",
    ):
        assert after(tree, script).artifacts.unseen == (), script


# --- the promise, through a whole run ---

WORKFLOW = """\
workflow: two
roles: {implementer: "Implement.", reviewer: "Review."}
models: {implementer: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: implement, role: implementer, backend: opencode}
  - {id: review, role: reviewer, context: [CONTEXT]}
"""
SAY = DIALECTS["opencode"]
DONE = SAY.says(*SAY.text("It is done."), *SAY.finish())


@pytest.mark.parametrize(
    ("script", "context", "code", "said"),
    [
        ("echo x > n.log", "latest_diff", 4, "ignored by git: n.log"),
        ("git init -q n; echo BACKDOOR > n/f.py", "latest_diff", 0, "the agent made a repository: n"),
        ("mkdir __pycache__; echo x > __pycache__/app.pyc", "latest_diff", 0, "not reviewed: __pycache__"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("echo x > n.log", "git_diff", 4, "ignored by git: n.log"),
                ("echo y > app.py; echo x > n.log", "latest_diff", 4, "ignored by git: n.log"),
                ("rm app.py; mkfifo app.py", "latest_diff", 4, "app.py (a FIFO)"),
                ("find .git -delete; echo z > z.py", "latest_diff", 4, ANOTHER),
                ("rm -r sub", "latest_diff", 4, "sub/s.py"),
            )
        ),
    ],
)
def test_a_gate_never_opens_for_what_was_not_seen(
    aethr: Aethr,
    project: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    context: str,
    code: int,
    said: str,
) -> None:
    project.write(".aethr.yaml", WORKFLOW.replace("CONTEXT", context))
    project.write(".gitignore", IGNORED)
    make_repo(project.root / "sub").write("s.py")
    Repo(project.root / "sub").commit()
    project.commit()
    install(tmp_path / "bin", SAY, script + "\n" + DONE)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr("run", "--json", "--fail-on", "revise", "--require-review", TASK)
    assert done.code == code, done.err
    assert said in done.err
    assert "changed nothing" not in done.err
    assert "changed: nothing" not in done.err
    step = done.record["steps"][0]
    assert "the agent changed nothing" not in step["notes"]
    if code == 4:
        assert any(said in line for line in step["artifacts"]["unseen"])
        assert done.record["review"]["reason"]
    prompts = "".join(body["messages"][0]["content"] for body in server.bodies)
    assert ("BACKDOOR" in prompts) == ("BACKDOOR" in script)
