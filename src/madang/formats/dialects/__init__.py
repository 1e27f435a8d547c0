"""dialects: how models write what is not plain text: tool calls and their own reasoning.

Main path: :func:`dialect_for` a chat template -> Dialect; its ``reader`` turns the text of an answer, in pieces cut
anywhere, into deltas. One file per dialect. Invariants: the result does not depend on the cuts; what cannot be read as
a call comes back as text, byte for byte; no argument is ever evaluated, only literals are read.
"""

from madang.formats.dialects.reader import AnswerReader
from madang.formats.dialects.syntax import CallSyntax, Thinking
from madang.formats.dialects.table import Dialect, dialect_for

__all__ = ["AnswerReader", "CallSyntax", "Dialect", "Thinking", "dialect_for"]
