"""The types of hyper-parameters: each declares the range of a value once, and the checks read it from there."""

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import Field, TypeAdapter, ValidationError

_LARGEST, _MANY = 10**12, 10**9
"""Larger numbers are taken for typing errors: they would overflow later, far from their place in the configuration."""

Number = Annotated[float | int, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]
"""Any finite number, of either sign: a reward, a return."""
Positive = Annotated[float | int, Field(gt=0, le=_LARGEST, allow_inf_nan=False)]
"""Greater than 0."""
NonNegative = Annotated[float | int, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]
"""0 or greater."""
Share = Annotated[float | int, Field(ge=0, le=1)]
"""[0, 1]"""
Chance = Annotated[float | int, Field(ge=0, lt=1)]
"""[0, 1): a probability of dropout."""
PositiveShare = Annotated[float | int, Field(gt=0, le=1)]
"""(0, 1]: a discount, or the step of a target network."""
OpenShare = Annotated[float | int, Field(gt=0, lt=1)]
"""(0, 1): an expectile."""
Count = Annotated[int, Field(ge=0, le=_MANY)]
"""0, 1, 2, ..."""
PositiveCount = Annotated[int, Field(ge=1, le=_MANY)]
"""1, 2, 3, ..."""
GroupSize = Annotated[int, Field(ge=2, le=_MANY)]
"""2, 3, ...: one episode cannot be compared with itself."""
Processes = Annotated[int, Field(ge=1, le=1024)]
"""A number of processes or threads of one machine."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed for NumPy, PyTorch and Python alike."""
Size = Annotated[int, Field(ge=1, le=2**20)]
"""Layers, widths and windows of a network."""
Text = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""
PATH = "path"
PathText = Annotated[str, Field(min_length=1), PATH]
"""A file or folder as text; `~` stands for the user's home folder."""

Decay = Literal["constant", "cosine", "exponential"]
"""The course of a learning rate after its warm-up."""

_SIMPLE = (int, float, str, bool, NoneType, Path, Any)
_WORDS = {
    "float_type": "a number", "int_type": "a whole number", "int_from_float": "a whole number",
    "string_type": "a text", "bool_type": "true or false", "string_too_short": "a text that is not empty",
    "path_type": "a path", "is_instance_of": "a path",
    "list_type": "a list", "dict_type": "a table of names and values",
}  # fmt: skip
"""Wordings of objections in place of the library's own."""
_CONTAINERS = (list, Sequence, dict, Mapping)
_Init = TypeVar("_Init", bound=Callable[..., None])


class ConfigError(Exception):
    """A mistake in the configuration or on the command line, in one sentence."""


def is_simple(annotation: Any) -> bool:
    """Return whether values of a type can be judged by themselves: numbers, words, and lists and tables of them."""
    if annotation in _SIMPLE or annotation in _CONTAINERS or get_origin(annotation) is Literal:
        return True
    if get_origin(annotation) is Annotated:
        return is_simple(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType, *_CONTAINERS):
        return all(map(is_simple, get_args(annotation)))
    return False


def objection(value: Any, annotation: Any) -> str | None:
    """Return why a value does not fit a type, such as "must be greater than 0, got -1"; `None` if it fits.

    Nothing is converted: a text and `true` are not numbers, and 1.5 is not a count.
    """
    if not is_simple(annotation):
        return None
    try:
        _adapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        reasons = {
            one["type"]: _WORDS.get(one["type"]) or one["msg"].removeprefix("Input should be ")
            for one in error.errors()
        }
        if isinstance(value, float) and not math.isfinite(value) and "less_than_equal" in reasons:
            reasons = {"finite_number": "a finite number"}
        if "float_type" in reasons:
            reasons.pop("int_type", None)
        if "string_type" in reasons:  # a path is a text in YAML
            reasons = {kind: words for kind, words in reasons.items() if words != "a path"}
        text = " or ".join(dict.fromkeys(reasons.values()))
        text = text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
        return f"must be {text}, got {value!r}"
    return None


def checked(init: _Init) -> _Init:
    """Check the keyword arguments of an `__init__` against their types before it runs.

    Raises:
        ValueError: a value does not fit its type; the message names class and parameter.
    """

    @functools.wraps(init)
    def checking(self: Any, *args: Any, **kwargs: Any) -> None:
        _check(type(self), kwargs, init)
        init(self, *args, **kwargs)

    return typing.cast(_Init, checking)


def check_fields(instance: Any) -> None:
    """Check the fields of a dataclass against their types, as `checked` checks arguments: for `__post_init__`.

    Raises:
        ValueError: a value does not fit its type; the message names class and field.
    """
    _check(type(instance), {field.name: getattr(instance, field.name) for field in fields(instance)}, type(instance))


def _check(owner: type, values: Mapping[str, Any], declared: Callable[..., Any]) -> None:
    hints = _hints(declared)
    for name, value in values.items():
        reason = objection(value, hints[name]) if name in hints else None
        if reason:
            raise ValueError(f"{name} of {owner.__name__} {reason}")


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's parameters or a class's fields, with their annotations."""
    known = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    return {name: kind for name, kind in known.items() if name != "return"}
