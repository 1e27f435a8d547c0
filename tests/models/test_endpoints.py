"""Models of other servers, by reference."""

from __future__ import annotations

import pytest

from madang.core.errors import InvalidReference
from madang.models import EndpointReference, parse_reference, read_endpoint


@pytest.mark.parametrize(
    ("text", "expected", "canonical"),
    [
        (
            "remote:https://api.example/v1/#org/model:8b",
            EndpointReference("openai", "https://api.example/v1", "org/model:8b"),
            "remote:https://api.example/v1#org/model:8b",
        ),
        ("vllm:org/model", EndpointReference("vllm", "http://127.0.0.1:8000/v1", "org/model"), "vllm:org/model"),
        (
            "remote:vllm+http://127.0.0.1:8000/v1#m",
            EndpointReference("vllm", "http://127.0.0.1:8000/v1", "m"),
            "vllm:m",
        ),
        (
            "remote:ollama-server+http://[::1]:11434#llama3.2:1b",
            EndpointReference("ollama-server", "http://[::1]:11434", "llama3.2:1b"),
            "remote:ollama-server+http://[::1]:11434#llama3.2:1b",
        ),
    ],
)
def test_forms(text: str, expected: EndpointReference, canonical: str) -> None:
    assert read_endpoint(text) == expected
    assert str(expected) == canonical
    assert read_endpoint(canonical) == expected


@pytest.mark.parametrize("text", ["smollm2:135m", "hf:org/repo", "file:/a", "/a/b.gguf", "remote", "vllm", ""])
def test_other_references_are_left_to_others(text: str) -> None:
    assert read_endpoint(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "remote:",
        "remote:model",
        "remote:https://host/v1",
        "remote:https://host/v1#",
        "remote:https:///v1#m",
        "remote:ftp://host#m",
        "remote:https://host:port/v1#m",
        "remote:https://host:99999/v1#m",
        "remote:https://ho st/v1#m",
        "remote:https://host/마당#m",
        "remote:https://host/v1?key=1#m",
        "remote:file:///etc/passwd#m",
        "remote:https://host/v1#a\nb",
        "remote:https://host/v1#" + "m" * 3000,
        "vllm:",
        "vllm:http://host/v1#m",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidReference):
        read_endpoint(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidReference) as caught:
        read_endpoint("remote:https://me:hunter2@host/v1#m")
    assert "hunter2" not in str(caught.value.to_dict())


def test_an_unknown_kind_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(InvalidReference, match="'vlm'") as caught:
        read_endpoint("remote:vlm+http://host/v1#m")
    assert caught.value.hint == "Did you mean vllm?"


def test_there_are_no_files_of_it() -> None:
    with pytest.raises(InvalidReference, match="runs on a server"):
        parse_reference("vllm:org/model")
