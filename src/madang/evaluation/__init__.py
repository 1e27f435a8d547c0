"""evaluation: what models cost and how well they do, side by side.

Main path: :func:`compare` opens each :class:`Contestant` in a process of its own, has it do the steps of a
:class:`ComparisonPlan`, and makes a document of the figures; page.py shows it.
Invariants: what an engine cannot measure is absent with a reason, never estimated; a contestant that fails is a row
with a reason; a finished step is kept and not done again.
"""

from madang.evaluation.comparing import ComparisonPlan, compare
from madang.evaluation.contestants import Contestant, Entrant, enter, parse_contestants
from madang.evaluation.page import comparison_page
from madang.evaluation.tasks import Task, read_tasks
from madang.evaluation.texts import EvaluationText, built_in_text, text_of

__all__ = [
    "ComparisonPlan",
    "Contestant",
    "Entrant",
    "EvaluationText",
    "Task",
    "built_in_text",
    "compare",
    "comparison_page",
    "enter",
    "parse_contestants",
    "read_tasks",
    "text_of",
]
