"""What a later run of the same pull request, or in the same folder, takes over from this one.

A ``KeptState`` has the whole answers of live models, which are not asked for again where the same prompt
comes (``engine.reuse``), and the findings of the last review, with which the next one is compared. As text it
is JSON, compressed, sealed with the provider's keys and bound to where it belongs. Anybody may read it, and
anybody may have written what is there instead, so what no key proves is ignored with its reason.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import product, starmap
from pathlib import Path
from typing import NamedTuple

from aethr.base import codec, disk
from aethr.base.errors import AethrError
from aethr.base.records import (
    RELIABLE,
    Finding,
    KeptAnswer,
    Plan,
    Resolved,
    RunResult,
    Seal,
    StepResult,
)
from aethr.base.sanitize import redact
from aethr.engine import reuse
from aethr.engine.seal import SHORTEST_KEY, STATE_PURPOSE, find_record_doubt, folder_binding, seal_record
from aethr.engine.steps import CONTRACT
from aethr.review.identity import is_same_code
from aethr.review.panel import alike

SCHEMA = 3
MAX_BYTES = 16 << 20
"""Of the JSON: what a small text can be unpacked to is limited."""
FOLDER_BYTES = 1 << 20
"""Of the file in a folder that the user named, compressed."""
MOST_RESOLVED = 100
"""How many resolved findings are remembered, the latest ones."""
MOST_IDS = 50
"""How many ids of a finding are remembered besides its first one, the latest ones."""


class StateError(AethrError):
    """Why a state is not used, in words that follow "is ignored:"."""


class Known(NamedTuple):
    """An open finding, and the commit whose review was the first to have it."""

    finding: Finding
    since: str


class AnsweredIn(NamedTuple):
    """The finding that a comment on the pull request was about when it was first read."""

    comment: int
    finding: Finding


class KeptState(NamedTuple):
    """``reviewed`` is the commit of the latest review, empty before the first one.

    The last of the ``answers`` are dropped first. ``answered`` are the findings that people answer in
    comments, of which those up to the number ``last_comment`` were read.
    """

    reviewed: str = ""
    answers: tuple[KeptAnswer, ...] = ()
    findings: tuple[Known, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    answered: tuple[AnsweredIn, ...] = ()
    last_comment: int = 0


class Packed(NamedTuple):
    """A state as text, empty if not even its findings fit, and how many of its answers the text has."""

    text: str
    answers: int


def make_seal(keys: Iterable[str], **binding: str) -> Seal:
    """The seal of a state that belongs to ``binding``, without the keys that are too short."""
    bound = {name: redact(value) for name, value in binding.items()}
    return Seal(tuple(key for key in keys if len(key) >= SHORTEST_KEY), {**bound, "contract": str(CONTRACT)})


def pack(state: KeptState, seal: Seal, room: int) -> Packed:
    """The state in at most ``room`` ASCII characters, without the last answers if they do not fit."""

    def text(count: int) -> str:
        record = {"schema": SCHEMA, "state": codec.to_json(state._replace(answers=state.answers[:count]))}
        sealed = codec.line(seal_record(record, seal.keys, seal.binding, STATE_PURPOSE))
        return base64.b64encode(zlib.compress(sealed.encode(), 9)).decode()

    most = len(state.answers)
    if len(whole := text(most)) <= room:
        return Packed(whole, most)
    count = bisect_right(range(most), room, key=lambda number: len(text(number)))
    return Packed(text(count - 1), count - 1) if count else Packed("", 0)


def unpack(text: str, seal: Seal) -> KeptState:
    """The state that ``pack`` has made with one of these keys and this binding. Raises ``StateError``."""
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
        if not unpacker.eof:
            raise StateError("it is cut, or too large")
        document = codec.an_object(codec.loads(data.decode()), "the state")
        if document.get("schema") != SCHEMA:
            raise StateError(f"its schema is {document.get('schema')!r:.20}, not {SCHEMA}")
        if doubt := find_record_doubt(document, seal.keys, seal.binding, STATE_PURPOSE):
            raise StateError(doubt)
        return codec.whole_from_json(KeptState, document.get("state"), "the state")
    except (binascii.Error, zlib.error, ValueError) as error:
        raise StateError("it is cut, or was edited") from error


def advance(
    earlier: KeptState | None, result: RunResult, commit: str, is_there: Callable[[str], bool]
) -> tuple[RunResult, KeptState]:
    """The result of a live run with its findings compared with the earlier ones, and the state after it.

    ``commit`` is what was reviewed; ``is_there`` says whether the tree has a path. A finding is new in every
    run about the commit whose review first had it, and one that is gone was resolved by the first commit
    whose review is reliable without it: then each part has an answer, and the answer that had the finding was
    asked for again, or it would be here. One that is still there has its earlier ids too, at most
    ``MOST_IDS``: the reviewers who see it may not be those of last time. The answers with findings come
    first, and then the shortest ones.
    """
    before = earlier or KeptState()
    review, is_reliable = result.review, result.outcome in RELIABLE
    pairs = _match([each.finding for each in before.findings], review.findings, is_there)
    findings, known = [], []
    for number, own in enumerate(review.findings):
        then = before.findings[pairs[number]] if number in pairs else Known(own, commit)
        ids = tuple(dict.fromkeys((*then.finding.every_id, *own.every_id)))
        found = own._replace(ids=(*ids[:1], *ids[1:][-MOST_IDS:]) if len(ids) > 1 else ())
        if before.reviewed and own.id is not None and own.state != "answered":
            found = found._replace(state="new" if then.since == commit else "open")
        findings.append(found)
        if own.id is not None and own.is_open:
            known.append(Known(_essence(found), then.since))
    asked = {step.id for step in result.steps}
    gone = [each for n, each in enumerate(before.findings) if n not in pairs.values()]
    resolved = [
        Resolved(each.finding._replace(state="resolved"), commit)
        for each in gone
        if is_reliable and asked.intersection(each.finding.by)
    ]
    back = {own for number, each in enumerate(findings) if number not in pairs for own in each.every_id}
    resolved += [each for each in before.resolved if back.isdisjoint(each.finding.every_id)]
    resolved = resolved[:MOST_RESOLVED]
    answers = [*reuse.keep(result.steps, commit)]
    if not is_reliable:  # what this run did not get to may be asked for by the next one
        known += gone
        answers += before.answers
    latest = {each.key: each for each in reversed(answers)}.values()
    state = KeptState(
        commit if is_reliable or review.status != "none" else before.reviewed,
        tuple(sorted(latest, key=lambda each: (not each.finds, len(each.content), each.key))),
        tuple(known),
        tuple(resolved),
        before.answered,
        before.last_comment,
    )
    return result._replace(review=review._replace(findings=tuple(findings), resolved=tuple(resolved))), state


def _essence(finding: Finding) -> Finding:
    """What is compared and shown of a finding when it is gone."""
    return finding._replace(evidence=None, suggestion=None, check=None, also=(), state=None)


def _match(
    before: Sequence[Finding], now: Sequence[Finding], is_there: Callable[[str], bool]
) -> dict[int, int]:
    """Which of the findings ``now`` was there ``before``, by their numbers.

    Several findings may share a place, so those that say the same there are paired first. The place of a
    merged finding is that of any of its ids. It is the same under another path if the old one is gone: the
    file was renamed.
    """

    def is_same_place(then: Finding, own: Finding) -> bool:
        return not set(then.every_id).isdisjoint(own.every_id)

    def is_moved(then: Finding, own: Finding) -> bool:
        is_same = any(starmap(is_same_code, product(then.every_id, own.every_id)))
        return is_same and then.path is not None and not is_there(then.path)

    pairs: dict[int, int] = {}
    for is_same in (is_same_place, is_moved):
        for wording_counts in (True, False):
            for number, own in enumerate(now):
                for earlier, then in enumerate(before):
                    is_free = number not in pairs and earlier not in pairs.values()
                    if (
                        is_free
                        and is_same(then, own)
                        and (not wording_counts or alike(then.message, own.message))
                    ):
                        pairs[number] = earlier
    return pairs


class Folder(NamedTuple):
    """A state's file in a folder that the user named, for one workflow of one project."""

    file: Path
    seal: Seal

    def read(self) -> KeptState:
        """What earlier runs left, or nothing. Raises ``StateError``."""
        try:
            if not self.file.is_file():
                return KeptState()
            if self.file.stat().st_size > FOLDER_BYTES:
                raise StateError("it is too large")
            return unpack(self.file.read_text(encoding="ascii").strip(), self.seal)
        except (OSError, UnicodeDecodeError) as error:
            raise StateError("it cannot be read") from error

    def add(self, results: Iterable[StepResult], commit: str) -> None:
        """Add the answers of a run, and drop those that no longer fit. Raises ``DiskError``.

        Another run at the same time replaces the file as a whole, so that one of both may be asked again.
        """
        try:
            earlier = self.read()
        except StateError:
            earlier = KeptState()
        new = list(reuse.keep(results, commit))
        if not new:
            return
        keys = {each.key for each in new}
        answers = (*new, *(each for each in earlier.answers if each.key not in keys))
        packed = pack(KeptState(answers=answers), self.seal, FOLDER_BYTES - 1)
        with disk.failing_as(f"{self.file}: cannot keep the answers", "Name another --checkpoint-dir."):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            disk.write(self.file, packed.text + "\n", mode=0o600)


def find_folder(named: str, plan: Plan) -> Folder | None:
    """The file of this plan's workflow in the folder ``named``; None without a key that can seal it."""
    bound = folder_binding(plan.root)
    seal = make_seal(plan.seal.keys, **bound)
    own = "\n".join((*bound.values(), plan.workflow.name, plan.workflow.origin))
    digest = hashlib.sha256(own.encode("utf-8", "replace")).hexdigest()
    return Folder(Path(named) / f"aethr-{digest[:12]}.answers", seal) if seal.keys else None
