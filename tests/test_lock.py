"""The lock fits ``pyproject.toml`` in every environment.

What only an index can tell, that it is complete and has a wheel of everything, is asked by ``.ci/run``.
"""

from __future__ import annotations

import itertools

import pytest
from packaging.requirements import Requirement

from tests import lock

TEXT = lock.LOCK.read_text(encoding="utf-8")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SYSTEMS = {
    "linux": ("posix", "Linux", "x86_64"),
    "linux on arm": ("posix", "Linux", "aarch64"),
    "darwin": ("posix", "Darwin", "arm64"),
    "win32": ("nt", "Windows", "AMD64"),
}
ENVIRONMENTS = [
    pytest.param(
        {
            "python_version": python,
            "python_full_version": f"{python}.1",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "sys_platform": system.partition(" ")[0],
            "os_name": name,
            "platform_system": platform,
            "platform_machine": machine,
        },
        id=f"{python} on {system}",
    )
    for python, (system, (name, platform, machine)) in itertools.product(PYTHONS, SYSTEMS.items())
]
PIN = "six==1.17.0 \\\n    --hash=sha256:" + "0" * 64 + "\n    # via python-dateutil\n"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_requirement_is_locked_within_its_range(environment: dict[str, str]) -> None:
    locked = lock.versions(lock.read(TEXT), environment)
    required = list(lock.direct(environment))
    assert {"httpx", "litellm", "hatchling"} <= {each.name for each in required}
    for requirement in required:
        assert requirement.specifier.contains(locked[requirement.name]), requirement


def test_what_builds_aethr_is_what_the_lock_is_compiled_from() -> None:
    """uv compiles groups, not the requirements of a build."""
    assert lock.PYPROJECT["dependency-groups"]["build"] == lock.PYPROJECT["build-system"]["requires"]


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8"])
def test_a_malicious_version_of_litellm_is_not_in_its_range(version: str) -> None:
    (litellm,) = (each for each in map(Requirement, lock.DIRECT) if each.name == "litellm")
    assert not litellm.specifier.contains(version)
    assert f"!={version}" in str(litellm.specifier).split(","), "also when the lower bound falls"


def test_the_lock_names_no_place() -> None:
    """Which index serves these bytes is for whoever installs them to say: no address, no path."""
    assert "/" not in TEXT


def test_the_lock_has_the_command_that_made_it_as_a_bot_can_repeat_it() -> None:
    """Renovate takes it from the second line, and needs ``--option=value`` without a quote.

    https://docs.renovatebot.com/modules/manager/pip-compile/
    """
    command = TEXT.splitlines()[1].removeprefix("#    ").split(" ")
    assert command[:3] == ["uv", "pip", "compile"]
    assert command[-1] == "pyproject.toml"
    options = dict(word.partition("=")[::2] for word in command[3:-1])
    assert options == {
        "--universal": "",
        "--generate-hashes": "",
        "--python-version": lock.PYPROJECT["project"]["requires-python"].removeprefix(">="),
        "--exclude-newer": "P7D",
        "--group": "build",
        "--output-file": lock.LOCK.name,
    }


@pytest.mark.parametrize(
    "line",
    [
        "six==1.17.0\n",
        "six>=1.17 \\\n    --hash=sha256:" + "0" * 64 + "\n",
        "six==1.17.0 \\\n    --hash=md5:" + "0" * 32 + "\n",
        "six @ file:///tmp/six.whl \\\n    --hash=sha256:" + "0" * 64 + "\n",
        "--index-url https://example.invalid/simple\n",
        "-r other.txt\n",
        "-e .\n",
    ],
)
def test_a_lock_with_something_else_in_it_is_not_read(line: str) -> None:
    assert [pin.requirement for pin in lock.read(PIN)] == ["six==1.17.0"]
    with pytest.raises(ValueError, match="not a pin"):
        list(lock.read(PIN + line))


def test_a_lock_with_two_versions_of_a_name_is_not_read() -> None:
    with pytest.raises(ValueError, match="two versions of six"):
        lock.versions(lock.read(PIN + PIN.replace("1.17.0", "1.16.0")))
