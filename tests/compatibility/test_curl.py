"""``curl -N``: what is on the wire, to the letter, against transcripts that are kept here.

Ids, times, speeds and hosts are replaced. ``MADANG_WRITE_TRANSCRIPTS=1`` writes them again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility.conftest import TOOLS
from tests.compatibility.questions import CAPITAL, WEATHER
from tests.compatibility.record import Client
from tests.conftest import EMBEDDER, STARTER

CLIENT = Client("curl", "`curl -N http://127.0.0.1:11434/v1/chat/completions -d '{…}'`, without a content type.")
TRANSCRIPTS = Path(__file__).parent / "transcripts"
GREEDY = {"temperature": 0, "seed": 1}
CHAT = {"model": STARTER, "messages": CAPITAL, "max_tokens": 12, **GREEDY}
OLLAMA = {"model": STARTER, "messages": CAPITAL, "options": {"num_predict": 12, **GREEDY}}
CALL = {"model": TOOLS, "messages": CAPITAL, "tools": [WEATHER], "tool_choice": "required", **GREEDY}
_CHANGING = (
    (r'"(id|item_id)":"(chatcmpl-|cmpl-|msg_|resp_|rs_|fc_)[0-9a-f]+"', r'"\1":"\2…"'),
    (r'"(created|created_at|completed_at)":\d+', r'"\1":0'),
    (r'"(created_at)":"[^"]+"', r'"\1":"2026-01-01T00:00:00Z"'),
    (r'"(\w+_ms|\w+_per_second)":(?:null|[\d.e+-]+)', r'"\1":0'),
    (r'"(\w+_duration)":\d+', r'"\1":0'),
    (
        r'"(cache_n|prompt_n|cached_tokens|cache_read_input_tokens|draft_n|draft_n_accepted)":\d+',
        r'"\1":0',
    ),
    (r'"input_tokens":\d+,"cache_read', '"input_tokens":0,"cache_read'),
    (r',"draft_n":0,"draft_n_accepted":0', ""),
    (r'"system_fingerprint":"[^"]+"', '"system_fingerprint":"madang"'),
    (r"(?im)^(date|x-request-id|content-length): .*$", r"\1: …"),
)

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(url: str, *arguments: str, body: Any = None) -> str:
    """Standard output, lines as they come over the wire."""
    data = () if body is None else ("-d", json.dumps(body))
    command = ["curl", "-sSN", "--max-time", "60", *arguments, *data, url]
    return subprocess.run(command, capture_output=True, check=True, timeout=90).stdout.decode()


def same_as_kept(name: str, text: str) -> None:
    """Whether the transcript is the one that is kept."""
    text = text.replace("\r\n", "\n")
    for pattern, stays in _CHANGING:
        text = re.sub(pattern, stays, text)
    path = TRANSCRIPTS / f"{name}.txt"
    if os.environ.get("MADANG_WRITE_TRANSCRIPTS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.shows("chat")
def test_chat(url: str) -> None:
    same_as_kept("chat", curl(f"{url}/v1/chat/completions", body=CHAT))


@pytest.mark.shows("stream", "stream usage")
@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("chat-stream", "/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
        (
            "text-stream",
            "/v1/completions",
            {"model": STARTER, "prompt": "1, 2, 3,", "max_tokens": 2, "stream": True, **GREEDY},
        ),
        ("responses-stream", "/v1/responses", {"model": STARTER, "input": CAPITAL, "temperature": 0, "stream": True}),
        (
            "messages-stream",
            "/v1/messages",
            {"model": STARTER, "messages": CAPITAL, "max_tokens": 12, "temperature": 0, "stream": True},
        ),
        ("ollama-chat-stream", "/api/chat", OLLAMA),
        (
            "ollama-generate-stream",
            "/api/generate",
            {"model": STARTER, "prompt": "1, 2, 3,", "raw": True, "options": {"num_predict": 2, **GREEDY}},
        ),
    ],
)
def test_streams(url: str, name: str, path: str, body: Any) -> None:
    text = curl(f"{url}{path}", body=body)
    same_as_kept(name, re.sub(r'"seed":\d+', '"seed":1', text))


@pytest.mark.shows("streamed tools", "tool choice")
def test_a_streamed_call(url: str) -> None:
    same_as_kept("tools-stream", curl(f"{url}/v1/chat/completions", body={**CALL, "stream": True}))


@pytest.mark.shows("embeddings")
def test_embeddings(url: str) -> None:
    answer = json.loads(curl(f"{url}/v1/embeddings", body={"model": EMBEDDER, "input": "a cat"}))
    assert len(answer["data"][0]["embedding"]) == 384


@pytest.mark.shows("errors")
@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("error-openai", "/v1/chat/completions", {**CHAT, "model": "no-such-model", "stream": True}),
        ("error-value", "/v1/chat/completions", {**CHAT, "temperature": -1, "stream": True}),
        ("error-anthropic", "/v1/messages", {"model": STARTER, "messages": CAPITAL}),
        ("error-ollama", "/api/chat", {**OLLAMA, "model": "no-such-model"}),
    ],
)
def test_errors(url: str, name: str, path: str, body: Any) -> None:
    same_as_kept(name, curl(f"{url}{path}", "-w", "\n%{http_code} %{content_type}", body=body))


@pytest.mark.shows("errors in streams")
@pytest.mark.parametrize(
    ("name", "path"),
    [("broken-openai", "/v1/chat/completions"), ("broken-anthropic", "/v1/messages"), ("broken-ollama", "/api/chat")],
)
def test_errors_in_streams(unlucky_url: str, name: str, path: str) -> None:
    body = {"model": "unlucky", "messages": CAPITAL, "stream": True, "max_tokens": 9}
    same_as_kept(name, curl(f"{unlucky_url}{path}", "-w", "\n%{http_code} %{content_type}", body=body))


@pytest.mark.shows("keep-alive")
def test_keep_alive(unlucky_url: str) -> None:
    body = {"model": "unlucky", "messages": [{"role": "user", "content": "slowly"}], "stream": True, **GREEDY}
    text = curl(f"{unlucky_url}/v1/chat/completions", body=body)
    assert text.startswith(": not yet\n\n")
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.shows("keys")
def test_keys(guarded: tuple[str, str]) -> None:
    url, key = guarded
    same_as_kept("error-key", curl(f"{url}/v1/models", "-w", "\n%{http_code} %{content_type}"))
    assert json.loads(curl(f"{url}/v1/models", "-H", f"Authorization: Bearer {key}"))["data"] == []


@pytest.mark.shows("cancellation")
def test_cancellation(url: str) -> None:
    body = {**CHAT, "max_tokens": 4000, "stream": True, "messages": [{"role": "user", "content": "A long story."}]}
    for _ in range(20):  # more than are answered at once
        command = ["curl", "-sN", "-d", json.dumps(body), f"{url}/v1/chat/completions"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
    assert json.loads(curl(f"{url}/v1/chat/completions", body=CHAT))["choices"]


@pytest.mark.shows("token counts")
def test_token_counts(url: str) -> None:
    """With what llama.cpp's server has beside it: the same prompt as text, as tokens, and back."""
    prompt = json.loads(curl(f"{url}/apply-template", body={"model": STARTER, "messages": CAPITAL}))["prompt"]
    tokens = json.loads(curl(f"{url}/tokenize", body={"model": STARTER, "content": prompt}))["tokens"]
    counted = json.loads(curl(f"{url}/v1/chat/completions/input_tokens", body=CHAT))["input_tokens"]
    back = json.loads(curl(f"{url}/detokenize", body={"model": STARTER, "tokens": tokens}))["content"]
    assert (len(tokens), back) == (counted, prompt)


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("probe-root", "GET", "/"),
        ("probe-root-head", "HEAD", "/"),
        ("probe-version", "GET", "/api/version"),
        ("probe-version-head", "HEAD", "/api/version"),
        ("probe-health", "GET", "/health"),
        ("probe-wrong-method", "GET", "/api/chat"),
        ("probe-wrong-method-openai", "DELETE", "/v1/chat/completions"),
        ("probe-nothing", "GET", "/v1/nothing"),
    ],
)
def test_probes(url: str, name: str, method: str, path: str) -> None:
    how = ("-I",) if method == "HEAD" else ("-i", "-X", method)
    kept = ("HTTP/", "allow:", "content-type:", "{", "Ollama", '{"')
    lines = curl(f"{url}{path}", *how).replace("\r", "").splitlines()
    same_as_kept(name, "\n".join(line for line in lines if line.startswith(kept)))


def test_a_health_probe_needs_no_key(guarded: tuple[str, str]) -> None:
    assert json.loads(curl(f"{guarded[0]}/health"))["status"] == "ok"


def test_a_browser_gets_a_page(url: str) -> None:
    assert "<html" in curl(f"{url}/", "-H", "Accept: text/html,application/xhtml+xml")
