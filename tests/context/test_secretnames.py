"""Files that hold secrets by their names, their copies and backups; and the ordinary ones beside them."""

from __future__ import annotations

import time

import pytest

from aethr.context.paths import DEPTH, SECRET, is_secret
from tests.support import Repo, prompts


def words(text: str) -> list[str]:
    return text.split()


SECRETS = words("""
        .env .env.local .env.production deploy/prod.env .envrc .dev.vars     .vault-token
    home/.vault-token .vault_pass.txt .vault-password vault_password ansible/.vault_pass
    .cargo/credentials .cargo/credentials.toml prod.tfvars env/terraform.tfvars x.auto.tfvars.json
    terraform.tfstate infra/terraform.tfstate.backup terraform.tfstate.1699999999.backup
    prod.pkrvars.hcl     .terraformrc .terraform.d/credentials.tfrc.json kubeconfig
    deploy/kubeconfig.yaml prod.kubeconfig .kube/config     .codex/auth.json
    .local/share/opencode/auth.json opencode/auth.json .claude/.credentials.json .claude.json
    .gemini/oauth_creds.json .pi/agent/auth.json .config/github-copilot/hosts.json auth.json
    .config/composer/auth.json .composer/auth.json .pgpass pgpass.conf .netrc _netrc .netrc.old
    .authinfo     .boto .s3cfg .passwd-s3fs .aws/credentials .aws/config .aws/sso/cache/a1b2.json
    .config/gcloud/credentials.db .config/gcloud/access_tokens.db application_default_credentials.json
    service-account.json gcp/service_account-prod.json my-service-account.json serviceAccountKey.json
    shop-firebase-adminsdk-x1-2.json client_secret_12-ab.apps.googleusercontent.com.json
    credentials.json     secrets.yml config/secrets.yaml .secrets.toml .streamlit/secrets.toml
    config/master.key     config/credentials/production.key .databrickscfg .snowflake/connections.toml
    .snowsql/config     .docker/config.json .dockercfg .config/containers/auth.json
    .config/helm/repositories.yaml     etc/wireguard/office.conf wg0.conf client.ovpn
    office.nmconnection passwords.kdbx old.kdb vault.psafe3     .gnupg/trustdb.gpg secring.gpg
    private-keys-v1.d/ABC.key firefox/key4.db firefox/logins.json cookies.sqlite     .bash_history
    .zsh_history .psql_history .python_history fish_history     .gradle/gradle.properties
    .m2/settings.xml android/key.properties .nuget/NuGet/NuGet.Config     .gem/credentials .pypirc
    .npmrc .config/pypoetry/auth.toml .dbt/profiles.yml kaggle.json     .config/gh/hosts.yml .config/hub
    .git-credentials .config/git/credentials .github_token .npm-token     krb5.keytab server.pem tls.key
    id_rsa id_ed25519 deploy_rsa ssh_host_ed25519_key .ssh/config     rclone.conf .htpasswd etc/shadow
    wallet.dat .clasprc.json .sentryclirc age-recipient.agekey
""")

ORDINARY = words("""
        secrets.py secrets.go src/secrets/index.ts secret.rs auth.py auth.ts lib/auth.js
    locales/en/auth.json     public/i18n/de/auth.json src/auth.json credentials.md credentials.py
    docs/credentials.rst credentials.go     credentials.yml.enc config/credentials.yml.enc
    gradle.properties android/gradle.properties nuget.config     .env.example .env.sample .env.template
    .env.dist example.env .env.production.example .dev.vars.example     terraform.tfvars.example
    example.tfvars prod.example.tfvars main.tf variables.tf .terraform.lock.hcl     .cargo/config.toml
    Cargo.toml .aws/task-definition.json .azure/pipelines/ci.yml .docker/php.ini Dockerfile
    .yarnrc.yml .mcp.json .claude/settings.json CLAUDE.md .codex/config.toml opencode.json composer.json
    .github/workflows/secrets.yml charts/shop/templates/secrets.yaml .helm/templates/secret.yaml
    sealed-secret.yaml     kubeconfig.go docs/kubeconfig.md src/id_map.py environment.md keys.py
    docs/env.md .envoy/a.yaml tokens.json     token.go history.md .historyrc keyring.py wallet.ts
    cookies.ts shadow.css settings.xml app/settings.py hosts.yml     profiles.yml config.json
    src/config.yaml config hub service-account.schema.json service-account.yaml     .secrets.baseline
    secrets.enc.yaml backup.py old.md copy.c orig.txt README.md.orig a.py~ a~ ~ . # x.tmp     src/main
    (1).c notes copy.txt 1.2.3 v1.tar.gz google-services.json openvpn.md wg.py id_rsa.md.example
""")

MARKS = [
    *(
        "{}~",
        "{}.bak",
        "{}.BAK",
        "{}.old",
        "{}.orig",
        "{}.save",
        "{}.tmp",
        "{}.1",
        "{}.12",
        "{}.backup",
        "{}.copy",
    ),
    *("{}-old", "{}_backup", "{} copy", "{} copy 2", "{} (1)", "{} - Copy", "Copy of {}", "old_{}", "bak.{}"),
    *("#{}#", ".#{}", "{}.swp", ".{}.swp", ".{}.swo", "~${}", ".~lock.{}#", "{}.gz", "{}.zip", "{}.tar.gz"),
    *("{}.2026-01-31", "{}.20260131", "{}-20260131-1200", "{}.bak.1", "{}.orig~", "{}.~1~", "{}.dpkg-old"),
    *("{}.rpmsave", "{}.bak2", "{}.bz2", "{}.1.gz"),
]


@pytest.mark.parametrize("path", SECRETS)
def test_a_secret_file_is_recognized_by_its_name(path: str) -> None:
    assert is_secret(path)
    assert is_secret(path.upper())
    assert is_secret(f"a/b/c/{path}") or path == "auth.json"


@pytest.mark.parametrize("path", SECRETS)
def test_copies_of_a_secret_file_are_secret(path: str) -> None:
    folder, slash, name = path.rpartition("/")
    missed = [each for mark in MARKS if not is_secret(each := folder + slash + mark.format(name))]
    assert missed == []
    stem, _, extension = name.rpartition(".")
    if stem and extension.isalpha():
        names = [
            f"{folder}{slash}{stem}{mark}.{extension}" for mark in (" copy", " (1)", "-old", ".bak", "_2")
        ]
        assert [each for each in names if not is_secret(each)] == []
    if folder:
        assert is_secret(f"{folder}.bak/{name}")


@pytest.mark.parametrize("path", ORDINARY)
def test_an_ordinary_file_is_sent(path: str) -> None:
    assert not is_secret(path)
    assert not is_secret(f"src/pkg/{path}")


def test_every_pattern_is_in_lower_case_and_short_enough() -> None:
    assert [each for each in SECRET if each != each.casefold() or each.count("/") >= DEPTH] == []
    assert len(set(SECRET)) == len(SECRET)


@pytest.mark.parametrize(
    "path", ["x" * 200_000, "-1" * 100_000, "a/" * 50_000 + "x", "." * 200_000, "(" * 100_000 + ")" * 100_000]
)
def test_a_long_name_is_checked_quickly(path: str) -> None:
    begun = time.process_time()
    is_secret(path)
    assert time.process_time() - begun < 1


def test_no_secret_file_is_in_a_prompt(repo: Repo) -> None:
    """In a diff, and by the two sources that name files."""
    repo.commit("start")
    names = [
        ".vault-token",
        "ops/kubeconfig.yml~",
        "terraform.tfstate.backup",
        "secrets (1).yml",
        ".codex/auth.json",
    ]
    for number, name in enumerate(names):
        repo.write(name, f"VALUE-{number}\n")
    repo.write("secrets.py", "ORDINARY = 1\n")
    repo.git("add", "-A", "-f")
    repo.write(
        ".aethr.yaml",
        "workflow: w\nroles: {a: b}\nsteps:\n  - id: s\n    role: a\n"
        "    context: [git_diff, 'glob:**/*', file:.vault-token]\n",
    )
    sent = prompts("--diff", "staged", "x", cwd=repo.root).decode()
    assert "VALUE" not in sent
    assert sent.count("ORDINARY = 1") == 2
    for name in names:
        assert f"[not sent: {name}, a file that holds secrets]" in sent or f"not sent: {name}, " in sent
