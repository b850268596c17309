"""The benchmark's report as tables that fit into a terminal of 80 columns."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table


def show(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the report."""
    console = console or Console()
    how = f"{report['threads']} thread(s), medians of {report['repeats']}"
    console.print(_training(report["train_step"], f"ILQL training step, {how}"))
    for setting in report["train_step"]:
        console.print(f"{setting['name']}: {setting['description']}", highlight=False)
    console.print(
        "CPU s: CPU seconds per 1,000 real tokens, as sampled and as computed after merging equal rows\n"
        f"peak: matrix product of {_peaks(report['train_step'])} GFLOP per CPU second",
        highlight=False,
    )
    console.print(_rollouts(report["rollout"], f"Rollouts of {report['turns']} turns, {how}"))


def _training(settings: list[dict[str, Any]], title: str) -> Table:
    table = Table("setting", Column("side", no_wrap=True), title=title, box=SIMPLE_HEAD)
    for name in ("tokens/s", "CPU s,\nsampled", "CPU s,\ncomputed", "of\npeak", "faster,\nCPU", "faster,\nwall"):
        table.add_column(name, justify="right", no_wrap=True)
    for setting in settings:
        for name, side in setting["sides"].items():
            table.add_row(
                setting["name"] if name == "plain" else "", name, f"{side['sampled_tokens_per_second']:,.0f}",
                f"{side['cpu_seconds_per_1000_sampled_tokens']:.3f}",
                f"{side['cpu_seconds_per_1000_computed_tokens']:.3f}",
                f"{side['utilisation']:.0%}", *_ratios(setting["plain_over"].get(name)),
            )  # fmt: skip
        table.add_section()
    return table


def _rollouts(settings: list[dict[str, Any]], title: str) -> Table:
    table = Table("setting", Column("side", no_wrap=True), title=title, box=SIMPLE_HEAD)
    for name in ("turns/s", "turns /\nCPU s", "faster,\nCPU", "faster,\nwall"):
        table.add_column(name, justify="right", no_wrap=True)
    for setting in settings:
        for name, side in setting["sides"].items():
            sizes = f"{setting['episodes']} at once, {setting['max_new_tokens']} tokens a turn"
            label = f"{setting['name']}, {sizes}" if name == "plain" else ""
            numbers = (f"{side['turns_per_second']:,.1f}", f"{side['turns_per_cpu_second']:,.1f}")
            table.add_row(label, name, *numbers, *_ratios(setting["plain_over"].get(name)))
        table.add_section()
    return table


def _ratios(compared: Mapping[str, float] | None) -> tuple[str, str]:
    """Return how many times faster than plain code; the report also has the smallest and the largest ratio."""
    return ("", "") if compared is None else (f"{compared['cpu_median']:.1f} x", f"{compared['wall_median']:.1f} x")


def _peaks(settings: list[dict[str, Any]]) -> str:
    """Return the fastest peak of each number format."""
    names = {name: max(setting["peak_gflops"][name] for setting in settings) for name in settings[0]["peak_gflops"]}
    formats = {"peak": "float32", "peak bf16": "bfloat16"}
    return ", ".join(f"{value:.0f} ({formats[name]})" for name, value in names.items())
