"""The command of a run: as it recorded it, or rebuilt from its configuration and checked by composing it again."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl.config.compose import compose_run
from lmrl.report.runs import Run, without_password
from lmrl.runs.folders import UNREAD, flat, lies_in

_SAID_APART = ("seed", "resume", "data_dir", "runs_dir", "tracking")
"""What the command of a run does not need, because it says where things are, or has already."""
_LONGEST = 120
"""No override is longer: texts of prompts belong into files."""
_GONE = object()
"""The value of a key that a configuration does not have."""
_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf|yes|no|on|off)$)[A-Za-z_][\w./-]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and where it is known from."""

    text: str
    note: str


class Commands:
    """Tells the commands of runs; composing a configuration takes half a second, so equal ones are composed once.

    Args:
        folder: the configuration folder. `None`: `conf` in the working folder, or the one beside the sources.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._composed: dict[tuple[str, ...], Any] = {}

    def of(self, run: Run) -> Command:
        """Return the command of a run."""
        if run.provenance.get("command"):
            return Command(without_password(str(run.provenance["command"])), "as it was called")
        if not run.config:
            return Command("", "not known: the run kept no configuration")
        choices = (f"task={run.task}", f"algo={run.algo}", *_model(run))
        try:
            overrides = self._overrides(run, choices)
            left = _different(run.config, self._compose((*choices, *overrides), run.seed)[0])
        except Exception as error:  # Hydra's errors have many classes, and none may cost the reader the page
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            return Command("", f"not known: {' '.join(choices)} cannot be composed today ({reason})")
        said = shlex.join(["python", "run.py", *choices, f"seed={run.seed}", *overrides])
        if left:
            names = ", ".join([*left][:4]) + (" …" if len(left) > 4 else "")
            return Command(said, f"rebuilt from config.yaml; the configuration files have changed since: {names}")
        return Command(said, "rebuilt from config.yaml, and gives the same configuration today")

    def _overrides(self, run: Run, choices: tuple[str, ...]) -> list[str]:
        """Return the changed values; what only follows another by reference is left to it, if that is enough."""
        base, references = self._compose(choices, run.seed)
        changed = _different(run.config, base)
        first = {key: value for key, value in changed.items() if not lies_in(key, references)}
        given = list(_written(first, base))
        rest = _different(run.config, self._compose((*choices, *given), run.seed)[0])
        return given + list(_written({key: value for key, value in rest.items() if key not in first}, base))

    def _compose(self, overrides: tuple[str, ...], seed: int) -> tuple[dict[str, Any], frozenset[str]]:
        """Return the configuration for a seed, and the keys whose values are references."""
        from omegaconf import OmegaConf

        if overrides not in self._composed:
            self._composed[overrides] = compose_run(overrides, self._folder)
        cfg = self._composed[overrides]
        cfg.seed = seed
        plain: Any = OmegaConf.to_container(cfg, resolve=False)
        resolved: Any = OmegaConf.to_container(cfg, resolve=True)
        return resolved, frozenset(key for key, value in flat(plain) if isinstance(value, str) and "${" in value)


def _model(run: Run) -> tuple[str, ...]:
    """Return the choice of the model; runs without training name what they ask instead, which is no choice."""
    is_choice = run.config.get("algo", {}).get("module") is not None
    return (f"model={run.model}",) if is_choice and run.model not in ("", "tiny") else ()


def _different(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys and values of a configuration that differ from the base, without those that say where it is."""
    folder = str(config.get("data_dir") or "")
    trained = (config.get("algo") or {}).get("module") is not None
    apart = (*_SAID_APART, *UNREAD, *(["task.prompt"] if trained else []))
    return {
        key: value
        for key, value in _changes(config, base, "")
        if not lies_in(key, apart) and not (folder and f"{value}/".startswith(f"{folder}/"))
    }


def _changes(config: Mapping[str, Any], base: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield what differs, a mapping that is none in the base as a whole."""
    for key in [*config, *(key for key in base if key not in config)]:
        ours, theirs = config.get(key, _GONE), base.get(key, _GONE)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            yield from _changes(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            yield f"{prefix}{key}", ours


def _written(values: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[str]:
    """Write values as Hydra's command line takes them; what is gone, or too long to be typed, cannot be."""
    for key, value in values.items():
        text = "" if value is _GONE else _value(value)
        if text and len(text) <= _LONGEST and "\n" not in text:
            yield f"{'' if _has(base, key) else '+'}{key}={text}"


def _value(value: Any) -> str:
    """Write one value in the grammar of Hydra's overrides."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_value, value)) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return value if _PLAIN.fullmatch(value) else f"'{escaped}'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _has(base: Mapping[str, Any], key: str) -> bool:
    """Tell whether a nested mapping has a dotted key."""
    node: Any = base
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True
