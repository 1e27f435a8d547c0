"""Whether every source that an answer names is there: asks a running server, and looks each one up in what it stores.

python benchmarks/citations.py http://localhost:11434 MODEL COLLECTION … [--questions N]

A question is made of the headings of a passage, drawn at random (seeded), in the language of that passage. Counted are

grounded      answers that were not refused
marks         numbers such as [1] that stand in answers
unresolved    of them, those that no source has
sources       passages that answers came with
untrue        of them, those whose text is not what the stored document has at that place, or whose chunk is another
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from machine import describe_checkout, describe_machine
from madang.rag.questions import language_of
from measurement import REPOSITORY
from peers import free_result_path, recorded_command, save

ASKS = {"ko": "{}에 대해 무엇을 말하나요?", "en": "What does it say about {}?"}
MARK = re.compile(r"\[(\d{1,4}(?:\s*,\s*\d{1,4})*)\]")
MOST_TOKENS = 64


class Server:
    """What it is asked, as JSON."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._documents: dict[tuple[str, str], Any] = {}

    def get(self, path: str, body: object = None) -> Any:
        """The answer to GET, or to POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def document(self, collection: str, id: str) -> Any:
        """With its text and chunks; asked for once."""
        if (collection, id) not in self._documents:
            path = f"/madang/v1/collections/{quote(collection)}/documents/{quote(id)}"
            self._documents[collection, id] = self.get(path)
        return self._documents[collection, id]


def questions_of(server: Server, collection: str, n: int, luck: random.Random) -> list[str]:
    """About passages that stand under a heading of their own."""
    documents = server.get(f"/madang/v1/collections/{quote(collection)}/documents")["documents"]
    made = []
    for stored in sorted(documents, key=lambda one: str(one["source"])):
        for chunk in server.document(collection, stored["id"])["chunks"]:
            if len(chunk["headings"]) > 1:
                heading = chunk["headings"][-1]
                made.append(ASKS[language_of(heading)].format(heading))
    made = list(dict.fromkeys(made))
    return luck.sample(made, min(n, len(made)))


def check(server: Server, source: dict[str, Any]) -> bool:
    """Whether a source is what is stored."""
    document = server.document(source["collection"], source["document"])
    if document["text"][source["start"] : source["end"]] != source["text"]:
        return False
    if source["chunk"] is None:
        return True
    chunk = server.get(f"/madang/v1/collections/{quote(source['collection'])}/chunks/{quote(source['chunk'])}")
    return bool(chunk["text"] == source["text"] and chunk["document"] == source["document"])


def ask(server: Server, model: str, collection: str, question: str) -> Counter[str]:
    """Ask, and count what came."""
    body = {
        "model": model,
        "max_tokens": MOST_TOKENS,
        "messages": [{"role": "user", "content": question}],
        "madang": {"collection": collection},
    }
    answer = server.get("/v1/chat/completions", body)
    sources = answer["madang"]["sources"]
    numbers = {source["n"] for source in sources}
    marks = [int(n) for mark in MARK.findall(answer["choices"][0]["message"]["content"]) for n in mark.split(",")]
    return Counter(
        questions=1,
        grounded=int(answer["madang"]["is_grounded"]),
        marks=len(marks),
        answers_with_marks=int(bool(marks)),
        unresolved=sum(n not in numbers for n in marks),
        sources=len(sources),
        untrue=sum(not check(server, source) for source in sources),
    )


def main(arguments: Sequence[str]) -> int:
    """Ask, print, and keep the counts. The status is 1 when a source is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("collections", nargs="+", metavar="COLLECTION")
    parser.add_argument("--questions", type=int, default=60, help="of each collection")
    options = parser.parse_args(arguments)
    server, luck = Server(options.url), random.Random(6)
    counts: dict[str, dict[str, int]] = {}
    for collection in options.collections:
        told: Counter[str] = Counter()
        for question in questions_of(server, collection, options.questions, luck):
            told += ask(server, options.model, collection, question)
        counts[collection] = {name: told[name] for name in KINDS}
        print(collection, counts[collection], flush=True)
    document = {
        "date": datetime.date.today().isoformat(),
        "command": recorded_command(arguments).replace("peers.py", "citations.py"),
        "machine": describe_machine(),
        "checkout": describe_checkout(REPOSITORY),
        "model": options.model,
        "collections": counts,
    }
    save(document, free_result_path("citations"))
    return int(any(told["unresolved"] or told["untrue"] for told in counts.values()))


KINDS = ("questions", "grounded", "answers_with_marks", "marks", "unresolved", "sources", "untrue")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
