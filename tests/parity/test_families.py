"""Every family, from its folder and from its GGUF file, against ``transformers`` in float32 with eager attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import DecoderSpec, ModelDescription, RopeSpec
from madang.formats.tensors import DerivedTensor, TensorSource, TensorType
from tests.native.reference import Array, Reference
from tests.parity.families import FAMILIES, SWITCH, WINDOW, Built, Family, build
from tests.parity.references import HalfCache, divergences, torch
from tests.parity.running import decoder_of, read

torch_files = pytest.importorskip("safetensors.torch")

# Around the window and around the length from which LongRoPE is another one.
LENGTHS = (1, WINDOW - 1, WINDOW, WINDOW + 1, SWITCH, SWITCH + 1, 100)
CHUNKINGS = {"odd": (7, 1, 13, 31, 3), "one by one": (1,) * 100, "after one": (1,)}
TOKENS = np.random.default_rng(11).integers(3, 259, 100).tolist()
# With the cache rounded alike. Measured: mean KL up to 2e-7, largest difference 4e-3 of the deviation.
KL, DIFFERENCE = 1e-6, 1e-2
DTYPES = {TensorType.F32: "<f4", TensorType.F16: "<f2", TensorType.BF16: "<u2"}


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One of the families."""
    family: Family = request.param
    return build(family, tmp_path_factory.mktemp("families"))


def descriptions(built: Built) -> list[ModelDescription]:
    found = [describe_folder(built.folder)]
    if built.gguf is not None:
        found.append(describe_gguf(read_gguf(built.gguf)))
    return found


def expected_rows(built: Built, tokens: Sequence[int], *, half_cache: bool = False) -> npt.NDArray[np.float32]:
    """Logits of the reference, or an encoder's hidden states."""
    options = {"past_key_values": HalfCache()} if half_cache and not built.family.encoder else {}
    with torch.inference_mode():
        output = built.reference(torch.tensor([list(tokens)]), **options)
    rows: npt.NDArray[np.float32] = (output.last_hidden_state if built.family.encoder else output.logits)[0].numpy()
    assert rows.std() > 0.3
    return rows


def values_of(tensor: TensorSource) -> Array:
    begin, end = tensor.file_range
    data = np.fromfile(tensor.path, np.uint8, end - begin, offset=begin)
    if isinstance(tensor, DerivedTensor):
        data = np.ascontiguousarray(tensor.make(data)).view(np.uint8).reshape(-1)
    assert len(data) == tensor.size_bytes
    values = data.view(DTYPES[tensor.type])
    if tensor.type == TensorType.BF16:
        values = (values.astype("<u4") << 16).view("<f4")
    return values.reshape(tensor.shape).astype(np.float64)


def is_long(description: ModelDescription, n_tokens: int) -> bool:
    long_rope = description.spec.long_rope
    return long_rope is not None and n_tokens > long_rope.from_tokens


def test_a_family_is_read_right(built: Built) -> None:
    """Without our kernels: the definition of the canonical model in float64, on what the family says and names."""
    for description in descriptions(built):
        tensors = {name: values_of(tensor) for name, tensor in description.tensors.items()}
        model = Reference(description.spec, tensors, kv_type="f64")
        for length in (1, WINDOW + 1, SWITCH, 100):
            tokens = TOKENS[:length]
            run = model.run(tokens, long_rope=is_long(description, length))
            expected = expected_rows(built, tokens)
            actual = run.final if built.family.encoder else run.logits
            assert np.abs(actual - expected).max() < 2e-4 * expected.std()


def test_both_files_hold_the_same(built: Built) -> None:
    if built.gguf is None:
        pytest.skip("it has no GGUF form")
    folder, file = descriptions(built)
    assert_same_spec(folder.spec, file.spec)
    assert folder.embedding == file.embedding
    assert folder.tensors.keys() == file.tensors.keys()
    is_permuted = file.spec.architecture in ("llama", "smollm3")
    for name, tensor in folder.tensors.items():
        ours, theirs = values_of(tensor), values_of(file.tensors[name])
        if is_permuted and name.split(".")[1:2] in (["query"], ["key"]):
            ours, theirs = np.sort(ours.reshape(-1)), np.sort(theirs.reshape(-1))
        assert np.array_equal(ours.reshape(theirs.shape), theirs), name


def assert_same_spec(ours: DecoderSpec, theirs: DecoderSpec) -> None:
    """Equal but for the name, how pairs of rotated elements lie, and what float32 loses."""
    for field in fields(DecoderSpec):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "ropes":
            for rope, same in zip(mine, other, strict=True):
                assert_same_rope(rope, same)
        elif field.name == "long_rope" and mine is not None:
            assert mine.from_tokens == other.from_tokens
            assert_same_rope(mine.rope, other.rope)
        elif field.name not in ("architecture", "rope_settings"):
            assert other == (pytest.approx(mine, rel=1e-6) if isinstance(mine, float) else mine), field.name


def assert_same_rope(ours: RopeSpec | None, theirs: RopeSpec | None) -> None:
    if ours is None or theirs is None:
        assert ours == theirs
        return
    assert theirs.inverse_frequencies == pytest.approx(ours.inverse_frequencies, rel=1e-6)
    assert theirs.magnitude == pytest.approx(ours.magnitude, rel=1e-6)


def assert_close(expected: npt.NDArray[np.float32], actual: npt.NDArray[np.float32], *, encoder: bool) -> None:
    if not encoder:
        assert divergences(expected, actual).mean() < KL
    assert np.abs(expected - actual).max() < DIFFERENCE * expected.std()


def test_the_core_computes_it(built: Built) -> None:
    encoder = built.family.encoder
    for description in descriptions(built):
        decoder = decoder_of(description)
        for length in LENGTHS:
            tokens = TOKENS[:length]
            expected = expected_rows(built, tokens, half_cache=True)
            actual = read(decoder, tokens, long_rope=is_long(description, length), hidden=encoder)
            assert_close(expected, actual, encoder=encoder)


def test_every_way_of_reading(built: Built) -> None:
    """The same bits, whatever the chunks; encoders read a text at once."""
    if built.family.encoder:
        pytest.skip("encoders have no cache")
    for description in descriptions(built):
        decoder = decoder_of(description)
        whole = read(decoder, TOKENS, long_rope=is_long(description, len(TOKENS)))
        for chunks in CHUNKINGS.values():
            parts = read(decoder, TOKENS, chunks, long_rope=is_long(description, len(TOKENS)))
            assert np.array_equal(whole, parts)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["gemma2", "gpt2", "falcon-40b", "stablelm-12b", "phi3", "xlm-roberta"])
def test_checkpoints_of_16_bits(name: str, dtype: str, tmp_path: Path) -> None:
    """What is transposed, regrouped, stacked or shifted comes from the narrow types that models are published in."""
    family = next(family for family in FAMILIES if family.name == name)
    built = build(replace(family, arch=None, shards=False), tmp_path)
    file = built.folder / "model.safetensors"
    narrow = {name: values.to(getattr(torch, dtype)) for name, values in torch_files.load_file(file).items()}
    torch_files.save_file(narrow, file)
    with torch.no_grad():
        for weight in built.reference.parameters():
            weight.copy_(weight.to(getattr(torch, dtype)).float())
    description = describe_folder(built.folder)
    tensors = {name: values_of(tensor) for name, tensor in description.tensors.items()}
    expected = expected_rows(built, TOKENS)
    run = Reference(description.spec, tensors, kv_type="f64").run(TOKENS)
    assert np.abs((run.final if family.encoder else run.logits) - expected).max() < 2e-4 * expected.std()
    decoder = decoder_of(description)
    actual = read(decoder, TOKENS, hidden=family.encoder)
    assert np.abs(actual - expected).mean() < 0.02 * expected.std()  # BF16 products round activations too
