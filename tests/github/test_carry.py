"""A checkpoint between attempts: only one with our seal, of the same run, is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from aethr.base import codec
from aethr.base.records import Seal
from aethr.engine.seal import Sealer
from aethr.github.carry import (
    FILE,
    STALE_S,
    Binding,
    Carrier,
    EnvelopeError,
    make_seal,
    unseal,
)

BOUND = Binding("octo/shop", "500", "review default", "7", "a" * 40, "b" * 40, "c" * 64)
KEYS = ("sk-one-0123456789abcdef", "sk-two-0123456789abcdef")
STEP, MORE = {"step": "ü\u2028"}, {"step": "another"}


def seal(keys: Iterable[str] = KEYS, binding: Binding = BOUND) -> Seal:
    return make_seal(binding, keys)


def sealed(*records: object, keys: Iterable[str] = KEYS, binding: Binding = BOUND) -> str:
    """A checkpoint as the recorder writes it: what it is bound to, then ``records``."""
    sealer = Sealer(keys)
    head = {"schema": 2, "binding": binding._asdict()}
    return "".join(sealer.seal(codec.line(record)) for record in (head, *records))


TEXT = sealed(STEP)
BOTH = sealed(STEP, MORE)
ADDED = BOTH.removeprefix(TEXT)


def test_a_sealed_checkpoint_is_opened() -> None:
    assert unseal(TEXT, seal()) == TEXT


def test_one_unchanged_key_opens_the_checkpoint() -> None:
    """The other one may have been the reason why the run failed."""
    assert unseal(TEXT, seal(("sk-new-0123456789abcdef", KEYS[1]))) == TEXT


def test_without_a_sealing_key_nothing_is_opened() -> None:
    for keys in ((), ("sk-three-0123456789abcdef",)):
        with pytest.raises(EnvelopeError, match="not sealed"):
            unseal(TEXT, seal(keys))


@pytest.mark.parametrize("name", Binding._fields)
def test_a_checkpoint_of_another_run_is_not_opened(name: str) -> None:
    other = sealed(STEP, binding=BOUND._replace(**{name: "another"}))
    with pytest.raises(EnvelopeError, match=f"another {name.replace('_', ' ')}"):
        unseal(other, seal())
    with pytest.raises(EnvelopeError, match="not sealed"):
        unseal(TEXT.partition("\n")[0] + "\n" + other.partition("\n")[2], seal())


@pytest.mark.parametrize(("old", "new"), [("ü", "u"), ("schema", "Schema"), ("}\n{", "}\n\n{"), ("step", "")])
def test_a_changed_text_is_not_opened(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(EnvelopeError, match="not sealed"):
        unseal(TEXT.replace(old, new, 1), seal())


def test_lines_after_the_last_seal_are_dropped() -> None:
    """What comes after the last seal was cut off while it was written, or is forged."""
    for tail in (
        ADDED[:-1],
        ADDED[:-40],
        codec.line(MORE),
        sealed(MORE, keys=("forged",)),
        '{"step": 1, "seals": ["é", "\\ud800", 1, null]}\n',
        '{"step": 1, "seals": 3}\n',
    ):
        assert unseal(TEXT + tail, seal()) == TEXT


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "[" * 100_000, '{"binding": 1}'])
def test_a_file_that_is_not_a_checkpoint_is_refused(text: str) -> None:
    for rest in ("", '\n{"seals": [""]}\n', "\n" + TEXT):
        with pytest.raises(EnvelopeError):
            unseal(text + rest, seal())


def test_the_carried_checkpoint_holds_no_key() -> None:
    assert "sk-" not in TEXT


def test_the_carrier_puts_takes_and_drops(tmp_path: Path) -> None:
    carrier = Carrier(tmp_path / "carry" / "500", seal())
    assert carrier.take() is None
    assert carrier.put(TEXT, True)
    assert carrier.take() == TEXT
    kept = tmp_path / "carry" / "500" / FILE
    assert kept.stat().st_mode & 0o077 == 0
    carrier.drop()
    assert not kept.exists()
    carrier.drop()


def test_only_new_lines_of_a_checkpoint_are_written(tmp_path: Path) -> None:
    kept = tmp_path / "500" / FILE
    carrier = Carrier(tmp_path / "500", seal())
    assert carrier.put(TEXT, True)
    first = kept.stat()
    assert carrier.put(ADDED, False)
    assert kept.stat().st_ino == first.st_ino
    assert carrier.take() == kept.read_text(encoding="utf-8") == BOTH


def test_a_rewritten_checkpoint_replaces_the_carried_one(tmp_path: Path) -> None:
    carrier = Carrier(tmp_path / "500", seal())
    for text in (BOTH, TEXT, sealed(MORE, STEP), TEXT):
        assert carrier.put(text, True)
        assert carrier.take() == text
    victim = tmp_path / "victim"
    victim.write_text("theirs\n")
    (tmp_path / "500" / FILE).unlink()
    (tmp_path / "500" / FILE).symlink_to(victim)
    assert carrier.put(ADDED, False)
    assert carrier.take() == BOTH
    assert victim.read_text() == "theirs\n"


def test_without_a_key_or_a_folder_nothing_is_carried(tmp_path: Path) -> None:
    assert not Carrier(tmp_path / "carry" / "500", seal(())).put(TEXT, True)
    assert not Carrier(None, seal()).put(TEXT, True)
    assert not (tmp_path / "carry").exists()


def test_a_placeholder_for_a_local_server_seals_nothing(tmp_path: Path) -> None:
    for guessed in ("EMPTY", "sk-no-key-required"):
        assert seal((guessed,)).keys == ()
        assert seal((guessed, *KEYS)).keys == KEYS
        (tmp_path / "500").mkdir(exist_ok=True)
        (tmp_path / "500" / FILE).write_text(sealed(MORE, keys=(guessed,)), encoding="utf-8")
        with pytest.raises(EnvelopeError, match="not sealed"):
            Carrier(tmp_path / "500", seal((guessed, *KEYS))).take()


def test_a_key_that_is_not_utf_8_seals_too(tmp_path: Path) -> None:
    """As ``os.environ`` gives it."""
    keys = ("sk-\udcff-0123456789abcdef",)
    carrier = Carrier(tmp_path / "500", seal(keys))
    assert carrier.put(sealed(STEP, keys=keys), True)
    assert carrier.take() == sealed(STEP, keys=keys)


def test_checkpoints_of_old_runs_are_removed(tmp_path: Path) -> None:
    old, other = (Carrier(tmp_path / "carry" / name, seal()) for name in ("1", "2"))
    assert old.put(TEXT, True)
    assert other.put(TEXT, True)
    stale = tmp_path / "carry" / "1" / FILE
    os.utime(stale, (stale.stat().st_atime, stale.stat().st_mtime - STALE_S - 60))
    kept = Carrier(tmp_path / "carry" / "3", seal())
    assert kept.put(TEXT, True)
    kept.drop(keep=True)
    assert sorted(path.name for path in (tmp_path / "carry").iterdir()) == ["2", "3"]
    kept.drop()
    assert [path.name for path in (tmp_path / "carry").iterdir()] == ["2"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    carrier = Carrier(tmp_path / "500", seal())
    (tmp_path / "500").mkdir()
    (tmp_path / "500" / FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(EnvelopeError, match="not readable"):
        carrier.take()


def test_a_file_cut_inside_a_character_gives_its_complete_lines(tmp_path: Path) -> None:
    """The process was killed, or the disk was full, while the last line was written."""
    carrier = Carrier(tmp_path / "500", seal())
    (tmp_path / "500").mkdir()
    (tmp_path / "500" / FILE).write_bytes(TEXT.encode() + '{"step": {"content": "ü'.encode()[:-1])
    assert carrier.take() == TEXT
