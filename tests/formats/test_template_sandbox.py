"""Hostile chat templates: none reaches Python, none runs or grows for ever."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import pytest

import madang
from madang.core.errors import TemplateError
from madang.formats.templates.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "hi", "nested": {"list": [1, 2]}}]


def render(source: str) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(MESSAGES)


# Ways to Python's insides that were found in Jinja, in llama-cpp-python, SGLang and others. Each must fail or show
# nothing: an attribute that is not there prints as nothing.
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ messages.__class__ }}{{ messages['__class__'] }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ dict.__class__.__base__ }}",
    "{{ range.__class__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__closure__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ lipsum.__globals__ }}",
    "{{ loop.__class__ }}",
    "{% for m in messages %}{{ loop.__init__.__globals__ }}{{ loop._iterator.__class__ }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}{{ m.__call__.__func__ }}",
    "{{ messages | attr('__class__') }}",
    "{{ messages | map(attribute='__class__') | list | first | string | replace('Undefined', '') }}",
    "{{ messages | map('attr', '__class__') | list }}",
    "{{ messages | selectattr('__class__') | list | length | replace('0', '') }}",
    "{{ messages | groupby('__class__') | map(attribute='grouper') | list | string | replace('[Undefined]', '') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ '{x.__class__}'.format_map({'x': messages}) }}",
    "{{ ('{0.__class__}' | attr('format'))(messages) }}",
    "{{ [('{0.__class__}').format] | map('string') | list | length | replace('1', '') }}",
    "{% set f = '{0.__class__.__base__}'.format %}{{ f(messages) }}",
    "{{ '%(x)s'.__mod__({'x': 1}) }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{{ namespace(__init__=1) }}",
    "{{ namespace(**{'_Namespace__attrs': 1}) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages[0].nested.clear() }}",
    "{{ (1).to_bytes(8, 'big') }}",
    "{{ 'a'.encode() }}",
    "{{ 'a'.translate({}) }}",
    "{{ (x for x in messages).gi_frame }}",
    "{{ (messages | map('upper')).gi_frame }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% from 'os' import path %}",
    "{% extends 'base' %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{{ context }}{{ environment }}{{ _context }}{{ get_flashed_messages }}{{ config }}{{ request }}",
    "{{ strftime_now('%1000000000Y') }}",
    "{{ __import__('os') }}",
]

# Programs that would run for ever or fill the memory.
RUNAWAYS = [
    "{% for i in range(10 ** 9) %}x{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x * 9 %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] | join(ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = (ns.x, 1, ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = {1: ns.x, 2: ns.x} %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=7) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{{ 'a' * 10 ** 10 }}",
    "{{ 10 ** 10 * 'a' }}",
    "{{ [0] * 10 ** 10 }}",
    "{{ 9 ** 999999999 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000f' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%-1000000000d' | format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ ('{0}' * 1000).format('a' * 1000000) }}",
    "{{ ('%(a)s' * 800) % {'a': 'a' * 1000000} }}",
    "{{ 'a'.ljust(10 ** 10) }}",
    "{{ '1'.zfill(10 ** 10) }}",
    "{{ 5 | round(-1000000000) }}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{{ range(99999) | list | tojson(separators=('a' * 100000, ':')) }}",
    "{{ ('a\n' * 1000000) | indent(1000000) }}",
    "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 1000000).replace('', 'b' * 1000000) }}",
    "{{ ('a' * 1000000).join(range(99999)) }}",
    "{{ range(99999) | join('a' * 1000000) }}",
    "{{ range(99999) | map('replace', '', 'a' * 1000000) | list }}",
    "{% macro f() %}{{ varargs }}{% endmacro %}{% set m = 'a' * 3000000 %}{{ f(m, m, m, m, m, m) }}",
    "{% macro f() %}{% for i in range(99999) %}{% for i in range(99) %}" + "x" * 999 + "{% endfor %}{% endfor %}"
    "{% endmacro %}{{ f() }}",
    "{% set m = 'a' * 3000000 %}" + "{% set a = m ~ 'x' %}" * 200,
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "{{ 1" + " + 1" * 15000 + " }}",
    "{{ 'a'" + " | trim" * 5000 + " }}",
    "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
]  # fmt: skip


@pytest.mark.parametrize("source", ESCAPES)
def test_no_way_to_python(source: str) -> None:
    try:
        assert render(source) == ""
    except TemplateError as error:
        assert "\n" not in error.message
        assert " at 0x" not in error.message


@pytest.mark.parametrize("source", RUNAWAYS, ids=lambda source: source[:40])
def test_runaways_are_stopped(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^The chat template"):
        render(source)


def test_runaways_are_stopped_in_any_thread() -> None:
    caught: list[str] = []

    def run() -> None:
        try:
            render("{% for i in range(99999) %}{% set x = 'x' * 1000000 %}{% endfor %}")
        except TemplateError as error:
            caught.append(error.message)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert caught == ["The chat template was stopped: it made more than 256000000 characters in all."]


def test_each_rendering_has_its_own_budget() -> None:
    template = ChatTemplate("{% for a in range(99999) %}{% set x = 'a' * 1500 %}{% endfor %}x")
    assert [template.render(MESSAGES) for _ in range(3)] == ["x", "x", "x"]


def test_a_conversation_beyond_the_limit_is_refused() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert len(template.render([{"role": "user", "content": "x" * 3_000_000}])) == 3_000_000
    with pytest.raises(TemplateError, match="4000000 characters"):
        template.render([{"role": "user", "content": "x" * 3_000_000}] * 2)


def test_no_other_environment_exists() -> None:
    found = []
    for path in Path(madang.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        bases = [base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]
        names = [ast.unparse(node).rpartition(".")[2] for node in (*calls, *bases)]
        found += [(path.name, name) for name in names if name.endswith("Environment") or name == "Template"]
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        if any("jinja2" in ast.unparse(node) for node in imports):
            assert path.name in ("sandbox.py", "meter.py")
    assert found == [("sandbox.py", "ImmutableSandboxedEnvironment")]
