"""The process that reads one document: a line of JSON and the bytes on stdin, a document or a problem on stdout."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from madang.core.errors import DocumentError
from madang.engines.child_process import limit_resources
from madang.rag.parsing.isolation import OUT_OF_MEMORY, document_to
from madang.rag.parsing.limits import ParsingLimits


def main() -> int:
    """Read the order, and answer it. The exit status says when memory ran out."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library says
    order = json.loads(sys.stdin.buffer.readline())
    limits = ParsingLimits(**order["limits"])
    limit_resources(limits.memory_bytes, file_bytes=0)
    try:
        json.dump(_read(order["name"], order["module"], sys.stdin.buffer.read(), limits), answer, ensure_ascii=False)
    except MemoryError:
        return OUT_OF_MEMORY
    answer.close()
    return 0


def _read(name: str, module: str, data: bytes, limits: ParsingLimits) -> dict[str, Any]:
    try:
        parse = importlib.import_module(f"madang.rag.parsing.{module}").parse
        return document_to(parse(name, data, limits))
    except DocumentError as error:
        return {"problem": error.problem, "hint": error.hint}


if __name__ == "__main__":
    sys.exit(main())
