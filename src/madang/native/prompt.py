"""From a request to the tokens that the model reads."""

from __future__ import annotations

from dataclasses import dataclass

from madang.core.request import Request
from madang.formats.templates import ChatTemplate
from madang.formats.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads, and how its answer is to be taken.

    stop            strings that end the answer: the request's, and those of a template without end tokens
    answer_begins   whether the answer begins a text of its own, rather than going on in the middle of one
    """

    tokens: list[int]
    stop: tuple[str, ...]
    answer_begins: bool


class Prompter:
    """Applies the chat template and the tokenizer.

    Control tokens that people wrote into a message stay text: only the template makes real ones. A raw prompt may
    spell them out, which is what it is for.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template

    def prompt(self, request: Request) -> Prompt:
        """The whole prompt. Raises TemplateError when the template refuses the conversation."""
        if request.prompt is not None:
            return Prompt(self._tokenizer.encode(request.prompt), request.stop, answer_begins=False)
        rendered = self._template.render(request.messages, request.tools, guard=self._tokenizer.guard)
        stop = (*request.stop, *self._template.stop)
        return Prompt(self._tokenizer.encode_chat(rendered), stop, answer_begins=True)

    def continued(self, request: Request, text: str) -> tuple[list[int], int]:
        """The prompt with ``text`` after it, and how many of these tokens are the prompt's own.

        A tokenizer may join the end of the prompt with the beginning of the text; what differs counts as the text's.
        """
        own = self.prompt(request).tokens
        if request.prompt is not None:
            whole = self._tokenizer.encode(request.prompt + text)
        else:
            rendered = self._template.render(request.messages, request.tools, guard=self._tokenizer.guard)
            whole = self._tokenizer.encode_chat(rendered + self._tokenizer.guard(text))
        pairs = zip(own, whole, strict=False)
        return whole, next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(own), len(whole)))
