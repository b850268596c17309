"""Compare runs on one page: `python -m lmrl.report` reads `runs/` and writes `report/report.html`."""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lmrl.config.compose import guarded
from lmrl.system.signals import ended

_USAGE = """
  python -m lmrl.report                                        everything under runs/
  python -m lmrl.report runs/maze 'runs/wordle/*/2026-11-2*'   these folders
  python -m lmrl.report --mlflow sqlite:///mlflow.db           all of lmrl's experiments in an MLflow store
  python -m lmrl.report --mlflow http://localhost:5000 --experiment lmrl/maze --filter "tags.algo = 'ilql'"
  python -m lmrl.report --mlflow sqlite:///mlflow.db --run ID --run ID"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lmrl.report", usage=_USAGE, description=__doc__)
    parser.add_argument("folders", nargs="*", help="runs, folders with runs, or patterns; default: runs")
    parser.add_argument("--mlflow", metavar="URI", help="read an MLflow store, as tracking.tracking_uri names it")
    parser.add_argument("--experiment", action="append", default=[], help="in the store; default: all that lmrl made")
    parser.add_argument("--filter", default="", help="MLflow's search, such as \"tags.algo = 'ilql'\"")
    parser.add_argument("--run", action="append", default=[], metavar="ID", help="a run in the store, instead")
    parser.add_argument("--to", type=Path, default=Path("report"), help="the folder to write; default: report")
    parser.add_argument("--title", default="Comparison of runs", help="of the page")
    parser.add_argument("--dialogues", type=int, default=1, help="best and worst episodes of each method; default: 1")
    options = parser.parse_args(arguments)
    return guarded(lambda: _report(options))


def _report(options: argparse.Namespace) -> None:
    """Read the runs and write the page.

    Raises:
        ValueError: an option is impossible.
    """
    if options.dialogues < 0:
        raise ValueError(f"--dialogues must be at least 0, got {options.dialogues}")
    if not options.mlflow and (options.experiment or options.filter or options.run):
        raise ValueError("--experiment, --filter and --run choose runs of a store: name it with --mlflow")
    if options.run and (options.experiment or options.filter):
        raise ValueError("--run names the runs themselves: leave --experiment and --filter out")
    from lmrl.report.folders import runs_in
    from lmrl.report.groups import group_runs
    from lmrl.report.page import build_page, write_page
    from lmrl.report.runs import without_password
    from lmrl.report.store import runs_in_store

    places = options.folders or ([] if options.mlflow else ["runs"])
    runs = runs_in(places) if places else []
    if options.mlflow:
        known = {run.run_id for run in runs}
        stored = runs_in_store(
            options.mlflow, experiments=options.experiment, filter=options.filter, run_ids=options.run
        )
        runs += [run for run in stored if run.run_id not in known]
    if old := [run for run in runs if run.is_of_another_version]:
        note = f"left out: {len(old)} of {len(runs)} runs, made by another version of lmrl: {old[0].place} ..."
        print(note, file=sys.stderr)
    groups, apart = group_runs([run for run in runs if not run.is_of_another_version])
    sources = [*places, *([without_password(options.mlflow)] if options.mlflow else [])]
    counted = sum(len(group.runs) for group in groups)
    when = datetime.now().strftime("%Y-%m-%d %H:%M")
    counts = f"{counted} runs of {len(groups)} configurations, and {len(apart)} that do not count"
    made = f"{counts}; {', '.join(sources)}; {when}"
    page = build_page(groups, apart, title=options.title, made=made, dialogues=options.dialogues)
    html, markdown = write_page(page, options.to)
    print(f"{counted} runs compared, {len(apart)} listed apart\n{html}\n{markdown}")


if __name__ == "__main__":
    sys.exit(ended(main))
