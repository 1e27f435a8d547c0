"""What each dialect reads as a call, what it leaves as text, and that the cuts of the stream do not matter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.formats.dialects import CallSyntax, hermes, llama3, mistral, phi, pythonic
from tests.formats.dialects.reading import Folded, cut, fold

ADD = ("add", {"a": 1, "b": [2.5, None, True]})
KOREAN = ("weather", {"city": "서울특별시", "when": '내일 "아침"\n일찍'})
TRICKY = ("say", {"text": "</tool_call><tool_call>{}[TOOL_CALLS][ARGS]<|/tool_call|>```}]\\\"'"})
CALLS = [ADD, KOREAN, TRICKY]


def as_json(call: tuple[str, dict[str, Any]], key: str = "arguments", **style: Any) -> str:
    return json.dumps({"name": call[0], key: call[1]}, ensure_ascii=False, **style)


def as_python(call: tuple[str, dict[str, Any]]) -> str:
    return f"{call[0]}({', '.join(f'{key}={value!r}' for key, value in call[1].items())})"


WRITERS: dict[str, tuple[CallSyntax, Any]] = {
    "hermes": (hermes.SYNTAX, lambda calls: "\n".join(f"<tool_call>\n{as_json(c)}\n</tool_call>" for c in calls)),
    "hermes, tight": (hermes.SYNTAX, lambda calls: "".join(f"<tool_call>{as_json(c)}</tool_call>" for c in calls)),
    "hermes, indented": (
        hermes.SYNTAX,
        lambda calls: " ".join(f"<tool_call>{as_json(c, indent=2)}</tool_call>" for c in calls),
    ),
    "llama3": (llama3.SYNTAX, lambda calls: "; ".join(as_json(c, "parameters") for c in calls)),
    "llama3, tagged": (
        llama3.SYNTAX,
        lambda calls: "<|python_tag|>" + ";".join(as_json(c, "parameters") for c in calls),
    ),
    "mistral": (mistral.LIST, lambda calls: f"[TOOL_CALLS] [{', '.join(as_json(c) for c in calls)}]"),
    "mistral, named": (
        mistral.NAMED,
        lambda calls: "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(args)}" for name, args in calls),
    ),
    "mistral, named, ids": (
        mistral.NAMED,
        lambda calls: "".join(f"[TOOL_CALLS]{name}[CALL_ID]a1B[ARGS]{json.dumps(args)}" for name, args in calls),
    ),
    "phi": (phi.SYNTAX, lambda calls: f"<|tool_call|>[{','.join(as_json(c) for c in calls)}]<|/tool_call|>"),
    "pythonic": (pythonic.LIST, lambda calls: f"[{', '.join(map(as_python, calls))}]"),
}
FENCED = pythonic.FENCED
each_dialect = pytest.mark.parametrize(("syntax", "write"), WRITERS.values(), ids=WRITERS)
MARKED = {name: pair for name, pair in WRITERS.items() if pair[0].markers and name != "llama3"}
each_marked = pytest.mark.parametrize(("syntax", "write"), MARKED.values(), ids=MARKED)


@each_dialect
@pytest.mark.parametrize("calls", [[ADD], [KOREAN], [TRICKY], [("search", {})], CALLS], ids=lambda calls: calls[0][0])
def test_calls_are_read_whole_and_letter_by_letter(syntax: CallSyntax, write: Any, calls: list[Any]) -> None:
    text = write(calls)
    whole = fold([text], syntax)
    assert whole.calls == tuple(calls)
    assert whole.text == ""
    assert fold(text, syntax) == whole
    assert fold(["\n ", text, " \n"], syntax) == whole  # blanks around calls belong to them


@each_dialect
@given(data=st.data())
@settings(max_examples=60)
def test_the_cuts_do_not_matter(syntax: CallSyntax, write: Any, data: st.DataObject) -> None:
    noise = st.text(st.sampled_from(" \n{}[]()\"'<|>;,:_=/\\aT가" + "tool_cal"), max_size=12)
    good = st.lists(st.sampled_from(CALLS), min_size=1, max_size=2).map(write)
    broken = good.flatmap(lambda text: st.integers(0, len(text)).map(lambda n: text[:n] + text[n + 1 :]))
    parts = data.draw(st.lists(st.one_of(noise, good, broken, st.sampled_from(syntax.markers or ("[",)))))
    text = "".join(parts)
    whole = fold([text], syntax)
    assert fold(data.draw(cut(text)), syntax) == whole
    if not whole.calls:
        assert whole.text == text


@each_marked
def test_text_around_calls_stays(syntax: CallSyntax, write: Any) -> None:
    folded = fold(f"Let me see.\n{write([ADD])}\n그리고 끝.", syntax)
    assert folded.text == "Let me see.그리고 끝."
    assert folded.calls == (ADD,)


UNREADABLE = {
    "hermes": [
        '<tool_call>{"name": "add", "arguments": {}}',
        '<tool_call>\n{"name": "add", "arguments": {"a": }}\n</tool_call>',
        '<tool_call>{"nome": "add"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": 1e999}}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        "<tool_call>add(1)</tool_call> and more",
        "<tool_call></tool_call>",
        '<tool_call>{"name": "add"}</tool_call',
        "a <tool_call",
        "  <tool_call>  ",
        '<tool_call>{"name": "a]}</tool_call>  \n',
        "<tool_call>" + '{"a":' * 5000 + "1" + "}" * 5000 + "</tool_call>",
    ],
    "llama3": [
        '{"name": "unknown", "parameters": {}}',
        '{"name": "add", "parameters": {}',
        '{"city": "Seoul"}',
        '{ "na',
        '<|python_tag|>print("hi")',
        "<|python_tag|>search.call(query=open('x'))",
        'The call is {"name": "add", "parameters": {}}',
    ],
    "mistral": [
        "[TOOL_CALLS]",
        "[TOOL_CALLS][]",
        "[TOOL_CALLS] [1]",
        '[TOOL_CALLS][{"name": "add"',
        "[TOOL_CALLS]add{}",
    ],
    "mistral, named": [
        "[TOOL_CALLS]add[ARGS]",
        "[TOOL_CALLS]add[ARGS]{",
        "[TOOL_CALLS]a b[ARGS]{}",
        "[TOOL_CALLS]a[CALL_",
    ],
    "phi": ["<|tool_call|>[]<|/tool_call|>", '<|tool_call|>[{"name": "add"}]', "<|tool_call|>{}<|/tool_call|>"],
    "pythonic": [
        "[unknown(a=1)]",
        "[add(a=1), unknown()]",
        "[add(1)]",
        "[add(a=b)]",
        "[add(a=__import__('os').system('x'))]",
        "[add(**{'a': 1})]",
        "[add(a=1, a=2)]",
        "[add(a=1e999)]",
        "[add(a={1: 2})]",
        "[add(a=1)",
        "[add(a='x)]",
        "[1, 2, 3]",
        "[]",
        "[add(a=" + "-" * 30_000 + "1)]",
        "See [add(a=1)]",
    ],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in UNREADABLE.items() for text in texts])
def test_what_cannot_be_read_comes_back_byte_for_byte(name: str, text: str) -> None:
    syntax = WRITERS[name][0]
    assert fold([text], syntax) == Folded(text)
    assert fold(text, syntax) == Folded(text)


def test_a_broken_call_does_not_hide_the_next() -> None:
    broken = "<tool_call>{oops}</tool_call>"
    folded = fold(f"{broken}\n<tool_call>{as_json(ADD)}</tool_call>", hermes.SYNTAX)
    assert (folded.text, folded.calls) == (broken, (ADD,))


def test_a_call_inside_the_text_of_an_unfinished_one_is_none() -> None:
    inner = json.dumps(f"<tool_call>{as_json(ADD)}</tool_call>")
    text = f'<tool_call>{{"name": "say", "arguments": {{"text": {inner}, "more": "'
    assert fold(text, hermes.SYNTAX) == Folded(text)


def test_arguments_in_a_string_and_raw_line_breaks_are_read() -> None:
    wrapped = '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>'
    assert fold([wrapped], hermes.SYNTAX).calls == (("add", {"a": 1}),)
    raw = '<tool_call>{"name": "say", "arguments": {"text": "one\ntwo"}}</tool_call>'
    assert fold([raw], hermes.SYNTAX).calls == (("say", {"text": "one\ntwo"}),)


def test_ids_count_the_calls_in_the_form_that_the_template_wants() -> None:
    assert fold([WRITERS["hermes"][1]([ADD, KOREAN])], hermes.SYNTAX).ids == ("call_0", "call_1")
    ids = fold([WRITERS["mistral"][1]([ADD, KOREAN])], mistral.LIST).ids
    assert ids == ("call00000", "call00001")
    assert all(len(call_id) == 9 and call_id.isalnum() for call_id in ids)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('<|python_tag|>brave_search.call(query="날씨 (서울)")', (("brave_search", {"query": "날씨 (서울)"}),)),
        ('{"type": "function", "name": "add", "parameters": {"a": 1}}', (("add", {"a": 1}),)),
        ('{"name": "add", "arguments": {"a": 1}}', (("add", {"a": 1}),)),
        ('{"function": "add", "parameters": {"a": 1}}', (("add", {"a": 1}),)),
    ],
)
def test_other_forms_of_llama(text: str, calls: Any) -> None:
    assert fold([text], llama3.SYNTAX).calls == fold(text, llama3.SYNTAX).calls == calls


@pytest.mark.parametrize(
    "text",
    [
        "```tool_code\nadd(a=1, b='x')\n```",
        "```tool_code\nprint(add(a=1, b='x'))\n```",
        "```tool_code\n[add(a=1, b='x')]\n```",
        "```tool_code\nadd(\n  a=1,\n  b='x',\n)\n```",
    ],
)
def test_fenced_calls(text: str) -> None:
    assert fold([text], FENCED) == fold(text, FENCED) == Folded("", "", (("add", {"a": 1, "b": "x"}),), ("call_0",))


def test_several_fenced_calls_and_code_that_is_none() -> None:
    two = "```tool_code\nadd(a=1)\nadd(a=true, b=null, c=-2.5, d=('x',))\n```"
    assert fold(two, FENCED).calls == (("add", {"a": 1}), ("add", {"a": True, "b": None, "c": -2.5, "d": ["x"]}))
    for code in ("```tool_code\nx = add(a=1)\n```", "```python\nadd(a=1)\n```", "```tool_code\nadd(a=1)"):
        assert fold(code, FENCED) == fold([code], FENCED) == Folded(code)


def test_text_is_held_back_no_longer_than_it_must() -> None:
    from madang.formats.dialects import AnswerReader

    reader = AnswerReader(None, hermes.SYNTAX, frozenset())
    shown = ["".join(delta.text for delta in reader.push(piece)) for piece in ("a <to", "p> b", " <tool_call", "ed")]  # type: ignore[union-attr]
    assert shown == ["a", " <top> b", "", " <tool_called"]
