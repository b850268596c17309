"""Shared by all tests: configurations, small models, and the pairs of task and algorithm."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
ENGINE_TASKS = {"chess", "endgames"}


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker run what shares a fixture: the tests of a file, and of one algorithm where there are many.

    Where Stockfish is not installed, tests of the tasks that are played against it are skipped, saying so; with the
    variable LMRL_REQUIRE_ENGINE, as in the continuous integration, they fail instead.
    """
    without_engine = "" if os.environ.get("LMRL_REQUIRE_ENGINE") else missing_engine()
    for item in items:
        chosen = getattr(item, "callspec", None)
        values = (
            [] if chosen is None else [chosen.params.get(key) for key in ("algorithm", "built", "agreeing", "algo")]
        )
        algo = next((v[-1] if isinstance(v, tuple) else v for v in values if v is not None), "")
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{algo}"))
        if without_engine and chosen is not None and ENGINE_TASKS & set(re.findall(r"[a-z]+", chosen.id.lower())):
            item.add_marker(pytest.mark.skip(reason=without_engine))


def missing_engine() -> str:
    """Return why the chess engine cannot be played against, or nothing."""
    from lmrl.tasks.chess.engine import find_engine

    try:
        find_engine()
    except (FileNotFoundError, ImportError) as error:
        return str(error)
    return ""


def names(group: str) -> list[str]:
    """Return the choices of a configuration group: a new file is tested by existing."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def trained() -> list[str]:
    """Return the algorithms that train something; the others name a policy that plays as it is."""
    return [name for name in names("algo") if "\npolicy:" not in (ROOT / "conf" / "algo" / f"{name}.yaml").read_text()]


@pytest.fixture(scope="session")
def compose() -> Callable:
    """Compose the real configuration with overrides, as `run.py` does."""
    import torch
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig

    torch.set_num_threads(1)

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose("config", overrides=[*overrides, "hydra.searchpath=[]"])

    return composed


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of datasets for the whole session and all its workers, so that each task's data are made once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared_data"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def first_episodes(compose: Callable, data_dir: Path) -> SimpleNamespace:
    """The maze's first 60 trajectories, and a model that can read the longest of them whole."""
    from lmrl.experiment.materials import build_materials
    from lmrl.experiment.task import load_task

    cfg = compose("task=maze", "algo=bc", "model.lm.window=4096", f"data_dir={data_dir}")
    task = load_task(cfg.task)
    task.dataset.trajectories[:] = task.dataset.trajectories[:60]
    return SimpleNamespace(task=task, materials=build_materials(cfg, task))
