"""A checkpoint between attempts: only what is ours and of the same run is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aethr import checkpoint
from aethr.github.carry import FILE, STALE_S, Binding, Carrier, EnvelopeError, seal, unseal

BOUND = Binding("octo/shop", "500", "review default", "7", "a" * 40, "b" * 40, "c" * 64)
TEXT = '{"schema": 2}\n{"step": "ü\u2028"}\n'
MORE = '{"step": "another"}\n'
KEYS = ("sk-one-0123456789abcdef", "sk-two-0123456789abcdef")


def test_what_is_sealed_is_opened() -> None:
    assert unseal(seal(TEXT, BOUND, KEYS), BOUND, KEYS) == TEXT


def test_one_key_that_stayed_is_enough() -> None:
    """The other one may have been the reason why the run failed."""
    assert unseal(seal(TEXT, BOUND, KEYS), BOUND, ("sk-new-0123456789abcdef", KEYS[1])) == TEXT


def test_without_a_key_that_sealed_it_nothing_is_opened() -> None:
    for keys in ((), ("sk-three-0123456789abcdef",)):
        with pytest.raises(EnvelopeError, match="not sealed"):
            unseal(seal(TEXT, BOUND, KEYS), BOUND, keys)


@pytest.mark.parametrize("name", Binding._fields)
def test_everything_it_is_bound_to_counts(name: str) -> None:
    other = BOUND._replace(**{name: "another"})
    with pytest.raises(EnvelopeError, match=f"another {name.replace('_', ' ')}"):
        unseal(seal(TEXT, other, KEYS), BOUND, KEYS)
    opening = seal(TEXT, BOUND, KEYS).partition("\n")[0]
    with pytest.raises(EnvelopeError, match="not sealed"):
        unseal(opening + "\n" + seal(TEXT, other, KEYS).partition("\n")[2], BOUND, KEYS)


@pytest.mark.parametrize(("old", "new"), [("ü", "u"), ("schema", "Schema"), ("}\n{", "}\n\n{"), ("step", "")])
def test_a_changed_text_is_not_opened(old: str, new: str) -> None:
    sealed = seal(TEXT, BOUND, KEYS)
    assert old in sealed
    with pytest.raises(EnvelopeError, match="not sealed"):
        unseal(sealed.replace(old, new, 1), BOUND, KEYS)


def test_only_what_is_sealed_is_opened() -> None:
    """What comes after the last seal was cut off while it was written, or is forged."""
    for tail in (
        MORE,
        MORE + '{"seals": ["',
        MORE + '{"seals": ["é", "\\ud800", 1, null]}\n',
        '{"seals": 3}\n',
    ):
        assert unseal(seal(TEXT, BOUND, KEYS) + tail, BOUND, KEYS) == TEXT


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "[" * 100_000, '{"binding": 1}'])
def test_something_else_is_refused(text: str) -> None:
    for rest in ("", '\n{"seals": [""]}\n', "\n" + TEXT):
        with pytest.raises(EnvelopeError):
            unseal(text + rest, BOUND, KEYS)


def test_no_key_is_in_the_envelope() -> None:
    assert "sk-" not in seal(TEXT, BOUND, KEYS)


def test_the_carrier(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.jsonl"
    file.write_text(TEXT, encoding="utf-8")
    carrier = Carrier(tmp_path / "carry" / "500", BOUND, KEYS)
    assert carrier.take() is None
    assert carrier.put(file)
    assert carrier.take() == TEXT
    kept = tmp_path / "carry" / "500" / FILE
    assert kept.stat().st_mode & 0o077 == 0
    carrier.drop()
    assert not kept.exists()
    carrier.drop()


def test_of_a_checkpoint_that_grows_only_what_is_new_is_written(tmp_path: Path) -> None:
    file, kept = tmp_path / "checkpoint.jsonl", tmp_path / "500" / FILE
    left = checkpoint.write(file, TEXT)
    carrier = Carrier(tmp_path / "500", BOUND, KEYS)
    assert carrier.put(file)
    first = kept.read_bytes()
    assert checkpoint.append(file, MORE, left)
    assert carrier.put(file)
    assert kept.read_bytes().startswith(first)
    assert len(kept.read_bytes()) - len(first) < len(MORE) + len(KEYS) * 80
    assert carrier.take() == TEXT + MORE
    assert unseal(seal(TEXT + MORE, BOUND, KEYS), BOUND, KEYS) == TEXT + MORE


def test_a_checkpoint_that_was_written_anew_is_carried_anew(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.jsonl"
    carrier = Carrier(tmp_path / "500", BOUND, KEYS)
    for text in (TEXT + MORE, TEXT, MORE + TEXT):
        left = checkpoint.write(file, text)
        assert carrier.put(file)
        assert carrier.take() == text
    victim = tmp_path / "victim"
    victim.write_text("theirs\n")
    (tmp_path / "500" / FILE).unlink()
    (tmp_path / "500" / FILE).symlink_to(victim)
    assert checkpoint.append(file, MORE, left)
    assert carrier.put(file)
    assert carrier.take() == MORE + TEXT + MORE
    assert victim.read_text() == "theirs\n"


def test_without_a_key_or_a_folder_nothing_is_carried(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.jsonl"
    file.write_text(TEXT, encoding="utf-8")
    assert not Carrier(tmp_path / "carry" / "500", BOUND, ()).put(file)
    assert not Carrier(None, BOUND, KEYS).put(file)
    assert not (tmp_path / "carry").exists()


def test_a_placeholder_for_a_local_server_seals_nothing(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.jsonl"
    file.write_text(TEXT, encoding="utf-8")
    for guessed in ("EMPTY", "sk-no-key-required"):
        assert not Carrier(tmp_path / "500", BOUND, (guessed,)).put(file)
        assert Carrier(tmp_path / "500", BOUND, (guessed, *KEYS)).put(file)
        forged = seal(MORE, BOUND, (guessed,))
        (tmp_path / "500" / FILE).write_text(forged, encoding="utf-8")
        with pytest.raises(EnvelopeError, match="not sealed"):
            Carrier(tmp_path / "500", BOUND, (guessed, *KEYS)).take()


def test_a_key_that_is_no_utf_8_seals_too(tmp_path: Path) -> None:
    """As ``os.environ`` gives it."""
    file = tmp_path / "checkpoint.jsonl"
    file.write_text(TEXT, encoding="utf-8")
    carrier = Carrier(tmp_path / "500", BOUND, ("sk-\udcff-0123456789abcdef",))
    assert carrier.put(file)
    assert carrier.take() == TEXT


def test_what_old_runs_left_on_a_machine_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.jsonl"
    file.write_text(TEXT, encoding="utf-8")
    old, other = (Carrier(tmp_path / "carry" / name, BOUND, KEYS) for name in ("1", "2"))
    assert old.put(file)
    assert other.put(file)
    stale = tmp_path / "carry" / "1" / FILE
    os.utime(stale, (stale.stat().st_atime, stale.stat().st_mtime - STALE_S - 60))
    Carrier(tmp_path / "carry" / "3", BOUND, KEYS).drop()
    assert [path.name for path in (tmp_path / "carry").iterdir()] == ["2"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    carrier = Carrier(tmp_path / "500", BOUND, KEYS)
    (tmp_path / "500").mkdir()
    (tmp_path / "500" / FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(EnvelopeError, match="not readable"):
        carrier.take()
