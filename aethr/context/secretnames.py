"""Which files hold secrets, by their names alone, including copies and backups. Pure.

A file with a name listed here is not sent, and its review is incomplete. So a name belongs here only if
ordinary files of a project rarely have it: `auth.json` may hold translations, and `secrets.py` is code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from aethr.context import paths

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


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SECRET = _words(_KEYS + _STORES + _ENVIRONMENTS + _CLOUDS + _TOOLS + _MODELS)
"""Patterns in lower case for the last parts of a path, at most ``DEPTH`` of them."""

HARMLESS = _words("""
    *.example *.sample *.template .env.dist example.env sample.env *.example.env *.sample.env
    example.tfvars *.example.tfvars *.schema.json
    .github/workflows/* templates/secrets.yaml templates/secrets.yml
""")
"""Exceptions to ``SECRET``: examples, schemas, workflows, templates of a Helm chart."""

TOP = frozenset({"auth.json"})
"""Secret only in the top folder, where it is Composer's."""

DEPTH = 4
LONGEST_NAME = 255
"""In characters. File systems accept no longer name, but a change in git may contain one of any length."""

_MARKS = frozenset(
    _words("""
    bak back bck bkp backup old orig original prev previous save saved copy tmp temp rej disabled
    swp swo swn swm kate dpkg ucf dist new rpmsave rpmnew rpmorig pacnew pacsave
    gz tgz bz xz zst lz zip 7z rar tar
    """)
) | {""}
"""The last word of a copy's name, without digits; empty for a number or a date."""

_BEFORE = (
    "#",
    ".#",
    "~$",
    ".~lock.",
    *(f"{word}{gap}" for word in ("backup", "bak", "old") for gap in "._- "),
)
_BEFORE += ("copy of ", "backup of ")
_DIGITS = "0123456789"
_GAPS = "._ -+"


def is_secret(path: str) -> bool:
    """Whether the file, or its original if it is a copy, holds secrets. ``path`` has forward slashes."""
    *folders, name = path.casefold().split("/")
    secret, harmless = _tables()
    above = "".join(f"{_versions(folder)[-1]}/" for folder in folders[1 - DEPTH :])
    if harmless.match(above + name):
        return False
    names = _versions(name)
    if len(names) > 1:  # an editor's swap file of `x.key` is `.x.key.swp`
        last = names[-1].lstrip(".")
        names = (*names, last, f".{last}")
    return any((each in TOP and not folders) or secret.match(above + each) for each in names)


@lru_cache
def _tables() -> tuple[_Names, _Names]:
    return _group(SECRET), _group(HARMLESS)


class _Names(NamedTuple):
    """Patterns by the way to compare them: ends of a path, ends or beginnings of a name, or a regex."""

    ends: frozenset[str]
    suffixes: tuple[str, ...]
    prefixes: tuple[str, ...]
    others: re.Pattern[str]

    def match(self, path: str) -> bool:
        """Whether the end of a path with at most ``DEPTH`` parts matches one of the patterns."""
        name = path.rpartition("/")[2]
        return (
            name.endswith(self.suffixes)
            or name.startswith(self.prefixes)
            or any(end in self.ends for end in _ends(path))
            or self.others.fullmatch(path) is not None
        )


def _group(patterns: Iterable[str]) -> _Names:
    ends, suffixes, prefixes, others = set(), [], [], []
    for pattern in patterns:
        if not _is_wild(pattern):
            ends.add(pattern)
        elif "/" not in pattern and pattern[0] == "*" and not _is_wild(pattern[1:]):
            suffixes.append(pattern[1:])
        elif "/" not in pattern and pattern[-1] == "*" and not _is_wild(pattern[:-1]):
            prefixes.append(pattern[:-1])
        else:
            others.append(pattern)
    whole = re.compile(f"(?:.*/)?(?:{paths.any_of(others).pattern})", re.DOTALL)
    return _Names(frozenset(ends), tuple(suffixes), tuple(prefixes), whole)


def _is_wild(pattern: str) -> bool:
    return any(each in pattern for each in "*?[")


def _ends(path: str) -> Iterator[str]:
    """``a/b/c``, ``b/c``, ``c``."""
    while path:
        yield path
        path = path.partition("/")[2]


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
