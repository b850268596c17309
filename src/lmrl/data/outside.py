"""The one reader of JSON from outside: values that lmrl cannot store are refused, with their place."""

import json
import math
from collections.abc import Mapping
from typing import Any

DEEPEST = 100
"""Levels of lists and objects in a value, at most."""
_LARGEST = 3.4028234663852886e38
"""The largest number of 32 bits, in which rewards are stored."""
_DIGITS = 300
"""Whole numbers of more digits are larger than any floating-point number."""


class FormatError(Exception):
    """A value that is not as its layout says; the message names the field."""


class _RepeatedKey(dict[str, Any]):
    """An object in which a key occurs twice."""

    key = ""


def parsed(content: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        FormatError: it is not JSON, or a value is refused as by `refuse`.
    """
    value = syntax_only(content)
    refuse(value)
    return value


def syntax_only(content: bytes | str) -> Any:
    """Return the value of a JSON text before `refuse` has checked it, for callers that know where its parts stand.

    Raises:
        FormatError: it is not JSON, or nested far too deeply.
    """
    try:
        return json.loads(content, object_pairs_hook=_object, parse_int=_whole_number)
    except RecursionError:
        raise FormatError(_too_deep()) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: " if error.lineno > 1 else f"column {error.colno}: "
        raise FormatError(f"not JSON ({where}{error.msg})") from error
    except ValueError as error:
        raise FormatError(f"not JSON ({error})") from error


def refuse(value: Any, place: str = "", depth: int = 0) -> None:
    """Check for values that JSON or Python's reader allows, but no dataset can hold.

    Args:
        value: a JSON value.
        place: where it stands, for the message.
        depth: how many lists and objects it stands in.

    Raises:
        FormatError: a key is repeated, a number is not finite or does not fit into 32 bits, a text holds half of a
            character, or lists and objects are nested too deeply.
    """
    if depth > DEEPEST:
        raise FormatError(_too_deep())  # its place would be as long
    if isinstance(value, str):
        if problem := text_problem(value):
            raise FormatError(f"{_before(place)}{problem}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            refuse(item, f"{_after(place)}entry {index}", depth + 1)
    elif isinstance(value, dict):
        _refuse_object(value, place, depth)
    elif problem := number_problem(value):
        raise FormatError(f"{_before(place)}{problem}")


def _refuse_object(value: Mapping[str, Any], place: str, depth: int) -> None:
    """Check the keys and the values of an object."""
    if isinstance(value, _RepeatedKey):
        raise FormatError(f"{_after(place)}field {value.key!r}: given twice in one object")
    for key, item in value.items():
        if problem := text_problem(key):
            raise FormatError(f"{_after(place)}field {key!r}: {problem}")
        refuse(item, f"{_after(place)}field {key!r}", depth + 1)


def text_problem(text: str) -> str | None:
    """Return why a text cannot be stored as UTF-8, or `None`."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        return (
            f"character {error.start} is {half!r}, half of a surrogate pair, which is not a character: write the whole "
            f"pair, or leave it out, got {short(text)}"
        )
    return None


def number_problem(value: Any) -> str | None:
    """Return why a number cannot be stored in 32 bits, or `None`; other values pass."""
    if not isinstance(value, int | float) or isinstance(value, bool) or -_LARGEST <= value <= _LARGEST:
        return None
    if isinstance(value, int) or math.isfinite(value):
        return f"expected a number between -3.4e38 and 3.4e38, got {short(value)}"
    return f"expected a finite number, got {value}"


def short(value: Any) -> str:
    """Show a value in an error, however long it is."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, marked if a key is repeated: the last one would win without a word."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    marked = _RepeatedKey(found)
    marked.key = next(key for key, _ in pairs if key in seen or seen.add(key))
    return marked


def _whole_number(digits: str) -> int | float:
    """Return a whole number; one too long for any float is infinite, which `refuse` reports with its place."""
    return int(digits) if len(digits) <= _DIGITS else math.copysign(math.inf, -1 if digits.startswith("-") else 1)


def _too_deep() -> str:
    return f"lists and objects are nested more than {DEEPEST} levels deep"


def _before(place: str) -> str:
    return f"{place}: " if place else ""


def _after(place: str) -> str:
    return f"{place}, " if place else ""
