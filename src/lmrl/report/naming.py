"""How configurations are told apart in words: by the few keys that say most."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

ABSENT = "null"
"""How the value of a key is shown that a configuration does not have."""

_TELLING = (
    "(model)",
    "algo.module.",
    "algo.",
    "model.",
    "task.env.",
    "task.",
    "(dataset)",
    "evaluation.",
    "validation.",
)
"""The order in which keys are preferred for naming a variant."""

Settings = Mapping[str, str]
"""A configuration as one line of text for each dotted key."""


def differences(settings: Sequence[Settings]) -> dict[str, tuple[str, ...]]:
    """Return the keys whose values are not equal everywhere, each with its values in the given order."""
    keys = sorted({key for one in settings for key in one})
    rows = {key: tuple(one.get(key, ABSENT) for one in settings) for key in keys}
    return {key: values for key, values in rows.items() if len(set(map(meant, values))) > 1}


def meant(value: str) -> str:
    """Return one text for all ways to write a number, such as 10 and 10.0."""
    try:
        return repr(float(value))
    except ValueError:
        return value


def text(value: Any) -> str:
    """Return a value as YAML would write it, in one line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def labels(settings: Sequence[Settings]) -> list[str]:
    """Return a name for each configuration, as short as tells them apart; they must differ."""
    rows = differences(settings)
    chosen = _telling(rows, len(settings))
    found = [", ".join(said(key, rows[key][index]) for key in chosen) for index in range(len(settings))]
    if len(set(found)) < len(found):  # long values that begin alike
        found = [f"{label} #{index + 1}" for index, label in enumerate(found)]
    return found


def _telling(rows: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Choose few keys whose values together tell all groups apart, a method's own before others."""
    chosen: list[str] = []
    told = [("",)] * count

    def rank(key: str) -> tuple[Any, ...]:
        kinds = len({(*known, value) for known, value in zip(told, rows[key], strict=True)})
        place = next((i for i, start in enumerate(_TELLING) if key.startswith(start)), len(_TELLING))
        return -kinds, place, max(map(len, rows[key])) > 24, key.count("."), key

    while len(set(told)) < count:
        best = min(rows, key=rank)
        chosen.append(best)
        told = [(*known, value) for known, value in zip(told, rows[best], strict=True)]
    return chosen


def said(key: str, value: str, longest: int = 32) -> str:
    """Write a value with its key, without the parts that say little."""
    name = key.removeprefix("algo.").removeprefix("module.").removeprefix("task.env.").strip("()")
    return f"{name}={value if len(value) <= longest else value[: longest - 1] + '…'}"
