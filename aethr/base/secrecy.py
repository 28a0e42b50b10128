"""The values that this process never shows: those of environment variables that hold keys.

``sanitize`` replaces them in everything that is shown. Like the environment, they belong to the process, so
this is the one module with a state. It imports nothing until something is shown.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; `aethr version` does not need typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_NAMES = (
    r".*(_API_KEY|_AUTH_TOKEN|_ACCESS_KEY|_SECRET_KEY)"
    r"|((GITHUB|GH)(_ENTERPRISE)?|GITLAB|HF|TOGETHER_AI|FIREWORKS_AI|VERCEL_OIDC)_TOKEN"
)


class _Hidden:
    """``values`` is None until it is needed."""

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
    """Hide the keys of this environment until the returned function is called."""
    before = _Hidden.environ, _Hidden.values
    _Hidden.environ, _Hidden.values = environ, None

    def end() -> None:
        _Hidden.environ, _Hidden.values = before

    return end


def hide_too(values: Iterable[str]) -> None:
    """Also hide these values: keys from a ``.env`` or from an input of the Action."""
    if _Hidden.environ is not None:
        _Hidden.values = tuple(sorted({*hidden(), *values}))


def hidden() -> tuple[str, ...]:
    """All hidden values; empty outside of a command."""
    if _Hidden.values is None:
        _Hidden.values = found_in(_Hidden.environ or {})
    return _Hidden.values
