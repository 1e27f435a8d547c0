"""A Modelfile: what Ollama is told of a GGUF file, or of an adapter and its base.

Ollama's templates are written in another language (Go's text/template). Ours is derived from what the model's own
template writes, piece by piece, and is kept only if the pieces give every fixed conversation as the template does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from madang.core.errors import TemplateError
from madang.core.messages import Message
from madang.core.sampling import SamplingParams
from madang.formats.templates import ChatTemplate
from madang.formats.tokenizers import Tokenizer
from madang.training.exporting.conversations import CONVERSATIONS

_SYSTEM, _QUESTION, _ANSWER, _AGAIN = "aSystemText", "aQuestionText", "anAnswerText", "anotherQuestionText"
_PARAMETERS: Final = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}


@dataclass(frozen=True, slots=True)
class Turns:
    """What a template writes around the texts of a conversation.

    begin     before everything, where there is a system prompt
    default   before everything, where there is none: some templates bring a prompt of their own
    system, user, assistant   before and after a message; ``system`` is None where there can be none
    opening   the beginning of the answer that is asked for
    """

    begin: str
    default: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    opening: str

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation as these pieces write it."""
        around = {"system": self.system or ("", ""), "user": self.user, "assistant": self.assistant}
        parts = [self.begin if messages[0].role == "system" else self.default]
        for message in messages:
            before, after = around[message.role]
            parts += [before, message.content, after]
        return "".join([*parts, self.opening])

    def to_go(self) -> str:
        """The same in Go's template language; every literal is quoted, so that none of it is an action."""
        roles = {"system": self.system, "user": self.user, "assistant": self.assistant}
        cases = "{{ else }}".join(
            f'{{{{ if eq .Role "{role}" }}}}{_literal(around[0])}{{{{ .Content }}}}{_literal(around[1])}'
            for role, around in roles.items()
            if around is not None
        )
        cases += "{{ end }}" * sum(around is not None for around in roles.values())
        begin = _literal(self.default)
        if self.begin != self.default:
            first = '{{ if and .Messages (eq (index .Messages 0).Role "system") }}'
            begin = f"{first}{_literal(self.begin)}{{{{ else }}}}{_literal(self.default)}{{{{ end }}}}"
        return f"{begin}{{{{ range .Messages }}}}{cases}{{{{ end }}}}{_literal(self.opening)}"


def _literal(text: str) -> str:
    """A text as an action of Go's. Ollama drops what cannot be printed, wide spaces too, so that is escaped."""
    quoted = "".join(own if own.isprintable() else f"\\U{ord(own):08x}" for own in json.dumps(text, ensure_ascii=False))
    return f"{{{{ {quoted} }}}}" if text else ""


def turns_of(template: ChatTemplate, tokenizer: Tokenizer) -> Turns | None:
    """The pieces of a template; None for one that is more than pieces around texts."""
    try:
        turns = _derived(template)
    except (TemplateError, ValueError):
        return None
    if turns is None or not all(_agrees(turns, template, messages) for messages in CONVERSATIONS.values()):
        return None
    prefix = "".join(tokenizer.token_text(own) for own in tokenizer.vocabulary.prefix_ids)
    if not prefix or not turns.default.startswith(prefix):
        return turns
    # Ollama adds these tokens itself; written twice, a beginning is another beginning.
    system = turns.system and (turns.system[0].removeprefix(prefix), turns.system[1])
    return replace(
        turns,
        begin=turns.begin.removeprefix(prefix),
        default=turns.default.removeprefix(prefix),
        system=system,
    )


def _derived(template: ChatTemplate) -> Turns | None:
    question, answer = Message("user", _QUESTION), Message("assistant", _ANSWER)
    head, asked = _split(template.render([question]), _QUESTION)
    _, after_question = _split(template.render([question], add_generation_prompt=False), _QUESTION)
    whole = template.render([question, answer, Message("user", _AGAIN)])
    _, between, then, _ = _split(whole, _QUESTION, _ANSWER, _AGAIN)
    *_, after_answer = _split(template.render([question, answer], add_generation_prompt=False), _QUESTION, _ANSWER)
    before_question, before_answer = then.removeprefix(after_answer), between.removeprefix(after_question)
    if not head.endswith(before_question):
        return None
    default = head[: len(head) - len(before_question)]
    begin, system = default, None
    try:
        parts = _split(template.render([Message("system", _SYSTEM), question]), _SYSTEM, _QUESTION)
        if not parts[1].endswith(before_question):
            return None
        begin, system = "", (parts[0], parts[1][: len(parts[1]) - len(before_question)])
    except TemplateError:
        pass  # it takes no system prompts
    opening = asked.removeprefix(after_question)
    return Turns(begin, default, system, (before_question, after_question), (before_answer, after_answer), opening)


def _split(text: str, *texts: str) -> list[str]:
    """What stands around ``texts``. Raises ValueError where one is missing."""
    parts, rest = [], text
    for own in texts:
        before, found, rest = rest.partition(own)
        if not found:
            raise ValueError(own)
        parts.append(before)
    return [*parts, rest]


def _agrees(turns: Turns, template: ChatTemplate, messages: Sequence[Message]) -> bool:
    """Whether both write the same; Ollama cannot trim what people write, so spaces at the ends are left out of it."""
    trimmed = [replace(message, content=message.content.strip()) for message in messages]
    try:
        expected = template.render(trimmed)
    except TemplateError:
        return turns.system is None and messages[0].role == "system"
    return turns.render(trimmed) == expected


def modelfile(
    model: str,
    tokenizer: Tokenizer,
    turns: Turns | None,
    *,
    adapter: str | None = None,
    sampling: SamplingParams | None = None,
) -> str:
    """The text of a Modelfile. ``model`` and ``adapter`` are what stands behind FROM and ADAPTER.

    Between quotes, Ollama takes texts as they are, without escapes (parser/parser.go of its source).
    """
    lines = [f"FROM {model}"]
    if adapter is not None:
        lines.append(f"ADAPTER {adapter}")
    if turns is not None:
        lines.append(f'TEMPLATE """{turns.to_go()}"""')
    else:
        lines.append("# The model's template cannot be said in Go's template language; Ollama reads the file's own,")
        lines.append("# if it is one that it knows. Compare its prompts before you trust its answers.")
    for own in sorted({tokenizer.token_text(token) for token in tokenizer.end_ids} - {""}):
        lines.append(f'PARAMETER stop "{own}"')
    for name, ours in _PARAMETERS.items():
        value = None if sampling is None else getattr(sampling, ours)
        if value is not None:
            lines.append(f"PARAMETER {name} {value:g}")
    return "\n".join(lines) + "\n"
