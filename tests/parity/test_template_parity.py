"""Chat templates render as in transformers: the same text for seven well-known families."""

from __future__ import annotations

from typing import Any

import pytest

from madang.core.errors import TemplateError
from madang.formats.templates.chat_template import ChatTemplate
from tests.parity.dialects import TEMPLATES

pytest.importorskip("transformers")
chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")

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
