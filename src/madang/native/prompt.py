"""From a request to the tokens that the model reads."""

from __future__ import annotations

from dataclasses import dataclass

from madang.core.request import Request
from madang.formats.dialects import dialect_for
from madang.formats.templates import ChatTemplate
from madang.formats.tokenizers import Tokenizer
from madang.native.form import template_variables, tools_to_tell


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads, and how its answer is to be taken.

    stop            strings that end the answer: the request's, and those of a template without end tokens
    answer_begins   whether the answer begins a text of its own, rather than going on in the middle of one
    thinks          whether the prompt ends inside the model's reasoning
    """

    tokens: list[int]
    stop: tuple[str, ...]
    answer_begins: bool
    thinks: bool = False


class Prompter:
    """Applies the chat template and the tokenizer.

    Control tokens that people wrote into a message stay text: only the template makes real ones. A raw prompt may
    spell them out, which is what it is for.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.dialect = dialect_for(template.source)

    def prompt(self, request: Request) -> Prompt:
        """The whole prompt.

        Raises TemplateError when the template refuses the conversation, InvalidRequest for what it does not know of.
        """
        if request.prompt is not None:
            template_variables(request, self.dialect)
            return Prompt(self._tokenizer.encode(request.prompt), request.stop, answer_begins=False)
        rendered = self._render(request)
        thinking, stop = self.dialect.thinking, (*request.stop, *self._template.stop)
        thinks = thinking is not None and rendered.rstrip().endswith(thinking.opening)
        return Prompt(self._tokenizer.encode_chat(rendered), stop, answer_begins=True, thinks=thinks)

    def continued(self, request: Request, text: str) -> tuple[list[int], int]:
        """The prompt with ``text`` after it, and how many of these tokens are the prompt's own.

        A tokenizer may join the end of the prompt with the beginning of the text; what differs counts as the text's.
        """
        own = self.prompt(request).tokens
        if request.prompt is not None:
            whole = self._tokenizer.encode(request.prompt + text)
        else:
            whole = self._tokenizer.encode_chat(self._render(request) + self._tokenizer.guard(text))
        pairs = zip(own, whole, strict=False)
        return whole, next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(own), len(whole)))

    def shown(self, request: Request) -> str:
        """The prompt as text, in which what people wrote looks like what the template wrote. Raises as above."""
        if request.prompt is not None:
            return request.prompt
        tools, variables = tools_to_tell(request, self.dialect), template_variables(request, self.dialect)
        return self._template.render(request.messages, tools, variables=variables)

    def _render(self, request: Request) -> str:
        tools = tools_to_tell(request, self.dialect)
        variables = template_variables(request, self.dialect)
        return self._template.render(request.messages, tools, guard=self._tokenizer.guard, variables=variables)
