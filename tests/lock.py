"""``requirements.txt``, the lock of what the Action installs, and the requirements in ``pyproject.toml``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.txt"
PYPROJECT: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DIRECT = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["build-system"]["requires"]]
"""What the lock is compiled from: what Aethr needs, and what builds it."""

_INSTALLED = """\
import importlib.metadata, json
print(json.dumps({each.name: each.version for each in importlib.metadata.distributions()}))
"""
_PIN = re.compile(r"([a-z0-9-]+)==([\w.!+]+)(?: ; (.+?))?((?: --hash=sha256:[0-9a-f]{64})+)")


@dataclass(frozen=True)
class Pin:
    """One exact version, where its marker holds."""

    name: str
    version: str
    marker: Marker | None

    @property
    def requirement(self) -> str:
        """The pin as an argument of pip, without its hashes."""
        return f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")


def read(text: str) -> Iterator[Pin]:
    """The pins of a lock. Raises ``ValueError`` for a line that is not one with its hashes, or a comment."""
    for line in re.sub(r" \\\n *", " ", text).splitlines():
        if line.lstrip().startswith("#"):
            continue
        match = _PIN.fullmatch(line)
        if match is None:
            raise ValueError(f"not a pin with its hashes: {line}")
        yield Pin(match[1], match[2], Marker(match[3]) if match[3] else None)


def versions(pins: Iterable[Pin], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The version of each name for an environment, by default the one that runs this.

    Raises ``ValueError`` for a name with two.
    """
    found: dict[str, str] = {}
    for pin in pins:
        if pin.marker is None or pin.marker.evaluate(dict(environment or {})):
            if pin.name in found:
                raise ValueError(f"two versions of {pin.name} for one environment")
            found[pin.name] = pin.version
    return found


def direct(environment: Mapping[str, str]) -> Iterator[Requirement]:
    """What ``pyproject.toml`` requires in an environment, with the names as the lock has them."""
    for requirement in map(Requirement, DIRECT):
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            requirement.name = canonicalize_name(requirement.name)
            yield requirement


def locked() -> dict[str, str]:
    """The version of each name that the lock has for this Python and this system."""
    return versions(read(LOCK.read_text(encoding="utf-8")))


def installed(python: Path) -> dict[str, str]:
    """The version of each name that is installed for a Python, but for what every environment brings."""
    printed = subprocess.run([python, "-I", "-c", _INSTALLED], capture_output=True, text=True, check=True)
    found = {canonicalize_name(name): version for name, version in json.loads(printed.stdout).items()}
    return {name: version for name, version in found.items() if name not in ("pip", "setuptools", "wheel")}
