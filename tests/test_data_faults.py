"""Data with faults, through every door: each is one sentence that names file, place and field."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import CAR, LAYOUTS, Like

from lmrl.data import store
from lmrl.data.outside import FormatError, parsed
from lmrl.data.published import PublishedArray
from lmrl.data.rows import RowError, from_row, to_row
from lmrl.tasks.car_dealer.published import PublishedCarDealer
from lmrl.tasks.chess.positions import read_positions
from lmrl.tasks.wordle.published import PublishedWordle
from lmrl.text.trajectory import Trajectory, Turn

NAMES: dict[str, str] = {"task": "t", "policy": "p", "env_version": "1"}


DEEP = 100_000
FAULTS = {
    "surrogate": ("TEXT", r"\ud800", r"'\ud800', half of a surrogate pair"),
    "many digits": ("77", "9" * 400, "expected a finite number"),
    "more digits than Python reads": ("77", "9" * 5000, "expected a finite number"),
    "large exponent": ("77", "1e999", "expected a finite number"),
    "too large for 32 bits": ("77", "-1e39", "expected a number between -3.4e38 and 3.4e38, got -1e+39"),
    "no number": ("77", "NaN", "expected a finite number, got nan"),
    "infinity": ("77", "-Infinity", "expected a finite number, got -inf"),
    "depth": ("77", "[" * DEEP + "]" * DEEP, "nested more than 100 levels deep"),
    "some depth": ("77", "[" * 200 + "]" * 200, "nested more than 100 levels deep"),
}


ARRAYS = [importer for importer in LAYOUTS if issubclass(importer, PublishedArray)]
CASES = [(importer, False) for importer in LAYOUTS] + [(importer, True) for importer in ARRAYS]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("importer", "is_array"), CASES)
def test_faulty_values_name_file_place_and_field(
    importer: Callable, is_array: bool, fault: str, tmp_path: Path
) -> None:
    good = json.dumps(LAYOUTS[importer])
    old, new, message = FAULTS[fault]
    bad = good.replace(old, new)
    file = tmp_path / "theirs.jsonl"
    file.write_text(f"[\n{good},\n{bad}\n]\n" if is_array else f"{good}\n\n{bad}\n")
    source = importer(path=file, like=Like())
    assert isinstance(len(source), int)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        list(source)
    said = str(caught.value)
    assert said.startswith(str(file))
    assert len(said.splitlines()) == 1
    assert len(said) < 400
    if fault != "depth" or not is_array:  # no array can be divided that is nested so deeply
        assert re.search(r"(conversation|trajectory) 1, " if is_array else "line 3, ", said), said
    if "depth" not in fault:
        assert "field" in said or "entry" in said, said


@pytest.mark.parametrize("importer", LAYOUTS)
def test_what_is_not_json_is_told_with_its_place(importer: Callable, tmp_path: Path) -> None:
    good, file = json.dumps(LAYOUTS[importer]), tmp_path / "theirs.jsonl"
    file.write_text(f'{good}\n{good}\n{{"a": }}\n')
    with pytest.raises(
        ValueError, match=r"theirs\.jsonl, line 3, the whole line: not JSON \(column 7: Expecting value"
    ):
        list(importer(path=file, like=Like()))
    file.write_bytes(good.encode() + b'\n["\xff"]\n')
    with pytest.raises(ValueError, match=r"theirs\.jsonl, line 2, the whole line: not JSON \('utf-8' codec"):
        list(importer(path=file, like=Like()))


@pytest.mark.parametrize("importer", ARRAYS)
def test_what_is_not_an_array_is_told_with_its_line(importer: Callable, tmp_path: Path) -> None:
    good, file = json.dumps(LAYOUTS[importer]), tmp_path / "theirs.json"
    file.write_text(f"[\n{good},\n{good}\n")
    with pytest.raises(ValueError, match=r"theirs\.json, the whole file: not JSON \(line \d, column \d+: Expecting"):
        list(importer(path=file, like=Like()))


def test_repeated_keys_are_refused_with_their_place() -> None:
    with pytest.raises(FormatError, match=r"^entry 1, field 'b': given twice in one object$"):
        parsed('[{"b": 1, "c": 2}, {"b": 1, "c": 2, "b": 1}]')
    with pytest.raises(FormatError, match=r"^field 'a', field 'x': given twice in one object$"):
        parsed('{"a": {"x": {}, "x": []}}')


def test_keys_are_texts_too() -> None:
    with pytest.raises(FormatError, match=r"^field 'a', field '\\udfff': character 0 is '\\udfff', half of"):
        parsed(r'{"a": {"\udfff": 1}}')


def test_what_can_be_stored_passes() -> None:
    value = {"\u00e9\U0001f600": [1, -0.5, None, True, "", "\U0001f600"], "large": [3.4e38, -3.4e38, 10**38]}
    assert parsed(json.dumps(value)) == value
    assert parsed(json.dumps(value, ensure_ascii=False).encode("utf-8-sig")) == value


# Rows


def row(**change: Any) -> dict[str, Any]:
    said = (Turn("a", False), Turn("b", True, -1.0), Turn("c", False))
    return to_row(Trajectory(said, False, True), episode_id="x", **NAMES) | change


def chat(*said: tuple[str, str]) -> dict[str, Any]:
    """Return fields of a row with these roles and texts."""
    messages = [{"role": role, "content": content} for role, content in said]
    return {"messages": messages, "rewards": [0.0] * len(said), "return": 0.0}


FILE_FAULTS: list[tuple[dict[str, Any], str]] = [
    (chat(("assistant", "b"), ("user", "a")), "field 'messages': message 0: an episode begins with an observation"),
    (chat(("user", "a")), "field 'messages': an episode needs at least one action"),
    (
        chat(("user", "a"), ("assistant", "b"), ("assistant", "c")),
        "field 'messages': message 2: role assistant follows role assistant",
    ),
    (
        chat(("user", "a"), ("user", "b"), ("assistant", "c")),
        "field 'messages': message 1: role user follows role user",
    ),
    (chat(("user", "a"), ("assistant", "")), "field 'messages': message 1: its content is empty"),
    (chat(("user", ""), ("assistant", "b")), "field 'messages': message 0: its content is empty"),
    ({"rewards": [0.0, math.inf, 0.0]}, "field 'rewards': entry 1: expected a finite number, got inf"),
    ({"meta": '{"a": NaN}'}, "field 'meta': expected a JSON object: field 'a': expected a finite number, got nan"),
    ({"meta": '{"a": 1, "a": 2}'}, "field 'meta': expected a JSON object: field 'a': given twice"),
    ({"meta": '{"a":' * DEEP + "1" + "}" * DEEP}, "field 'meta': expected a JSON object: lists and objects are nested"),
]
"""Those that a Parquet file can hold."""
ROW_FAULTS = [
    *FILE_FAULTS,
    (chat(("user", "a\udc80"), ("assistant", "b")), r"field 'messages': message 0: character 1 is '\\udc80', half of"),
    ({"rewards": [0.0, 10**400, 0.0]}, "field 'rewards': entry 1: expected a number between -3.4e38 and 3.4e38"),
    ({"return": 1e39}, "field 'return': expected a number between -3.4e38 and 3.4e38"),
    ({"seed": 2**63}, "field 'seed': expected a whole number of 64 bits"),
    ({"policy": "\ud800"}, "field 'policy': character 0 is"),
]


@pytest.mark.parametrize(("change", "message"), ROW_FAULTS)
def test_faulty_rows_name_their_field(change: dict, message: str) -> None:
    with pytest.raises(RowError, match=message):
        from_row(row(**change))


@pytest.mark.parametrize(("change", "message"), FILE_FAULTS)
def test_faulty_rows_of_a_file_name_file_and_row(change: dict, message: str, tmp_path: Path) -> None:
    folder = store.save(
        [Trajectory((Turn("a", False), Turn("b", True)), True)] * 3, tmp_path / "set", recipe={}, **NAMES
    )
    (file,) = folder.glob("*.parquet")
    table = pq.read_table(file)
    pq.write_table(pa.Table.from_pylist([*table.to_pylist()[:2], row(**change)], schema=table.schema), file)
    with pytest.raises(ValueError, match=rf"train-00000\.parquet, row 2, {message}"):
        store.load(folder)


def test_bytes_of_a_file_that_are_not_text_name_row_and_field(tmp_path: Path) -> None:
    """Parquet files hold any bytes as text: also half of a surrogate pair, which some programs write."""
    folder = store.save(
        [Trajectory((Turn("a", False), Turn("b", True)), True)] * 3, tmp_path / "set", recipe={}, **NAMES
    )
    (file,) = folder.glob("*.parquet")
    table = pq.read_table(file)
    damaged = pa.array([b"p", b"p", b"\xed\xa0\x80"]).view(pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("policy"), "policy", damaged), file)
    with pytest.raises(ValueError, match=r"train-00000\.parquet, row 2, field 'policy': bytes that are not text"):
        store.load(folder)


def test_what_cannot_be_stored_names_the_episode(tmp_path: Path) -> None:
    good = Trajectory((Turn("a", False), Turn("b", True)), True)
    for bad, message in (
        (Trajectory((Turn("a", False), Turn("\ud800", True)), True), "field 'messages': message 1: character 0"),
        (Trajectory((Turn("a", False),), True), "field 'messages': an episode needs at least one action"),
        (Trajectory((Turn("a", False), Turn("b", True, math.nan)), True), "field 'rewards': entry 1"),
        (Trajectory((Turn("a", False), Turn("b", True, 1e300)), True), "field 'rewards': entry 1"),
        (Trajectory(good.turns, True, info={"x": math.inf}), "field 'meta': .*field 'x': expected a finite number"),
        (Trajectory(good.turns, True, info={"x": np.float32(1)}), "Object of type float32 is not JSON serializable"),
    ):
        with pytest.raises(ValueError, match=f"episode 1 cannot be stored: {message}"):
            store.save([good, bad], tmp_path / "set", recipe={}, **NAMES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {}}, "field 'files' must name at least one file"),
        ({"files": {"train-00000.parquet": "3"}}, "field 'files' must name at least one file, each with its number of"),
        (
            {"statistics": {"length_mean": math.nan}},
            "field 'statistics', field 'length_mean': expected a finite number",
        ),
    ],
)
def test_faulty_descriptions_name_their_field(change: dict, message: str, tmp_path: Path) -> None:
    folder = store.save([Trajectory((Turn("a", False), Turn("b", True)), True)], tmp_path / "set", recipe={}, **NAMES)
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(description | change))
    with pytest.raises(ValueError, match=rf"dataset\.json: (damaged \()?{message}"):
        store.load(folder)


def test_importers_check_the_order_of_an_episode(tmp_path: Path) -> None:
    """Wordle's layout says of each text whether it is an action; a file may have two in a row."""
    file = tmp_path / "games.jsonl"
    good = {"sequence": [["Wordle:\n", 0.0], ["c r a n e\n", 1.0]], "reward": [-1.0], "done": False}
    for said, message in (
        ([["Wordle:\n", 0.0], ["Go!\n", 0.0], ["c\n", 1.0]], "message 1: role user follows role user"),
        ([["Wordle:\n", 0.0], ["c\n", 1.0], ["d\n", 1.0]], "message 2: role assistant follows role assistant"),
        ([["Wordle:\n", 0.0], ["", 1.0]], "message 1: its content is empty"),
    ):
        bad = {"sequence": said, "reward": [0.0] * (len(said) - 1), "done": False}
        file.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n{json.dumps(good)}\n")
        with pytest.raises(ValueError, match=rf"games\.jsonl, line 2, {message}"):
            list(PublishedWordle(path=file, like=Like()))


def test_a_worthless_sale_is_refused(tmp_path: Path) -> None:
    """The fancy reward divides by the mean of budget and list price."""
    file = tmp_path / "theirs.jsonl"
    value = CAR | {"buyer_info": {"budget": 0, "personality": "rude"}, "output": {"car_bought": True, "msrp": 0}}
    file.write_text(json.dumps(value))
    with pytest.raises(ValueError, match=r"theirs\.jsonl, field 'output', msrp: it and the budget are 0"):
        list(PublishedCarDealer(path=file, like=Like()))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[" * DEEP + b"]" * DEEP, "line 1: maximum recursion depth"), (b"\xff\n", "cannot be read as text")],
    ids=["depth", "bytes"],
)
def test_faulty_positions_name_the_file(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "positions.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"positions\.jsonl.*{message}"):
        read_positions(file)
