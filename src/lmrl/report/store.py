"""Read runs from an MLflow store: a database file, a PostgreSQL database or a server."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lmrl.report.runs import Run, Status, changes_in, identity, progress, without_password
from lmrl.runs.provenance import PROVENANCE
from lmrl.runs.recorded import CHANGES
from lmrl.tracking.store import PARENT_TAG, reader

EXPERIMENTS = "lmrl/"
"""The names of lmrl's experiments begin so."""
_CURVES = ("validation/", "collect/")
_STATUS: dict[str, Status] = {"FINISHED": "finished", "KILLED": "interrupted", "FAILED": "failed"}


def runs_in_store(
    uri: str, *, experiments: Sequence[str] = (), filter: str = "", run_ids: Sequence[str] = ()
) -> list[Run]:
    """Read the runs of experiments, or those with the given ids.

    Args:
        uri: as for `tracking.tracking_uri`.
        experiments: names of experiments. Empty: all that lmrl made.
        filter: an MLflow search, such as `tags.algo = 'ilql'`.
        run_ids: read these instead.

    Raises:
        ValueError: the store or a run cannot be read, or the filter is wrong.
        FileNotFoundError: there is no such database file, or nothing is found in the store.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = reader(uri)
        found = [client.get_run(run_id) for run_id in run_ids] or _search(client, experiments, filter)
        # A sweep has a run of its own, with a table of its jobs and no method.
        runs = [_read(client, entry, uri, _folder()) for entry in found if "algo" in entry.data.tags]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--mlflow {uri}: {error}") from error
    except MlflowException as error:
        raise ValueError(without_password(f"--mlflow {uri}: {str(error).splitlines()[0]}")) from error
    if not runs:
        where = ", ".join(experiments) or f"experiments named {EXPERIMENTS}*"
        said = f"--mlflow {without_password(uri)}: no run in {where}"
        raise FileNotFoundError(said + (f" with {filter}" if filter else ""))
    return runs


def _search(client: Any, experiments: Sequence[str], filter: str) -> Iterator[Any]:
    """Yield the runs of the experiments, page by page, the oldest first.

    Raises:
        ValueError: there is no experiment of a name.
    """
    known = {found.name: found.experiment_id for found in _pages(client.search_experiments)}
    missing = [name for name in experiments if name not in known]
    if missing:
        raise ValueError(f"--experiment {missing[0]}: the store has {', '.join(sorted(known))}")
    chosen = experiments or [name for name in known if name.startswith(EXPERIMENTS)]
    if chosen:
        ids = [known[name] for name in chosen]
        order = ["attributes.start_time ASC"]
        yield from _pages(client.search_runs, experiment_ids=ids, filter_string=filter, order_by=order)


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """Yield everything that a search finds; it answers with one page at a time."""
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _folder() -> Path:
    """Return a folder for files of the store, which is gone when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="lmrl-report-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _read(client: Any, entry: Any, uri: str, target: Path) -> Run:
    """Read one run: its files and its curves."""
    run_id, tags = entry.info.run_id, entry.data.tags
    kept = {file.path for file in client.list_artifacts(run_id)}

    def fetched(name: str) -> Path | None:
        return Path(client.download_artifacts(run_id, name, str(target))) if name in kept else None

    def content(name: str) -> dict[str, Any]:
        file = fetched(name)
        if file is None:
            return {}
        text = file.read_text(encoding="utf-8")
        # Not YAML for all: it takes JSON's 1e-05 for a word.
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)

    config, summary = content("config.yaml"), content("summary.json")
    head = {key: tags.get(key) for key in ("task", "algo", "model")} | {"seed": _number(tags.get("seed"))}
    rows = _rows(client, run_id, [name for name in entry.data.metrics if name.startswith(_CURVES)])
    status: Status = _STATUS.get(entry.info.status, "unfinished")
    is_again = CHANGES in kept  # a job of a sweep has a parent as well
    return Run(
        name=entry.info.run_name or run_id,
        place=f"{without_password(uri)} run {run_id}",
        **identity(entry.info.run_name or run_id, head | summary, config),
        status=status,
        reason=_reason(status, summary, rows, config, entry.info.status),
        summary=summary,
        config=config,
        rows=rows,
        provenance=content(PROVENANCE),
        transcripts=fetched("transcripts.jsonl"),
        run_id=run_id,
        evaluates=tags.get(PARENT_TAG, "") if is_again else None,
        changes=changes_in(content(CHANGES)),
    )


def _rows(client: Any, run_id: str, metrics: Sequence[str]) -> list[dict[str, float]]:
    """Return the curves as rows, as in metrics.jsonl."""
    steps: dict[int, dict[str, float]] = {}
    for name in metrics:
        for point in client.get_metric_history(run_id, name):
            steps.setdefault(point.step, {"step": point.step})[name] = point.value
    return [steps[step] for step in sorted(steps)]


def _reason(
    status: Status, summary: dict[str, Any], rows: Sequence[dict[str, float]], config: dict[str, Any], state: str
) -> str:
    """Say why a run has no results; nothing, if it has."""
    if status == "finished":
        return "" if (summary.get("evaluation") or {}).get("return_mean") is not None else "it has no summary.json"
    if status == "unfinished":
        return f"MLflow calls it {state}: it still runs, or was killed; {progress(rows, config)}"
    return f"{status} {progress(rows, config)}"


def _number(text: str | None) -> int | None:
    """Return a whole number from a tag."""
    return int(text) if text is not None and text.isdigit() else None
