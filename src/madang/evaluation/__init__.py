"""evaluation: what models cost and how well they do, side by side.

Main path: :func:`compare` opens each :class:`Contestant` in a process of its own, has it do the steps of a
:class:`ComparisonPlan`, and makes a document of the figures; page.py shows it. :func:`evaluate` does the same with
benchmarks (tasks/), :func:`run_tasks` with a model that is open already.
Invariants: what an engine cannot measure is absent with a reason, never estimated; a contestant that fails is a row
with a reason; a finished step is kept and not done again.
"""

from madang.evaluation.comparing import ComparisonPlan, compare
from madang.evaluation.contestants import Contestant, Entrant, enter, parse_contestants
from madang.evaluation.evaluating import EvaluationPlan, evaluate
from madang.evaluation.kept import KeptSteps
from madang.evaluation.outcomes import EvaluationResult, TaskDifference, TaskResult, compare_results
from madang.evaluation.page import comparison_page
from madang.evaluation.questions import Question, read_questions
from madang.evaluation.running import run_tasks
from madang.evaluation.tasks import Item, Prompt, Response, Task
from madang.evaluation.tasks.table import DataPlace, find_task
from madang.evaluation.texts import EvaluationText, built_in_text, text_of

__all__ = [
    "ComparisonPlan",
    "Contestant",
    "DataPlace",
    "Entrant",
    "EvaluationPlan",
    "EvaluationResult",
    "EvaluationText",
    "Item",
    "KeptSteps",
    "Prompt",
    "Question",
    "Response",
    "Task",
    "TaskDifference",
    "TaskResult",
    "built_in_text",
    "compare",
    "compare_results",
    "comparison_page",
    "enter",
    "evaluate",
    "find_task",
    "parse_contestants",
    "read_questions",
    "run_tasks",
    "text_of",
]
