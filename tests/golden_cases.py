"""Read the values that the reference implementation computed."""

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("LMRL_GOLDEN", Path(__file__).parent / "golden"))


def golden(name: str) -> list[dict[str, Any]]:
    """Return the cases of one golden file."""
    return json.loads((FOLDER / f"{name}.json").read_text())["cases"]
