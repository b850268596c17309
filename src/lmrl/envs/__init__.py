"""The tasks, one file each; importing this package registers their Gymnasium ids without importing the tasks.

A task file names its ids in a literal `GYMNASIUM_IDS = {id: (class name, constructor arguments)}`. It is read from the
source text, so a task whose optional dependency is not installed costs nothing until it is made.
"""

import ast
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import register, registry


def declared_ids(source: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the `GYMNASIUM_IDS` literal of a task file's source text, or nothing if it has none.

    Raises:
        ValueError: the name is bound to something that is not a literal.
    """
    if "GYMNASIUM_IDS" not in source:
        return {}
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "GYMNASIUM_IDS" for target in targets):
            return ast.literal_eval(getattr(statement, "value", None) or "")
    return {}


def register_all() -> list[str]:
    """Register the ids of every task file in this folder and return them, sorted; twice does no harm."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name.startswith("_"):
            continue
        for env_id, (class_name, arguments) in declared_ids(path.read_text(encoding="utf-8")).items():
            found.append(env_id)
            if env_id not in registry:
                register(id=env_id, entry_point=f"{__name__}.{path.stem}:{class_name}", kwargs=dict(arguments))
    return sorted(found)


ENV_IDS = tuple(register_all())
"""Every registered id of this package."""
