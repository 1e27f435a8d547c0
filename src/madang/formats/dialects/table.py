"""Which dialect a model speaks, by what its chat template writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from madang.formats.dialects import hermes, llama3, mistral, phi, pythonic
from madang.formats.dialects.syntax import CallSyntax, Thinking


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a model writes beside plain text, and what its template takes beside messages.

    takes_tools       the template can tell the model of tools
    calls             how the model calls them; None when that is unknown, and calls then stay text
    thinking          the tags around reasoning; None when the model has none
    thinking_switch   the template's variable that turns reasoning on and off; None when it has none
    """

    takes_tools: bool = False
    calls: CallSyntax | None = None
    thinking: Thinking | None = None
    thinking_switch: str | None = None


# The first pattern that occurs in a template decides, so the more telling ones stand before the others.
_CALLS: Final[tuple[tuple[str, CallSyntax], ...]] = (
    (r"\[ARGS\]", mistral.NAMED),
    (r"\[TOOL_CALLS\]", mistral.LIST),
    (r"<tool_call>", hermes.SYNTAX),
    (r"<\|tool_call\|>|<\|tool\|>", phi.SYNTAX),
    (r"```tool_code|tool_code\b", pythonic.FENCED),
    (r"<\|python_tag\|>|\bipython\b", llama3.SYNTAX),
    (r"\bfunc_name1\(", pythonic.LIST),
)
_THINKING: Final = (Thinking("<think>", "</think>"), Thinking("<thought>", "</thought>"))
_SWITCHES: Final = (("enable_thinking", r"\benable_thinking\b"), ("thinking", r"\bthinking is (?:not )?defined\b"))


def dialect_for(template: str) -> Dialect:
    """The dialect of the models that ``template``, the source of a chat template, is for."""
    takes_tools = re.search(r"\btools\b", template) is not None
    calls = next((syntax for pattern, syntax in _CALLS if re.search(pattern, template)), None)
    thinking = next((tags for tags in _THINKING if tags.opening in template or tags.closing in template), None)
    switch = next((name for name, pattern in _SWITCHES if re.search(pattern, template)), None)
    return Dialect(takes_tools, calls if takes_tools else None, thinking, switch)
