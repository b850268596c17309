"""Mistakes on the command line, in lmrl's words: found before Hydra reads it, or reported by Hydra."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmrl.config.signatures import suggest

GROUPS = ("task", "algo", "model", "hardware", "partner", "tracking", "launcher", "experiment", "debug", "sweeps")
_KEYS = (
    "seed",
    "resume",
    "data_dir",
    "runs_dir",
    "training",
    "evaluation",
    "validation",
    "hydra",
    "vars",
    "mode",
    "run",
)
_FLAGS = (
    "--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun",
    "--shell-completion",     "--config-path", "--config-name", "--config-dir", "--experimental-rerun", "--info",
)  # fmt: skip
_ALL = "python run.py --help lists the choices, --cfg job prints all settings"


def slip(arguments: Sequence[str], groups: Iterable[str] = ()) -> str | None:
    """Return the first mistake that a command line alone shows; `None` if there is none.

    Args:
        arguments: the arguments of `run.py`.
        groups: further groups of the configuration folder.
    """
    known = {*GROUPS, *_KEYS, *groups}
    chosen: dict[str, str] = {}
    for argument in arguments:
        name, sign, value = argument.partition("=")
        if argument.startswith("--") and name not in _FLAGS:
            key = name.removeprefix("--").replace("-", "_")
            return f"{argument}: settings are written as key=value, without dashes, as in {key}={value or 1}"
        if not sign or argument.startswith(("-", "+", "~")):
            continue
        first = re.split(r"[./@:]", name, maxsplit=1)[0]
        if first not in known:
            return f"{argument}: there is no setting {first!r}{suggest(first, known)}; {_ALL}"
        if name in GROUPS and chosen.setdefault(name, argument) != argument:
            return f"{chosen[name]} and {argument}: {name} is given twice"
    return None


def in_our_words(error: BaseException, folder: Path | None) -> str:
    """Return the complaint of Hydra or OmegaConf in one or a few lines.

    Args:
        error: the complaint.
        folder: the configuration folder. `None`: unknown.
    """
    text = str(error).strip()
    if found := re.search(r"Could not find '([\w]+)/([^']*)'", text):
        group, name = found.groups()
        return f"{group}={name}: there is no such choice{_offer(name, group, folder)}"
    if found := re.search(r"You must specify '(\w+)'", text):
        return f"{found[1]}=NAME is missing{_offer('', found[1], folder)}"
    if found := re.search(
        r"Could not override '([^']+)'|Could not append to config\. An item is already at '([^']+)'", text
    ):
        key = found[1] or found[2]
        if found[2]:
            return f"+{key}: the setting exists already: leave out the plus"
        return f"{key}: there is no such setting{_similar(error, key)}; {_ALL}"
    if found := re.search(r"Error parsing override '(.*)'\n(.*)", text):
        return (
            f"{found[1]}: this cannot be read ({found[2]}); put quotes around braces, spaces and commas: 'key={{a: 1}}'"
        )
    return " ".join(
        line
        for line in text.splitlines()
        if line and "HYDRA_FULL_ERROR" not in line and not line.startswith("See https://hydra")
    )


def _offer(name: str, group: str, folder: Path | None) -> str:
    """Return a similar choice of a group, and all of them."""
    if folder is None:
        return ""
    choices = sorted(path.stem for path in (folder / group).glob("*.yaml"))
    return f"{suggest(name, choices)}; choose one of {', '.join(choices)}" if choices else ""


def _similar(error: BaseException, key: str) -> str:
    """Return a similar name beside the one that a configuration does not have."""
    from omegaconf import DictConfig

    parent = getattr(error.__cause__, "parent_node", None)
    known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    return suggest(key.rpartition(".")[2], known)
