"""Makes a compiled Jinja template count its steps and weigh its values, so that none can run away.

A chat template is a program from a stranger. Jinja's sandbox keeps it from reaching Python, not from running for ever
or filling the memory. Timers cannot help: a signal only reaches the main thread, and an exception set from another
thread waits for the end of the operation under way. So the template stops itself. Jinja turns a template into Python
source; that source is rewritten before it is compiled:

    every loop body and every function begins with      context.step()
    every call, operation, comparison and new list      is passed through context.weigh(…)

``step`` counts and looks at the clock. ``weigh`` also adds up the characters that were made, and refuses any value that
is too large, counting what a list holds as often as it is in there (forty nested pairs are small in memory, and endless
when printed). With no large values there are no long operations, so the clock is looked at often enough; the few
operations whose result can dwarf their operands are checked beforehand, in sandbox.py. All of it is ordinary
code of the rendering thread, and works in any.
"""

from __future__ import annotations

import ast
from time import monotonic
from types import CodeType
from typing import Any, Final

from jinja2.runtime import Context

MAX_CHARACTERS: Final = 4_000_000
MAX_WORK_CHARACTERS: Final = 64 * MAX_CHARACTERS
MAX_STEPS: Final = 2_000_000
MAX_SECONDS: Final = 5.0
MAX_INT_BITS: Final = 4096


class RanAway(Exception):
    """A template went past a limit; the text says which."""


class MeteredContext(Context):
    """The state of one rendering, with its meter."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._steps = 0
        self._work = 0
        self._deadline = monotonic() + MAX_SECONDS
        # Containers by id, with their weights; holding them keeps the ids from being used again.
        self._weighed: dict[int, tuple[object, int]] = {}

    def step(self) -> None:
        """Count one step. Raises RanAway past the number or the time allowed."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise RanAway(f"it took more than {MAX_STEPS} steps")
        if monotonic() > self._deadline:
            raise RanAway(f"it ran for more than {MAX_SECONDS:g} seconds")

    def weigh(self, value: Any) -> Any:
        """``value`` itself. Raises RanAway when it, or all values so far together, are too large."""
        self.step()
        weight = self._weight(value)
        if weight > MAX_CHARACTERS:
            raise RanAway(f"it made a value of more than {MAX_CHARACTERS} characters")
        self._work += weight if isinstance(value, str) else len(value) if isinstance(value, list | tuple | dict) else 1
        if self._work > MAX_WORK_CHARACTERS:
            raise RanAway(f"it made more than {MAX_WORK_CHARACTERS} characters in all")
        return value

    def _weight(self, value: object) -> int:
        """Characters of a string; of a container, all that it holds and one for each item."""
        if isinstance(value, str):
            return len(value)
        if isinstance(value, list | tuple | dict):
            known = self._weighed.get(id(value))
            if known is None:
                items = [*value, *value.values()] if isinstance(value, dict) else value
                known = value, sum(map(self._weight, items), start=1 + len(items))
                self._weighed[id(value)] = known
            return known[1]
        if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise RanAway(f"it made a number of more than {MAX_INT_BITS} bits")
        return 1


def compile_metered(source: str, filename: str) -> CodeType:
    """Compile the Python source that Jinja generated, with the meter built in."""
    tree = _Meter().visit(ast.parse(source, filename))
    return compile(ast.fix_missing_locations(tree), filename, "exec")


def _metered(method: str, *args: ast.expr) -> ast.Call:
    context = ast.Name("context", ast.Load())
    return ast.Call(ast.Attribute(context, method, ast.Load()), list(args), [])


class _Meter(ast.NodeTransformer):
    """Rewrites the body of ``root`` and the functions inside it, where ``context`` can be seen."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = [self.visit(part) if isinstance(part, ast.FunctionDef) else part for part in node.body]
        return node

    def _visit_block(self, node: Any) -> Any:
        self.generic_visit(node)
        node.body.insert(0, ast.Expr(_metered("step")))
        return node

    def _visit_value(self, node: Any) -> Any:
        self.generic_visit(node)
        is_target = isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)
        return node if is_target else _metered("weigh", node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Comparisons look into lists; ``is`` does not."""
        self.generic_visit(node)
        return node if isinstance(node.ops[0], ast.Is | ast.IsNot) else _metered("weigh", node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Calls, and what is added to an output that a macro collects."""
        self.generic_visit(node)
        match node.func:
            case ast.Attribute(attr="append"):
                node.args = [arg if isinstance(arg, ast.Call) else _metered("weigh", arg) for arg in node.args]
            case ast.Attribute(attr="getattr" | "getitem"):  # makes nothing new
                return node
        return _metered("weigh", node)

    visit_FunctionDef = visit_For = visit_While = _visit_block
    visit_BinOp = visit_List = visit_Tuple = visit_Dict = visit_Subscript = _visit_value
