"""Collections: what is added is found, what is removed is not, and the database is the truth whatever an index does."""

from __future__ import annotations

import hashlib
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from madang.core.engine import Embeddings, EngineInfo
from madang.core.errors import InvalidRequest, NotFound, StorageError
from madang.rag import Document, Section
from madang.rag.collections import Collections
from madang.storage import DATABASE_FILE, Database

N_DIMENSIONS = 32


class Hashing:
    """An embedder whose vectors count the words of a text: those that share words are near."""

    def __init__(self, n_dimensions: int = N_DIMENSIONS) -> None:
        self.info = EngineInfo(engine="test", model="hashing", context_tokens=256)
        self.n_dimensions = n_dimensions
        self.n_read = 0

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.n_read += len(texts)
        vectors = [[0.0] * self.n_dimensions for _ in texts]
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.lower().split():
                vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % self.n_dimensions] += 1.0
        return Embeddings(vectors, sum(len(text.split()) for text in texts))

    def close(self) -> None:
        pass


@pytest.fixture
def embedder() -> Hashing:
    return Hashing()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def open_collections(home: Path, embedder: Hashing, qdrant_url: str | None = None) -> Collections:
    @contextmanager
    def opened(model: str) -> Iterator[Hashing]:
        yield embedder

    return Collections(Database(home / DATABASE_FILE), home, open_embedder=opened, qdrant_url=qdrant_url)


@pytest.fixture(params=[None, ":memory:"], ids=["here", "qdrant"])
def collections(home: Path, embedder: Hashing, request: pytest.FixtureRequest) -> Iterator[Collections]:
    """With the embedded index, and with the stand-in of a server that Qdrant's client has in itself."""
    if request.param is not None:
        pytest.importorskip("qdrant_client")
    made = open_collections(home, embedder, request.param)
    made.create("", "notes", analyzer="bigrams")
    yield made
    made.close()


def text_document(text: str, title: str = "Notes") -> Document:
    return Document(title=title, media_type="text/plain", text=text, sections=(Section(("Heading",), 0, len(text)),))


def add(collections: Collections, text: str, source: str = "a.txt", name: str = "notes") -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return collections.add("", name, text_document(text), source, digest).id


def found(collections: Collections, query: str, **options: object) -> list[str]:
    return [hit.chunk.text for hit in collections.search("", ["notes"], query, **options).hits]  # type: ignore[arg-type]


def test_what_is_added_is_found_and_its_text_is_what_the_document_says(collections: Collections) -> None:
    id = add(collections, "The ferry leaves at nine.")
    add(collections, "Tomatoes want sun and water.", "b.txt")
    first = collections.search("", ["notes"], "when does the ferry leave").hits[0]
    whole = collections.document("", "notes", id)
    assert first.chunk.document == id
    assert first.rank == 1
    assert first.dense_score is not None
    assert first.lexical_score is not None
    assert whole.text[first.chunk.start : first.chunk.end] == first.chunk.text == "The ferry leaves at nine."
    assert first.chunk.headings == ("Heading",)
    assert collections.chunk("", "notes", first.chunk.id) == first.chunk == whole.chunks[0]


def test_korean_is_found_by_its_words_where_the_model_only_knows_english(collections: Collections) -> None:
    id = add(collections, "배는 아홉 시에 항구를 떠납니다.")
    add(collections, "토마토는 햇빛이 필요합니다.", "b.txt")
    hit = collections.search("", ["notes"], "항구에서 배가 언제 떠나나요?").hits[0]
    assert hit.chunk.document == id
    assert hit.dense_score is None
    assert "does not know the language" in collections.document("", "notes", id).document.notes[0]


def test_an_unchanged_file_is_not_read_again(collections: Collections, embedder: Hashing) -> None:
    first = add(collections, "The ferry leaves at nine.")
    n_read = embedder.n_read
    assert add(collections, "The ferry leaves at nine.") == first
    assert embedder.n_read == n_read


def test_a_changed_file_takes_the_place_of_the_old_one(collections: Collections) -> None:
    first = add(collections, "The ferry leaves at nine.")
    old = collections.search("", ["notes"], "ferry").hits[0].chunk
    assert add(collections, "The ferry leaves at ten.") == first
    assert found(collections, "ferry") == ["The ferry leaves at ten."]
    assert len(collections.documents("", "notes")) == 1
    with pytest.raises(NotFound):
        collections.chunk("", "notes", old.id)


def test_what_is_removed_is_not_found(collections: Collections) -> None:
    id = add(collections, "The ferry leaves at nine.")
    add(collections, "The ferry has a bar.", "b.txt")
    collections.remove_document("", "notes", id)
    assert found(collections, "ferry") == ["The ferry has a bar."]
    assert collections.get("", "notes").n_chunks == 1


def test_a_removed_collection_leaves_nothing_behind(collections: Collections, home: Path) -> None:
    add(collections, "The ferry leaves at nine.")
    collections.remove("", "notes")
    with pytest.raises(NotFound):
        collections.search("", ["notes"], "ferry")
    assert not [path for path in (home / "rag").rglob("*") if path.is_file() and path.suffix != ".lock"]
    for table in ("documents", "chunks", "terms", "vector_indexes"):
        count = f"SELECT count(*) FROM {table}"
        assert Database(home / DATABASE_FILE).read(lambda c, q=count: c.execute(q).fetchone()[0]) == 0


def test_nobody_finds_the_collections_of_others(collections: Collections) -> None:
    add(collections, "The ferry leaves at nine.")
    for attempt in (
        lambda: collections.get("other", "notes"),
        lambda: collections.search("other", ["notes"], "ferry"),
        lambda: collections.documents("other", "notes"),
        lambda: collections.chunk("other", "notes", "chk_1"),
        lambda: collections.remove("other", "notes"),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert collections.list("other") == []


def test_an_index_that_was_lost_is_made_again(collections: Collections, home: Path, embedder: Hashing) -> None:
    add(collections, "The ferry leaves at nine.")
    n_read = embedder.n_read
    collections.close()  # of the stand-in, nothing is left now
    shutil.rmtree(home / "rag", ignore_errors=True)
    assert found(collections, "ferry", mode="dense") == ["The ferry leaves at nine."]
    assert embedder.n_read == n_read + 1  # the question, no document


def test_a_damaged_index_is_made_again(collections: Collections, home: Path) -> None:
    add(collections, "The ferry leaves at nine.")
    collections.close()
    for path in (home / "rag").rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            path.write_bytes(b"nonsense")
    assert found(collections, "ferry") == ["The ferry leaves at nine."]


def test_two_at_the_same_home_find_what_either_added(collections: Collections, home: Path, embedder: Hashing) -> None:
    add(collections, "The ferry leaves at nine.")
    second = open_collections(home, embedder)
    assert found(second, "ferry") == ["The ferry leaves at nine."]
    add(second, "The ferry has a bar.", "b.txt")
    assert sorted(found(collections, "ferry")) == ["The ferry has a bar.", "The ferry leaves at nine."]
    collections.remove_document("", "notes", collections.documents("", "notes")[0].id)
    assert found(second, "ferry") == found(collections, "ferry")
    second.close()


def test_what_another_process_held_when_it_was_removed_is_deleted_later(
    collections: Collections, home: Path, embedder: Hashing
) -> None:
    add(collections, "The ferry leaves at nine.")
    id = collections.get("", "notes").id
    second = open_collections(home, embedder)
    found(second, "ferry")
    second.remove("", "notes")
    collections.close()
    second.create("", "others", analyzer="bigrams")
    third = open_collections(home, embedder)
    add(third, "The ferry has a bar.", name="others")
    third.close()
    assert not (home / "rag" / id).exists()


def test_documents_are_kept_while_the_server_of_vectors_is_away(home: Path, embedder: Hashing) -> None:
    pytest.importorskip("qdrant_client")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    away = open_collections(home, embedder, url)
    away.create("", "notes", analyzer="bigrams")
    add(away, "The ferry leaves at nine.")
    with pytest.raises(StorageError, match="does not answer"):
        found(away, "ferry")
    assert found(open_collections(home, embedder), "ferry") == ["The ferry leaves at nine."]


def test_what_the_documents_do_not_say_is_not_relevant_even_if_something_is_found(collections: Collections) -> None:
    add(collections, "배는 아홉 시에 항구를 떠납니다. 표는 매표소에서 삽니다.")
    add(collections, "토마토는 햇빛과 물이 필요합니다.", "b.txt")
    asked = {
        "배는 언제 항구를 떠나나요?": True,
        "표는 어디에서 사나요?": True,
        "매표소에서 김치찌개를 팔 때 필요한 영업 허가 절차를 알려 주세요.": False,
        "시험 일정을 바꾸려면 어떻게 해야 하나요?": False,
    }
    for question, is_answered in asked.items():
        seen = collections.search("", ["notes"], question)
        assert seen.is_relevant == is_answered, (question, seen.evidence)


def test_searches_go_on_while_documents_come(collections: Collections) -> None:
    add(collections, "The ferry leaves at nine.", "first.txt")
    failures: list[BaseException] = []
    stop = threading.Event()

    def look() -> None:
        try:
            while not stop.is_set():
                assert "The ferry leaves at nine." in found(collections, "ferry leaves nine", limit=3)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(20):
        add(collections, f"Stop number {i} of the bus has a bench.", f"{i}.txt")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert collections.get("", "notes").n_chunks == 21


class Stopping:
    """Progress that gives up after the first chunks."""

    def split(self, n_chunks: int) -> None:
        pass

    def embedded(self, n_chunks: int) -> None:
        raise KeyboardInterrupt


def test_what_was_added_and_removed_before_leaves_no_trace_in_the_scores(collections: Collections) -> None:
    """Words of removed documents count no more, and weights follow the mean length of what is there."""
    collections.create("", "fresh", analyzer="bigrams")
    short = {f"{i}.txt": f"The ferry number {i} leaves at nine." for i in range(12)}
    long = {f"{i}.txt": f"The bar of ferry {i} " + "sells water and tomatoes. " * 30 for i in range(12, 20)}
    for source, text in {**short, **long}.items():
        add(collections, text, source)
    for document in collections.documents("", "notes"):
        if document.source in long:
            collections.remove_document("", "notes", document.id)
    add(collections, "A changed text about the ferry to the island.", "0.txt")
    for source, text in {**short, "0.txt": "A changed text about the ferry to the island."}.items():
        add(collections, text, source, "fresh")
    query = "ferry to the island"
    used, fresh = (collections.search("", [name], query, mode="lexical").hits for name in ("notes", "fresh"))
    assert [hit.chunk.text for hit in used[:1]] == [hit.chunk.text for hit in fresh[:1]]
    for hit, wanted in zip(used, fresh, strict=True):
        assert hit.score == wanted.score
        assert hit.lexical_score == pytest.approx(wanted.lexical_score, rel=0.05)


def test_what_is_interrupted_leaves_the_old_document(collections: Collections) -> None:
    add(collections, "The ferry leaves at nine.")
    with pytest.raises(KeyboardInterrupt):
        collections.add("", "notes", text_document("The ferry is lost."), "a.txt", "other", progress=Stopping())
    assert found(collections, "ferry") == ["The ferry leaves at nine."]


def test_only_of_a_document_or_a_speaker(collections: Collections) -> None:
    add(collections, "The ferry leaves at nine.")
    id = add(collections, "The ferry has a bar.", "b.txt")
    assert found(collections, "ferry leaves", document=id) == ["The ferry has a bar."]
    assert found(collections, "ferry leaves", speaker="Kim") == []


@pytest.mark.parametrize("text", ["", " \n\n ", "\t"])
def test_a_document_without_words_is_refused(collections: Collections, text: str) -> None:
    with pytest.raises(InvalidRequest, match="no text"):
        add(collections, text)
    assert collections.documents("", "notes") == []


def test_characters_that_cannot_be_kept_move_no_offset(collections: Collections) -> None:
    text = "The\x00 ferry \ud800 leaves 🚢 at nine."
    document = text_document(text)
    added = collections.add("", "notes", document, "a.txt", "1")
    chunk = collections.search("", ["notes"], "ferry leaves").hits[0].chunk
    whole = collections.document("", "notes", added.id)
    assert len(whole.text) == len(text)
    assert whole.text[chunk.start : chunk.end] == chunk.text == "The\ufffd ferry \ufffd leaves 🚢 at nine."


def test_a_model_that_gives_other_vectors_than_before_is_refused(collections: Collections, embedder: Hashing) -> None:
    add(collections, "The ferry leaves at nine.")
    embedder.n_dimensions = 8
    with pytest.raises(InvalidRequest, match="vectors of 8"):
        add(collections, "The ferry has a bar.", "b.txt")
    assert len(collections.documents("", "notes")) == 1


@pytest.mark.parametrize(
    ("query", "options", "param"),
    [
        (" ", {}, "query"),
        ("x" * 10_001, {}, "query"),
        ("x", {"limit": 0}, "limit"),
        ("x", {"limit": 101}, "limit"),
        ("x", {"mode": "magic"}, "mode"),
        ("항구", {"mode": "dense"}, "mode"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    collections: Collections, query: str, options: dict[str, object], param: str
) -> None:
    add(collections, "The ferry leaves at nine.")
    with pytest.raises(InvalidRequest) as refusal:
        found(collections, query, **options)
    assert refusal.value.param == param


@pytest.mark.parametrize("name", ["", " ", "../x", "a/b", "x" * 65, "-x", "x\n", "_x"])
def test_names_that_cannot_be(collections: Collections, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name a collection"):
        collections.create("", name)


def test_a_name_is_one_owners_only_once(collections: Collections) -> None:
    collections.create("other", "notes")
    with pytest.raises(InvalidRequest, match="already"):
        collections.create("", "notes")


def test_nothing_is_found_where_nothing_is(collections: Collections) -> None:
    nothing = collections.search("", ["notes"], "ferry")
    assert not nothing.hits
    assert not nothing.is_relevant


def test_several_collections_are_searched_together(collections: Collections) -> None:
    collections.create("", "more", analyzer="bigrams")
    add(collections, "The ferry leaves at nine.")
    add(collections, "The ferry has a bar.", "b.txt", "more")
    hits = collections.search("", ["notes", "more"], "ferry").hits
    assert {hit.chunk.collection for hit in hits} == {"notes", "more"}
