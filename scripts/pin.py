"""Refresh the exact versions of the whole dependency tree: `python scripts/pin.py` (needs uv), or `--check` them.

A lock file would record where each file was downloaded, so it is not committed. Instead every resolved version, for all
platforms and Pythons, is written without an address to `[tool.uv]` in pyproject.toml and, for pip, to constraints.txt.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = r"^{key} = \[[^\]]*\]\n"
"""A list of strings in pyproject.toml; no requirement that we write contains a bracket."""
IMPLICIT_BUILD = ("editables", "setuptools", "wheel")
"""What builds need without saying so: hatchling's editable installs, and packages that come without a wheel."""
HEADER = "# The versions lmrl is tested with, for `pip install -c`. Written by scripts/pin.py.\n"


def uv(*arguments: str, folder: Path, stdin: str = "") -> str:
    """Run uv in a folder and return what it prints; stop with its own message if it fails."""
    result = subprocess.run(["uv", *arguments], cwd=folder, input=stdin, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"uv {' '.join(arguments)} failed:\n{result.stderr}")
    return result.stdout


def requirements(listing: str) -> list[str]:
    """Turn uv's listing into sorted pins; a marker stays only where a package has several versions.

    Raises:
        ValueError: a line is not `name==version`, for example because the package comes from an address.
    """
    lines = [line.strip() for line in listing.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if not re.match(r"^[A-Za-z0-9._-]+==[^\s;@]+( ; .+)?$", line):
            raise ValueError(f"not a plain pin: {line}")
    versions = Counter(line.split("==")[0] for line in lines)
    return sorted(line if versions[line.split("==")[0]] > 1 else line.split(" ;")[0] for line in lines)


def resolve(pyproject: str) -> tuple[list[str], list[str]]:
    """Resolve a pyproject's text afresh and return the pins of its tree and of what builds it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pyproject.toml").write_text(pyproject)
        options = ("--no-header", "--no-annotate")
        uv("lock", folder=folder)
        every = ("--no-hashes", "--no-emit-project", "--all-groups", "--all-extras", "--frozen")
        tree = uv("export", *every, *options, folder=folder)
        build = "\n".join([*tomllib.loads(pyproject)["build-system"]["requires"], *IMPLICIT_BUILD])
        universal = ("--universal", "--python-version", "3.11")
        pins = uv("pip", "compile", "-", *universal, *options, folder=folder, stdin=build)
    return requirements(tree), requirements(pins)


def with_block(pyproject: str, key: str, pins: list[str]) -> str:
    """Return the text of pyproject.toml with the list `key` replaced."""
    body = "".join(f'    "{pin}",\n' for pin in pins)
    block = f"{key} = [\n{body}]\n" if pins else f"{key} = []\n"
    text, count = re.subn(BLOCK.format(key=key), block, pyproject, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"pyproject.toml must have exactly one list {key}, found {count}")
    return text


def with_pins(pyproject: str, tree: list[str], build: list[str]) -> str:
    """Return the text of pyproject.toml with both lists of pins replaced."""
    return with_block(with_block(pyproject, "build-constraint-dependencies", build), "constraint-dependencies", tree)


def main() -> None:
    """Write the newest versions that fit together, or check that the written ones are complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only check that the pins determine the whole tree")
    check = parser.parse_args().check
    pyproject, constraints = ROOT / "pyproject.toml", ROOT / "constraints.txt"
    text = pyproject.read_text()
    # Checking resolves under the pins as they stand: whatever is missing from them shows up as a difference.
    tree, build = resolve(text if check else with_pins(text, [], []))
    wanted = {pyproject: with_pins(text, tree, build), constraints: HEADER + "\n".join(tree) + "\n"}
    if check:
        stale = [path.name for path, content in wanted.items() if not path.is_file() or path.read_text() != content]
        if stale:
            sys.exit(f"{' and '.join(stale)} would change: run scripts/pin.py")
    else:
        for path, content in wanted.items():
            path.write_text(content)


if __name__ == "__main__":
    main()
