"""The values that this process shows nowhere: those of the environment's variables that hold keys.

``sanitize`` takes them out of whatever it makes fit to be shown. What is hidden is a fact of the process, as
its environment is: hence the one module with a state. Nothing is imported before something is to be shown.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it: `aethr version` has no use for typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_NAMES = r".*(_API_KEY|_AUTH_TOKEN|_ACCESS_KEY|_SECRET_KEY)|(GITHUB|GH|GITLAB|HF)_TOKEN"


class _Hidden:
    """``values`` is None until somebody asks."""

    environ: Mapping[str, str] | None = None
    values: tuple[str, ...] | None = ()


def holds_key(name: str) -> bool:
    """Whether a variable of this name holds a key."""
    import re

    return re.fullmatch(_NAMES, name) is not None


def found_in(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the variables that hold keys, each once."""
    found = {value.strip() for name, value in environ.items() if holds_key(name)}
    return tuple(sorted(value for value in found if value))


def hide(environ: Mapping[str, str]) -> Callable[[], None]:
    """From now on, hide the keys of this environment, until what this gives is called."""
    before = _Hidden.environ, _Hidden.values
    _Hidden.environ, _Hidden.values = environ, None

    def end() -> None:
        _Hidden.environ, _Hidden.values = before

    return end


def hide_too(values: Iterable[str]) -> None:
    """Hide these as well: keys that came from a ``.env`` or from an input of the Action."""
    if _Hidden.environ is not None:
        _Hidden.values = tuple(sorted({*hidden(), *values}))


def hidden() -> tuple[str, ...]:
    """All that is hidden now; nothing outside of a command."""
    if _Hidden.values is None:
        _Hidden.values = found_in(_Hidden.environ or {})
    return _Hidden.values
