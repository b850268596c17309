"""Compare a configuration with its declarations, value by value. Needs no torch."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from lmrl.config.declared import FOREIGN, INSIDE, Block, Kind, Several, root
from lmrl.config.signatures import Part, Signature, signature_of, suggest
from lmrl.config.types import PATH, is_simple, objection

_TABLE = "must be a table of names and values"


def faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the mistakes of a whole configuration, each with the full name of its key.

    Args:
        config: plain lists, dictionaries and values.
    """
    yield from _of(config, root(config), "")


def _of(value: Any, kind: Kind, key: str) -> Iterator[str]:
    """Yield the mistakes of a part of a configuration."""
    if isinstance(value, dict) and "_target_" in value:
        yield from _of_object(value, key)
    elif isinstance(kind, Part):
        yield from _of_part(value, kind, key)
    elif isinstance(kind, Block):
        yield from _of_block(value, kind, key)
    elif isinstance(kind, Several):
        yield from _of_list(value, kind, key)
    elif reason := objection(value, kind):
        yield f"{key} {reason}"


def _of_part(value: Any, kind: Part, key: str) -> Iterator[str]:
    """Yield the mistakes of an object without a `_target_`."""
    if value is None or (value == {} and kind.target is None):
        if not kind.optional:
            yield f"{key} must be a table with a _target_, got {value!r}"
    elif isinstance(value, dict) and kind.target:
        yield from _of_object({"_target_": kind.target, **value}, key)
    else:
        table = _TABLE if kind.target else "must be a table with a _target_"
        yield f"{key} {table}{' or null' if kind.optional else ''}, got {value!r}"


def _of_block(value: Any, kind: Block, key: str) -> Iterator[str]:
    """Yield the mistakes of a table and of its values."""
    if value is None and kind.optional:
        return
    if not isinstance(value, dict):
        yield f"{key} {_TABLE}{' or null' if kind.optional else ''}, got {value!r}"
        return
    for name, inner in value.items():
        place = f"{key}.{name}" if key else str(name)
        known = kind.fields.get(str(name), kind.others)
        if known is None:
            yield f"{place}: there is no such setting{suggest(str(name), kind.fields)}"
        else:
            yield from _of(inner, known, place)


def _of_list(value: Any, kind: Several, key: str) -> Iterator[str]:
    """Yield the mistakes of a list and of its items."""
    if isinstance(value, str) and kind.or_text:
        return
    if not isinstance(value, list):
        yield f"{key} must be a list{' or a text' if kind.or_text else ''}, got {value!r}"
        return
    for index, inner in enumerate(value):
        yield from _of(inner, kind.of, f"{key}[{index}]")


def _of_object(value: Mapping[str, Any], key: str) -> Iterator[str]:
    """Yield the mistakes in the arguments of an object."""
    target = value["_target_"]
    if not isinstance(target, str):
        yield f"{key}._target_ must be a text, got {target!r}"
        return
    signature = known_signature(target)
    for name, inner in value.items():
        if name.startswith("_") and name.endswith("_"):  # Hydra's own
            continue
        place = f"{key}.{name}"
        if signature is not None and name not in signature.parameters and not signature.is_open:
            yield f"{place}: {target} has no parameter {name!r}{suggest(name, signature.parameters)}"
        else:
            yield from _of(inner, _kind_of(target, name, signature), place)


def known_signature(target: str) -> Signature | None:
    """Return the signature of an object; `None` if it cannot be known before an import."""
    return FOREIGN.get(target) or signature_of(target)


def _kind_of(target: str, name: str, signature: Signature | None) -> Kind:
    """Return the declaration of an object's parameter; an undeclared one may have any value."""
    if (target, name) in INSIDE:
        return INSIDE[target, name]
    kind = signature.parameters.get(name) if signature is not None else None
    if kind is None:
        return Any
    if isinstance(kind, Part) or is_simple(kind):
        return kind
    return Part(optional=type(None) in get_args(kind))  # `Callable[[], int] | None`


def declared(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, Kind]]:
    """Yield the full name, the value and the declaration of everything in a configuration.

    Args:
        config: plain lists, dictionaries and values.
    """
    yield from _declared(config, root(config), "")


def _declared(value: Any, kind: Kind, key: str) -> Iterator[tuple[str, Any, Kind]]:
    """Yield the same for a part; a kind of `None` stands for undeclared values."""
    if key:
        yield key, value, kind
    if not isinstance(value, dict):
        return
    target = value.get("_target_") or (kind.target if isinstance(kind, Part) else None)
    signature = known_signature(target) if isinstance(target, str) else None
    for name, inner in value.items():
        if not str(name).startswith("_"):
            inside = _kind_of(target, name, signature) if isinstance(target, str) else _field(kind, str(name))
            yield from _declared(inner, inside, f"{key}.{name}" if key else str(name))


def _field(kind: Kind, name: str) -> Kind:
    """Return the declaration of a value in a table."""
    return kind.fields.get(name, kind.others) if isinstance(kind, Block) else None


def is_path(kind: Kind) -> bool:
    """Return whether a type is, or includes, that of a file or folder."""
    return PATH in getattr(kind, "__metadata__", ()) or any(map(is_path, get_args(kind)))
