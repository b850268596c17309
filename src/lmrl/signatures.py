"""Read the signature of a `_target_` from its source, without importing it.

Importing PyTorch takes longer than anybody wants to wait for the news of a typo, so the configuration is compared with
what the source declares: names of parameters, and types that can be understood without the imports of its file.
"""

import ast
import builtins
import collections.abc
import difflib
import functools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl import hyperparameters

_NAMES = vars(builtins) | vars(typing) | vars(collections.abc) | vars(hyperparameters)
"""What annotations may be made of; others are not checked before the import."""


@dataclass(frozen=True)
class Signature:
    """What a class or function may be given."""

    parameters: Mapping[str, Any]
    """The type of each parameter; `Path` or a tensor, which say nothing about YAML, are `None`."""
    is_open: bool
    """Whether it takes other names as well."""

    def merged(self, base: "Signature") -> "Signature":
        """Return this signature with what it hands on to a base class."""
        return Signature({**base.parameters, **self.parameters}, base.is_open)


@functools.cache
def signature_of(target: str) -> Signature | None:
    """Return the signature of one of lmrl's own classes or functions by its dotted name; `None` if it is not found."""
    module, _, name = target.rpartition(".")
    source = _source(module)
    if source is None:
        return None
    for node in source.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_function(node, skip=0)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(node, source, module)
    return None


def declared(target: str, name: str) -> Any:
    """Return the plain value that one of lmrl's own classes, or the nearest of its bases, gives to a class attribute.

    Args:
        target: the class's dotted name.
        name: the attribute's.

    Returns:
        The value; `None` where there is no such class or attribute.
    """
    module, _, cls = target.rpartition(".")
    source = _source(module)
    node = next((n for n in source.body if isinstance(n, ast.ClassDef) and n.name == cls), None) if source else None
    if source is None or node is None:
        return None
    for part in node.body:
        if isinstance(part, ast.Assign | ast.AnnAssign) and part.value is not None:
            names = part.targets if isinstance(part, ast.Assign) else [part.target]
            if name in map(ast.unparse, names):
                return ast.literal_eval(part.value)
    inherited = (declared(_full_name(ast.unparse(base), source, module), name) for base in node.bases)
    return next((value for value in inherited if value is not None), None)


def _of_class(node: ast.ClassDef, source: ast.Module, module: str) -> Signature:
    """Return what a class's `__init__` takes, or the fields of a dataclass, together with its bases'."""
    inits = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    if inits:
        own = _of_function(inits[0], skip=1)
    else:
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
        is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
        own = Signature({ast.unparse(f.target): _type(f.annotation) for f in fields} if is_dataclass else {}, True)
    if not own.is_open:
        return own
    bases = [base for base in map(ast.unparse, node.bases) if base not in ("ABC", "Protocol")]
    if not bases:
        return Signature(own.parameters, bool(inits))
    return own.merged(signature_of(_full_name(bases[0], source, module)) or Signature({}, True))


def _of_function(node: ast.FunctionDef, skip: int) -> Signature:
    """Return a function's parameters without the first `skip`."""
    arguments = [*node.args.posonlyargs, *node.args.args][skip:] + node.args.kwonlyargs
    return Signature({one.arg: _type(one.annotation) for one in arguments}, node.args.kwarg is not None)


def _type(annotation: ast.expr | None) -> Any:
    """Return what an annotation means, or `None` where that takes an import."""
    if annotation is None:
        return None
    try:
        return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {"__builtins__": {}}, dict(_NAMES))
    except (NameError, AttributeError, TypeError):
        return None


def _full_name(name: str, source: ast.Module, module: str) -> str:
    """Return the dotted name of something that a module imports or defines."""
    for node in source.body:
        if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
            return f"{node.module}.{name}"
    return f"{module}.{name}"


@functools.cache
def _source(module: str) -> ast.Module | None:
    """Return a module's syntax tree; only for this package, because finding others would import them."""
    if module.partition(".")[0] != "lmrl":
        return None
    place = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return ast.parse(place.read_text(encoding="utf-8")) if place.is_file() else None


def objections(config: Any, key: str = "") -> Iterator[str]:
    """Yield what is wrong with the arguments of every `_target_` of a configuration, each with its full name.

    Args:
        config: plain lists, dictionaries and values.
        key: where `config` stands in the whole.
    """
    if isinstance(config, list):
        for index, part in enumerate(config):
            yield from objections(part, f"{key}[{index}]")
    if not isinstance(config, dict):
        return
    target = config.get("_target_")
    if isinstance(target, str):
        yield from _of_arguments(target, config, key)
    for name, part in config.items():
        yield from objections(part, f"{key}.{name}" if key else str(name))


def _of_arguments(target: str, config: Mapping[str, Any], key: str) -> Iterator[str]:
    """Yield what is wrong with the arguments of one target."""
    signature = signature_of(target)
    if signature is None:
        return
    for name, value in config.items():
        if name.startswith("_") and name.endswith("_"):  # Hydra's own
            continue
        if name not in signature.parameters:
            if not signature.is_open:
                yield f"{key}.{name}: {target} has no parameter {name!r}{suggest(name, list(signature.parameters))}"
            continue
        said = hyperparameters.objection(value, signature.parameters[name])
        if said and not (isinstance(value, dict) and "_target_" in value):
            yield f"{key}.{name} {said}"


def suggest(name: str, known: list[str]) -> str:
    """Return ' (did you mean ...?)' for a misspelt name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
