"""Keep measured results: `results/<task>/<algo>/*.json` are the records, `docs/results.md` is written from them.

    python scripts/results.py add runs/maze/ilql/...   # a record from a finished run's folder
    python scripts/results.py write                    # docs/results.md from all records
    python scripts/results.py check                    # whether the page agrees with the records

A record describes one trained policy, or several seeds of one command where only their mean and extremes are known.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field, ValidationError

ROOT = Path(__file__).resolve().parents[1]
RECORDS, PAGE, TEMPLATE = ROOT / "results", ROOT / "docs" / "results.md", "page.md.j2"
FIX = "run `python scripts/results.py write`"


class Estimate(BaseModel):
    """A number with an interval: the 95 % interval of one run's evaluation, or the extremes of several runs."""

    model_config = ConfigDict(extra="forbid")
    mean: float
    low: float | None
    high: float | None


class Record(BaseModel):
    """One result. `return` is undiscounted, scores are in points, `success` is in percent."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    task: str
    algo: str
    variant: str
    """Difference from the method's defaults. Empty: none."""
    model: str
    seeds: list[int] = Field(min_length=1)
    returns: Estimate = Field(alias="return")
    score: Estimate | None
    own_score: Estimate | None
    success: float | None
    episodes: str | None
    """Episodes that an online method played in training."""
    steps: str | None
    """Environment steps of these."""
    time: str | None
    """Training without data, earlier stages and evaluation."""
    command: str | None
    """`null`: not recorded."""
    commit: str | None
    """`null`: not recorded, before version 0.2."""
    digest: str | None
    """Digest of the configuration, `config_hash` of `summary.json`."""
    measured: str | None
    """Date. `null`: not recorded."""


def read(file: Path) -> Record:
    """Read a record.

    Raises:
        ValueError: the file is damaged; the message names file and field.
    """
    try:
        return Record.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{file}: {field}: {first['msg']}") from error


def records(folder: Path = RECORDS) -> list[Record]:
    """Return all records, sorted by task, method, variant and seeds."""
    found = [read(file) for file in sorted(folder.glob("*/*/*.json"))]
    return sorted(found, key=lambda record: (record.task, record.algo, record.variant, record.seeds))


def estimate(value: Estimate | None, digits: int | None = None) -> str:
    """Format a number with its interval.

    Args:
        value: the number.
        digits: decimals. `None`: one from 10 on, else two.
    """
    if value is None:
        return ""
    places = digits if digits is not None else 1 if abs(value.mean) >= 9.995 else 2
    interval = "" if value.low is None or value.high is None else f" ({value.low:.{places}f}, {value.high:.{places}f})"
    return f"{value.mean:.{places}f}{interval}"


def rows_of(found: Sequence[Record], task: str, algos: Sequence[str] = ()) -> list[Record]:
    """Return the records of a task in the order of `algos`, or all of them by name if it is empty."""
    rows = [record for record in found if record.task == task and (not algos or record.algo in algos)]
    return sorted(rows, key=lambda record: (list(algos).index(record.algo), record.variant)) if algos else rows


def published(task: str) -> dict[str, dict[str, str]]:
    """Return the paper's numbers of a task as the page shows them, by method and then `return` and `score`."""
    paper = yaml.safe_load((ROOT / "conf" / "task" / f"{task}.yaml").read_text(encoding="utf-8")).get("paper") or {}
    return {
        algo: {"return": estimate(Estimate(mean=row["return"], low=None, high=None)), "score": str(row["score"])}
        for algo, row in paper.items()
    }


def table(found: Sequence[Record], task: str, algos: Sequence[str] = ()) -> str:
    """Return the Markdown table of a task.

    Args:
        found: all records.
        task: the task.
        algos: methods in the order of the rows. Empty: all, by name.
    """
    rows = rows_of(found, task, algos)
    paper = published(task)
    columns = {
        "method": [f"`{row.algo}`" + (f", {row.variant}" if row.variant else "") for row in rows],
        "model": ["" if row.model == "tiny" else f"`{row.model}`" for row in rows],
        "seeds": [", ".join(map(str, row.seeds)) for row in rows],
        "return": [estimate(row.returns) for row in rows],
        "score": [estimate(row.score, 1) for row in rows],
        "own score": [estimate(row.own_score, 1) for row in rows],
        "success": ["" if row.success is None else f"{row.success:g} %" for row in rows],
        "episodes": [row.episodes or "" for row in rows],
        "steps": [row.steps or "" for row in rows],
        "time": [row.time or "" for row in rows],
        "paper: return": [paper.get(row.algo, {}).get("return", "") for row in rows],
        "paper: score": [paper.get(row.algo, {}).get("score", "") for row in rows],
        "commit": [row.commit or "" for row in rows],
        "command": ["" if row.command is None else f"`{row.command}`" for row in rows],
    }
    shown = {head: cells for head, cells in columns.items() if any(cells)}
    left = ("method", "model", "success", "time", "commit", "command")
    lines = [shown, ["---" if head in left else "---:" for head in shown], *zip(*shown.values(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(found: Sequence[Record]) -> str:
    """Return the text of `docs/results.md`.

    Raises:
        ValueError: no table of the template has a row for a record; the message names its task and method.
    """
    shown: set[tuple[str, str]] = set()

    def shown_table(task: str, *algos: str) -> str:
        shown.update((row.task, row.algo) for row in rows_of(found, task, algos))
        return table(found, task, algos)

    loader = Environment(loader=FileSystemLoader(RECORDS), undefined=StrictUndefined, keep_trailing_newline=True)
    text = loader.get_template(TEMPLATE).render(table=shown_table)
    if missing := sorted({(record.task, record.algo) for record in found} - shown):
        names = ", ".join(f"{task}/{algo}" for task, algo in missing)
        raise ValueError(f"results/{TEMPLATE} has no table with {names}: add the method to the table of its task")
    return text


def record_of(folder: Path) -> Record:
    """Return the record of a finished run.

    Raises:
        ValueError: the run is not finished, or its files lack something; the message names the folder.
    """
    try:
        summary: Any = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        provenance: Any = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        if provenance["changed"] is None:
            raise ValueError(f"{folder}: provenance.json: changed is null: the defaults of this run are not known here")
        if summary["status"] != "finished":
            raise ValueError(f"{folder}: the run is {summary['status']}, only a finished one is a result")
        played, train = summary["evaluation"], summary["train"] or {}
        return Record(
            task=summary["task"],
            algo=summary["algo"],
            variant=", ".join(f"{key}={json.dumps(value)}" for key, value in provenance["changed"].items()),
            model=summary["model"],
            seeds=[summary["seed"]],
            returns=_estimate(played, "return_mean", "return_ci95"),
            score=_estimate(played, "score", "score_ci95") if played["score"] is not None else None,
            own_score=_estimate(played, "own_score", "own_score_ci95") if played.get("own_score") is not None else None,
            success=None if played["success_rate"] is None else round(100 * played["success_rate"], 1),
            episodes=_count(train.get("episodes")),
            steps=_count(train.get("environment_steps")),
            time=None if train.get("seconds") is None else f"{train['seconds']:,.0f} s",
            command=provenance["command"],
            commit=(summary["git_commit"] or "")[:7] or None,
            digest=summary["config_hash"],
            measured=summary["ended"][:10],
        )
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder} is not a finished run of this version: {error!r}") from error


def _estimate(played: Any, name: str, interval: str) -> Estimate:
    low, high = played.get(interval) or (None, None)
    return Estimate(mean=played[name], low=low, high=high)


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def add(folder: Path, place: Path = RECORDS) -> Path:
    """Write the record of a run and return its file; it replaces one of the same method, model, variant and seed.

    Raises:
        ValueError: the run is not finished, or its code was not committed.
    """
    record = record_of(folder)
    commit = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["git_commit"] or ""
    if commit.endswith("-dirty"):
        raise ValueError(f"{folder}: measured on uncommitted changes of {commit[:7]}; commit them and run again")
    is_default = not record.variant and record.model == "tiny"
    name = "-".join([*map(str, record.seeds), *([] if is_default else [(record.digest or "")[:6]])])
    file = place / record.task / record.algo / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(record.model_dump_json(indent=2, by_alias=True) + "\n", encoding="utf-8")
    return file


def check() -> str | None:
    """Return why the page disagrees with the records; `None` if it agrees."""
    is_same = PAGE.read_text(encoding="utf-8") == page(records())
    return None if is_same else f"docs/results.md is not what results/ gives: {FIX}"


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks for, and return the exit status."""
    match list(arguments):
        case ["add", *folders] if folders:
            for folder in folders:
                print(add(Path(folder)))
        case ["write"]:
            PAGE.write_text(page(records()), encoding="utf-8")
        case ["check"]:
            if (reason := check()) is not None:
                print(reason, file=sys.stderr)
                return 1
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(f"error: {error}")
