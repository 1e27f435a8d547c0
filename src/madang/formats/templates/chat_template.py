"""Chat templates: a conversation as the one text that the model was trained to continue.

Templates come with models and are programs of strangers; sandbox.py says how they are kept in check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from madang.core.errors import TemplateError
from madang.core.messages import Message, Tool
from madang.formats.tokenizers.tokenizer import Tokenizer

MAX_SOURCE_CHARACTERS: Final = 64 * 1024

CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# For models without control tokens for turns (most base models): headings, which such models know from Markdown.
PLAIN: Final = (
    "{% for message in messages %}{{ '### ' + message['role'] | capitalize + ':\n' + message['content'] | trim }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
# What a model writes when it goes on with the user's next turn in PLAIN.
PLAIN_STOP: Final = ("### User:",)

Guard = Callable[[str], str]


class ChatTemplate:
    """One compiled template. Any number of threads may render it."""

    def __init__(
        self,
        source: str,
        bos_token: str | None = None,
        eos_token: str | None = None,
        *,
        stop: tuple[str, ...] = (),
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Compile ``source``, a Jinja template as in ``tokenizer.chat_template``.

        bos_token, eos_token   the texts of these tokens, for the template to write; None leaves them undefined
        stop                   what also ends an answer, for templates whose turns end without a control token
        now                    the clock, for templates that write the date

        Raises TemplateError when it does not compile or is longer than MAX_SOURCE_CHARACTERS.
        """
        from madang.formats.templates.sandbox import compile_template

        if len(source) > MAX_SOURCE_CHARACTERS:
            raise TemplateError(
                f"The chat template has {len(source)} characters; at most {MAX_SOURCE_CHARACTERS} are allowed."
            )
        self.source = source
        self.stop = stop
        self._render = compile_template(source, now)
        tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._tokens = {name: text for name, text in tokens.items() if text is not None}

    def render(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        tools: Sequence[Tool | Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = True,
        guard: Guard | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as text.

        messages, tools         ours, or already in the form of the OpenAI API
        add_generation_prompt   end with the beginning of the assistant's turn
        guard                   applied to every string of ``messages`` and ``tools``: ``Tokenizer.guard`` keeps what
                                people write from becoming control tokens
        variables               more names for the template ("enable_thinking")

        Raises TemplateError when the template refuses the conversation, fails, or goes past a limit.
        """
        keep = guard or str
        names = {
            **_plain(variables or {}, str),
            **self._tokens,
            "messages": [_plain(_message_dict(message), keep) for message in messages],
            "tools": [_plain(_tool_dict(tool), keep) for tool in tools] or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        return self._render(names)


def template_for(tokenizer: Tokenizer) -> ChatTemplate:
    """The model's own template; without one ChatML, where its tokens exist, otherwise headings.

    Raises TemplateError as ChatTemplate does.
    """
    bos, eos = (None if i is None else tokenizer.token_text(i) for i in (tokenizer.bos_id, tokenizer.eos_id))
    if tokenizer.chat_template is not None:
        return ChatTemplate(tokenizer.chat_template, bos, eos)
    if tokenizer.knows("<|im_start|>", "<|im_end|>"):
        return ChatTemplate(CHATML, bos, eos)
    return ChatTemplate(PLAIN, bos, eos or "", stop=PLAIN_STOP)


def _message_dict(message: Message | Mapping[str, Any]) -> Mapping[str, Any]:
    """A message as templates know it: like the OpenAI API, but with arguments as an object."""
    if not isinstance(message, Message):
        return message
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        fields["name"] = message.name
    return fields


def _tool_dict(tool: Tool | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(tool, Tool):
        return tool
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _plain(value: Any, guard: Guard) -> Any:
    """A copy made of nothing but JSON's own types, so that a template meets no other object; strings guarded."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return guard(str.__str__(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {guard(str(key)): _plain(item, guard) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item, guard) for item in value]
    raise TemplateError(
        f"A message holds a value of type {type(value).__name__}, which has no place in a chat template."
    )
