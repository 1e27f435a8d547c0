"""What one answer is held to, and how its text is read: the constraint or tool choice of a request, in a dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from madang.core.errors import InvalidRequest
from madang.core.messages import Tool
from madang.core.request import Request
from madang.formats.dialects import AnswerReader, Dialect
from madang.formats.dialects.syntax import quoted
from madang.formats.tokenizers import Tokenizer
from madang.native.constraints import Constraints, TokenMask


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """For one answer; the mask and the reader remember how far it has come.

    mask     which tokens may come; None allows all
    reader   tells text, reasoning and tool calls apart; None when all is text
    shown    control tokens that the reader wants to see spelled out
    """

    mask: TokenMask | None = None
    reader: AnswerReader | None = None
    shown: frozenset[int] = frozenset()


class Forms:
    """Makes the forms of one model's answers."""

    def __init__(self, tokenizer: Tokenizer, dialect: Dialect) -> None:
        self._dialect = dialect
        self._constraints = Constraints(tokenizer)
        tags = () if dialect.thinking is None else (dialect.thinking.opening, dialect.thinking.closing)
        calls = () if dialect.calls is None else dialect.calls.controls
        self._controls = tokenizer.control_ids(*tags, *calls)

    def form(self, request: Request, *, thinks: bool) -> AnswerForm:
        """The form of the answer to ``request``, whose prompt ends inside the reasoning if it ``thinks``.

        Raises InvalidRequest for a constraint that does not compile, and for a tool choice that the model's way of
        calling tools does not allow.
        """
        if request.prompt is not None:
            return AnswerForm(self._mask(request, thinks=False))
        calls = self._dialect.calls if tools_to_tell(request, self._dialect) else None
        mask = self._mask(request, thinks=thinks)
        if calls is None and self._dialect.thinking is None:
            return AnswerForm(mask)
        names = frozenset(tool.name for tool in request.tools)
        reader = AnswerReader(self._dialect.thinking, calls, names, thinking_is_open=thinks)
        return AnswerForm(mask, reader, frozenset(self._controls.values()))

    def _mask(self, request: Request, *, thinks: bool) -> TokenMask | None:
        thinking = self._dialect.thinking
        after = thinking.closing if thinks and thinking is not None else None
        if request.constraint is not None:
            return self._constraints.start(request.constraint, after=after)
        if request.tool_choice in ("auto", "none"):
            return None
        if self._dialect.calls is None:
            raise InvalidRequest(
                f"tool_choice is '{request.tool_choice}', but how this model calls tools is not known.",
                param="tool_choice",
                hint="Use tool_choice 'auto' and read the calls from the text.",
            )
        chosen = [tool for tool in request.tools if request.tool_choice in ("required", tool.name)]
        return self._constraints.start_own(self._dialect.calls.lark(chosen, self._spell), after=after)

    def _spell(self, marker: str) -> str:
        """A marker as a terminal of llguidance's grammars."""
        token = self._controls.get(marker)
        return quoted(marker) if token is None else f"<[{token}]>"


def tools_to_tell(request: Request, dialect: Dialect) -> Sequence[Tool]:
    """The tools that the model hears of. Raises InvalidRequest when there are some and its template takes none."""
    if request.tool_choice == "none" or not request.tools:
        return ()
    if not dialect.takes_tools or request.prompt is not None:
        what = "A raw prompt" if request.prompt is not None else "The chat template of this model"
        raise InvalidRequest(
            f"{what} has no place for tools.",
            param="tools",
            hint="Use a model that was trained to call tools, or describe them in a message.",
        )
    return request.tools


def template_variables(request: Request, dialect: Dialect) -> Mapping[str, bool]:
    """What a template is told beside messages and tools.

    Asking for what is the case anyway changes nothing: reasoning from a model that always reasons, none from one that
    cannot. Raises InvalidRequest when the template has no switch for what was asked.
    """
    tools_to_tell(request, dialect)
    if request.reasoning is None:
        return {}
    if dialect.thinking_switch is not None and request.prompt is None:
        return {dialect.thinking_switch: request.reasoning}
    always = dialect.thinking is not None and request.prompt is None
    if request.reasoning == always:
        return {}
    raise InvalidRequest(
        "The chat template of this model cannot turn reasoning off."
        if always
        else "This model has no reasoning that a request could turn on.",
        param="reasoning",
    )
