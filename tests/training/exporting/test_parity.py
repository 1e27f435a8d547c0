"""The gate: what is sound passes, and each known mistake is caught and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from madang.conversion import to_folder, to_gguf
from madang.core.errors import ParityFailed
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from madang.quantization.presets import ModelFacts, find_preset, preset_types
from madang.quantization.quantizing import quantize_file
from madang.training.exporting import Reference, Trained, check_parity, fold_adapter
from madang.training.exporting.bounds import BOUNDS, bound_of_bits, bound_of_type
from madang.training.exporting.sides import NativeSide, TorchSide
from tests.training.exporting.tiny import UNTIED, changed, edit_json, write_base, write_trained


@pytest.fixture(scope="module")
def merged(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "model"
    fold_adapter(trained, folder)
    return folder


def gate(reference: Reference, folder: Path, bound: str = "F32", *, as_file: bool = True) -> Any:
    """Convert a folder, and compare the file with the trained model."""
    if as_file:
        path = folder.with_name(f"{folder.name}.gguf")
        to_gguf(folder, path, TensorType.F32)
        return check_parity(reference, NativeSide(path, 1), BOUNDS[bound])
    return check_parity(reference, TorchSide(folder), BOUNDS[bound])


def refused(reference: Reference, folder: Path, **how: Any) -> ParityFailed:
    with pytest.raises(ParityFailed) as failure:
        gate(reference, folder, **how)
    return failure.value


def test_a_sound_export(reference: Reference, merged: Path) -> None:
    for as_file in (True, False):
        report = gate(reference, merged, as_file=as_file)
        assert (report.agreement, report.n_prompts) == (1.0, 7)
        assert report.mean_kl < 1e-6
        assert report.kl_tokens > 1000
        assert report.perplexity == pytest.approx(report.trained_perplexity, rel=1e-4)


def test_the_adapter_is_in_it(reference: Reference, trained: Trained) -> None:
    """A base without its adapter is another model."""
    failure = refused(reference, trained.folder)
    assert failure.check in ("greedy answers", "probabilities")
    assert "KL is" in failure.message


def test_wrong_template(reference: Reference, merged: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        file = folder / "chat_template.jinja"
        file.write_text(file.read_text().replace("[assistant]", "[answer]"))

    failure = refused(reference, changed(merged, tmp_path / "broken", change))
    assert failure.check == "prompt"
    assert "in a question, from token" in failure.difference


def test_a_template_that_trims(reference: Reference, merged: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        file = folder / "chat_template.jinja"
        file.write_text(file.read_text().replace("message['content'] +", "(message['content'] | trim) +"))

    failure = refused(reference, changed(merged, tmp_path / "broken", change))
    assert (failure.check, "in several turns" in failure.difference) == ("prompt", True)


def test_no_template(reference: Reference, merged: Path, tmp_path: Path) -> None:
    folder = changed(merged, tmp_path / "broken", lambda folder: (folder / "chat_template.jinja").unlink())
    assert refused(reference, folder).check == "prompt"


def test_missing_end_of_sequence(reference: Reference, merged: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        edit_json(folder / "tokenizer_config.json", eos_token="<unk>")

    failure = refused(reference, changed(merged, tmp_path / "broken", change))
    assert failure.check == "end-of-sequence token"
    assert "'</s>'" in failure.difference


def test_missing_end_of_turn(trained: Trained, tmp_path: Path) -> None:
    """The template ends turns with a token that ends no answer."""

    def change(folder: Path) -> None:
        file = folder / "chat_template.jinja"
        file.write_text(file.read_text().replace("</s>", "<s>"))

    base = changed(trained.folder, tmp_path / "base", change)
    with pytest.raises(ParityFailed) as failure:
        Reference(Trained("tiny", base, trained.adapter), tmp_path / "work")
    assert failure.value.check == "end of a turn"
    assert "generation_config.json" in str(failure.value.hint)


def test_missing_beginning(reference: Reference, merged: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        edit_json(folder / "tokenizer_config.json", add_bos_token=False)

    failure = refused(reference, changed(merged, tmp_path / "broken", change))
    assert failure.check == "tokens around a text"


def test_merge_into_a_quantized_base(reference: Reference, trained: Trained, tmp_path: Path) -> None:
    """The base went through four bits before the adapter was folded into it."""
    for name in ("whole.gguf", "few.gguf"):
        if name == "whole.gguf":
            to_gguf(trained.folder, tmp_path / name, TensorType.F32)
            continue
        whole = read_gguf(tmp_path / "whole.gguf")
        types = preset_types(
            find_preset("Q4_0"), list(whole.tensors.values()), ModelFacts.of(whole), has_importance=False
        )
        quantize_file(whole, tmp_path / name, types, n_threads=1)
    to_folder(tmp_path / "few.gguf", tmp_path / "base", TensorType.F32)
    for file in trained.folder.glob("*"):
        if file.suffix != ".safetensors" and file.name != "config.json":
            (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    fold_adapter(Trained("tiny", tmp_path / "base", trained.adapter), tmp_path / "broken")
    for bound in ("F32", "F16", "BF16"):
        failure = refused(reference, tmp_path / "broken", bound=bound)
        assert failure.check == "probabilities"
        assert "quantized weights" in str(failure.hint)


def test_untied_head(reference: Reference, merged: Path, tmp_path: Path) -> None:
    """Whoever saves a tied model with its head of before training makes it another model."""

    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        head = weights["model.embed_tokens.weight"] + np.float32(0.1)
        save_file({**weights, "lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
        edit_json(folder / "config.json", tie_word_embeddings=False)

    broken = changed(merged, tmp_path / "broken", change)
    for as_file in (True, False):
        failure = refused(reference, broken, as_file=as_file)
        assert failure.check == "output head"
        assert "tied to its embeddings" in failure.difference


def test_lost_head(tmp_path: Path) -> None:
    """The other way round: the head of its own is not in the file."""
    trained = write_trained(tmp_path / "untied", UNTIED)
    reference = Reference(trained, tmp_path / "work")
    fold_adapter(trained, tmp_path / "merged")
    assert gate(reference, tmp_path / "merged").agreement == 1.0

    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        del weights["lm_head.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        edit_json(folder / "config.json", tie_word_embeddings=True)

    assert refused(reference, changed(tmp_path / "merged", tmp_path / "broken", change)).check == "output head"


def test_a_head_of_other_values(tmp_path: Path) -> None:
    """Nothing in the settings says it: only what is computed does."""
    trained = write_trained(tmp_path / "untied", UNTIED)
    reference = Reference(trained, tmp_path / "work")
    fold_adapter(trained, tmp_path / "merged")

    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = np.ascontiguousarray(weights["lm_head.weight"][::-1])
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    assert refused(reference, changed(tmp_path / "merged", tmp_path / "broken", change)).check == "probabilities"


def test_wrong_tokenizer(reference: Reference, merged: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        document = json.loads((folder / "tokenizer.json").read_text())
        words = document["model"]["vocab"]
        words["a"], words["b"] = words["b"], words["a"]
        (folder / "tokenizer.json").write_text(json.dumps(document))

    failure = refused(reference, changed(merged, tmp_path / "broken", change))
    assert failure.check == "tokenizer"
    assert failure.to_dict()["code"] == "parity_failed"


def test_another_number_of_words(reference: Reference, tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.training.exporting.tiny import TIED

    other = write_base(tmp_path / "other", replace(TIED, vocab_size=300))
    assert refused(reference, other).check == "logits"


def test_bounds_follow_the_bits() -> None:
    assert bound_of_type("Q4_K_M") == bound_of_type("IQ4_NL") == BOUNDS["Q4"]
    assert bound_of_type("Q8_0") == bound_of_bits(8.6) == BOUNDS["Q8_0"]
    assert bound_of_bits(4.8) == BOUNDS["Q4"]
    assert bound_of_bits(1.5) == BOUNDS["Q2"]
    kls = [bound.mean_kl for bound in BOUNDS.values()]
    assert kls == sorted(kls)
