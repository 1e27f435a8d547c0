"""From a request to the tokens that the model reads."""

from __future__ import annotations

from madang.core.request import Request
from madang.formats.templates import ChatTemplate
from madang.formats.tokenizer import Tokenizer


class Prompter:
    """Applies the chat template and the tokenizer.

    Control tokens that people wrote into a message stay text: only the template makes real ones.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template

    def tokens(self, request: Request) -> list[int]:
        """Ids of the whole prompt. Raises TemplateError when the template refuses the conversation."""
        if request.prompt is not None:
            return self._tokenizer.encode(request.prompt, parse_special=True)
        rendered = self._template.render(request.messages, request.tools, guard=self._tokenizer.guard)
        return self._tokenizer.encode_chat(rendered)
