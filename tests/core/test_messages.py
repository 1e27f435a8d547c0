"""What a tool call carries can be sent on, whatever the model wrote."""

from __future__ import annotations

import json

from madang.core.messages import ToolCall


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    written = json.loads(r'{"a\ud800": ["x\udc00y", {"b": "\ud83d\ude00"}, 1, null, "마당"]}')
    call = ToolCall("1", "note", written)
    assert call.arguments == {"a\ufffd": ["x\ufffdy", {"b": "😀"}, 1, None, "마당"]}
    json.dumps(dict(call.arguments), ensure_ascii=False).encode()
