"""The card of a dataset folder: for people, and for `datasets.load_dataset`, which finds the files by it."""

import json
from collections.abc import Mapping
from typing import Any

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

_TEMPLATE = """---
pretty_name: lmrl {task}
language: [en]
tags: [reinforcement-learning, multi-turn, offline-rl, lmrl-gym]
task_categories: [reinforcement-learning, text-generation]
size_categories: ["{size}"]
configs:
  - config_name: default
    data_files:
      - split: train
        path: "train-*.parquet"
---
# {task}: {count} recorded episodes

Episodes of the task `{task}` (environment version {env_version}), played by `{policy}` and stored by lmrl.
Fingerprint: `{fingerprint}` (covers task, recipe with its seed, and environment version).

## Fields

One row per episode. `messages` is the conversation: role `user` is an observation, role `assistant` an action.
`rewards` has one number per message, 0 for observations. `terminated`: the game ended. `truncated`: the recording was
cut off while the game would have gone on. `return` is the undiscounted sum of rewards, `seed` the episode's seed,
`meta` a JSON object with further facts. Texts are complete: joined without separators they are the game.

## Statistics

{table}

Lengths count the agent's actions.

## How it was made

```json
{recipe}
```

## Use and limits

Made to compare offline reinforcement-learning methods. The episodes are mostly poor play on purpose.
"""


def statistics_table(
    statistics: Mapping[str, int | float], published: Mapping[str, int | float]
) -> list[tuple[str, str, str]]:
    """Return rows (name, here, in the paper); a number that only one side has is a dash on the other."""

    def shown(value: int | float | None) -> str:
        return (
            "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")
        )

    names = [*statistics, *(name for name in published if name not in statistics)]
    return [(name.replace("_", " "), shown(statistics.get(name)), shown(published.get(name))) for name in names]


def card(description: Mapping[str, Any]) -> str:
    """Return the README of a dataset folder with the given description."""
    count = description["statistics"]["trajectories"]
    rows = statistics_table(description["statistics"], description["published"])
    table = ["| | here | paper |", "|---|---|---|", *(f"| {name} | {here} | {paper} |" for name, here, paper in rows)]
    return _TEMPLATE.format(
        size=next((name for limit, name in _SIZES if count < limit), "n>1M"),
        count=f"{count:,}",
        table="\n".join(table),
        recipe=json.dumps(description["recipe"], indent=2),
        **{name: description[name] for name in ("task", "policy", "env_version", "fingerprint")},
    )
