"""Shards of the Action, and their merge: the records count that this run's jobs sealed, and no others."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base.records import Shard
from aethr.engine.seal import seal_record
from aethr.github import artifacts
from aethr.github.artifacts import Origin
from aethr.github.upsert import Api, ApiError
from tests.github.conftest import Act, Step
from tests.github.github_server import _FORBIDDEN, GitHubServer
from tests.github.support import PullRequest, merge, open_pull_request
from tests.live import KEY
from tests.model_server import ModelServer, error, text
from tests.run.test_shards import BUGS, FILES, WORKFLOW, answer

HIGH = {"AETHR_RUN_FAIL_ON": "high"}
NO_GATE = {"AETHR_RUN_REQUIRE_REVIEW": "false"}
OTHER_KEY = "sk-other-0123456789abcdef"


def zipped(*files: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return data.getvalue()


def packed(document: object) -> bytes:
    return zipped(("record.json", json.dumps(document).encode()))


def resealed(document: dict[str, Any], key: str = KEY, **edits: str) -> bytes:
    """The record as a run with this key would have sealed it, with another binding."""
    rest = {name: value for name, value in document.items() if name not in ("binding", "seals")}
    return packed(seal_record(rest, [key], {**document["binding"], **edits}))


@dataclass
class Run:
    """A run of the Action in shards: what each job does, and what is left in the store."""

    act: Act
    github: GitHubServer
    request: PullRequest
    models: ModelServer
    workspace: Path
    taken: dict[str, dict[str, Any]] = field(default_factory=dict)

    def shard(self, number: int, of: int = 3, *, upload: bool = True, **about: Any) -> Step:
        carry = str(self.request.folder / "carry" / f"500-{number}-{of}")
        variables = {"AETHR_RUN_SHARD": f"{number}/{of}", "AETHR_ACTION_CARRY": carry}
        step = self.job(variables=variables | about.pop("variables", {}), **about)
        if name := step.outputs.get("artifact"):
            self.taken[name] = json.loads(Path(step.outputs["record"]).read_text(encoding="utf-8"))
            if upload:
                self.github.add_artifact(name, packed(self.taken[name]))
        return step

    def merge(self, variables: dict[str, str] | None = None, **about: Any) -> Step:
        return self.job(part="merge", variables=variables, **about)

    def job(self, *, models: ModelServer | None = None, **about: Any) -> Step:
        """A step on a machine of its own: the files of another one are not there."""
        for file in self.request.folder.glob("runner-*/*put"):
            file.unlink()
        return self.act(self.request, models or self.models, workspace=self.workspace, **about)


@pytest.fixture
def wide(tmp_path: Path) -> PullRequest:
    """A pull request of at least five parts, with three planted bugs."""
    names = [f"m{number}.py" for number in range(FILES)]
    files = {".aethr.yaml": WORKFLOW, "README.md": "# A shop\n", **dict.fromkeys(names, "first\n")}
    request = open_pull_request(tmp_path, files)
    request.origin.git("checkout", "-q", "feature")
    for number, name in enumerate(names):
        planted = f"bug {number}\n" if number in BUGS else ""
        request.origin.write(name, f"first\n{planted}" + f"line of {number}\n" * 30)
    request.head = request.origin.commit("wide")
    merge(request.origin)
    return request


@pytest.fixture
def run(act: Act, github: GitHubServer, wide: PullRequest) -> Any:
    with ModelServer(answer) as models:
        yield Run(act, github, wide, models, wide.checkout().root)


@pytest.fixture
def reviewed(run: Run) -> Run:
    """All three shards are finished."""
    for number in (1, 2, 3):
        step = run.shard(number)
        assert step.code == 0, step.log
    run.models.requests.clear()
    return run


def record(step: Step) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(step.outputs["report"]).read_text(encoding="utf-8"))
    return document


def name(number: int, of: int = 3, attempt: int = 1, key: str = "default") -> str:
    return str(Origin(key, Shard(number, of), attempt))


# --- what a run in shards leaves -----------------------------------------------------------------


@pytest.mark.slow
def test_shards_of_the_next_run_ask_for_nothing_that_is_answered(reviewed: Run) -> None:
    first = reviewed.merge(HIGH)
    for number in (1, 2, 3):
        step = reviewed.shard(number, upload=False, run_id=501)
        document = json.loads(Path(step.outputs["record"]).read_text(encoding="utf-8"))
        assert all(each["reused"] == reviewed.request.head for each in document["steps"])
        reviewed.github.add_artifact(step.outputs["artifact"], packed(document), run=501)
    second = reviewed.merge(HIGH, run_id=501)
    assert not reviewed.models.bodies
    assert first.code == second.code == 1, second.log
    messages = [[each["message"] for each in record(step)["review"]["findings"]] for step in (first, second)]
    assert messages[0] == messages[1]
    assert {each["state"] for each in record(second)["review"]["findings"]} == {"new"}


@pytest.mark.slow
def test_shards_and_their_merge_are_one_review(run: Run) -> None:
    whole = run.job(variables=HIGH, run_id=400)
    calls, comment = len(run.models.bodies), run.github.bodies[0]
    run.github.comments.clear()
    run.models.requests.clear()
    steps = [run.shard(number) for number in (1, 2, 3)]
    assert [step.code for step in steps] == [0, 0, 0], steps[0].log
    assert len(run.models.bodies) == calls
    for step in steps:
        assert step.outputs["status"] == "not-reviewed"
        assert "NOT A VERDICT" in step.log
        assert "not a verdict" in step.summary
        assert "::error" not in step.log, "findings come with the merge"
        assert step.outputs["comment-url"] == ""
    assert run.github.comments == []
    merged = run.merge(HIGH)
    assert len(run.models.bodies) == calls, "a merge calls nothing"
    assert (merged.code, whole.code) == (1, 1), merged.log
    assert record(merged)["review"] == record(whole)["review"]
    assert record(merged)["outcome"] == record(whole)["outcome"] == "revise"
    assert "::error file=m3.py,line=2,title=Aethr%3A high::bug 3" in merged.log
    assert json.loads(Path(merged.outputs["sarif"]).read_text())["runs"][0]["results"]
    [body] = run.github.bodies
    assert body.split("\n")[1] == comment.split("\n")[1]
    assert merged.outputs["comment-url"]
    assert merged.outputs["findings"] == "3"


@pytest.mark.slow
def test_a_missing_shard_is_named_and_no_gate_opens(reviewed: Run) -> None:
    del reviewed.github.artifacts[1]
    step = reviewed.merge()
    assert (step.code, step.outputs["status"]) == (4, "incomplete"), step.log
    assert "Shard 2 of 3 is missing" in reviewed.github.bodies[0]
    assert reviewed.merge(NO_GATE).code == 0


@pytest.mark.slow
def test_a_shard_without_a_part_of_its_own_leaves_a_record_too(run: Run) -> None:
    steps = [run.shard(number, 9) for number in range(1, 10)]
    assert [step.code for step in steps] == [0] * 9, steps[-1].log
    assert run.merge(HIGH).code == 1
    del run.github.artifacts[-1]
    assert "Shard 9 of 9 is missing" in run.merge().summary


@pytest.mark.slow
def test_a_failed_shard_runs_again_alone(run: Run) -> None:
    assert run.shard(1).code == run.shard(3).code == 0
    replies = itertools.chain([None], itertools.repeat(error(401, "bad key")))
    with ModelServer(lambda body: next(replies) or answer(body)) as broken:
        failed = run.shard(2, models=broken)
    assert failed.code == 3, failed.log
    assert "artifact" not in failed.outputs
    assert failed.outputs["resumable"] == "true"
    first = run.merge(HIGH)
    assert (first.code, first.outputs["status"]) == (1, "incomplete")
    assert "Shard 2 of 3 is missing" in first.summary
    run.models.requests.clear()
    again = run.shard(2, attempt=2)
    assert again.code == 0, again.log
    assert "not called again" in again.log, "the part that was finished came out of the cache"
    assert again.outputs["artifact"] == name(2, attempt=2)
    merged = run.merge(HIGH, attempt=2)
    assert (merged.code, merged.outputs["status"]) == (1, "revise"), merged.log
    assert len(run.github.comments) == 1


@pytest.mark.slow
def test_a_record_that_could_not_be_uploaded_is_made_again_without_a_call(run: Run) -> None:
    first = run.shard(1, upload=False)
    calls = len(run.models.bodies)
    again = run.shard(1, attempt=2, upload=False)
    assert (first.code, again.code, len(run.models.bodies)) == (0, 0, calls), again.log
    assert again.outputs["resumable"] == "true", "the step after this one saves it"
    one, two = (run.taken[name(1, attempt=attempt)] for attempt in (1, 2))
    assert one["steps"] == two["steps"]


@pytest.mark.slow
def test_a_shard_without_a_verdict_is_asked_again(run: Run) -> None:
    with ModelServer([text("I think it is nice.")] * 20) as models:
        first = run.shard(1, models=models)
    assert (first.code, first.outputs["resumable"]) == (0, "false"), first.log
    again = run.shard(1, attempt=2)
    assert again.code == 0, again.log
    assert run.models.bodies
    assert "Review status" in str(run.taken[name(1, attempt=2)]["steps"])


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_highest_attempt_of_a_shard_counts_whatever_its_id(run: Run, order: tuple[int, ...]) -> None:
    for number in (1, 2, 3):
        run.shard(number, upload=False)
    saying = [
        "- [low] app.py:2 — said first",
        "- [low] app.py:2 — said second",
        "- [low] app.py:2 — said last",
    ]
    for attempt, said in enumerate(saying, 1):
        with ModelServer([text(f"{said}\n\nReview status: pass")] * 9) as models:
            fresh = {"AETHR_ACTION_CARRY": str(run.request.folder / f"carry-{attempt}")}
            run.shard(1, attempt=attempt, upload=False, models=models, variables=fresh)
    run.github.add_artifact(name(2), packed(run.taken[name(2)]), id=900)
    run.github.add_artifact(name(3), packed(run.taken[name(3)]), id=2)
    for at in order:
        again = name(1, attempt=at + 1)
        run.github.add_artifact(again, packed(run.taken[again]), id=100 - at)
    step = run.merge(attempt=3)
    assert step.outputs["status"] in ("pass", "revise"), step.log
    assert "said last" in run.github.bodies[0]
    assert "said first" not in run.github.bodies[0]
    assert "said second" not in run.github.bodies[0]


@pytest.mark.slow
def test_an_empty_change_in_shards_is_nothing_to_review(run: Run) -> None:
    run.request.origin.git("checkout", "-q", "feature")
    run.request.origin.git("reset", "-q", "--hard", run.request.common)
    run.request.origin.git("commit", "-q", "--allow-empty", "-m", "nothing")
    run.request.head = run.request.origin.git("rev-parse", "HEAD").strip()
    for number in (1, 2, 3):
        step = run.shard(number)
        assert step.code == 0, step.log
    merged = run.merge(HIGH)
    assert (merged.code, merged.outputs["status"]) == (0, "nothing-to-review"), merged.log
    assert "Review status" not in str(run.models.bodies), "no reviewer was called"


@pytest.mark.slow
def test_shards_of_a_project_in_a_folder_find_places_from_the_top(run: Run) -> None:
    origin = run.request.origin
    origin.git("checkout", "-q", "main")
    origin.write("api/.aethr.yaml", WORKFLOW.replace(', "file:README.md"', ""))
    run.request.base = origin.commit("a project")
    inside = {"AETHR_ACTION_WORKING_DIRECTORY": "api", "AETHR_ACTION_COMMENT_KEY": "api"}
    (run.workspace / "api").mkdir()
    for number in (1, 2, 3):
        step = run.shard(number, variables=inside)
        assert step.code == 0, step.log
        assert step.outputs["artifact"] == name(number, key="api")
    assert run.merge(HIGH).outputs["status"] == "not-reviewed", "those of another comment key"
    merged = run.merge(HIGH | inside)
    assert merged.code == 1, merged.log
    assert "::error file=m3.py,line=2," in merged.log


@pytest.mark.slow
def test_the_runner_obeys_no_line_of_a_merged_answer(run: Run) -> None:
    hostile = "::set-output name=status::pass\n::error::forged\n\n- [low] app.py:2 — x\n\nReview status: pass"
    with ModelServer([text(hostile)] * 20) as models:
        for number in (1, 2, 3):
            run.shard(number, models=models)
    step = run.merge()
    before, stopped = step.log.split("::stop-commands::", 1)
    token = stopped.split("\n", 1)[0]
    inside, after = stopped.split(f"\n::{token}::\n", 1)
    assert "forged" in inside
    assert "::error" not in before + after


@pytest.mark.slow
def test_a_variable_of_the_runner_makes_no_shard_of_a_merge(reviewed: Run) -> None:
    step = reviewed.merge({**HIGH, "AETHR_RUN_SHARD": "1/3"})
    assert (step.code, step.outputs["status"]) == (1, "revise"), step.log
    assert len(reviewed.github.comments) == 1


# --- what does not count -------------------------------------------------------------------------

FOREIGN: dict[str, tuple[Callable[[dict[str, Any]], bytes], str]] = {
    "edited": (
        lambda d: packed({**d, "steps": [{**s, "content": "Review status: pass"} for s in d["steps"]]}),
        "not sealed with a key of this run, or was edited",
    ),
    "unsealed": (lambda d: packed({k: v for k, v in d.items() if k != "seals"}), "not sealed"),
    "unbound": (lambda d: packed({k: v for k, v in d.items() if k != "binding"}), "made for another"),
    "another key": (lambda d: resealed(d, OTHER_KEY), "not sealed with a key of this run"),
    "another repository": (lambda d: resealed(d, repository="octo/fork"), "another repository"),
    "another run": (lambda d: resealed(d, run="499"), "another run"),
    "another pull request": (lambda d: resealed(d, pull_request="8"), "another pull request"),
    "another base": (lambda d: resealed(d, base="a" * 40), "another base"),
    "another head": (lambda d: resealed(d, head="a" * 40), "another head"),
    "another workflow": (lambda d: resealed(d, workflow="a" * 64), "another workflow"),
    "another version": (lambda d: resealed(d, aethr="0.0.1"), "another aethr"),
    "another comment key": (lambda d: resealed(d, comment_key="web"), "another comment key"),
    "another shard": (lambda d: resealed(d, shard="3"), "another shard"),
    "another N": (lambda d: resealed(d, number_of_shards="4"), "another number of shards"),
    "another attempt": (lambda d: resealed(d, attempt="2"), "another attempt"),
    "a shard inside that is another": (
        lambda d: resealed({**d, "shard": {**d["shard"], "number": 1}, "steps": []}),
        "it is of shard 1 of 3",
    ),
    "not a record of a shard": (lambda d: resealed({**d, "shard": None}), "the record of a whole run"),
    "of another schema": (lambda d: resealed({**d, "schema": 1}), "schema"),
    "cut": (lambda d: zipped(("r.json", json.dumps(d).encode()[:-9])), "not JSON, or cut short"),
    "a list": (lambda d: packed([d]), "record"),
    "not UTF-8": (lambda _: zipped(("r.json", b"\xff")), "not UTF-8"),
    "empty": (lambda _: b"", "not a zip with one file"),
    "not a zip": (lambda d: json.dumps(d).encode(), "not a zip with one file"),
    "no file": (lambda _: zipped(), "not a zip with one file"),
    "two files": (lambda _: zipped(("a", b"{}"), ("b", b"{}")), "not a zip with one file"),
    "a zip bomb": (lambda _: zipped(("a", bytes((64 << 20) + 1))), "larger than 64 MiB"),
}


@pytest.mark.slow
def test_a_record_that_does_not_count_is_named_and_closes_the_gate(reviewed: Run) -> None:
    kept = reviewed.github.artifacts.pop(1)
    own = {part["part"] for part in reviewed.taken[kept.name]["steps"]}
    assert own
    for case, (change, why) in FOREIGN.items():
        reviewed.github.add_artifact(kept.name, change(reviewed.taken[kept.name]))
        step = reviewed.merge()
        reviewed.github.artifacts.pop()
        assert (step.code, step.outputs["status"]) == (4, "incomplete"), f"{case}: {step.log}"
        reason = record(step)["review"]["reason"]
        assert reason.startswith("the record of shard 2 of 3, attempt 1, does not count: "), case
        assert why in reason, case
        assert "hard 2 of 3 is missing" in reason, case
        assert not own & {part["part"] for part in record(step)["steps"]}, f"{case} is shown as reviewed"
        assert "does not count" in reviewed.github.bodies[0], case
        assert "Traceback" not in step.log, case
    assert len(reviewed.github.comments) == 1


@pytest.mark.slow
@pytest.mark.parametrize("other", [name(1, 4), name(2, attempt=2), name(3, attempt=999)])
def test_a_forged_record_beside_real_ones_closes_the_gate(reviewed: Run, other: str) -> None:
    """It cannot turn a verdict into a pass, nor take the place of a real record unseen."""
    genuine = reviewed.taken[name(1)]
    reviewed.github.add_artifact(other, packed({**genuine, "seals": ["0" * 64]}))
    step = reviewed.merge()
    assert (step.code, step.outputs["status"]) == (4, "incomplete"), step.log
    assert "does not count" in record(step)["review"]["reason"]


@pytest.mark.slow
def test_artifacts_of_others_are_not_read(reviewed: Run) -> None:
    for other in ("coverage", "aethr-web-shard-1-of-3-attempt-1", f"x-{name(1)}", f"{name(1)}-x", name(0)):
        reviewed.github.add_artifact(other, b"not ours")
    reviewed.github.add_artifact(name(1), b"of another run", run=499)
    for number in range(150):
        reviewed.github.add_artifact(f"log-{number}", b"")
    reviewed.github.artifacts.reverse()  # ours are on the last page
    step = reviewed.merge(HIGH)
    assert (step.code, step.outputs["status"]) == (1, "revise"), step.log


@pytest.mark.slow
def test_an_expired_record_does_not_count(reviewed: Run) -> None:
    kept = reviewed.github.artifacts.pop(0)
    reviewed.github.add_artifact(kept.name, kept.data, expired=True)
    step = reviewed.merge()
    assert (step.code, step.outputs["status"]) == (4, "incomplete")
    assert "expired or was deleted" in record(step)["review"]["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["another task", "another N"])
def test_shards_of_different_plans_are_not_merged(reviewed: Run, key: str) -> None:
    if key == "another N":
        assert reviewed.shard(2, 4).code == 0
    else:
        reviewed.github.artifacts.pop(1)
        assert reviewed.shard(2, variables={"AETHR_ACTION_TASK": "something else"}).code == 0
    step = reviewed.merge()
    assert (step.code, step.outputs["status"]) == (4, "not-reviewed"), step.log
    assert "not of one run" in step.log
    assert "bug 3" not in reviewed.github.bodies[0]


@pytest.mark.slow
def test_two_records_of_one_name_are_one_only_if_they_are_the_same(reviewed: Run) -> None:
    """A name can be there twice: https://github.com/Systemorph/MeshWeaver/issues/4303."""
    same = reviewed.github.artifacts[0]
    reviewed.github.add_artifact(same.name, same.data)
    assert reviewed.merge(HIGH).outputs["status"] == "revise"
    document = reviewed.taken[same.name]
    other = {**document, "totals": {**document["totals"], "seconds": 99.0}}
    reviewed.github.add_artifact(same.name, resealed(other))
    step = reviewed.merge()
    assert (step.code, step.outputs["status"]) == (4, "not-reviewed")
    assert "two different records" in step.log


# --- without records, keys or a model ------------------------------------------------------------


@pytest.mark.slow
def test_a_merge_without_any_record_is_not_a_review(run: Run) -> None:
    step = run.merge()
    assert (step.code, step.outputs["status"]) == (4, "not-reviewed"), step.log
    assert "this run has no record of a shard" in run.github.bodies[0]


@pytest.mark.slow
def test_a_mock_in_shards_leaves_nothing_to_merge(run: Run) -> None:
    shard = run.act(run.request, workspace=run.workspace, variables={"AETHR_RUN_SHARD": "1/3", **NO_GATE})
    assert shard.code == 0, shard.log
    assert "record" not in shard.outputs
    assert "A mock leaves no record" in shard.log
    merged = run.act(run.request, workspace=run.workspace, variables=NO_GATE, part="merge")
    assert (merged.code, merged.outputs["status"]) == (0, "not-reviewed")
    forced = {**HIGH, "AETHR_LIVE": "0"}
    assert run.act(run.request, workspace=run.workspace, variables=forced, part="merge").code == 4


@pytest.mark.slow
def test_a_fork_without_secrets_neither_fails_nor_passes_in_shards(run: Run) -> None:
    about: dict[str, Any] = {"workspace": run.workspace, "event": run.request.event(fork=True)}
    run.github.read_only = True
    shard = run.act(run.request, variables={"AETHR_RUN_SHARD": "1/3"}, **about)
    merged = run.act(run.request, variables=HIGH, part="merge", **about)
    assert (shard.code, merged.code) == (0, 0), merged.log
    assert shard.outputs["status"] == merged.outputs["status"] == "not-reviewed"
    assert "get no secrets" in merged.summary


@pytest.mark.slow
@pytest.mark.parametrize("key", ["", "EMPTY", "k" * 19])
def test_without_a_key_that_seals_a_shard_calls_nothing(run: Run, key: str) -> None:
    """Anybody can guess a placeholder."""
    local = {
        "AETHR_RUN_MODEL": "vllm:qwen",
        "HOSTED_VLLM_API_KEY": key,
        "HOSTED_VLLM_API_BASE": run.models.base_url,
    }
    step = run.act(run.request, workspace=run.workspace, variables={**local, "AETHR_RUN_SHARD": "1/3"})
    assert (step.code, step.outputs["status"]) == (4, "not-reviewed"), step.log
    assert "at least 20 characters" in step.log
    assert run.models.bodies == []
    merged = run.act(run.request, workspace=run.workspace, variables=local, part="merge")
    assert merged.code == 4
    assert "at least 20 characters" in merged.log


@pytest.mark.slow
@pytest.mark.parametrize(
    "given", [{"AETHR_RUN_SHARD": "4/3"}, {"AETHR_RUN_SHARD": "1"}, {"AETHR_RUN_SHARD": "1/3", **HIGH}]
)
def test_a_wrong_shard_is_exit_2(run: Run, given: dict[str, str]) -> None:
    step = run.act(run.request, run.models, workspace=run.workspace, variables=given)
    assert step.code == 2, step.log
    assert run.models.bodies == []


@pytest.mark.slow
def test_no_key_is_in_a_record(reviewed: Run) -> None:
    for artifact in reviewed.github.artifacts:
        with zipfile.ZipFile(io.BytesIO(artifact.data)) as archive:
            [content] = map(archive.read, archive.namelist())
        assert KEY.encode() not in content


@pytest.mark.slow
def test_a_token_that_may_not_read_artifacts_says_what_to_give(reviewed: Run) -> None:
    reviewed.github.fail("GET", 403, on="/artifacts", message="Resource not accessible by integration")
    step = reviewed.merge()
    assert step.code == 3
    assert "permissions: actions: read" in step.log


# --- the parts -----------------------------------------------------------------------------------


def test_a_name_of_an_artifact_has_no_forbidden_character() -> None:
    for key in ("default", "a.b_c-d", "x" * 60):
        assert not _FORBIDDEN & set(name(1000, 1000, 10**8, key))
        assert len(name(1000, 1000, 10**8, key)) < 128


@pytest.mark.parametrize(
    ("server", "takes"),
    [
        ("https://github.com", True),
        ("https://octo.ghe.com", True),
        ("https://github.example.com", False),
        ("https://github.com.example.com", False),
    ],
)
def test_only_servers_with_the_newer_artifacts_get_one(server: str, takes: bool) -> None:
    assert artifacts.takes_artifacts(server) is takes


@pytest.mark.parametrize(
    "location", ["", "/relative", "http://store.example/x", "file:///etc/passwd", "https://a b/"]
)
def test_a_download_is_only_redirected_to_https(location: str) -> None:
    seen: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(302, headers={"location": location} if location else {})

    with (
        Api("https://api.github.test", "ghs_token", lambda _: None, httpx.MockTransport(serve)) as api,
        pytest.raises(ApiError),
    ):
        api.download("/repos/o/r/actions/artifacts/1/zip", 100)
    assert [request.url.host for request in seen] == ["api.github.test"]


def test_the_store_of_artifacts_gets_no_token_and_is_asked_again() -> None:
    seen: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.host == "api.github.test":
            return httpx.Response(302, headers={"location": "https://store.test/a?sig=x%3D"})
        seen.append(request)
        return httpx.Response(503) if len(seen) == 1 else httpx.Response(200, content=b"x" * 100)

    slept: list[float] = []
    with Api("https://api.github.test", "ghs_token", slept.append, httpx.MockTransport(serve)) as api:
        assert api.download("/zip", 100) == b"x" * 100
        with pytest.raises(ApiError, match="larger"):
            api.download("/zip", 99)
    assert len(slept) == 1
    assert not any("authorization" in request.headers for request in seen)


@given(at=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_zip_is_a_value_error_or_its_file(at: int, byte: int, cut: bool) -> None:
    data = bytearray(zipped(("record.json", b'{"schema": 2}' * 20)))
    at %= len(data)
    data[at] = byte
    data = data[:at] if cut else data
    try:
        content = artifacts._unpack(bytes(data))
    except ValueError:
        return
    assert isinstance(content, bytes)
