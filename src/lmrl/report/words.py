"""Numbers and texts as the page writes them."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from lmrl.report.results import Estimate, Result
from lmrl.report.runs import Run
from lmrl.runs.formats import UNKNOWN, duration, number, percent


def estimate(found: Estimate | None, digits: int = 1) -> str:
    """Return a mean with its interval."""
    if found is None:
        return UNKNOWN
    if found.interval is None or not all(map(math.isfinite, found.interval)):
        return number(found.value, digits)
    low, high = (number(end, digits) for end in found.interval)
    return f"{number(found.value, digits)} [{low}, {high}]"


def reward(value: float) -> str:
    """Return the reward of a turn, with its sign."""
    return f"{value:+g}" if value else "0"


def basis(result: Result) -> str:
    """Return the number of seeds and episodes behind a number, and the unit of its interval."""
    count = len(result.seeds)
    over = "" if result.main.interval is None or count > 1 else "; interval over episodes"
    return f"{count} {'seed' if count == 1 else 'seeds'} \N{MULTIPLICATION SIGN} {result.episodes} episodes{over}"


def versions(run: Run) -> str:
    """Return the versions of a run in one line."""
    found: Mapping[str, Any] = run.provenance.get("versions") or run.summary.get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in found.items() if version) or UNKNOWN


def commit(run: Run) -> str:
    """Return the commit of a run's code, shortened; changed files are told."""
    found = str(run.summary.get("git_commit") or "")
    return f"{found[:10]}{' and changes' if found.endswith('-dirty') else ''}" if found else UNKNOWN


def machine(run: Run) -> str:
    """Return the machine of a run, as far as it is recorded."""
    settings: Mapping[str, Any] = run.config.get("hardware") or {}
    told: Mapping[str, Any] = run.provenance.get("machine") or {}
    found = [f"{name} {value}" if name == "cores" else str(value) for name, value in told.items() if value]
    keys = ("accelerator", "devices", "num_nodes", "strategy", "precision", "threads")
    plain = {"num_nodes": 1, "strategy": "auto", "precision": "auto", "threads": None}
    found += [f"{key} {settings[key]}" for key in keys if key in settings and settings[key] != plain.get(key, "")]
    return ", ".join(found) or UNKNOWN


def data(run: Run) -> str:
    """Return the fingerprint and the size of the data that a run learned from."""
    block = run.summary.get("dataset") or {}
    if not block.get("fingerprint"):
        return UNKNOWN
    return f"{str(block['fingerprint'])[:12]} ({block.get('trajectories') or 0:,} episodes)"


def cell(value: object) -> str:
    """Return a text for a cell of a Markdown table: nothing in it begins markup, a new cell or a new line."""
    text = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", str(value))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"\s*\n\s*", " ", text)


def code(value: object) -> str:
    """Return a text as code in one line of Markdown, in a table or outside."""
    text = re.sub(r"\s*\n\s*", " ", str(value)).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{space}{text}{space}{ticks}" if text else ""


def fence(text: str) -> str:
    """Return the fence of a code block that no line of the text can close."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "percent": percent,
    "estimate": estimate,
    "reward": reward,
    "basis": basis,
    "duration": duration,
    "versions": versions,
    "commit": commit,
    "machine": machine,
    "data": data,
    "cell": cell,
    "code": code,
    "fence": fence,
}
