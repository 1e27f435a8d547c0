"""Writes ``docs/reference/http-fields.md`` from the wire: ``python -m madang.server.reference [--check] [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path

from madang.server.anthropic.messages import CountRequest, MessagesRequest
from madang.server.openai.chat import ChatRequest
from madang.server.openai.completion import CompletionRequest
from madang.server.openai.embedding import EmbeddingRequest
from madang.server.openai.rerank import RerankRequest
from madang.server.openai.response_request import ResponseRequest
from madang.server.openai.tokens import DetokenizeRequest, TokenizeRequest
from madang.server.wire import WireRequest

DEFAULT_PATH = Path("docs/reference/http-fields.md")
HEAD = """<!-- Written by `python -m madang.server.reference`. Change the wire, not this file. -->

# Fields of requests

A field is honoured, ignored with a warning in the answer (`madang.warnings`), or refused with status 400 and its name
as `param`. A field that is in none of these lists is ignored, with a warning that names the closest one. `null` counts
as not sent."""

ENDPOINTS: tuple[tuple[str, type[WireRequest]], ...] = (
    ("POST /v1/chat/completions", ChatRequest),
    ("POST /v1/completions", CompletionRequest),
    ("POST /v1/responses", ResponseRequest),
    ("POST /v1/embeddings", EmbeddingRequest),
    ("POST /v1/rerank", RerankRequest),
    ("POST /v1/messages", MessagesRequest),
    ("POST /v1/messages/count_tokens", CountRequest),
    ("POST /tokenize", TokenizeRequest),
    ("POST /detokenize", DetokenizeRequest),
)


def reference() -> str:
    """The whole page."""
    return "\n\n".join([HEAD, *(_endpoint(path, wire) for path, wire in ENDPOINTS)]) + "\n"


def main(args: list[str]) -> int:
    """Write the page; with ``--check``, only say whether the file is what would be written."""
    names = [arg for arg in args if arg != "--check"]
    path = Path(names[0]) if names else DEFAULT_PATH
    text = reference()
    if "--check" not in args:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path} is out of date; write it with: python -m madang.server.reference", file=sys.stderr)
    return 1


def _endpoint(path: str, wire: type[WireRequest]) -> str:
    honoured = ", ".join(f"`{name}`" for name in wire.model_fields)
    rows = [f"| `{name}` | ignored | {why} |" for name, why in sorted(wire.IGNORED.items())]
    for name, refused in sorted(wire.REFUSED.items()):
        but = "".join(f"; `{value!r}` is accepted" for value in refused.harmless)
        rows.append(f"| `{name}` | refused | {refused.why}{but} |")
    table = "\n".join(["| field | | why |", "|---|---|---|", *rows])
    return f"## {path}\n\nHonoured: {honoured}.\n\n{table}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
