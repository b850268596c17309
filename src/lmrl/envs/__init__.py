"""Text environments. Importing this package registers the Gymnasium ids of all tasks without importing their games.

The package of a task declares its ids in `GYMNASIUM_IDS = {id: (name of a class in its env.py, constructor arguments)}`
and imports nothing: a task whose optional dependency is not installed costs nothing until it is made.
"""

import importlib
import pkgutil
from pathlib import Path

from gymnasium.envs.registration import register, registry

TASKS = "lmrl.tasks"
"""The package whose subpackages are the tasks."""


def register_all() -> list[str]:
    """Register the ids of every task that are not registered yet, and return all of them, sorted."""
    found = []
    for module in pkgutil.iter_modules([str(Path(__file__).parents[1] / "tasks")]):
        declared = getattr(importlib.import_module(f"{TASKS}.{module.name}"), "GYMNASIUM_IDS", {})
        for env_id, (class_name, arguments) in declared.items():
            found.append(env_id)
            if env_id not in registry:
                register(id=env_id, entry_point=f"{TASKS}.{module.name}.env:{class_name}", kwargs=dict(arguments))
    return sorted(found)


ENV_IDS = tuple(register_all())
"""Every registered id of this package."""
