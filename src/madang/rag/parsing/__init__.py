"""parsing: the text of a file, whatever its format.

Main path: :func:`parse_document` recognises a format by content first and name second (recognising.py), decodes what is
text (decoding.py), and has the format's own file make the :class:`~madang.rag.documents.Document`.
Invariants: no limit of :class:`ParsingLimits` is passed, whatever a header says; formats that are more than text are
read in a process of their own, which can be ended; what a document asks for (scripts, links, entities) is never done.
"""

from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.parser import parse_document
from madang.rag.parsing.recognising import SUFFIXES

__all__ = ["SUFFIXES", "ParsingLimits", "parse_document"]
