"""HumanEval (Chen et al. 2021, arXiv:2107.03374): functions to complete, and tests that they have to pass.

What a model wrote is run, in a sandbox (sandbox.py), and only where somebody has said so.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from madang.evaluation.sandbox import SandboxLimits, run_program
from madang.evaluation.tasks.answers import chat_request, raw_request
from madang.evaluation.tasks.rows import text_of
from madang.evaluation.tasks.task import Item, Prompt, Response, Rows, RowTask

_BLOCK: Final = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_ASKED: Final = "Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{}\n```"


class HumanEval(RowTask):
    """pass@1 of the likeliest completion, or answer. Reads task_id, prompt, test and entry_point."""

    version = "2"  # 2: a block of code that defines the function is taken in place of what was given
    metric: str = "pass@1"
    is_costly: bool = True
    _TOKENS: ClassVar[int] = 512
    _STOP: ClassVar[tuple[str, ...]] = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")

    def __init__(self, name: str, rows: Rows, limits: SandboxLimits | None = None) -> None:
        super().__init__(name, rows)
        self._limits = SandboxLimits() if limits is None else limits

    def items(self) -> list[Item]:
        """See Task."""
        return [Item(text_of(row, "task_id"), row) for row in self._rows()]

    def prompt(self, item: Item) -> Prompt:
        """The beginning of the function, as it is; a chat is asked for the function."""
        begin = text_of(item.row, "prompt")
        chat = chat_request(_ASKED.format(begin.strip()), self._TOKENS)
        return Prompt(raw_request(begin, self._TOKENS, self._STOP), chat=chat)

    def score(self, item: Item, response: Response) -> float:
        """Whether the tests pass within the limits."""
        return float(run_program(program_of(item, response.text), self._limits).passed)


def program_of(item: Item, response: str) -> str:
    """Function, tests, and the call of the tests.

    A block of code that defines the function stands for it, after what stands before it in the prompt (its imports);
    any other response goes on where the prompt ends.
    """
    row = item.row
    prompt, name = text_of(row, "prompt"), text_of(row, "entry_point")
    head = f"def {name}("
    block = next((match[1] for match in _BLOCK.finditer(response) if head in match[1]), None)
    function = prompt + response if block is None else prompt.partition(head)[0] + block
    return f"{function}\n{text_of(row, 'test')}\ncheck({name})\n"
