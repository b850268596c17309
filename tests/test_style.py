"""The rules of the house that no linter knows: budgets, import cost, declared dependencies, and nothing private."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "lmrl"
MODULES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = [ROOT / "run.py", *sorted((ROOT / "scripts").glob("*.py"))]
NAMES = [".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__") for path in MODULES]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.FunctionDef, ast.Lambda)
TERMINAL = {"__main__"}
"""Modules that may print as they like: commands that a person calls. Elsewhere a `print` names its stream, so that it
is a decision and not what debugging left behind."""
PRIVATE = [
    re.compile(
        r"(?<![\w./])/(?:home|root|Users|work|mnt|opt|srv)(?:/|\b(?=[\s`'\")]))"
    ),  # a folder of somebody's machine
    re.compile(r"(?:pythonhosted|pypi)\.(?:org)|(?:index|find)-(?:url|links)"),  # where packages came from
    re.compile(r"://[^/\s'\"]+:[^/\s'\"]+@"),  # credentials
]
TEXT_FILES = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cff", ".json", ".jsonl", ""}
FOLDERS = ("src", "conf", "sweeps", "tests", "docs", "scripts", ".ci", ".github")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def nesting(node: ast.AST) -> int:
    """Count the deepest chain of blocks below a node; an `elif` is as deep as its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def test_nesting_counts_blocks() -> None:
    text = "def f():\n if a:\n  for b in c:\n   pass\n elif d:\n  pass\n elif e:\n  with g:\n   while h:\n    pass\n"
    assert [nesting(function) for function in functions(ast.parse(text))] == [3]


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=relative)
def test_file_keeps_its_budget(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300, "a file says one idea in at most 300 lines"
    for function in functions(ast.parse(text)):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= 50, f"{function.name} has {length} lines, at most 50"
        assert nesting(function) <= 4, f"{function.name} nests {nesting(function)} blocks, at most 4"


def test_run_is_a_page() -> None:
    assert len((ROOT / "run.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=relative)
def test_file_opens_with_a_sentence(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        first = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        assert re.search(r"[\w`)\"][.:!]", first), "a file opens with one sentence that says what it is"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_file_keeps_the_conventions(path: Path) -> None:
    assert not re.search(r"utils|helper|manager|wrapper", path.stem), "name the idea"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__", "string annotations hide shapes from the run-time checks"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            named = any(keyword.arg == "file" for keyword in node.keywords)
            assert named or path.stem in TERMINAL, f"print without a stream in line {node.lineno}"


@pytest.mark.parametrize("name", NAMES)
def test_module_is_importable(name: str) -> None:
    assert importlib.import_module(name).__name__ == name


def test_environments_and_checks_import_without_torch() -> None:
    light = [name for name in NAMES if name.startswith("lmrl.envs")]
    light += [name for name in NAMES if re.fullmatch(r"lmrl\.tasks\.\w+(\.(env|partner|players))?", name)]
    light += ["lmrl.text.trajectory", "lmrl.policies.core", "lmrl.config.checks"]
    heavy = "{'torch', 'transformers', 'pytorch_lightning', 'datasets', 'mlflow'} & set(sys.modules)"
    code = f"import sys, run, {', '.join(light)}\nsys.exit(', '.join({heavy}) or 0)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, f"imported only to describe a game or a mistake: {result.stderr}"


def test_every_import_is_declared() -> None:
    project = PYPROJECT["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    owners = importlib.metadata.packages_distributions()
    known = sys.stdlib_module_names | {"lmrl"}
    for path in [*MODULES, ROOT / "run.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for top in {module.split(".")[0] for module in modules} - known:
                packages = {canonicalize_name(owner) for owner in owners.get(top, ())}
                assert packages & declared, f"{relative(path)} imports {top}: declare it in pyproject.toml"


def pinned() -> list[Requirement]:
    return [Requirement(text) for text in PYPROJECT["tool"]["uv"]["constraint-dependencies"]]


def test_pins_are_exact_and_without_addresses() -> None:
    build = [Requirement(text) for text in PYPROJECT["tool"]["uv"]["build-constraint-dependencies"]]
    for requirement in [*pinned(), *build]:
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ["=="]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == PYPROJECT["tool"]["uv"]["constraint-dependencies"], "run scripts/pin.py"


def needs(name: str) -> list[str]:
    """What an installed package requires; nothing for one that this platform has not."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def test_pins_cover_the_whole_tree() -> None:
    direct = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["dev"]]
    waiting, seen = [Requirement(text) for text in direct], set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), tuple(sorted(requirement.extras))
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        below = [Requirement(text) for text in needs(name)]
        chosen = [{"extra": extra} for extra in ("", *extras)]
        waiting += [r for r in below if r.marker is None or any(r.marker.evaluate(extra) for extra in chosen)]
    assert len(seen) > 50
    missing = {name for name, _ in seen} - {canonicalize_name(requirement.name) for requirement in pinned()}
    assert not missing, f"run scripts/pin.py: no pin for {sorted(missing)}"


def tracked() -> list[Path]:
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    return [path for path in [*ROOT.iterdir(), *inside] if path.is_file() and path.suffix in TEXT_FILES]


def test_nothing_private_is_published() -> None:
    paths = [path for path in tracked() if path.name not in {".git", "uv.lock"}]
    assert len(paths) > 20
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found = next((match for pattern in PRIVATE if (match := pattern.search(line))), None)
            assert found is None, f"{relative(path)}:{number} names {found and found[0]!r}"


@pytest.mark.parametrize(
    "parts", ["see /|root/x", "cd /|work/main", "`/|work`", "https://py|pi.org/simple", "a:|//u:p@h"]
)
def test_private_lines_are_found(parts: str) -> None:
    line = parts.replace("|", "")
    assert any(pattern.search(line) for pattern in PRIVATE)
