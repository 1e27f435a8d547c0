"""rag: one's own documents, found and cited.

Main path: :func:`~madang.rag.files.find_files` turns paths into files, :func:`~madang.rag.parsing.parse_document` a
file into a :class:`Document`, and :func:`~madang.rag.chunking.split` a document into :class:`Chunk` objects.
Invariants: a document is read whole or refused with one sentence, never half; what was left out of it stands in its
notes; every chunk is a piece of its document's text, so that a citation can be shown where it stands.
"""

from madang.rag.documents import Chunk, Document, Section

__all__ = ["Chunk", "Document", "Section"]
