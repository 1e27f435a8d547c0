"""What the benchmark of servers makes of their answers."""

from __future__ import annotations

import asyncio

import psutil
import pytest

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b'9\r\ndata: {"choices": [{"text": "a"}]}\n\n\r\n'
USAGE = b'9\r\ndata: {"choices": [], "usage": {"completion_tokens": 7}}\n\n\r\n'
DONE = b"9\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def test_tokens_are_those_that_the_server_counted() -> None:
    from serving import n_tokens_of

    assert n_tokens_of(HEAD + CHUNK * 3 + USAGE + DONE) == 7


def test_chunks_count_where_the_server_does_not() -> None:
    from serving import n_tokens_of

    assert n_tokens_of(HEAD + CHUNK * 4 + DONE) == 3  # the last one says why the answer ended


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "no answer"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
        (HEAD + CHUNK + USAGE, "broke off"),
    ],
)
def test_half_an_answer_is_an_error(answer: bytes, reason: str) -> None:
    from serving import n_tokens_of

    with pytest.raises(RuntimeError, match=reason):
        n_tokens_of(answer)


def test_a_client_reads_a_stream_to_its_end() -> None:
    from serving import Server, complete, rate

    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0])))
        for piece in (HEAD, CHUNK, CHUNK, USAGE, DONE):
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            server = Server(port, "one", psutil.Process())
            found = await complete(server, "Once", 7)
            assert found.n_tokens == 7
            assert 0 < found.first_token_s <= found.total_s
            assert await rate(server, 3, 0) > 0

    asyncio.run(run())
    assert len(asked) == 4
    assert b'"model": "one"' in asked[0]
    assert len(set(asked)) == 4  # no cache has seen a prompt before
