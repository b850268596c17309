"""Find a model: a folder, the Hub's cache on this machine, or the Hub. Needs no torch."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

ADVICE = "fetch it where there is a network and HF_HUB_OFFLINE=1 is not set, or use model=hub model.path=FOLDER"


def check_path(path: str) -> None:
    """Fail early and clearly for a model folder that does not exist.

    A name like `gpt2` or `owner/model` is left to the Hub (or its local cache); anything that looks like a path of
    this machine must exist.

    Raises:
        ValueError: the folder does not exist or is not a model folder.
    """
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1 or (os.sep != "/" and os.sep in path)
    folder = Path(path).expanduser()
    if looks_local and not folder.is_dir():
        raise ValueError(f"model.path={path!r}: there is no such folder")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"model.path={path!r}: the folder has no config.json, so it is not a saved model")


def why_absent(name: str) -> str | None:
    """Return why a model of the Hub cannot be loaded, `None` if it can.

    A cached model needs no network: without one, the Hub's libraries are switched to offline mode.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        is_cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        return "this is neither a folder nor a name that the Hub has"
    if constants.HF_HUB_OFFLINE:
        return None if is_cached else f"it is not in the Hub's cache here, and HF_HUB_OFFLINE=1 is set: {ADVICE}"
    if _answers(constants.ENDPOINT):
        return None
    if is_cached:
        os.environ["HF_HUB_OFFLINE"], constants.HF_HUB_OFFLINE = "1", True
        return None
    return f"it is not in the Hub's cache here, and {constants.ENDPOINT} cannot be reached: {ADVICE}"


def _answers(address: str) -> bool:
    """Return whether a server can be reached; behind a proxy only a real request would show it."""
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in ("https_proxy", "http_proxy", "all_proxy")):
        return True
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5):
            return True
    except OSError:
        return False
