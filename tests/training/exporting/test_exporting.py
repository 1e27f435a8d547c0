"""Exports from end to end on a tiny model: each kind is written, compared, and there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from madang.core.errors import (
    AdapterMismatch,
    CannotConvert,
    InvalidRequest,
    ModelNotFound,
    ParityFailed,
    UnknownOption,
)
from madang.formats.adapters import read_adapter
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from madang.training.exporting import Exported, Options, Trained, export, find_trained, parse_kind
from madang.training.models import digest_of
from tests.parity.checkpoints import TinyModel
from tests.training.exporting.tiny import changed, edit_json, write_adapter, write_base


def exported(trained: Trained, target: Path, *kinds: str, max_kl: float | None = None) -> Sequence[Exported]:
    return export(trained, [parse_kind(kind) for kind in kinds], target, Options(1, max_kl=max_kl))


def test_several_kinds_at_once(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kinds = ("card", "modelfile", "adapter", "adapter:peft", "safetensors:bf16", "gguf", "gguf:f16")
    done = {own.kind: own for own in exported(trained, out, *kinds)}
    assert set(done) == {"card", "modelfile", "adapter", "adapter:PEFT", "safetensors:BF16", "gguf", "gguf:F16"}
    assert all(own.parity is None or own.parity.agreement == 1.0 for own in done.values())
    base = describe_folder(trained.folder)
    assert (
        read_adapter(out / "adapter.gguf", base).matrices.keys() == read_adapter(out / "adapter", base).matrices.keys()
    )
    assert describe_folder(out / "model-bf16").tensors["0.query"].type == TensorType.BF16
    file = read_gguf(out / "tiny-F16.gguf")
    assert "output" not in describe_gguf(file).tensors
    assert file.tensors["blk.0.attn_q.weight"].type == TensorType.F16
    assert "FROM ./tiny" in (out / "Modelfile").read_text()
    card = (out / "README.md").read_text()
    assert "A LoRA adapter of `file:base`" in card
    assert "`tiny-F16.gguf`" in card
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_a_quantized_file_and_its_certificate(trained: Trained, tmp_path: Path) -> None:
    (done,) = exported(trained, tmp_path / "out", "gguf:q8_0", max_kl=1.0)
    certificate = json.loads((tmp_path / "out" / "tiny-Q8_0.gguf.certificate.json").read_text())
    assert done.parity is not None
    assert 0 < done.parity.mean_kl < 0.02
    assert certificate["parity"]["mean_kl"] == done.parity.mean_kl
    assert certificate["size_bytes"] == done.path.stat().st_size
    assert len(certificate["trained"]["adapter_sha256"]) == 64
    assert read_gguf(done.path).tensors["blk.0.attn_q.weight"].type == TensorType.Q8_0
    exported(trained, tmp_path / "out", "card")  # of what was exported before, it reads the certificates
    assert f"| {done.parity.mean_kl:.2g} |" in (tmp_path / "out" / "README.md").read_text()


def test_a_failed_export_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ParityFailed, match="nothing was kept"):
        exported(trained, tmp_path / "out", "gguf:q4_0")
    assert not (tmp_path / "out").exists()
    exported(trained, tmp_path / "out", "gguf:f32")
    with pytest.raises(ParityFailed):
        exported(trained, tmp_path / "out", "gguf:q4_0", max_kl=0.0)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"tiny-F32.gguf", "tiny-F32.gguf.certificate.json"}
    with pytest.raises(InvalidRequest, match="exists already"):
        exported(trained, tmp_path / "out", "gguf:f32")


def test_onnx(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    (done,) = exported(trained, tmp_path / "out", "onnx")
    assert done.parity is not None
    assert done.parity.mean_kl < 1e-6
    assert (done.path / "tokenizer.json").is_file()


def test_mlx(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    whole, few = exported(trained, tmp_path / "out", "mlx", "mlx:8", max_kl=0.02)
    assert whole.parity is not None
    assert few.parity is not None
    assert whole.parity.mean_kl < 1e-6 < few.parity.mean_kl
    assert json.loads((few.path / "config.json").read_text())["quantization"]["bits"] == 8


def written_run(home: Path, trained: Trained, base: str, sha256: str | None = None) -> Path:
    """The folder of a finished run of ``madang tune``, whose adapter names its base as madang does, not as PEFT."""
    run = home / "runs" / "tune-20261121000000-abcdef"
    assert trained.adapter is not None
    changed(trained.adapter, run / "adapter", lambda folder: None)
    edit_json(run / "adapter" / "adapter_config.json", base_model_name_or_path=base)
    edit_json(run / "base.json", model=base, sha256=sha256)
    return run


def test_runs(trained: Trained, tmp_path: Path) -> None:
    """The base of a run is found by the name that the run was given, a folder or a file of a model."""
    for number, base in enumerate((trained.folder, trained.folder.with_suffix(".gguf"))):
        home = tmp_path / str(number)
        run = written_run(home, trained, f"file:{base}", digest_of(base))
        found = find_trained(run.name, home)
        assert (found.name, found.base, found.adapter, found.run) == (run.name, f"file:{base}", run / "adapter", run)
        assert describe_folder(found.folder).spec == describe_folder(trained.folder).spec
        assert find_trained(str(run), tmp_path) == replace(found, folder=find_trained(str(run), tmp_path).folder)


def test_a_run_whose_base_is_another_now(trained: Trained, tmp_path: Path) -> None:
    run = written_run(tmp_path, trained, f"file:{trained.folder}", "0" * 64)
    with pytest.raises(AdapterMismatch, match="sha256 000000000000…"):
        find_trained(run.name, tmp_path)
    assert find_trained(run.name, tmp_path, f"file:{trained.folder}").folder == trained.folder


def test_a_run_whose_base_is_gone(trained: Trained, tmp_path: Path) -> None:
    run = written_run(tmp_path, trained, f"file:{tmp_path / 'gone'}")
    with pytest.raises(ModelNotFound, match="gone, the base of") as failure:
        find_trained(run.name, tmp_path)
    assert "--base" in str(failure.value.hint)
    assert find_trained(run.name, tmp_path, str(trained.folder)).folder == trained.folder


def test_a_run_that_has_not_ended(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tune-20261121000000-abcdef"
    (run / "checkpoints").mkdir(parents=True)
    edit_json(run / "base.json", model="smollm2:135m")
    with pytest.raises(ModelNotFound) as failure:
        find_trained(run.name, tmp_path)
    assert f"madang tune --resume {run.name}" in str(failure.value.hint)


def test_folders(trained: Trained, tmp_path: Path) -> None:
    found = find_trained(str(trained.adapter), tmp_path)
    assert (found.adapter, found.folder) == (trained.adapter, trained.folder)  # as PEFT wrote it down
    assert find_trained(str(trained.folder), tmp_path) == Trained("base", trained.folder)
    with pytest.raises(ModelNotFound):
        find_trained("nothing", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match="empty"):
        find_trained(str(tmp_path / "empty"), tmp_path)


def test_a_quantized_base(trained: Trained, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        edit_json(folder / "config.json", quantization_config={"quant_method": "gptq"})

    few = changed(trained.folder, tmp_path / "few", change)
    with pytest.raises(CannotConvert, match="gptq") as failure:
        find_trained(str(trained.adapter), tmp_path, str(few))
    assert "full precision" in str(failure.value.hint)


def test_an_adapter_of_another_model(trained: Trained, tmp_path: Path) -> None:
    """Said before torch is asked: its own error fills a screen."""
    other = write_base(tmp_path / "other", TinyModel("wider", n_embd=96))
    with pytest.raises(AdapterMismatch, match="the base has"):
        exported(replace(trained, folder=other), tmp_path / "out", "gguf:f32")
    assert not (tmp_path / "out").exists()


def test_what_has_no_adapter(trained: Trained, tmp_path: Path) -> None:
    whole = Trained("whole", trained.folder)
    with pytest.raises(InvalidRequest, match="has no adapter"):
        exported(whole, tmp_path / "out", "adapter")
    assert not (tmp_path / "out").exists()
    (done,) = exported(whole, tmp_path / "out", "gguf:f32")
    assert done.parity is not None
    assert done.parity.mean_kl < 1e-6


def test_dora_is_folded_and_has_no_file_of_its_own(trained: Trained, tmp_path: Path) -> None:
    dora = replace(trained, adapter=write_adapter(trained.folder, tmp_path / "dora", use_dora=True))
    exported(dora, tmp_path / "out", "gguf:f32")
    with pytest.raises(Exception, match="use_dora"):
        exported(dora, tmp_path / "out", "adapter")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"tiny-F32.gguf", "tiny-F32.gguf.certificate.json"}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("ggfu", UnknownOption, "ggfu"),
        ("gguf:q4_k_x", UnknownOption, "q4_k_x"),
        ("gguf:12parsecs", InvalidRequest, "is not a size"),
        ("onnx:int8", InvalidRequest, "only one kind"),
        ("mlx:3", UnknownOption, "3"),
    ],
)
def test_kinds_that_there_are_not(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_kind(text)


def test_kinds() -> None:
    assert (parse_kind("gguf:120MB").size_bytes, parse_kind("GGUF:q4_k_m").detail) == (120_000_000, "Q4_K_M")
    assert parse_kind("safetensors:bf16").tensor_type == TensorType.BF16
    assert parse_kind("gguf").detail is None


def test_a_size_needs_text(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="needs text"):
        exported(trained, tmp_path / "out", "gguf:1MB")
    assert not (tmp_path / "out").exists()
