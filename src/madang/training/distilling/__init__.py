"""distilling: a student learns what a teacher would say, from its whole distribution or from its answers.

Main path: :func:`keep_teacher_logits` once, then :func:`distil`; :func:`answer_questions` where the teacher only talks.
On-policy, the student writes and the teacher, still open, says what it would have written.
Invariants: what a teacher computed lies on disk and is computed once; a run goes on where it ended; a student's folder
is written whole, or not at all.
"""

from madang.training.distilling.distilling import DistilConfig, Distilled, distil
from madang.training.distilling.responses import Answered, answer_questions
from madang.training.distilling.teacher_logits import TeacherLogits, digest_items, keep_teacher_logits

__all__ = [
    "Answered",
    "DistilConfig",
    "Distilled",
    "TeacherLogits",
    "answer_questions",
    "digest_items",
    "distil",
    "keep_teacher_logits",
]
