"""Prints the size of each preset's prompts, and its cost by ``aethr check``, on one fixed repository.

    python -m benchmarks.preset_sizes [PATH/TO/aethr]

Nothing is called. Two versions of Aethr are compared by running it with the command of each.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MODULE = '''\
"""Prices of {name}, in cents."""

RATES = {{"standard": 19, "reduced": 7}}


def read(rows):
    """The prices of rows of text, such as "apple 120"."""
    found = {{}}
    for row in rows:
        name, _, cents = row.rpartition(" ")
        if not name:
            raise ValueError(f"no name in {{row!r}}")
        found[name] = int(cents)
    return found


def total(prices, kind="standard"):
    """The sum of all prices with tax."""
    net = sum(prices.values())
    tax = net * RATES[kind] // 100
    return net + tax


def cheapest(prices):
    """The name with the lowest price."""
    return min(prices, key=prices.get)
'''
TEST = """\
from shop import {name}


def test_total():
    assert {name}.total({{"a": 100}}) == 119
"""
NAMES = ("cart", "invoice", "order", "stock")


def main(program: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "shop"
        environ = {**os.environ, "HOME": folder, "GIT_CONFIG_NOSYSTEM": "1"}
        for name in ("AETHR_LIVE", "AETHR_MODEL"):
            environ.pop(name, None)
        environ |= {f"GIT_{who}_{what}": "b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

        def run(*words: str) -> str:
            done = subprocess.run(words, cwd=root, env=environ, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(words)}: {done.stderr}")
            return done.stdout

        build(root)
        run("git", "init", "-q", "-b", "main")
        run("git", "add", "-A")
        run("git", "commit", "-q", "-m", "start")
        for name in ("cart", "invoice"):
            file = root / "src" / "shop" / f"{name}.py"
            file.write_text(file.read_text().replace("// 100", "/ 100").replace("int(cents)", "float(cents)"))
        print("| preset | prompts, in bytes | `aethr check` |\n| --- | --- | --- |")
        for preset in re.findall(r"^(\S+)", run(program, "init", "--list"), re.MULTILINE):
            run(program, "init", preset)
            run("git", "add", "-A", ".aethr.yaml")
            said = run(program, "run", "--show-prompt", "look")
            sizes = re.findall(r"^=== step (\S+) \(.*?\), ([\d,]+) bytes", said, re.MULTILINE)
            needs = run(program, "check").splitlines()[1].strip()
            print(f"| {preset} | {', '.join(f'{step} {size}' for step, size in sizes)} | {needs} |")
            run("git", "rm", "-q", "-f", "--cached", ".aethr.yaml")
            (root / ".aethr.yaml").unlink()


def build(root: Path) -> None:
    """A small shop: four modules, each with its test, a README, guidance and two pages."""
    files = {f"src/shop/{name}.py": MODULE.format(name=name) for name in NAMES}
    files |= {f"tests/test_{name}.py": TEST.format(name=name) for name in NAMES}
    files["README.md"] = "# Shop\n\nPrices are whole cents.\n\n`total` adds the tax and rounds down.\n"
    files["CONTRIBUTING.md"] = "# Contributing\n\nNo floats for money. Each change has a test.\n"
    for page in ("prices", "orders"):
        files[f"docs/{page}.md"] = f"# {page.title()}\n\n" + "A price is a whole number of cents.\n" * 20
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).absolute()) if len(sys.argv) > 1 else "aethr")
