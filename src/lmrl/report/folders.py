"""Find runs in folders, and read their files."""

import glob
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from lmrl.report.runs import Run, Status, changes_in, identity, metric_rows, progress
from lmrl.runs.folders import is_busy
from lmrl.runs.provenance import PROVENANCE
from lmrl.runs.recorded import CHANGES


def runs_in(places: Sequence[str]) -> list[Run]:
    """Read all runs in the given folders, which may be runs or hold them at any depth, and may be patterns.

    Raises:
        FileNotFoundError: a place does not exist, or holds no run.
    """
    found: dict[Path, Run] = {}
    for place in places:
        folders = [Path(path) for path in sorted(glob.glob(place))] if glob.has_magic(place) else [Path(place)]
        inside = [folder for start in folders if start.is_dir() for folder in _run_folders(start)]
        if not inside:
            reason = (
                "there is no run in it" if any(folder.is_dir() for folder in folders) else "there is no such folder"
            )
            raise FileNotFoundError(f"{place}: {reason}; a run is a folder with a config.yaml, made by run.py")
        for folder in inside:
            found.setdefault(folder.resolve(), read_run(folder))
    return list(found.values())


def read_run(folder: Path) -> Run:
    """Read one run; a file that cannot be read makes it an unfinished one that says so.

    Raises:
        ValueError: nothing says which task and method the run is of.
    """
    config, config_trouble = _read(folder / "config.yaml")
    summary, trouble = _read(folder / "summary.json") if (folder / "summary.json").exists() else ({}, "")
    provenance, note = _read(folder / PROVENANCE)[0], _read(folder / "mlflow.json")[0]
    metrics = folder / "metrics.jsonl"
    rows = metric_rows(metrics.read_text(encoding="utf-8", errors="replace")) if metrics.exists() else []
    changes = folder / CHANGES
    status: Status = "unfinished" if trouble or config_trouble else summary.get("status", "unfinished")
    reason = trouble or config_trouble or _reason(folder, status, summary, config, rows)
    transcripts = folder / "transcripts.jsonl"
    return Run(
        name=folder.resolve().name,
        place=str(folder),
        **identity(folder.resolve().name, summary, config),
        status=status,
        reason=reason,
        summary=summary,
        config=config,
        rows=rows,
        provenance=provenance,
        transcripts=transcripts if transcripts.exists() else None,
        run_id=note.get("run_id"),
        evaluates=str(folder.resolve().parents[1]) if changes.exists() else None,
        changes=changes_in(_read(changes)[0]),
    )


def _run_folders(start: Path) -> Iterator[Path]:
    """Yield the folders with a run's configuration, in the order of their names."""
    for file in sorted(start.rglob("config.yaml")):
        hidden = any(part.startswith(".") for part in file.relative_to(start).parts)
        if not hidden and {"task", "algo", "seed"} <= _read(file)[0].keys() | _broken(file):
            yield file.parent


def _broken(file: Path) -> set[str]:
    """Return the keys of a configuration that cannot be read, beside which there are a run's other files."""
    is_run = any((file.parent / name).exists() for name in ("summary.json", "metrics.jsonl"))
    return {"task", "algo", "seed"} if is_run and _read(file)[1] else set()


def _read(file: Path) -> tuple[dict[str, Any], str]:
    """Return the content of a JSON or YAML file, and its fault (empty if there is none)."""
    try:
        text = file.read_text(encoding="utf-8")
        value = json.loads(text) if file.suffix == ".json" else yaml.load(text, Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        return {}, f"{file.name} cannot be read: {str(error).splitlines()[0]}"
    return (value, "") if isinstance(value, dict) else ({}, f"{file.name} is not a mapping")


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it: ten times as fast


def _reason(
    folder: Path, status: Status, summary: dict[str, Any], config: dict[str, Any], rows: list[dict[str, Any]]
) -> str:
    """Say why a run has no results; nothing, if it has."""
    if status == "finished":
        return "" if (summary.get("evaluation") or {}).get("return_mean") is not None else "its summary has no results"
    if status != "unfinished":
        said = str(summary.get("error") or "")
        return f"{status} {progress(rows, config)}" + (f": {said}" if said else "")
    if _is_running(folder):
        return f"still running, {progress(rows, config)}"
    newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    when = datetime.fromtimestamp(newest).strftime("%Y-%m-%d %H:%M")
    return f"no summary.json: it was killed, or runs on another machine; last written {when}, {progress(rows, config)}"


def _is_running(folder: Path) -> bool:
    """Tell whether a process of this machine is writing to the folder."""
    try:
        return is_busy(folder)
    except OSError:  # somebody else's folder, whose lock may not be touched
        return False
