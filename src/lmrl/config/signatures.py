"""Read the signature of a `_target_` from its source, without importing it.

Importing PyTorch takes seconds, and a typo should be reported at once. So the configuration is compared with the
declarations in the source: the names of parameters, and the types that need no import of the file.
"""

import ast
import builtins
import collections.abc
import difflib
import functools
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl.config import types as hyperparameters

_NAMES = vars(builtins) | vars(typing) | vars(collections.abc) | vars(hyperparameters)
"""The names that annotations may use; other names stand for objects."""


@dataclass(frozen=True)
class Part:
    """An object in the configuration: a table with a `_target_` and its arguments."""

    optional: bool = False
    """Whether `null` is allowed as well."""
    target: str | None = None
    """The default `_target_`. `None`: the table must name one."""


@dataclass(frozen=True)
class Signature:
    """The parameters of a class or function."""

    parameters: Mapping[str, Any]
    """The type of each parameter; a `Part` for objects, and `None` where the source has no annotation."""
    is_open: bool
    """Whether it accepts any keyword (`**kwargs`)."""

    def merged(self, base: "Signature") -> "Signature":
        """Return this signature extended by the base class's parameters."""
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
    """Return the literal value of a class attribute of one of lmrl's own classes, or of the nearest of its bases.

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
    """Return the parameters of a class's `__init__`, or the fields of a dataclass, with those of its bases."""
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
    """Return the type of an annotation; a name that needs an import stands for an object."""
    if annotation is None:
        return None
    try:
        return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {"__builtins__": {}}, dict(_NAMES))
    except (NameError, AttributeError, TypeError):
        return Part(optional=any(isinstance(one, ast.Constant) and one.value is None for one in ast.walk(annotation)))


def _full_name(name: str, source: ast.Module, module: str) -> str:
    """Return the dotted name of a name that a module imports or defines."""
    for node in source.body:
        if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
            return f"{node.module}.{name}"
    return f"{module}.{name}"


@functools.cache
def _source(module: str) -> ast.Module | None:
    """Return a module's syntax tree; only for this package, because finding others would import them."""
    if module.partition(".")[0] != "lmrl":
        return None
    place = Path(__file__).parents[1].joinpath(*module.split(".")[1:]).with_suffix(".py")
    return ast.parse(place.read_text(encoding="utf-8")) if place.is_file() else None


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ' (did you mean ...?)' for a misspelt name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
