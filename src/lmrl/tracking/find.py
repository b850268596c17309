"""Find the folder of a run by its ID in MLflow. Needs no torch."""

import re
from pathlib import Path

from lmrl.config.types import ConfigError
from lmrl.tracking.store import reader

_RUN_ID = re.compile(r"[0-9a-f]{32}")


def find_run(reference: str, tracking_uri: str = "sqlite:///mlflow.db") -> Path:
    """Return the folder of a run.

    Args:
        reference: the folder, or the run's ID in MLflow.
        tracking_uri: where MLflow keeps its runs.

    Raises:
        ConfigError: there is no such run, or its folder is not on this machine.
    """
    folder = Path(reference).expanduser()
    if (folder / "config.yaml").is_file():
        return folder
    if folder.exists() or not _RUN_ID.fullmatch(reference):
        raise ConfigError(f"run={reference} is neither a run folder (no config.yaml in it) nor an MLflow run ID")
    from mlflow.exceptions import MlflowException

    try:
        tags = reader(tracking_uri).get_run(reference).data.tags
    except (FileNotFoundError, MlflowException) as error:
        cause = str(error).splitlines()[0]
        raise ConfigError(f"run={reference} is not in {tracking_uri} ({cause}); tracking.tracking_uri=...") from error
    folder = Path(tags.get("output_folder", ""))
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"run={reference} was written to {folder}, which is not on this machine: copy the folder here"
        )
    return folder
