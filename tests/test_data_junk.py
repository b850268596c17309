"""Files in which any part is anything: an importer reads them, or refuses them in one sentence."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from layouts import LAYOUTS, Like

from lmrl.data.rows import to_row

JUNK = (
    *(None, True, False, 0, -1, 1.5, 1e30, 10**37, "", " ", "x", "?", "9" * 400, "9" * 5000, "9k", "\u00b2", "\n"),
    *([], {}, [[]], [1], ["x"], [{}], {"x": 1}, {"text": "x", "role": "Buyer"}),
)
"""Values that JSON allows anywhere, and some of which fit nowhere."""


def changed(value: Any, junk: Any) -> Iterator[Any]:
    """Yield a value with each of its parts, at any depth, replaced, and with each of them left out."""
    yield junk
    keys = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    for key in keys:
        for part in changed(value[key], junk):
            copy = value.copy()
            copy[key] = part
            yield copy
        copy = value.copy()
        del copy[key]
        yield copy


@pytest.mark.parametrize("importer", LAYOUTS)
def test_any_part_may_be_anything(importer: Callable, tmp_path: Path) -> None:
    """A file is read, or refused in one sentence: nothing in it breaks an importer."""
    refused, file = set(), tmp_path / "theirs.jsonl"
    good = LAYOUTS[importer]
    for value in (value for junk in JUNK for value in changed(good, junk)):
        file.write_text(f"{json.dumps(good)}\n{json.dumps(value)}\n")
        source = importer(path=file, like=Like())
        len(source)
        try:
            for episode in source:
                to_row(episode, episode_id="x", task="t", policy="p", env_version="1")
        except ValueError as error:
            refused.add(str(error))
    assert len(refused) > 10
    assert all(re.match(rf"{file}, line 2, ", said) and len(said.splitlines()) == 1 for said in refused)
