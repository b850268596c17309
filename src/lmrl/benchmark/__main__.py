"""Measure speed against plain Hugging Face code: `python -m lmrl.benchmark task=maze`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmrl.config.compose import compose_run, guarded
from lmrl.system.signals import ended

_USAGE = """
  python -m lmrl.benchmark                            the training step and rollouts, on the maze
  python -m lmrl.benchmark --quick                    see in a minute that it works; its numbers mean nothing
  python -m lmrl.benchmark task=maze_po --repeats 9   anything like key=value changes the configuration, as for run.py
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, print its tables and write its JSON file; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lmrl.benchmark", usage=_USAGE, description=__doc__)
    parser.add_argument("overrides", nargs="*", help="task=NAME and other configuration overrides")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each side (default 5)")
    parser.add_argument("--steps", type=int, default=5, help="training steps in each timing (default 5)")
    parser.add_argument("--turns", type=int, default=20, help="turns of each episode (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1: the least noisy)")
    parser.add_argument("--to", type=Path, default=Path("benchmark.json"), help="where the JSON file goes")
    parser.add_argument("--config", type=Path, help="the configuration folder; default: conf")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one timing")
    options = parser.parse_intermixed_args(arguments)
    for name in ("repeats", "steps", "turns", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.quick:
        options.repeats, options.steps, options.turns = 1, min(options.steps, 2), min(options.turns, 3)
    # Torch reads this when it is imported, so nothing above may import it.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    return guarded(lambda: _report(options))


def _report(options: argparse.Namespace) -> None:
    """Measure, and show the result."""
    report = _measure(options)
    from lmrl.benchmark.tables import show

    show(report)
    print(f"\nall timings: {options.to}")


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything and write the report."""
    from lmrl.benchmark import rollouts, train_step
    from lmrl.benchmark.workloads import workloads
    from lmrl.experiment.hardware import cpu_has_fast_bf16, quiet_libraries, set_threads
    from lmrl.runs.provenance import git_commit, versions
    from lmrl.system.files import write_json

    task = [] if any(override.startswith("task=") for override in options.overrides) else ["task=maze"]
    chosen = [*task, "algo=ilql", "hardware=cpu", "tracking=none", *options.overrides]
    cfg = compose_run(chosen, options.config)
    quiet_libraries()
    set_threads(options.threads)
    training = []
    for workload in workloads(cfg, steps=options.steps, quick=options.quick):
        print(f"training step: {workload.name} ({workload.description})", file=sys.stderr)
        training.append(train_step.compare(workload, options.repeats))
    print("rollouts", file=sys.stderr)
    played = rollouts.compare(cfg, turns=options.turns, repeats=options.repeats, quick=options.quick)
    report = {
        "task": cfg.task.name,
        "quick": options.quick,
        "repeats": options.repeats,
        "threads": options.threads,
        "turns": options.turns,
        "cpu_has_fast_bf16": cpu_has_fast_bf16(),
        "train_step": training,
        "rollout": played,
        "versions": versions(),
        "git_commit": git_commit(),
    }
    write_json(report, options.to)
    return report


if __name__ == "__main__":
    sys.exit(ended(main))
