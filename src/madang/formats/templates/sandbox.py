"""The only place where templates run: Jinja's immutable sandbox, narrowed to what chat templates use.

Behaves as in `transformers` (blocks trimmed, ``break`` and ``continue``, ``raise_exception``, ``strftime_now``, a
``tojson`` that leaves HTML alone, ``{% generation %}``), with these differences: attributes are those of the table
below instead of all without an underscore, filters likewise, templates cannot load other templates, and everything is
metered (template_meter.py). What one operation could blow up by itself is checked before it happens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from types import CodeType
from typing import Any, Final, cast

from jinja2 import Environment, nodes, pass_context, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace, _PassArg

from madang.core.errors import TemplateError
from madang.formats.templates.meter import MAX_CHARACTERS, MAX_INT_BITS, MeteredContext, RanAway, compile_metered

MAX_RANGE: Final = 100_000
_MAX_DIGITS: Final = 100
_MAX_REASON: Final = 300
_MAX_FORMAT_CHARACTERS: Final = 4096


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_FILTERS: Final = _names(
    "abs capitalize count d default dictsort e escape first float format groupby indent int items join last length"
    " list lower map max min reject rejectattr replace reverse round safe select selectattr sort string title tojson"
    " trim unique upper"
)
_STR_METHODS: Final = _names(
    "capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit"
    " isidentifier islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix"
    " removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase"
    " title upper zfill"
)
_METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: _STR_METHODS,
    dict: _names("copy get items keys values"),
    list: _names("copy count index"),
    tuple: _names("count index"),
}
_REFUSED_NODES: Final = (nodes.Extends, nodes.Block, nodes.Include, nodes.Import, nodes.FromImport)
# Fields with a width or precision of four digits, or with one that is itself computed.
_WIDE_FIELD: Final = {
    "%": re.compile(r"%(?:\([^)]*\))?[-+ #0]*(?:\*|[0-9]{4}|[0-9]*\.(?:\*|[0-9]{4}))"),
    "{": re.compile(r"\{[^{}]*:[^{}]*(?:[0-9]{4}|\{)"),
}
_STRFTIME_FORMAT: Final = re.compile(r"(?:[^%]|%[-#]?[A-Za-z%]){0,64}")


class Refused(Exception):
    """The template itself refused the conversation, with a reason of its own."""


def compile_template(source: str, now: Callable[[], datetime]) -> Callable[[Mapping[str, Any]], str]:
    """Compile a chat template; the result renders it with the given variables.

    Both raise TemplateError, with one sentence, whatever goes wrong: nothing that a template does is a bug of ours.
    """
    with _failures("cannot be compiled"):
        template = TemplateSandbox(now).from_string(source)

    def render(variables: Mapping[str, Any]) -> str:
        chunks: list[str] = []
        characters = 0
        with _failures("failed"):
            for chunk in template.root_render_func(template.new_context(dict(variables))):
                chunks.append(chunk)
                characters += len(chunk)
                _check_size(characters)
            return "".join(chunks)

    return render


@contextmanager
def _failures(verb: str) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        raise TemplateError(f"The chat template refused the conversation: {_one_line(error)}.") from None
    except RanAway as error:
        raise TemplateError(f"The chat template was stopped: {_one_line(error)}.") from None
    except RecursionError:
        raise TemplateError("The chat template was stopped: it calls itself without end or nests too deeply.") from None
    except MemoryError:
        raise TemplateError("The chat template was stopped: it needed too much memory.") from None
    except Exception as error:
        raise TemplateError(f"The chat template {verb}: {_one_line(error)}.") from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text[:_MAX_REASON] or type(error).__name__


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """An environment for templates that nobody trusts."""

    context_class = MeteredContext
    # All of them: constants are then computed while rendering, under the meter, and not while compiling.
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, now: Callable[[], datetime]) -> None:
        """``now`` is the clock behind ``strftime_now``."""
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            extensions=[LoopControlExtension, _GenerationTag],
        )
        self.filters = {name: _metered(_OWN_FILTERS.get(name) or self.filters[name]) for name in _FILTERS}
        self.tests = {name: _metered(cast(Callable[..., Any], test)) for name, test in self.tests.items()}
        self.globals = {
            "range": _range,
            "dict": _TemplateDict(),
            "namespace": _TemplateNamespace,
            "cycler": Cycler,
            "joiner": Joiner,
            "raise_exception": _raise_exception,
            "strftime_now": lambda format: _strftime(now(), format),
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(_REFUSED_NODES):
            raise SecurityError(f"chat templates cannot use '{type(node).__name__.lower()}'")
        return tree

    def _compile(self, source: str, filename: str) -> CodeType:
        return compile_metered(source, filename)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Methods by table; of Jinja's own objects, what has no underscore."""
        if isinstance(obj, Namespace | LoopContext | Macro | Cycler | Joiner | _TemplateDict):
            return super().is_safe_attribute(obj, attr, value)
        return any(attr in methods for kind, methods in _METHODS.items() if isinstance(obj, kind))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's guarded ``str.format``, behind a look at the widths in it."""
        guarded = super().wrap_str_format(value)
        if guarded is None:
            return None
        template: str = value.__self__

        def format_string(*args: Any, **kwargs: Any) -> str:
            _check_format(template, "{", (*args, *kwargs.values()))
            return guarded(*args, **kwargs)

        return format_string

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Every call; a macro can print its arguments as one value, so they are weighed as one."""
        cast(MeteredContext, __context).weigh((*args, *kwargs.values()))
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            args = _check_str_method(owner, __obj.__name__, args)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Every ``+ - * / // % **``."""
        for operand in (left, right):
            if isinstance(operand, int) and operand.bit_length() > MAX_INT_BITS:
                raise RanAway(f"it computed with a number of more than {MAX_INT_BITS} bits")
        if operator == "*":
            _check_repetition(left, right)
            _check_repetition(right, left)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * abs(right) > MAX_INT_BITS:
                raise RanAway(f"it asked for a power of more than {MAX_INT_BITS} bits")
        elif operator == "%" and isinstance(left, str):
            _check_format(left, "%", right if isinstance(right, tuple) else (right,))
        return super().call_binop(context, operator, left, right)


class _GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}`` marks the answer for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The content, in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _TemplateDict:
    """``dict(a=1)``, without the class behind it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _TemplateNamespace(Namespace):
    """A namespace whose names have no underscore in front, and whose text does not spell out its values."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # "self" may be a name in it
        namespace, rest = cast(_TemplateNamespace, args[0]), args[1:]
        Namespace.__init__(namespace)
        for name, value in dict(*rest, **kwargs).items():
            namespace[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or name.startswith("_"):
            raise SecurityError(f"a namespace cannot hold the name {name!r}")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


def _metered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test that weighs its result, also when ``map`` or ``select`` calls it, and never runs early."""
    passed = _PassArg.from_obj(function)

    @pass_context
    @wraps(function, updated=())
    def run(context: MeteredContext, *args: Any, **kwargs: Any) -> Any:
        if passed is not None:
            given = {_PassArg.context: context, _PassArg.eval_context: context.eval_ctx}
            args = (given.get(passed, context.environment), *args)
        return context.weigh(function(*args, **kwargs))

    return run


def _check_size(characters: int) -> None:
    if characters > MAX_CHARACTERS:
        raise RanAway(f"it was about to make a value of more than {MAX_CHARACTERS} characters")


def _check_repetition(repeated: Any, times: Any) -> None:
    if isinstance(repeated, str | list | tuple) and isinstance(times, int):
        _check_size(len(repeated) * times)


def _check_format(template: str, sign: str, args: Iterable[Any]) -> None:
    if len(template) > _MAX_FORMAT_CHARACTERS:  # the search below may take the square of it
        raise SecurityError(f"formats have at most {_MAX_FORMAT_CHARACTERS} characters")
    if _WIDE_FIELD[sign].search(template):
        raise SecurityError("formats with a width of four digits or a computed width are not allowed")
    _check_size(len(template) + template.count(sign) * (1000 + sum(len(str(arg)) for arg in args)))


def _check_replacement(text: str, old: str, new: str) -> None:
    _check_size(len(text) + text.count(old) * max(0, len(new) - len(old)))


def _check_str_method(owner: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments for a method of ``owner`` whose result can be far longer than it; an iterator becomes a list."""
    if name == "replace" and len(args) >= 2:
        _check_replacement(owner, args[0], args[1])
    elif name == "join" and args:
        items = list(args[0])
        _check_size(len(owner) * len(items))
        return (items,)
    elif name in ("center", "ljust", "rjust", "zfill") and args and isinstance(args[0], int):
        _check_size(args[0])
    return args


def _raise_exception(message: object) -> None:
    raise Refused(str(message))


def _range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise RanAway(f"it asked for a range of more than {MAX_RANGE} numbers")
    return numbers


def _strftime(now: datetime, format: str) -> str:
    if not _STRFTIME_FORMAT.fullmatch(format):
        raise SecurityError("date formats have at most 64 parts and no widths")
    return now.strftime(format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    wide = indent if isinstance(indent, int) else len(indent or "")
    if wide > _MAX_DIGITS or sum(map(len, separators or ())) > _MAX_DIGITS:
        raise SecurityError(f"JSON is indented and separated by at most {_MAX_DIGITS} characters")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > _MAX_DIGITS:
        raise SecurityError(f"numbers are rounded to at most {_MAX_DIGITS} digits")
    return cast(float, FILTERS["round"](value, precision, method))


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    _check_format(str(value), "%", (*args, *kwargs.values()))
    return cast(str, FILTERS["format"](value, *args, **kwargs))


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    _check_size((len(text.splitlines()) + 1) * (width if isinstance(width, int) else len(width)))
    return cast(str, FILTERS["indent"](text, width, first, blank))


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = str(text), str(old), str(new)
    _check_replacement(text, old, new)
    replaced: str = text.replace(old, new, -1 if count is None else count)
    return replaced


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    texts = [str(item) for item in items]
    _check_size(len(str(d)) * len(texts))
    return str(d).join(texts)


_OWN_FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "format": _format,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "tojson": _tojson,
}
