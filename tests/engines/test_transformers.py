"""The transformers engine on tiny random models: the native engine's text, token by token, and its own choices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from madang.core import (
    AdapterChoice,
    Engine,
    JsonSchema,
    LogitSource,
    Message,
    Regex,
    Request,
    SamplingParams,
    TextDelta,
    TokenCounter,
    collect,
    streaming,
)
from madang.core.errors import (
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    NotEnoughMemory,
    UnknownOption,
    UnsupportedModel,
)
from madang.core.settings import Settings, load_settings
from madang.hardware import Placement, PlacementRequest
from madang.hardware.placement import place
from madang.runtime import open_model
from madang.runtime.choosing import choose_for
from tests.native.tiny import MODEL

torch = pytest.importorskip("torch", reason="the transformers engine needs torch")
transformers = pytest.importorskip("transformers")

from madang.engines.transformers.placing import settle  # noqa: E402
from madang.engines.transformers.quantizing import bitsandbytes_config  # noqa: E402
from madang.models import FileReference, Store  # noqa: E402
from tests.engines.quantized_folders import write_packed  # noqa: E402
from tests.parity.checkpoints import Checkpoint, byte_tokenizer, write_checkpoint, write_folder  # noqa: E402

GREEDY = SamplingParams(temperature=0)
OpenFolder = Callable[..., Engine]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with random weights and one token per byte, which both engines read."""
    root = tmp_path_factory.mktemp("torch")
    write_folder(write_checkpoint(MODEL, root / "tiny.gguf"), root / "tiny")
    return root / "tiny"


@pytest.fixture(scope="module")
def opened(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenFolder]:
    """Opens a folder with settings, and closes what it opened in the end."""
    home = str(tmp_path_factory.mktemp("home"))
    with ExitStack() as stack:

        def open_with(path: Path = folder, **given: str | int) -> Engine:
            given = {"engine": "transformers", **given}
            return stack.enter_context(closing(open_model(f"file:{path}", load_settings(given, {"MADANG_HOME": home}))))

        yield open_with


@pytest.fixture(scope="module")
def ours(opened: OpenFolder) -> Engine:
    return opened(engine="native", speculation="off")


@pytest.fixture(scope="module")
def theirs(opened: OpenFolder) -> Engine:
    return opened(device="cpu")


def ask(text: str = "one two", **options: object) -> Request:
    return Request(prompt=text, **{"sampling": GREEDY, "max_tokens": 24, **options})  # type: ignore[arg-type]


# ---- the same as native


@pytest.mark.parametrize(
    "request_",
    [
        ask(),
        ask("가나다"),
        ask(max_tokens=1),
        ask(max_tokens=0),
        Request(messages=(Message("user", "hello"),), sampling=GREEDY, max_tokens=12),
        ask(sampling=SamplingParams(temperature=0, repeat_penalty=1.5, presence_penalty=0.5, frequency_penalty=0.5)),
        ask(sampling=SamplingParams(temperature=0, logit_bias={70: 5.0, 71: -float("inf")})),
        ask(constraint=Regex("[a-z]{3}(yes|no)")),
        ask(constraint=JsonSchema({"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3})),
    ],
    ids=["plain", "korean", "one", "none", "chat", "penalties", "bias", "regex", "schema"],
)
def test_the_answer_is_the_native_engine_s(ours: Engine, theirs: Engine, request_: Request) -> None:
    mine, other = collect(ours.generate(request_)), collect(theirs.generate(request_))
    assert other.text == mine.text
    assert other.done.finish_reason == mine.done.finish_reason
    assert other.done.usage.prompt_tokens == mine.done.usage.prompt_tokens
    assert other.done.usage.completion_tokens == mine.done.usage.completion_tokens
    assert isinstance(theirs, TokenCounter)
    assert theirs.count_tokens(request_) == mine.done.usage.prompt_tokens


def test_log_probabilities_are_close_to_the_native_engine_s(ours: Engine, theirs: Engine) -> None:
    request = ask(sampling=SamplingParams(temperature=0, logprobs=3))
    for mine, other in zip(
        collect(ours.generate(request)).logprobs, collect(theirs.generate(request)).logprobs, strict=True
    ):
        assert other.token_id == mine.token_id
        assert other.logprob == pytest.approx(mine.logprob, abs=2e-3)


def test_logits_of_each_token_are_close_to_the_native_engine_s(ours: Engine, theirs: Engine) -> None:
    assert isinstance(ours, LogitSource)
    assert isinstance(theirs, LogitSource)
    tokens = theirs.tokenize("a text of some length " * 30)  # more than is computed at a time
    assert tokens == ours.tokenize("a text of some length " * 30)
    mine, other = (torch.cat([torch.tensor(rows) for rows in e.logits(tokens)]) for e in (ours, theirs))
    assert other.shape == mine.shape == (len(tokens), MODEL.vocab_size)
    assert torch.allclose(mine, other, atol=0.05)
    with pytest.raises(InvalidRequest):
        next(theirs.logits([10**6]))


# ---- its own


def test_the_beginning_that_two_requests_share_is_read_once(theirs: Engine) -> None:
    text = "a long beginning that both of them have, "
    first = collect(theirs.generate(ask(text + "one"))).done
    again = collect(theirs.generate(ask(text + "two"))).done
    assert again.usage.cached_tokens >= len(text)
    assert again.usage.cached_tokens < again.usage.prompt_tokens == first.usage.prompt_tokens


def test_requests_take_turns(theirs: Engine) -> None:
    wholes = [collect(theirs.generate(ask(text))).text for text in ("one", "two")]
    with streaming(theirs, ask("one")) as one, streaming(theirs, ask("two")) as two:
        texts = ["", ""]
        for pair in zip_longest(one, two):
            for at, event in enumerate(pair):
                texts[at] += event.text if isinstance(event, TextDelta) else ""
    assert texts == wholes


def test_what_it_cannot_do_is_refused(theirs: Engine) -> None:
    for param, value in {"adapter": AdapterChoice("mine"), "context_tokens": 10**6}.items():
        with pytest.raises(InvalidRequest) as caught:
            next(theirs.generate(ask(**{param: value})))
        assert caught.value.param == param
    assert collect(theirs.generate(ask(context_tokens=16))).done.ledger.free_tokens == 0


def test_a_closed_engine_says_so(opened: OpenFolder) -> None:
    engine = opened(device="cpu")
    half_read = engine.generate(ask())
    next(half_read)
    engine.close()
    engine.close()
    for stream in (half_read, engine.generate(ask())):
        with pytest.raises(EngineError, match="closed"):
            list(stream)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_shorter_numbers_and_eager_attention(opened: OpenFolder, dtype: str) -> None:
    engine = opened(dtype=dtype, attention="eager", device="cpu")
    assert collect(engine.generate(ask())).done.usage.completion_tokens > 0


def logits_of(engine: Engine, text: str = "abc def") -> Any:
    assert isinstance(engine, LogitSource)
    return torch.cat([torch.tensor(rows) for rows in engine.logits(engine.tokenize(text))])


def test_both_ways_to_attend_give_the_same(opened: OpenFolder) -> None:
    text = "a text of some length " * 8
    eager, sdpa = (logits_of(opened(device="cpu", attention=word), text) for word in ("eager", "sdpa"))
    assert torch.allclose(eager, sdpa, atol=1e-4)


# ---- shrunk weights


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Its matrices have rows of whole blocks of 64, as bitsandbytes takes them, and its folder lies beside its file."""
    root = tmp_path_factory.mktemp("wide")
    checkpoint = write_checkpoint(replace(MODEL, n_embd=64, n_ff=128), root / "wide.gguf")
    write_folder(checkpoint, root / "wide")
    return checkpoint


def shrunk(checkpoint: Checkpoint, shrink: Callable[[Any], Any], folder: Path) -> Path:
    """The same model with the numbers that are left of its layers' matrices, in full."""
    weights = {
        name: shrink(torch.tensor(weight)).numpy() if name.startswith("model.layers.") and weight.ndim == 2 else weight
        for name, weight in checkpoint.weights.items()
    }
    write_folder(replace(checkpoint, weights=weights), folder)
    return folder


def test_nf4_computes_in_the_dtype_asked_for_with_scales_that_are_quantized_too(
    opened: OpenFolder, wide: Checkpoint, tmp_path: Path
) -> None:
    functional = pytest.importorskip("bitsandbytes.functional", reason="--quantize needs bitsandbytes")

    def shrink(weight: Any) -> Any:
        return functional.dequantize_4bit(*functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True))

    plain = logits_of(opened(shrunk(wide, shrink, tmp_path / "plain"), device="cpu"))
    source = wide.path.with_suffix("")
    nf4, half = (
        logits_of(opened(source, device="cpu", quantize="nf4", dtype=name)) for name in ("float32", "bfloat16")
    )
    assert not torch.allclose(nf4, logits_of(opened(source, device="cpu")), atol=0.3)
    assert torch.allclose(nf4, plain, atol=1e-4)
    assert not torch.allclose(half, plain, atol=1e-4)
    assert torch.nn.functional.cosine_similarity(half, plain).min() > 0.98


def test_int8_rounds_each_row_of_a_matrix(opened: OpenFolder, wide: Checkpoint, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="--quantize needs bitsandbytes")

    def shrink(weight: Any) -> Any:
        scales = weight.abs().amax(1, keepdim=True) / 127
        return (weight / scales).round() * scales

    plain = logits_of(opened(shrunk(wide, shrink, tmp_path / "plain"), device="cpu"))
    int8 = logits_of(opened(wide.path.with_suffix(""), device="cpu", quantize="int8"))
    assert not torch.equal(int8, plain)  # activations are rounded as well
    assert torch.allclose(int8, plain, atol=0.3)


def test_a_checkpoint_that_bitsandbytes_wrote_is_read_as_it_is(
    opened: OpenFolder, wide: Checkpoint, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="such checkpoints need bitsandbytes")
    source = wide.path.with_suffix("")
    config = bitsandbytes_config("nf4", torch.float32)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, quantization_config=config, dtype=torch.float32)
    model.save_pretrained(tmp_path / "saved")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "saved" / name).write_bytes((source / name).read_bytes())
    saved = logits_of(opened(tmp_path / "saved", device="cpu"))
    assert torch.equal(saved, logits_of(opened(source, device="cpu", quantize="nf4")))
    with pytest.raises(InvalidRequest, match="quantized already, by bitsandbytes"):
        opened(tmp_path / "saved", device="cpu", quantize="int8")


def test_nothing_is_fetched_for_bitsandbytes(tmp_path: Path) -> None:
    """On some CPUs its import asks the package "kernels", where there is one, for code from a hub."""
    pytest.importorskip("bitsandbytes", reason="--quantize needs bitsandbytes")
    (tmp_path / "kernels.py").write_text("raise SystemExit('kernels was imported')")
    program = (
        "from madang.engines.transformers.quantizing import import_bitsandbytes as load\n"
        "load()\nimport sys, bitsandbytes\nassert 'kernels' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_packed_checkpoint_answers_like_its_plain_weights(opened: OpenFolder, tmp_path: Path, method: str) -> None:
    pytest.importorskip("gptqmodel", reason="GPTQ and AWQ checkpoints need gptqmodel")
    write_packed(tmp_path, method)
    packed, plain = (logits_of(opened(tmp_path / name, device="cpu")) for name in ("packed", "plain"))
    assert torch.allclose(packed, plain, atol=0.15)  # of about 8; its products on a CPU are in bfloat16


# ---- which engine


def test_a_family_that_native_does_not_know_runs_here_and_the_reason_says_so(
    opened: OpenFolder, tmp_path: Path
) -> None:
    config = transformers.GPTNeoXConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=MODEL.vocab_size
    )
    path = tmp_path / "neox"
    transformers.GPTNeoXForCausalLM(config).save_pretrained(path)
    (path / "tokenizer.json").write_text(byte_tokenizer(MODEL.vocab_size))
    files = Store(tmp_path).find(FileReference(path))
    assert files is not None
    choice = choose_for(files, None).choice
    assert choice.entry.name == "transformers"
    assert "native engine does not run" in choice.reason
    settings = load_settings({}, {"MADANG_HOME": str(tmp_path)})
    with closing(open_model(f"file:{path}", settings)) as engine:
        assert (engine.info.engine, engine.info.context_tokens) == ("transformers", config.max_position_embeddings)
        assert collect(engine.generate(ask())).done.usage.completion_tokens > 0


def test_a_family_that_nobody_knows_is_refused_and_no_code_of_the_folder_runs(
    opened: OpenFolder, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own"
    path.mkdir()
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    witness = tmp_path / "ran"
    (path / "modeling_own.py").write_text(f"open({str(witness)!r}, 'w')\nclass Own: pass\n")
    config = json.loads((path / "config.json").read_text())
    for model_type in ("own", "llama"):
        own = {**config, "model_type": model_type, "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}
        (path / "config.json").write_text(json.dumps(own))
        if model_type == "own":
            with pytest.raises(UnsupportedModel, match="The transformers engine does not run"):
                opened(path, device="cpu")
        else:
            opened(path, device="cpu").close()
    assert not witness.exists()


def test_settings_that_only_other_engines_use_are_refused(opened: OpenFolder) -> None:
    for given in (
        {"precision": "fast"},
        {"engine": "native", "device": "cpu"},
        {"engine": "native", "quantize": "nf4"},
    ):
        with pytest.raises(InvalidRequest, match="has no use for --") as caught:
            opened(**given)
        assert caught.value.param in given


# ---- placement


def placed(**requested: str) -> Placement:
    return place(PlacementRequest(**requested))


def test_every_choice_has_a_reason() -> None:
    settled = settle(placed(device="cpu"), {"dtype": "bfloat16"})
    assert (settled.device.value, settled.dtype.value) == ("cpu", "float32")
    assert all(choice.reason for choice in (settled.device, settled.dtype, settled.quantize, settled.attention))
    assert settle(placed(device="cpu", dtype="bfloat16"), {}).dtype.reason == "as requested"


@pytest.mark.parametrize(
    ("requested", "hint"),
    [
        ({"device": "cude"}, "cuda"),
        ({"device": "cuda:x"}, "cuda"),
        ({"dtype": "bfloat"}, "bfloat16"),
        ({"quantize": "nf3"}, "nf4"),
        ({"attention": "flash"}, "Known"),
    ],
)
def test_a_word_that_is_none_is_an_error_with_a_suggestion(requested: dict[str, str], hint: str) -> None:
    with pytest.raises(UnknownOption) as caught:
        placed(**requested)
    assert hint in (caught.value.hint or "")


def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="PyTorch sees"):
        settle(placed(device="cuda:99"), {})


def test_flash_attention_needs_a_card() -> None:
    with pytest.raises(InvalidRequest, match="CUDA") as caught:
        settle(placed(device="cpu", attention="flash_attention_2"), {})
    assert caught.value.hint == "Use --attention sdpa."


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_quantized_checkpoint_is_recognised(method: str) -> None:
    config = {"quantization_config": {"quant_method": method, "bits": 4}}
    with pytest.raises(InvalidRequest, match=f"quantized already, by {method}"):
        settle(placed(device="cpu", quantize="nf4"), config)
    try:
        settled = settle(placed(device="cpu"), config)
    except EngineUnavailable as missing:
        assert "gptqmodel" in missing.message
        assert (missing.hint or "").startswith("Install it with: pip install gptqmodel")
    else:
        assert method in settled.quantize.reason


def test_a_model_that_does_not_fit_is_refused_with_the_numbers(
    opened: OpenFolder, folder: Path, tmp_path: Path, settings: Settings
) -> None:
    from madang.engines.transformers import load
    from madang.runtime import plan_for

    files = Store(tmp_path).find(FileReference(folder))
    assert files is not None
    with pytest.raises(NotEnoughMemory, match="float32 needs"):
        load(replace(files, size_bytes=1 << 50), plan_for(files, settings))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"engine": "transformers", "device": "cpu"}, {"MADANG_HOME": str(tmp_path)})
