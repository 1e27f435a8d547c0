"""Tasks: what models are asked, and what counts. A task is a small class (task.py); table.py knows them by name."""

from madang.evaluation.tasks.task import Item, Prompt, Response, Task

__all__ = ["Item", "Prompt", "Response", "Task"]
