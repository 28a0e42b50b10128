"""``aethr doctor``: what is installed and set up here, and what to do next.

Nothing of the checked-out tree is started, nothing is called, and no value of a key is printed. Only with
``--online`` does it connect to the endpoints of the workflow's models, without a key.
"""

from __future__ import annotations

import datetime
import getpass
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from aethr import __version__, git
from aethr.agents import AGENTS
from aethr.agents import program as programs
from aethr.base import providers, secrecy
from aethr.base.errors import AethrError, ConfigError, ExitCode, MissingKeyError, UsageError
from aethr.base.options import build, from_environment
from aethr.base.providers import LOGINS, PROVIDERS, provider_of, split
from aethr.base.records import Checkout, ModelSpec, PlannedStep
from aethr.base.sanitize import Redactor, one_line
from aethr.base.words import capped, counted, two_columns
from aethr.cli.auth import find_key
from aethr.config import REVIEW_PRESET, WORKFLOW_FILE, credentials, nodes
from aethr.config.credentials import DotEnv
from aethr.context import evidence
from aethr.git import history
from aethr.llm import catalog, connection, routes, spending
from aethr.workflow import planning
from aethr.workflow.planning import Project

CONNECT_S = 10.0
"""Seconds for an endpoint to answer, with ``--online``."""

HOOKS = ("pre-commit", "pre-push")
HOOK_MANAGERS = ("pre-commit", "prek")
HOOK_FILES = (".pre-commit-config.yaml", "prek.toml")
_OURS = re.compile(r"""^[^#\n]*\bid["']?\s*[:=]\s*["']?aethr-review(?![\w-])""", re.MULTILINE)
_MARKS = {"ok": " ", "note": "-", "missing": "!"}


class Diagnosis(NamedTuple):
    """What is known about one thing. ``fix`` says what to do about it.

    ``code`` is the exit code with which ``aethr run`` would end because of it, as the project is set up now.
    """

    name: str
    said: str
    fix: str = ""
    code: ExitCode = ExitCode.OK

    @property
    def state(self) -> str:
        return "missing" if self.code else "note" if self.fix else "ok"


class Surroundings(NamedTuple):
    """What a run here starts from. ``environ`` has the settings of ``.env`` too, ``tree`` is checked out."""

    tree: Path
    root: Path
    commands: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    is_live: bool
    dotenv: DotEnv
    environ: Mapping[str, str]

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        """The models that a run may call, by name."""
        return {model.name: model for step in self.steps for model in providers.called(step)}

    @property
    def called(self) -> Mapping[str, ModelSpec]:
        """Those that Aethr calls itself; agents call the others."""
        steps = (step for step in self.steps if not step.edits_tree)
        return {model.name: model for step in steps for model in providers.called(step)}

    def code(self, error: AethrError, *, needed: bool = True) -> ExitCode:
        """The exit code of a run with this error: a mock does without keys, packages, agents and networks."""
        return error.exit_code if self.is_live and needed else ExitCode.OK


def main(*, online: bool = False, as_json: bool = False, today: datetime.date | None = None) -> int:
    """Print what is here, a line for each thing, and what to do next; the exit code is the highest one."""
    about = {
        "aethr": __version__,
        "python": platform.python_version(),
        "litellm": _find_package("litellm"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    items = list(_examine(Path.cwd(), online=online, today=today or datetime.date.today()))
    code = max(item.code for item in items)
    following = list(dict.fromkeys(item.fix for item in items if item.fix))
    if as_json:
        rows = [{"name": each.name, "state": each.state, "said": each.said} for each in items]
        record = {**about, "items": rows, "next": following, "exit_code": int(code)}
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
        return code
    lines = {f"{_MARKS[item.state]} {item.name}": item.said for item in items}
    sys.stdout.write("Aethr {aethr}, Python {python}, LiteLLM {litellm}, {system}\n".format(**about))
    sys.stdout.write(two_columns(lines, sys.stdout) + "Next:\n")
    sys.stdout.write("".join(f"  {fix}\n" for fix in following))
    return code


def _find_package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _examine(cwd: Path, *, online: bool, today: datetime.date) -> Iterator[Diagnosis]:
    """An item for each thing, without keys, the home folder and the user's name."""
    git_item, here = _look_at_git(cwd)
    dotenv = credentials.load(planning.project_root(cwd), here)
    environ = {**dotenv.values, **os.environ}
    workflow, project = _look_at_workflow(cwd)
    mode, is_live, steps = _look_at_mode(project, dotenv, environ)
    setup = Surroundings(
        tree=(here.top if here is not None else cwd).resolve(),
        root=project.root if project is not None else cwd,
        commands=planning.commands(project.workflow) if project is not None else (),
        steps=steps,
        is_live=is_live,
        dotenv=dotenv,
        environ=environ,
    )
    found = [
        git_item,
        workflow,
        mode,
        *_look_at_models(setup, today),
        *_look_at_keys(setup),
        *_look_at_agents(setup),
        *_look_at_commands(setup),
        _look_at_hooks(here),
        *_look_at_endpoints(setup, online=online),
    ]
    if not any(item.code for item in found):
        can = all(item.state == "ok" for item in found if item.name.startswith("key "))
        live = "" if setup.is_live or not can else " --live"
        preset = "" if planning.nearest(cwd) else f" --preset {REVIEW_PRESET}"
        said = "would call models" if setup.is_live else "would be a mock"
        found.append(Diagnosis("run", said, f'aethr run{preset}{live} "review my changes"'))
    redact = Redactor(secrecy.found_in(environ)).redact
    for item in found:
        said, fix = (_anonymous(redact(one_line(text, 1000))) for text in (item.said, item.fix))
        yield item._replace(said=said, fix=fix)


def _anonymous(text: str) -> str:
    """The text without the home folder and, as a folder, the user's name: it may go into a bug report."""
    with suppress(RuntimeError):
        text = text.replace(str(Path.home()), "~")
    with suppress(OSError, KeyError, ImportError):
        text = re.sub(rf"(?<=[/\\]){re.escape(getpass.getuser())}(?=[/\\]|$)", "USER", text)
    return text


def _failed(name: str, error: AethrError) -> Diagnosis:
    first, *rest = error.mistakes if isinstance(error, ConfigError) else (str(error),)
    more = f" (and {counted(len(rest), 'more mistake')})" if rest else ""
    return Diagnosis(name, first.splitlines()[0] + more, error.fix or "aethr check", error.exit_code)


def _look_at_git(cwd: Path) -> tuple[Diagnosis, Checkout | None]:
    try:
        said, here = git.version(cwd), git.checkout(cwd)
        if here is None:
            return Diagnosis("git", f"{said}; not in a repository", "git init"), None
        said += "; in a repository" if here.head else "; in a repository without a commit"
        if history.is_shallow(here.root):
            return Diagnosis(
                "git", f"{said}, shallow", "git fetch --unshallow, to review ranges of commits"
            ), here
    except AethrError as error:
        return _failed("git", error), None
    return Diagnosis("git", said), here


def _look_at_workflow(cwd: Path) -> tuple[Diagnosis, Project | None]:
    """The project of a run here; without a file that of the preset, which the hook takes too."""
    try:
        given = build(from_environment(os.environ))
        named = given.config or given.preset or planning.nearest(cwd)
        project = planning.open_project(cwd, given.config, given.preset if named else REVIEW_PRESET)
    except UsageError as error:
        return _failed("workflow", error), None
    if not named:
        return Diagnosis(
            "workflow", f"no {WORKFLOW_FILE}; what follows is about {project.workflow.origin}", "aethr init"
        ), project
    spec = project.workflow
    return Diagnosis(
        "workflow", f"{spec.origin}: {spec.name}, {counted(len(spec.steps), 'step')}, valid"
    ), project


def _look_at_mode(
    project: Project | None, dotenv: DotEnv, environ: Mapping[str, str]
) -> tuple[Diagnosis, bool, tuple[PlannedStep, ...]]:
    """Which setting says whether models are called, and whether they are; the steps with their models."""
    if project is None:
        return Diagnosis("mode", "not known without a workflow"), False, ()
    steps: tuple[PlannedStep, ...] = ()
    try:
        given = build(from_environment(os.environ))
        steps = planning.bind(project, planning.read_terms(given._replace(live=False), environ, ()), {}).steps
        terms = planning.read_terms(given, environ, ())
        planning.bind(project, terms, environ)
    except AethrError as error:
        return _failed("mode", error), False, steps
    said = "mock: neither AETHR_LIVE nor AETHR_MODEL is set"
    if given.live is not None:
        said = f"{terms.mode}: AETHR_RUN_LIVE={int(given.live)} (environment)"
        return Diagnosis("mode", said), terms.is_live, steps
    for name in ("AETHR_LIVE", "AETHR_MODEL"):
        if (where := credentials.origin(name, os.environ, dotenv)) is not None:
            said = f"{terms.mode}: {name}={environ[name]} ({where})"
            break
    return Diagnosis("mode", said), terms.is_live, steps


def _look_at_models(setup: Surroundings, today: datetime.date) -> Iterator[Diagnosis]:
    for number, (name, model) in enumerate(setup.models.items(), 1):
        listed = catalog.describe(name, setup.environ)
        how = "by agents" if name not in setup.called else f"by {listed.protocol or 'LiteLLM'}"
        retires = f"retires on {listed.retires}" if listed.retires else "no day of retirement is known"
        said = f"{name}: called {how}; {retires}"
        if (package := routes.missing_package(name, setup.environ)) is not None:
            code = setup.code(UsageError(""), needed=name in setup.called)
            yield Diagnosis(f"model {number}", f"{said}; needs {package.name}", package.command, code)
            continue
        doubts = capped([*catalog.find_doubts([model], setup.environ)])
        fix = f"aethr models {split(name)[0]}, and name another model" if doubts else ""
        if spending.retirement(name, today):
            fix = f"aethr models {split(name)[0]}, and name a model that stays"
        yield Diagnosis(f"model {number}", f"{said}; {doubts}" if doubts else said, fix)


def _look_at_keys(setup: Surroundings) -> Iterator[Diagnosis]:
    """The keys that the workflow needs, and in one line the others that are set."""
    used = {provider_of(name).name: model for name, model in setup.models.items()}
    for provider, model in used.items():
        own = "none is needed" if provider_of(model.name).own_server else "LiteLLM reads it"
        said = find_key(provider, setup.dotenv) if provider in LOGINS else own
        try:
            routes.endpoint_of(model, setup.environ)
            yield Diagnosis(f"key {provider}", said)
        except UsageError as error:
            needed = any(provider_of(name).name == provider for name in setup.called)
            said = str(error).removeprefix(f"{provider}: ")
            login = f"aethr auth login {provider}" if isinstance(error, MissingKeyError) else error.fix
            yield Diagnosis(f"key {provider}", said, login, setup.code(error, needed=needed))
    others = [name for name in LOGINS if name not in used and PROVIDERS[name].key_in(setup.environ)]
    if others:
        yield Diagnosis("other keys", capped([f"{name}: {find_key(name, setup.dotenv)}" for name in others]))
    for number, warning in enumerate(setup.dotenv.warnings, 1):
        yield Diagnosis(f".env {number}", warning, "correct .env, as said above")


def _look_at_agents(setup: Surroundings) -> Iterator[Diagnosis]:
    """Each agent's version. A program of the checked-out tree is not started."""
    folders = setup.environ.get("PATH", os.defpath).split(os.pathsep)
    outside = [folder for folder in folders if not Path(folder).resolve().is_relative_to(setup.tree)]
    environ = {**setup.environ, "PATH": os.pathsep.join(outside)}
    for agent in AGENTS.values():
        needed = any(step.spec.backend == agent.name for step in setup.steps)
        try:
            env = programs.filter_environment(environ, agent, programs.ROOT)
            yield Diagnosis(agent.name, f"{programs.probe(agent, env).version}, supported")
        except AethrError as error:
            said = str(error).removeprefix(f"{agent.name}: ")
            if (
                programs.find_program(agent.name, environ)[0] is None
                and programs.find_program(agent.name, setup.environ)[0]
            ):
                yield Diagnosis(agent.name, "is in this repository, so it was not asked for its version")
                continue
            yield Diagnosis(agent.name, said, error.fix if needed else "", setup.code(error, needed=needed))


def _look_at_commands(setup: Surroundings) -> Iterator[Diagnosis]:
    """Whether the programs are there that the workflow runs in the project; none of them is started."""
    for number, command in enumerate(setup.commands, 1):
        name = f"command {number}"
        try:
            evidence.require(command, setup.root)
            yield Diagnosis(name, f"{command}: found")
        except UsageError as error:
            yield Diagnosis(name, str(error), error.fix, setup.code(error))


def _look_at_hooks(here: Checkout | None) -> Diagnosis:
    """Which hooks of git are there, and whether Aethr's is one of those that they run."""
    if here is None:
        return Diagnosis("hooks", "none without a repository")
    folder = git.hooks_folder(here)
    there = {name: _read_manager(folder / name) for name in HOOKS if os.access(folder / name, os.X_OK)}
    said = capped([f"{name} by {by}" for name, by in there.items()]) if there else "none installed"
    named = [name for name in HOOK_FILES if _OURS.search(_read(here.top / name))]
    if not named:
        return Diagnosis("hooks", f"{said}; aethr-review is not configured")
    is_run = any(by in HOOK_MANAGERS for by in there.values())
    return Diagnosis(
        "hooks", f"{said}; aethr-review in {capped(named)}", "" if is_run else "pre-commit install"
    )


def _read_manager(hook: Path) -> str:
    found = re.search(r"generated by (\S+?):", _read(hook))
    return found[1] if found and found[1] in HOOK_MANAGERS else "another program"


def _read(path: Path) -> str:
    """The text of a file; empty if there is none, or it cannot be read."""
    try:
        return nodes.load(path, "")[0]
    except ConfigError:
        return ""


def _look_at_endpoints(setup: Surroundings, *, online: bool) -> Iterator[Diagnosis]:
    addresses: dict[str, str] = {}
    for model in setup.called.values():
        with suppress(UsageError):  # reported with the keys
            found = routes.find_destination(model, setup.environ)
            if found.address is not None:
                public = routes.public_address(found.address.geturl())
                addresses.setdefault(public, f" ({found.variable})" if found.variable else "")
    for number, (address, variable) in enumerate(addresses.items(), 1):
        item = _connect(address) if online else Diagnosis("", "not asked (--online)")
        code = item.code if setup.is_live else ExitCode.OK
        yield item._replace(name=f"endpoint {number}", said=f"{address}{variable}: {item.said}", code=code)


def _connect(address: str) -> Diagnosis:
    """Ask for the headers of an address, without a key: any answer says that it can be reached."""
    httpx = connection.load()
    try:
        with httpx.Client(transport=connection.transport(connection.trusted()), timeout=CONNECT_S) as client:
            status = client.head(address).status_code
    except AethrError as error:  # a proxy or a file of certificates that cannot be used
        return Diagnosis("", str(error), error.fix, error.exit_code)
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        return Diagnosis("", f"cannot be reached: {said}", "check network, proxy and address", ExitCode.WORLD)
    return Diagnosis("", f"reached (HTTP {status} without a key)")
