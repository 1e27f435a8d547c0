"""How well and how fast documents are found: the Korean Rust book, the meetings of QMSum, and many random chunks.

    python benchmarks/retrieval.py rust_book [--model all-minilm:l6]
    python benchmarks/retrieval.py qmsum [--meetings N]     # minutes: the model reads the meetings
    python benchmarks/retrieval.py speed --chunks 10000

A question on the book is answered by a chunk of its section, one on a meeting by a chunk with a turn of its gold span;
recall@k is the share of questions with such a chunk among the first k, MRR looks at the first 20. Meetings are searched
one at a time, as their questions do not say which they mean. The floor for relevance was chosen on one half of the
questions (by their checksums) and of those that the documents do not answer; the shares that it refuses are told of
both halves.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from machine import describe_checkout, describe_machine
from madang.core.engine import Embedder, Embeddings, EngineInfo
from madang.core.settings import load_settings
from madang.rag import Document, Section, embedded
from madang.rag.collections import Collections
from madang.rag.parsing import ParsingLimits, parse_document
from madang.rag.parsing.turns import Meeting, written_meeting
from madang.rag.searching import Mode
from madang.runtime import open_embedder
from madang.storage import Database
from make_questions import QUESTIONS
from measurement import REPOSITORY
from own_engine import DATA, percentiles
from peers import free_result_path, recorded_command, save

DEEPEST = 20
N_DIMENSIONS = 384
N_WORDS_KNOWN = 50_000
WAYS: dict[str, tuple[str, Mode]] = {
    "BM25, words between spaces": ("whitespace", "lexical"),
    "BM25, pairs of syllables": ("bigrams", "lexical"),
    "BM25, Kiwi": ("kiwi", "lexical"),
    "dense": ("all", "dense"),
    "hybrid, pairs of syllables": ("bigrams", "hybrid"),
    "hybrid, Kiwi": ("kiwi", "hybrid"),
    "hybrid as if the model knew every language": ("all", "hybrid"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the spans of text, by document, that answer it; none where nothing does."""

    text: str
    kind: str
    source: str | None = None
    spans: tuple[tuple[int, int], ...] = ()


class Remembering:
    """An embedder that reads no text twice: several collections cost one reading, and so do several runs."""

    def __init__(self, embedder: Embedder, path: Path) -> None:
        self._embedder, self._path = embedder, path
        self._known: dict[str, Any] = {}
        self._n_saved = 0
        if path.is_file():
            with np.load(path) as kept:
                self._known = dict(zip(kept["texts"].tolist(), kept["vectors"], strict=True))
        self.info: EngineInfo = embedder.info
        self.count_text_tokens = embedder.count_text_tokens  # type: ignore[attr-defined]

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """See the protocol."""
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        if new := {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}:
            self._known.update(zip(new, self._embedder.embed([*new.values()]).vectors, strict=True))
        if len(self._known) - self._n_saved > 100:
            self.save()
        return Embeddings([self._known[key] for key in keys], 0)

    def save(self) -> None:
        """For the next run."""
        self._n_saved = len(self._known)
        vectors = np.array([*self._known.values()], np.float32)
        self._path.parent.mkdir(exist_ok=True)
        np.savez(self._path, texts=np.array([*self._known]), vectors=vectors)

    def close(self) -> None:
        """The caller's."""


def book() -> tuple[dict[str, Document], list[Question]]:
    """Files of the Rust book and questions on their sections."""
    folder = DATA / "korean" / "rust_book"
    documents = {path.name: parse_document(path.name, path) for path in sorted(folder.glob("*.md"))}
    questions = []
    for line in (QUESTIONS / "rust_book.jsonl").read_text(encoding="utf-8").splitlines():
        asked = json.loads(line)
        sections = documents[asked["document"]].sections
        spans = tuple((s.start, s.end) for s in sections if list(s.headings) == asked["headings"])
        questions.append(Question(asked["question"], asked["kind"], asked["document"], spans))
    return documents, questions


def meetings(most: int) -> tuple[dict[str, Document], list[Question]]:
    """Meetings of QMSum's validation part and their specific questions."""
    documents, questions = {}, []
    lines = (DATA / "english" / "qmsum_val.jsonl").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines[:most]):
        record = json.loads(line)
        turns = [(turn["speaker"], turn["content"]) for turn in record["meeting_transcripts"]]
        name = f"meeting-{number:02}"
        documents[name] = document = written_meeting(name, [Meeting(turns)], "text/plain", ParsingLimits())
        starts = [0]
        for said in document.text.split("\n"):
            starts.append(starts[-1] + len(said) + 1)
        assert len(starts) > len(turns)
        for asked in record["specific_query_list"]:
            spans = tuple((starts[int(a)], starts[int(b) + 1]) for a, b in asked["relevant_text_span"])
            questions.append(Question(asked["query"], "meeting", name, spans))
    return documents, questions


def first_hit(collections: Collections, name: str, question: Question, mode: Mode, document: str | None) -> int | None:
    """The rank of the first chunk that answers."""
    hits = collections.search("", [name], question.text, mode=mode, limit=DEEPEST, document=document).hits
    for hit in hits:
        chunk = hit.chunk
        if chunk.source == question.source and any(chunk.start < b and a < chunk.end for a, b in question.spans):
            return hit.rank
    return None


def figures(ranks: Sequence[int | None]) -> dict[str, float]:
    """recall@1, recall@5 and MRR."""
    n = len(ranks)
    found = [rank for rank in ranks if rank is not None]
    return {
        "n": n,
        "recall_1": sum(rank <= 1 for rank in found) / n,
        "recall_5": sum(rank <= 5 for rank in found) / n,
        "mrr": sum(1 / rank for rank in found) / n,
    }


def fill(collections: Collections, model: str, documents: dict[str, Document]) -> dict[str, dict[str, str]]:
    """A collection for each way to find words, and one whose model is taken to know every language."""
    ids: dict[str, dict[str, str]] = {}
    for name in ("whitespace", "bigrams", "kiwi", "all"):
        unknown = f"file:{REPOSITORY / 'no-catalog-knows-this'}"
        collections.create("", name, unknown if name == "all" else model, analyzer="bigrams" if name == "all" else name)
        ids[name] = {
            source: collections.add("", name, document, source, source).id for source, document in documents.items()
        }
    return ids


def quality(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Every way on both sets, and what the floor refuses."""
    settings = load_settings({}, {"MADANG_HOME": str(options.home)})
    embedder = Remembering(open_embedder(options.model, settings), options.vectors)

    @contextmanager
    def opened(_: str) -> Iterator[Embedder]:
        yield embedder

    unanswerable = [
        json.loads(line) for line in (QUESTIONS / "unanswerable.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for set_name, load in (("rust_book", book), ("qmsum", lambda: meetings(options.meetings))):
        if set_name != options.part:
            continue
        documents, questions = load()
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            collections = Collections(Database(home / "madang.db"), home, open_embedder=opened)
            started = time.perf_counter()
            ids = fill(collections, options.model, documents)
            about = result.setdefault("sets", {})[set_name] = {
                "documents": len(documents),
                "chunks": {name: collections.get("", name).n_chunks for name in ids},
                "fill_s": time.perf_counter() - started,
                "ways": {},
            }
            for way, (name, mode) in WAYS.items():
                ranks: dict[str, list[int | None]] = {}
                for question in questions:
                    only = ids[name][str(question.source)] if set_name == "qmsum" else None
                    rank = first_hit(collections, name, question, mode, only)
                    ranks.setdefault(question.kind, []).append(rank)
                about["ways"][way] = {kind: figures(found) for kind, found in ranks.items()}
                print(set_name, way, {k: {a: round(b, 3) for a, b in v.items()} for k, v in about["ways"][way].items()})
            asked = [line for line in unanswerable if line["collection"] == set_name]
            about["evidence"] = {
                analyzer: [
                    *evidence(collections, analyzer, [(q.text, q.kind) for q in questions]),
                    *evidence(collections, analyzer, [(line["question"], line["kind"]) for line in asked]),
                ]
                for analyzer in ("bigrams", "kiwi")
            }
            about["refused"] = {analyzer: refused(rows) for analyzer, rows in about["evidence"].items()}
            print(set_name, "refused", about["refused"])
            collections.close()


def evidence(collections: Collections, name: str, questions: Sequence[tuple[str, str]]) -> list[list[Any]]:
    """What speaks for an answer, question by question: kind, half, cosine, coverage, is_relevant."""
    found = []
    for text, kind in questions:
        seen = collections.search("", [name], text)
        cosine = None if seen.evidence.cosine is None else round(seen.evidence.cosine, 3)
        half = zlib.crc32(text.encode()) & 1
        found.append([kind, half, cosine, round(seen.evidence.coverage, 3), seen.is_relevant])
    return found


def refused(rows: Sequence[Sequence[Any]]) -> dict[str, dict[str, float]]:
    """The share of questions that the floor refuses, by kind: of the half that it was chosen on, and of the other."""
    shares: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(row[0] for row in rows):
        for half, name in enumerate(("chosen_on", "held_out")):
            of_half = [not row[4] for row in rows if row[0] == kind and row[1] == half]
            shares.setdefault(kind, {})[name] = sum(of_half) / max(len(of_half), 1)
    return shares


class Random:
    """Vectors that mean nothing, at no cost: what is left is ours."""

    def __init__(self) -> None:
        self.info = EngineInfo(engine="random", model="random", context_tokens=512)
        self._chance = np.random.default_rng(1)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """See the protocol."""
        return Embeddings(self._chance.standard_normal((len(texts), N_DIMENSIONS)).tolist(), 0)

    def close(self) -> None:
        """Nothing to free."""


def speed(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Ingest and search of documents of random words (Zipf), with vectors of random directions."""
    chance = np.random.default_rng(2)
    shares = 1 / np.arange(1, N_WORDS_KNOWN + 1)
    shares /= shares.sum()
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(chance.choice(letters, 2 + i % 9)) + str(i % 10) for i in range(N_WORDS_KNOWN)])

    @contextmanager
    def opened(_: str) -> Iterator[Embedder]:
        yield Random()

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        home = Path(folder)
        collections = Collections(Database(home / "madang.db"), home, open_embedder=opened)
        collections.create("", "many", analyzer="bigrams")
        before_bytes, started = _memory_bytes(), time.perf_counter()
        own_s = 0.0
        while (n := collections.get("", "many").n_chunks) < options.chunks:
            began = time.perf_counter()
            sentences = [" ".join(row) + "." for row in chance.choice(words, (1600, 12), p=shares)]
            text = " ".join(sentences)
            document = Document(title=str(n), media_type="text/plain", text=text, sections=(Section((), 0, len(text)),))
            own_s += time.perf_counter() - began
            collections.add("", "many", document, str(n), str(n))
        ingest_s = time.perf_counter() - started - own_s
        chunks = collections.get("", "many").n_chunks
        sizes = {path.name: path.stat().st_size for path in home.glob("madang.db*")}
        on_disk = sum(path.stat().st_blocks * 512 for path in (home / "rag").rglob("*") if path.is_file())
        queries = [" ".join(chance.choice(words, 8, p=shares)) for _ in range(220)]
        times: dict[str, list[float]] = {"hybrid": [], "lexical": [], "dense": []}
        for number, query in enumerate(queries):
            for mode, taken in times.items():
                began = time.perf_counter()
                collections.search("", ["many"], query, mode=mode)  # type: ignore[arg-type]
                if number >= 20:
                    taken.append(time.perf_counter() - began)
        result |= {
            "index": "embedded" if embedded.is_installed() else "exact",
            "chunks": chunks,
            "dimensions": N_DIMENSIONS,
            "ingest_chunks_s": chunks / ingest_s,
            "memory_bytes": _memory_bytes() - before_bytes,
            "database_bytes": sizes,
            "index_bytes": on_disk,
            "search_s": {mode: percentiles(taken) for mode, taken in times.items()},
        }
        collections.close()
        began = time.perf_counter()
        collections.search("", ["many"], queries[0])
        result["first_search_s"] = time.perf_counter() - began
        second = Collections(Database(home / "madang.db"), home, open_embedder=opened)
        began = time.perf_counter()
        second.search("", ["many"], queries[0])
        result["first_search_of_a_second_process_s"] = time.perf_counter() - began
        taken = []
        for query in queries[:100]:
            began = time.perf_counter()
            second.search("", ["many"], query)
            taken.append(time.perf_counter() - began)
        result["search_of_a_second_process_s"] = percentiles(taken)
        print(json.dumps(result, indent=1))


def _memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["rust_book", "qmsum", "speed"])
    parser.add_argument("--model", default="all-minilm:l6")
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".cache" / "test-models")
    parser.add_argument("--vectors", type=Path, default=REPOSITORY / ".cache" / "retrieval-vectors.npz")
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--meetings", type=int, default=35, help="how many of them are read")
    parser.add_argument("--folder", type=Path, help="of the databases; unset: where temporary files are")
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {
        "command": recorded_command(arguments).replace("peers.py", "retrieval.py"),
        "date": datetime.date.today().isoformat(),
        "checkout": describe_checkout(REPOSITORY),
        "machine": describe_machine(),
    }
    (speed if options.part == "speed" else quality)(options, result)
    name = f"retrieval-{options.chunks if options.part == 'speed' else options.part}"
    path = free_result_path(name)
    save(result, path)
    print(f"wrote benchmarks/results/{path.name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
