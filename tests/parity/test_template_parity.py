"""Chat templates render as in transformers: the same text for seven well-known families."""

from __future__ import annotations

from typing import Any

import pytest

from madang.core.errors import TemplateError
from madang.formats.templates.chat_template import ChatTemplate

pytest.importorskip("transformers")
chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")

CHATML = """
{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

LLAMA3 = """
{% set loop_messages = messages %}
{% for message in loop_messages %}
    {% set header = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' %}
    {% set content = header + message['content'] | trim + '<|eot_id|>' %}
    {% if loop.index0 == 0 %}
        {% set content = bos_token + content %}
    {% endif %}
{{- content }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{% endif %}
"""

MISTRAL = """
{{- bos_token }}
{%- set ns = namespace(system='', index=0) %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {%- set ns.system = message['content'] %}
        {%- continue %}
    {%- endif %}
    {%- if (message['role'] == 'user') != (ns.index % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant/user/assistant.') }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (ns.system + '\n\n' if ns.system and loop.last else '') + message['content'] + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = """
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
"""

PHI3 = """
{%- for message in messages -%}
    {%- if message['role'] in ['system', 'user'] -%}
        {{ '<|' ~ message['role'] ~ '|>\n' ~ message['content'] ~ '<|end|>\n' }}
    {%- elif message['role'] == 'assistant' -%}
        {% generation %}{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}{% endgeneration %}
    {%- endif -%}
{%- endfor -%}
{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}
"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

QWEN_TOOLS = """
{%- macro call_text(call) %}
    {%- if call.function is defined %}
        {%- set call = call.function %}
    {%- endif %}
    {{- '\n<tool_call>\n{"name": "' ~ call.name ~ '", "arguments": ' ~ call.arguments | tojson ~ '}\n</tool_call>' }}
{%- endmacro %}
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
    {{- '# Tools\n\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\n</tools>\n' + (tools | map(attribute='function') | map(attribute='name') | join(', ')) + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last_user=-1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.last_user < 0 and message.role == 'user' %}{%- set ns.last_user = index %}{%- break %}{%- endif %}
{%- endfor %}
{%- for message in messages if message.role != 'system' or not tools %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- else %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\n') if message.content is string else '' %}
        {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- for call in message.tool_calls or [] %}{{- call_text(call) }}{%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{{- '%d|' % ns.last_user }}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' ~ ('<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking) }}
{%- endif %}
"""

SYSTEM = {"role": "system", "content": "  Answer in <b>Korean</b> & be 'brief'.  "}
USER = {"role": "user", "content": '안녕하세요?\n\n오늘 날씨는 "어때요"? 😀'}
ASSISTANT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\n맑아요.\n"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": "서울", "days": [1, 2.5]}}}
    ],
}
TOOL = {"role": "tool", "name": "weather", "content": '{"sky": "맑음"}'}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "날씨 <now>",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CHATS: dict[str, list[dict[str, Any]]] = {
    "one turn": [USER],
    "system": [SYSTEM, USER],
    "many turns": [USER, ASSISTANT, USER, ASSISTANT, USER],
    "ends with the assistant": [SYSTEM, USER, ASSISTANT],
    "tools": [SYSTEM, USER, CALL, TOOL, ASSISTANT, USER],
    "wrong order": [ASSISTANT, ASSISTANT],
}
TEMPLATES = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "phi3": PHI3,
    "zephyr": ZEPHYR,
    "qwen tools": QWEN_TOOLS,
}


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("tools", [(), TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("family", TEMPLATES)
def test_same_text(family: str, chat: str, tools: list[dict[str, Any]], add_generation_prompt: bool) -> None:
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            [CHATS[chat]],
            tools=list(tools) or None,
            chat_template=TEMPLATES[family],
            add_generation_prompt=add_generation_prompt,
            enable_thinking=False,
            **special,
        )
        expected = rendered[0]
    except Exception as error:
        expected = None
        reason = str(error)
    template = ChatTemplate(TEMPLATES[family], **special)
    options = {"add_generation_prompt": add_generation_prompt, "variables": {"enable_thinking": False}}
    if expected is None:
        with pytest.raises(TemplateError) as caught:
            template.render(CHATS[chat], tools, **options)
        assert reason.rstrip(".") in caught.value.message
    else:
        assert template.render(CHATS[chat], tools, **options) == expected
