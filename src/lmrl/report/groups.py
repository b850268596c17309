"""Which runs are repetitions of one experiment, and which may be compared with which."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmrl.report.naming import Settings, labels, meant, text
from lmrl.report.runs import Run
from lmrl.report.sections import sections
from lmrl.runs.folders import decisive
from lmrl.runs.recorded import environment_changes, trial_of

DEFAULT = "(default)"
"""The value of a key as the defaults of a task and method say it, where it is not known."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one configuration, which differ in their seeds only."""

    task: str
    algo: str
    runs: tuple[Run, ...]
    settings: Settings
    variant: str = ""
    """Its differences from the defaults and from the other groups. Empty: these are the defaults."""
    environment: str = ""
    """Differences of its environment from the task's own. Empty: none."""
    trial: str = ""
    """The preset of runs that are too short to learn, as `smoke`. Empty: they are not."""
    evaluations: tuple[Run, ...] = ()
    """Further evaluations of its runs."""

    @property
    def name(self) -> str:
        """Label across tasks: the method and what was varied."""
        return f"{self.algo} · {self.variant}" if self.variant else self.algo

    @property
    def section(self) -> str:
        """The task and its changes: only groups of one section can be ranked."""
        return f"{self.task} with {self.environment}" if self.environment else self.task


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[Run]]:
    """Sort finished runs by configuration, and return the groups and the runs that do not count, which say why.

    Of several runs of one configuration and seed only the newest counts: they are one draw, not several.
    """
    apart = [run for run in runs if not run.is_finished]
    first = [run for run in runs if run.is_finished and run.evaluates is None]
    again = [run for run in runs if run.is_finished and run.evaluates is not None]
    found = sections({run: settings_of(run) for run in first})
    beside: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for run in first:
        beside[run.task, found[run], run.algo, trial_of(run.provenance)].append(run)
    groups = []
    for (task, environment, algo, trial), members in sorted(beside.items()):
        made = []
        for settings, same in _by_settings(members):
            kept, repeated = _newest(same)
            made.append(Group(task, algo, kept, settings, environment=environment, trial=trial))
            apart += repeated
        groups += _named(made)
    return _with_evaluations(groups, again, apart)


def settings_of(run: Run) -> dict[str, Any]:
    """Return the settings that determine a run's results, except the seed, and the data it learned from."""
    settings = decisive(run.config)
    settings.pop("seed", None)
    # Equal configurations can still read different data, for example a file that was replaced.
    return settings | {"(model)": run.model, "(dataset)": (run.summary.get("dataset") or {}).get("fingerprint")}


def _by_settings(runs: Sequence[Run]) -> list[tuple[Settings, list[Run]]]:
    """Sort runs of one task and method by configuration.

    A configuration is kept with its references resolved, so the run's seed may stand in further places: a key named
    `seed` that is the run's seed in all of the runs is one of them.
    """
    found = [(run, settings_of(run)) for run in runs]
    names = {key for _, values in found for key in values if key.rsplit(".", 1)[-1] == "seed"}
    # With a single seed, a constant that happens to equal it cannot be told from it, and need not be.
    follow = {key for key in names if all(values.get(key, run.seed) == run.seed for run, values in found)}
    groups: dict[frozenset[tuple[str, str]], tuple[Settings, list[Run]]] = {}
    for run, values in found:
        settings = {key: text(value) for key, value in sorted(values.items()) if key not in follow}
        alike = frozenset((key, meant(value)) for key, value in settings.items())
        groups.setdefault(alike, (settings, []))[1].append(run)
    return list(groups.values())


def _newest(runs: Sequence[Run]) -> tuple[tuple[Run, ...], list[Run]]:
    """Return one run for each seed, and the others; names begin with the time, and MLflow's runs come by time."""
    kept: dict[int, Run] = {}
    repeated = []
    for run in sorted(runs, key=lambda run: run.name):
        older = kept.get(run.seed)
        if older is not None:
            repeated.append(replace(older, reason=f"repeated: {run.name} is a newer run of the same configuration"))
        kept[run.seed] = run
    return tuple(kept[seed] for seed in sorted(kept)), repeated


def _named(groups: Sequence[Group]) -> list[Group]:
    """Name groups of one task and method by their differences, as shortly as possible.

    The method's plain name belongs to its default configuration. Where no run has recorded its changes, it belongs
    to the only group, if there is one; and the changes of an experiment's file are named by the experiment.
    """
    changed = [_own_changes(group) for group in groups]
    plain = [index for index, changes in enumerate(changed) if changes == {}]
    if not plain and len(groups) == 1 and (changed[0] is None or groups[0].trial):
        plain = [0]
    settings = [group.settings for group in groups]
    known = [changes for changes in changed if changes]
    if not plain and known:
        settings.append({**settings[changed.index(known[0])], **dict.fromkeys(known[0], DEFAULT)})
    found = labels(settings) if len(settings) > 1 else [""]
    named = []
    for index, group in enumerate(groups):
        told = [group.trial, *[found[index]] * (plain != [index])]
        named.append(replace(group, variant=", ".join(filter(None, told))))
    return named


def _own_changes(group: Group) -> Mapping[str, Any] | None:
    """Return the changes of a group's runs besides the environment; `None`: not recorded."""
    recorded = (run.provenance.get("changed") for run in group.runs)
    changed = next((changes for changes in recorded if changes is not None), None)
    if changed is None:
        return None
    # A copy of the environment, such as the one that made the data, follows it by reference.
    follow = {(key.split("env.", 1)[-1], text(value)) for key, value in environment_changes(changed).items()}
    own = {key: value for key, value in changed.items() if key not in environment_changes(changed)}
    return {key: value for key, value in own.items() if (key.split("env.", 1)[-1], text(value)) not in follow}


def _with_evaluations(
    groups: Sequence[Group], evaluations: Sequence[Run], apart: list[Run]
) -> tuple[list[Group], list[Run]]:
    """Put further evaluations below the groups whose runs they evaluate."""
    where = {key: index for index, group in enumerate(groups) for run in group.runs for key in _keys(run)}
    found: dict[int, list[Run]] = defaultdict(list)
    for run in evaluations:
        if run.evaluates in where:
            found[where[run.evaluates]].append(run)
        else:
            apart.append(replace(run, reason="it evaluates a run again that is not compared here"))
    return [replace(group, evaluations=tuple(found[index])) for index, group in enumerate(groups)], apart


def _keys(run: Run) -> set[str]:
    """Return the names by which another evaluation refers to a run: its folder, or its ID in MLflow."""
    return {str(Path(run.place).resolve()), *([run.run_id] if run.run_id else [])}
