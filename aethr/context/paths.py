"""Decisions by a path's name alone: does a pattern match it, may it be read or secret. Pure.

A change chooses its paths, so no pattern may backtrack: globs become regular expressions that match in linear
time. Each ``*`` except the last of a part, and each ``**`` except the last of a pattern, takes the first
place where the rest up to the next star fits, and keeps it, because a group in a lookahead is atomic. That
loses no match: the next star can skip whatever an earlier one did not. Python's own ``fnmatch`` does the same
(https://github.com/python/cpython/issues/84660).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import count
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple


def pattern(glob: str) -> re.Pattern[str]:
    """A pattern for whole paths: ``*`` and ``?`` match within a part, ``**`` across parts."""
    return re.compile(regex(glob, _groups()), re.DOTALL)


@lru_cache
def any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    """A pattern for whole paths that match one of the globs."""
    groups = _groups()
    return re.compile("|".join(regex(glob, groups) for glob in globs), re.DOTALL)


def _groups() -> Iterator[str]:
    return (f"g{number}" for number in count())


_ELEMENTS = re.compile(r"\*+|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)
"""The elements of a part; an unclosed ``[`` is literal."""


def regex(
    glob: str,
    groups: Iterator[str],
    elements: re.Pattern[str] = _ELEMENTS,
    translate: Callable[[str], str] | None = None,
) -> str:
    """The regular expression of a glob. ``groups`` gives names of groups that it may use.

    Another syntax inside of a part has its own ``elements``, and ``translate`` for all of them but stars.
    """
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    runs: list[list[str]] = [[]]
    """The parts between two ``**``; several ``**`` in a row count as one."""
    for part in parts:
        if part != "**":
            runs[-1].append(_part(elements.findall(part), groups, translate or _element))
        elif len(runs) == 1 or runs[-1]:
            runs.append([])
    first, *rest = runs
    if not rest:
        return "/".join(first)
    *inner, last = rest
    made = "".join(f"{part}/" for part in first)
    made += "".join(_first(r"(?:[^/]+/)*?" + "".join(f"{part}/" for part in run), groups) for run in inner)
    return made + ("(?:[^/]+/)*" + "/".join(last) if last else ".+")


def _part(elements: Iterable[str], groups: Iterator[str], translate: Callable[[str], str]) -> str:
    """The elements of one path part, such as ``*``, ``?`` and ``[...]``."""
    runs = [""]
    for element in elements:
        if element.startswith("*"):
            runs.append("")
        else:
            runs[-1] += translate(element)
    first, *rest = runs
    if not rest:
        return first
    *inner, last = rest
    return first + "".join(_first(f"[^/]*?{run}", groups) for run in inner) + f"[^/]*{last}"


def _first(regex: str, groups: Iterator[str]) -> str:
    """The first match of ``regex``, without backtracking to a later one."""
    name = next(groups)
    return f"(?=(?P<{name}>{regex}))(?P={name})"


def _element(element: str) -> str:
    body = element[1:-1]
    if not body:
        return "[^/]" if element == "?" else re.escape(element)
    negated = body[0] in "!^"
    members = re.sub(r"([\\\[\]&~|^])", r"\\\1", body[1:] if negated else body)
    regex = f"(?!/)[{'^' if negated else ''}{members}]"
    try:
        re.compile(regex)
    except re.error:  # a reversed range, such as [z-a]
        return re.escape(element)
    return regex


def refusal(path: str) -> str | None:
    """Why a path named in a workflow may not be read, whatever is behind it; None if it may."""
    parts = PurePosixPath(path).parts + PureWindowsPath(path).parts
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return "not a path"
    if not path or "\0" in path:
        return "not a path"
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).anchor:
        return "an absolute path; only files of the project are read"
    if ".." in parts:
        return "a path with '..'; only files of the project are read"
    # Other file systems accept other spellings: any case, dots and spaces at the end, the 8.3 name
    # (CVE-2014-9390), a stream (CVE-2019-1352).
    if any(part.casefold().rstrip(". ").partition(":")[0] in (".git", "git~1") for part in parts):
        return "inside of .git"
    if is_secret(path):
        return "a file that holds secrets"
    return None


# Which files hold secrets, by their names alone, including copies and backups. A file with a name listed here
# is not sent, and its review is incomplete. So a name belongs here only if ordinary files of a project rarely
# have it: `auth.json` may hold translations, and `secrets.py` is code.

_KEYS = """
    *.pem *.key *.p12 *.pfx *.pkcs12 *.p8 *.ppk *.jks *.jceks *.bcfks *.keystore *.keytab *.agekey
    sops/age/keys.txt *.ovpn wg[0-9]*.conf wireguard/*.conf *.nmconnection id_rsa* id_dsa* id_ecdsa*
    id_ed25519* *_rsa *_dsa *_ecdsa *_ed25519 ssh_host_*_key .ssh/* .gnupg/* secring.*
    private-keys-v1.d/* encrypted_data_bag_secret key.properties keystore.properties signing.properties
    wallet.dat utc--* solana/id.json
"""

_STORES = """
    *.kdbx *.kdb *.psafe3 *.1pux *.1pif *.agilekeychain *.keychain *.keychain-db *.keyring keyrings/*
    bitwarden_export_* *recovery-codes*.txt *recovery_codes*.txt key3.db key4.db logins.json
    signons.sqlite login?data cookies.sqlite cookies.txt .*_history .histfile fish_history
    consolehost_history.txt
"""
"""Password managers, browsers, and shell history."""

_ENVIRONMENTS = """
    .env* *.env .dev.vars* .secrets .secrets.json .secrets.toml .secrets.yaml .secrets.yml secrets.json
    secrets.toml secrets.yaml secrets.yml secrets.ini .credentials .credentials.json credentials.json
    credentials.xml hudson.util.secret .token .*-token .*_token *.tfvars *.tfvars.json *.tfstate
    *.pkrvars.hcl .vault_pass* .vault-pass* vault_pass vault_pass.txt vault_password vault_password.txt
    vault-password vault-password.txt .ansible/galaxy_token *.publishsettings *.pubxml.user
"""

_CLOUDS = """
    .aws/credentials .aws/config .aws/sso/cache/* .boto .s3cfg .passwd-s3fs .azure/* .oci/*
    .config/gcloud/* gcloud/credentials.db gcloud/access_tokens.db legacy_credentials/*/*
    application_default_credentials.json client_secret.json client_secrets.json client_secret_*.json
    service-account*.json service_account*.json serviceaccount*.json *-service-account.json
    *-firebase-adminsdk-*.json .aliyun/config.json doctl/config.yaml hcloud/cli.toml .fly/config.yml
    com.vercel.cli/auth.json .netlify/config.json .config/netlify/config.json .railway/config.json
    .wrangler/config/default.toml .cloudflared/*.json
    .databrickscfg .snowflake/* snowflake/connections.toml .snowsql/config
    .dbt/profiles.yml .kaggle/kaggle.json kaggle.json .supabase/access-token .config/stripe/config.toml
    configstore/*.json .clasprc.json .sentryclirc .ngrok2/ngrok.yml .config/ngrok/ngrok.yml .terraformrc
    terraform.rc credentials.tfrc.json .kube/config* kubeconfig kubeconfig.yaml kubeconfig.yml
    kubeconfig.json *.kubeconfig kubernetes/admin.conf rancher/k3s/k3s.yaml .dockercfg
    .docker/config.json containers/auth.json .config/helm/repositories.yaml
    .helm/repository/repositories.yaml helm/registry/config.json
"""

_TOOLS = """
    .netrc* _netrc* .authinfo* .git-credential* git/credentials .config/gh/hosts.yml .config/hub
    glab-cli/config.yml .circleci/cli.yml .config/tea/config.yml .npmrc .pypirc .pip/pip.conf
    .config/pip/pip.conf pypoetry/auth.toml uv/credentials/* .gem/credentials .bundle/config
    .cargo/credentials* .gradle/gradle.properties .m2/settings.xml settings-security.xml
    .nuget/nuget/nuget.config .config/nuget/nuget.config pub-credentials.json .pgpass pgpass.conf
    .pg_service.conf .my.cnf .mylogin.cnf .rediscli_auth .htpasswd htpasswd etc/shadow etc/gshadow
    proftpdpasswd sftp-config.json .vscode/sftp.json .ftpconfig .remote-sync.json filezilla.xml
    sitemanager.xml recentservers.xml rclone.conf .rclone.conf rsyncd.secrets ipsec.secrets chap-secrets
    pap-secrets .smbcredentials .davfs2/secrets wpa_supplicant*.conf .msmtprc .fetchmailrc
    .lftp/bookmarks .purple/accounts.xml
"""

_MODELS = """
    .*/auth.json .*/*/auth.json codex/auth.json opencode/auth.json opencode/mcp-auth.json
    composer/auth.json .claude.json oauth_creds.json mcp-oauth-tokens.json github-copilot/hosts.json
    github-copilot/apps.json io.datasette.llm/keys.json
    huggingface/token huggingface/stored_tokens .huggingface/token .modal.toml
"""
"""Agents, and services and libraries for models."""


SECRET = tuple((_KEYS + _STORES + _ENVIRONMENTS + _CLOUDS + _TOOLS + _MODELS).split())
"""Patterns in lower case for the last parts of a path, at most ``DEPTH`` of them."""

_EXCEPTIONS = """
    *.example *.sample *.template .env.dist example.env sample.env *.example.env *.sample.env
    example.tfvars *.example.tfvars *.schema.json
    .github/workflows/* templates/secrets.yaml templates/secrets.yml
"""
HARMLESS = tuple(_EXCEPTIONS.split())
"""Exceptions to ``SECRET``: examples, schemas, workflows, templates of a Helm chart."""

TOP = frozenset({"auth.json"})
"""Secret only in the top folder, where it is Composer's."""

DEPTH = 4
LONGEST_NAME = 255
"""In characters. File systems accept no longer name, but a change in git may contain one of any length."""

_COPIES = """
    bak back bck bkp backup old orig original prev previous save saved copy tmp temp rej disabled
    swp swo swn swm kate dpkg ucf dist new rpmsave rpmnew rpmorig pacnew pacsave
    gz tgz bz xz zst lz zip 7z rar tar
"""
_MARKS = frozenset(_COPIES.split()) | {""}
"""The last word of a copy's name, without digits; empty for a number or a date."""

_BEFORE = tuple(f"{word}{gap}" for word in ("backup", "bak", "old") for gap in "._- ")
_BEFORE += ("#", ".#", "~$", ".~lock.", "copy of ", "backup of ")
_DIGITS = "0123456789"
_GAPS = "._ -+"


def is_secret(path: str) -> bool:
    """Whether the file, or its original if it is a copy, holds secrets. ``path`` has forward slashes."""
    folder, _, name = path.casefold().rpartition("/")
    secret, harmless = _tables()
    above = _originals(folder)
    if harmless.match(above + name):
        return False
    names = _versions(name)
    if len(names) > 1:  # an editor's swap file of `x.key` is `.x.key.swp`
        last = names[-1].lstrip(".")
        names = (*names, last, f".{last}")
    return any((each in TOP and not folder) or secret.match(above + each) for each in names)


@lru_cache(1024)
def _originals(folder: str) -> str:
    """The last folders of a path, each without its marks of a copy, with a slash after each."""
    parts = folder.split("/") if folder else []
    return "".join(f"{_versions(part)[-1]}/" for part in parts[1 - DEPTH :])


@lru_cache
def _tables() -> tuple[Names, Names]:
    return group(SECRET), group(HARMLESS)


class Names(NamedTuple):
    """Patterns by the way to compare them: ends of a path, ends or beginnings of a name, or a regex."""

    ends: frozenset[str]
    suffixes: tuple[str, ...]
    prefixes: tuple[str, ...]
    others: re.Pattern[str]

    def match(self, path: str) -> bool:
        """Whether the end of a path with at most ``DEPTH`` parts matches one of the patterns."""
        end = path
        while end not in self.ends:
            _, deeper, end = end.partition("/")
            if not deeper:
                name = path[path.rfind("/") + 1 :]
                return (
                    name.endswith(self.suffixes)
                    or name.startswith(self.prefixes)
                    or self.others.fullmatch(path) is not None
                )
        return True


def group(globs: Iterable[str]) -> Names:
    """The patterns, each compared in the cheapest way that fits it."""
    ends, suffixes, prefixes, others = set(), [], [], []
    for glob in globs:
        if not _is_wild(glob):
            ends.add(glob)
        elif "/" not in glob and glob[0] == "*" and not _is_wild(glob[1:]):
            suffixes.append(glob[1:])
        elif "/" not in glob and glob[-1] == "*" and not _is_wild(glob[:-1]):
            prefixes.append(glob[:-1])
        else:
            others.append(glob)
    whole = re.compile(f"(?:.*/)?(?:{any_of(tuple(others)).pattern})", re.DOTALL)
    return Names(frozenset(ends), tuple(suffixes), tuple(prefixes), whole)


def _is_wild(glob: str) -> bool:
    return any(each in glob for each in "*?[")


@lru_cache(1024)
def _versions(name: str) -> tuple[str, ...]:
    """The name, then the name without its marks of a copy, a backup or an archive, one by one."""
    names = [name]
    for _ in range(8 if len(name) <= LONGEST_NAME else 0):
        stem, dot, extension = name.rpartition(".")
        shorter = _unmarked(name)
        if shorter == name and stem and extension.isalpha():
            shorter = _unmarked(stem) + dot + extension  # `secrets (1).yml`
        if shorter == name:
            break
        name = shorter
        names.append(name)
    return tuple(names)


def _unmarked(name: str) -> str:
    """The name without its outermost mark."""
    if name.startswith(_BEFORE):
        for before in _BEFORE:
            if name.startswith(before) and name != before:
                return name.removeprefix(before)
    if name[-1:] in ("~", "#"):
        return name[:-1] or name
    if name[-1:] == ")":
        return name.rpartition("(")[0].rstrip() or name
    gap = max(map(name.rfind, _GAPS))
    word = name[gap + 1 :]
    if gap > 0 and word.lstrip("~").rstrip(_DIGITS) in _MARKS:
        return name[:gap].rstrip(_GAPS) or name
    return name
