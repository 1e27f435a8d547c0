"""Reading a call written as Python, ``name(key=value, …)``, whose values are literals. Nothing is evaluated.

Python's own parser builds the tree, and only the nodes of literals are understood.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Mapping
from typing import Any, Final

from madang.formats.dialects.scanning import NotACall

MAX_CHARACTERS: Final = 65_536
_NAMES: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None}  # as in JSON


def read_call(text: str, begin: int, end: int) -> tuple[str, dict[str, Any]]:
    """Name and keyword arguments of the call between two positions. Raises NotACall for anything else."""
    node = _parse(text, begin, end)
    return _call(node, end)


def read_calls(text: str, begin: int, end: int) -> list[tuple[str, dict[str, Any]]]:
    """The calls in a list, at least one, or the one call that stands alone or inside ``print``."""
    node = _parse(text, begin, end)
    nodes = node.elts if isinstance(node, ast.List) else [node]
    if not nodes:
        raise NotACall(end)
    return [_call(_printed(node), end) for node in nodes]


def _parse(text: str, begin: int, end: int) -> ast.expr:
    if end - begin > MAX_CHARACTERS:
        raise NotACall(end)
    try:
        with warnings.catch_warnings(action="ignore"):  # of what Python thinks of the model's style
            return ast.parse(text[begin:end].strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NotACall(end) from None


def _printed(node: ast.expr) -> ast.expr:
    """What ``print(…)`` prints, if that is all there is."""
    is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    if is_print and isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.args[0], ast.Call):
        return node.args[0]
    return node


def _call(node: ast.expr, end: int) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args:
        raise NotACall(end)
    try:
        arguments = {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
        name = _dotted(node.func)
    except (ValueError, RecursionError):
        raise NotACall(end) from None
    if None in arguments or len(arguments) != len(node.keywords):  # **mapping, or a key twice
        raise NotACall(end)
    return name, {key: value for key, value in arguments.items() if key is not None}


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError("not a name")


def _literal(node: ast.expr) -> Any:
    """A value of JSON's types. Raises ValueError for anything that is not one."""
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, str | bool | int):
            return value
        case ast.Constant(value=float() as value) if math.isfinite(value):
            return value
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.List() | ast.Tuple():
            return [_literal(item) for item in node.elts]
        case ast.Dict():
            return {_key(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise ValueError("not a literal")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError("not a text")
