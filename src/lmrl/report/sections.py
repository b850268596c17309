"""Which runs of a task were played in which environment: numbers of different ones are never compared."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lmrl.report.naming import Settings, differences, meant, said, text
from lmrl.report.runs import Run
from lmrl.runs.folders import lies_in
from lmrl.runs.recorded import ENVIRONMENT, environment_changes, format_changes

Environment = frozenset[tuple[str, str]]
"""The reported environment: dotted keys with their values, equal numbers written alike."""


def sections(runs: Mapping[Run, Mapping[str, Any]]) -> dict[Run, str]:
    """Return for each run the differences of its environment from the task's own.

    A run without recorded changes is compared with the other runs of its task.

    Args:
        runs: each with the values that decide its results.
    """
    tasks: dict[str, dict[Environment, list[Run]]] = defaultdict(lambda: defaultdict(list))
    written: dict[Environment, Settings] = {}
    for run, settings in runs.items():
        text_of = {key: text(value) for key, value in settings.items() if lies_in(key, ENVIRONMENT)}
        same = frozenset((key, meant(value)) for key, value in text_of.items())
        tasks[run.task][same].append(run)
        written.setdefault(same, text_of)
    found: dict[Run, str] = {}
    for played in tasks.values():
        for environment, label in _labels(played, written).items():
            found |= dict.fromkeys(played[environment], label)
    return found


def _labels(
    played: Mapping[Environment, Sequence[Run]], written: Mapping[Environment, Settings]
) -> dict[Environment, str]:
    """Name the environments of one task by their recorded changes, or where these are equal by their differences."""
    known = {environment: _recorded(runs) for environment, runs in played.items()}
    named: dict[str, list[Environment]] = defaultdict(list)
    for environment, changes in known.items():
        named[format_changes(changes or {})].append(environment)
    found: dict[Environment, str] = {}
    for label, alike in named.items():
        sure = [environment for environment in alike if known[environment] is not None]
        rows = differences([written[environment] for environment in alike])
        for index, environment in enumerate(alike):
            differing = ", ".join(said(key, values[index]) for key, values in rows.items())
            found[environment] = label if len(alike) == 1 or sure == [environment] else differing
    return found


def _recorded(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Return the recorded changes of the runs' environment; `None`: not recorded."""
    changed = [run.provenance["changed"] for run in runs if run.provenance.get("changed") is not None]
    return environment_changes(changed[0]) if changed else None
