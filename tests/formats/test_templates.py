"""Chat templates: what they are given, what they may do, what happens without one."""

from __future__ import annotations

from datetime import datetime

import pytest

from madang.core.errors import TemplateError
from madang.core.messages import Message, Tool, ToolCall
from madang.formats.templates.chat_template import CHATML, MAX_SOURCE_CHARACTERS, PLAIN, ChatTemplate, template_for
from madang.formats.tokenizers.detokenizer import decode
from tests.formats.vocabularies import tokenizer

CHAT = (
    Message("system", "Be brief."),
    Message("user", "안녕 <b>"),
    Message("assistant", "네."),
    Message("user", "1+1?"),
)


def render(source: str, **variables: object) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(CHAT, variables=variables)


def test_chatml() -> None:
    assert ChatTemplate(CHATML).render(CHAT[:2]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n안녕 <b><|im_end|>\n<|im_start|>assistant\n"
    )
    assert ChatTemplate(CHATML).render(CHAT[1:2], add_generation_prompt=False).endswith("<|im_end|>\n")


def test_models_without_a_template() -> None:
    assert template_for(tokenizer("gpt2")).source == CHATML
    plain = template_for(tokenizer("llama"))
    assert plain.stop == ("### User:",)
    assert plain.render(CHAT) == (
        "### System:\nBe brief.\n\n### User:\n안녕 <b>\n\n### Assistant:\n네.</s>\n\n"
        "### User:\n1+1?\n\n### Assistant:\n"
    )
    assert template_for(tokenizer("llama", chat_template="{{ bos_token }}x")).render(CHAT) == "<s>x"


def test_plain_works_without_an_end_token() -> None:
    assert "None" not in template_for(tokenizer("bert")).render(CHAT)
    assert ChatTemplate(PLAIN, eos_token="").render(CHAT).endswith("### Assistant:\n")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}|{{ eos_token }}|{{ pad_token }}", "<s>|</s>|"),
        ("{{ messages[1].content | tojson }}", '"안녕 <b>"'),
        ("{{ {'b': 1, 'a': [1, 'é']} | tojson }}", '{"b": 1, "a": [1, "é"]}'),
        ("{{ {'b': 1} | tojson(indent=2) }}", '{\n  "b": 1\n}'),
        ("{{ tools is none }} {{ documents is none }}", "True True"),
        (
            "{% for m in messages %}\n  {% if loop.index == 2 %}{% continue %}{% endif %}\n{{ m.role }}\n{% endfor %}",
            None,
        ),
        (
            "{% for m in messages %}{% if loop.index == 3 %}{% break %}{% endif %}{{ m.role }} {% endfor %}",
            "system user ",
        ),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "4"),
        ("{{ messages | map(attribute='role') | unique | join(', ') }}", "system, user, assistant"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "2"),
        ("{{ messages[::-1][0].content[:3].replace('1', '2').split('+') | join('-') }}", "2-2"),
        ("{{ '%s=%02d' | format('a', 7) }} {{ '{}{:>3}'.format('b', 1) }} {{ '%d%%' % 5 }}", "a=07 b  1 5%"),
        ("{{ 'the year 2024: {}' .format(1) }}", "the year 2024: 1"),
        ("{{ 2 ** 10 }} {{ 7 // 2 }} {{ 'ab' * 2 }} {{ [1] + [2] }} {{ 'a' ~ 1 }}", "1024 3 abab [1, 2] a1"),
        ("{% macro m(x, n=2) %}{{ x * n }}{{ caller() }}{% endmacro %}{% call m('a') %}!{% endcall %}", "aa!"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{{ 'x' if undefined_name is not defined else 'y' }}", "x"),
        ("{{ dict(a=1).get('b', 3) }} {{ range(3) | list }}", "3 [0, 1, 2]"),
        ("{% set text %}in {{ bos_token }}{% endset %}{{ text | upper }}", "IN <S>"),
        ("{% filter trim %}  a  {% endfilter %}{% with b = 2 %}{{ b }}{% endwith %}", "a2"),
        ("{{ enable_thinking }}", "False"),
    ],
)
def test_what_templates_use(source: str, expected: str | None) -> None:
    rendered = render(source, enable_thinking=False)
    assert rendered == (expected if expected is not None else "system\nassistant\nuser\n")


def test_tool_calls_and_tools_look_like_the_openai_api() -> None:
    messages = [
        Message("assistant", "", tool_calls=(ToolCall("c1", "weather", {"city": "서울", "days": [1, 2]}),)),
        Message("tool", "맑음", tool_call_id="c1", name="weather"),
    ]
    tool = Tool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
    source = "{{ messages | tojson }}\n{{ tools | tojson }}"
    from_ours = ChatTemplate(source).render(messages, [tool])
    assert '"function": {"name": "weather", "arguments": {"city": "서울", "days": [1, 2]}}' in from_ours
    assert '{"role": "tool", "content": "맑음", "tool_call_id": "c1", "name": "weather"}' in from_ours
    as_dicts = ChatTemplate("{{ messages[0] | tojson }}").render([{"role": "user", "content": [{"type": "text"}]}])
    assert as_dicts == '{"role": "user", "content": [{"type": "text"}]}'


def test_the_date_comes_from_the_given_clock() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", now=lambda: datetime(2026, 1, 2))
    assert template.render(CHAT) == "02 Jan 2026"


def test_guarded_strings_everywhere() -> None:
    made = tokenizer()
    message = Message("user", "a<|im_end|>b", name="<|im_start|>")
    tool = Tool("<|im_end|>", parameters={"<|im_end|>": ["<|im_start|>"]})
    source = "<|im_start|>{{ messages[0].content }}{{ messages[0].name }}{{ tools | tojson }}<|im_end|>"
    rendered = ChatTemplate(source).render([message], [tool], guard=made.guard)
    ids = made.encode_chat(rendered)
    assert [n for n, token_id in enumerate(ids) if made.is_control(token_id)] == [0, len(ids) - 1]
    assert decode(made, ids) == ChatTemplate(source[12:-10]).render([message], [tool])


def test_a_refusal_carries_its_reason() -> None:
    with pytest.raises(TemplateError, match=r"refused the conversation: Roles must alternate\.$"):
        render("{{ raise_exception('Roles must\n  alternate.') }}")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ x", r"cannot be compiled: unexpected end of template.*\.$"),
        ("{% for %}", "cannot be compiled"),
        ("{{ nothing.role }}", "failed: 'nothing' is undefined"),
        ("{{ 1 / 0 }}", "failed: division by zero"),
        ("{{ messages + 1 }}", "failed: can only concatenate list"),
        ("{{ 'a' | sometimes }}", "No filter named 'sometimes'"),
        ("x" * (MAX_SOURCE_CHARACTERS + 1), "at most 65536 are allowed"),
    ],
)
def test_failures_are_one_sentence(source: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem) as caught:
        render(source)
    assert "\n" not in caught.value.message


def test_only_plain_data_enters() -> None:
    with pytest.raises(TemplateError, match="type object"):
        ChatTemplate("{{ 1 }}").render([{"role": "user", "content": object()}])
