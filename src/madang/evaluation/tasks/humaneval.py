"""HumanEval (Chen et al. 2021, arXiv:2107.03374): functions to complete, and tests that they have to pass.

What a model wrote is run, in a sandbox (sandbox.py), and only where somebody has said so.
"""

from __future__ import annotations

from typing import ClassVar

from madang.evaluation.sandbox import SandboxLimits, run_program
from madang.evaluation.tasks.answers import raw_request
from madang.evaluation.tasks.choices import Rows
from madang.evaluation.tasks.rows import text_of
from madang.evaluation.tasks.task import Item, Prompt, Response, Task


class HumanEval(Task):
    """pass@1 of the likeliest completion. Reads task_id, prompt, test and entry_point."""

    metric: str = "pass@1"
    is_costly: bool = True
    _TOKENS: ClassVar[int] = 512
    _STOP: ClassVar[tuple[str, ...]] = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")

    def __init__(self, name: str, rows: Rows, limits: SandboxLimits | None = None) -> None:
        super().__init__(name)
        self._rows = rows
        self._limits = SandboxLimits() if limits is None else limits

    def items(self) -> list[Item]:
        """See Task."""
        return [Item(text_of(row, "task_id"), row) for row in self._rows()]

    def prompt(self, item: Item) -> Prompt:
        """The beginning of the function, as it is."""
        return Prompt(raw_request(text_of(item.row, "prompt"), self._TOKENS, self._STOP))

    def score(self, item: Item, response: Response) -> float:
        """Whether the tests pass within the limits."""
        return float(run_program(program_of(item, response.text), self._limits).passed)


def program_of(item: Item, completion: str) -> str:
    """Function, tests, and the call of the tests."""
    row = item.row
    return f"{text_of(row, 'prompt')}{completion}\n{text_of(row, 'test')}\ncheck({text_of(row, 'entry_point')})\n"
