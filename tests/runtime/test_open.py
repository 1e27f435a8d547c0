"""From a name to an engine, and everything that can stand in the way."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from madang.core import Loaded, Request, SamplingParams, collect
from madang.core.errors import (
    ContextLengthExceeded,
    InvalidReference,
    InvalidRequest,
    MalformedFile,
    ModelNotFound,
    UnknownOption,
    UnsupportedModel,
)
from madang.core.settings import Settings, load_settings
from madang.engines import EngineEntry, find_engine
from madang.engines.echo import EchoEngine
from madang.hardware import Plan
from madang.models import ModelFiles, Reference, Store
from madang.runtime import find_files, open_embedder, open_loaded, open_model, plan_for


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def settings(home: Path, **command_line: str | int) -> Settings:
    return load_settings(command_line, {"MADANG_HOME": str(home)})


def test_an_engine_that_reads_no_files_needs_no_model(home: Path) -> None:
    engine = open_model("twin", settings(home, engine="echo", context=77))
    assert (engine.info.model, engine.info.context_tokens) == ("twin", 77)
    assert not home.exists()


@pytest.mark.parametrize("unused", [{"threads": 2}, {"precision": "fast"}, {"kv_type": "int8"}, {"speculation": "off"}])
def test_settings_that_an_engine_without_files_cannot_use_are_refused(home: Path, unused: dict[str, str | int]) -> None:
    with pytest.raises(InvalidRequest, match="The echo engine has no use for --") as caught:
        open_model("twin", settings(home, engine="echo", **unused))
    assert caught.value.param in unused
    everywhere = {"MADANG_HOME": str(home), **{f"MADANG_{name.upper()}": str(value) for name, value in unused.items()}}
    open_model("twin", load_settings({"engine": "echo"}, everywhere)).close()  # said once for all models


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("smollm2", "Get it with: madang pull smollm2:135m"),
        ("hf:org/repo", "Get it with: madang pull hf:org/repo"),
        ("smolm2", "Did you mean smollm2"),
        ("file:/nowhere/model.gguf", "nothing lies there"),
        ("xyzzy:1b", "madang list --catalog"),
    ],
)
def test_a_model_that_is_not_here_says_what_to_do(home: Path, reference: str, hint: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        open_model(reference, settings(home))
    assert hint in (caught.value.hint or "")
    assert not home.exists()


def test_what_is_no_reference(home: Path) -> None:
    with pytest.raises(InvalidReference):
        open_model("two words", settings(home))


def test_an_unknown_engine_is_found_before_anything_is_fetched(home: Path) -> None:
    def never(reference: Reference, store: Store) -> ModelFiles:
        raise AssertionError("fetched")

    with pytest.raises(UnknownOption):
        open_model("smollm2", settings(home, engine="nativ"), fetch=never)


def test_a_model_that_is_not_here_is_fetched_once(home: Path, starter_gguf: Path) -> None:
    asked: list[str] = []

    def fetch(reference: Reference, store: Store) -> ModelFiles:
        asked.append(str(reference))
        return find_files(f"file:{starter_gguf}", store)

    assert find_files("smollm2", Store(home), fetch=fetch).path == starter_gguf
    assert find_files(f"file:{starter_gguf}", Store(home), fetch=fetch).path == starter_gguf
    assert asked == ["smollm2:135m"]


def test_a_damaged_file_is_refused(home: Path, tmp_path: Path, starter_gguf: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    with starter_gguf.open("rb") as whole:
        damaged.write_bytes(whole.read(3_000_000))
    with pytest.raises(MalformedFile):
        open_model(str(damaged), settings(home))


@pytest.mark.parametrize("setting", [{"context": 2**24}, {"threads": 1024}])
def test_a_setting_that_cannot_be_honoured_is_an_error(home: Path, starter_gguf: Path, setting: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match=str(*setting.values())):
        plan_for(find_files(f"file:{starter_gguf}", Store(home)), settings(home, **setting))


def test_a_context_for_all_models_is_the_most_that_each_of_them_has(home: Path, starter_gguf: Path) -> None:
    files = find_files(f"file:{starter_gguf}", Store(home))
    everywhere = load_settings({}, {"MADANG_HOME": str(home), "MADANG_CONTEXT": "100000"})
    for chosen in (everywhere, settings(home, context=100_000).for_all_models()):
        context = plan_for(files, chosen).context_tokens
        assert context.value == 8192
        assert "100000" in context.reason
    assert plan_for(files, settings(home, context=64).for_all_models()).context_tokens.value == 64


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_a_longer_context_leaves_an_embedder_what_it_has(home: Path, minilm_folder: Path, engine: str) -> None:
    if not find_engine(engine).is_installed():
        pytest.skip(f"the {engine} engine is not installed")
    own, longer, shorter = (settings(home, engine=engine, **given) for given in ({}, {"context": 9000}, {"context": 8}))
    lengths = []
    for chosen in (own, longer, shorter):
        with closing(open_embedder(f"file:{minilm_folder}", chosen)) as embedder:
            lengths.append(embedder.info.context_tokens)
            with pytest.raises(ContextLengthExceeded):
                embedder.embed(["word " * embedder.info.context_tokens])
    assert lengths[1] == lengths[0] > lengths[2] == 8


def test_a_plan_gives_a_reason_for_everything(home: Path, starter_gguf: Path) -> None:
    plan = plan_for(find_files(f"file:{starter_gguf}", Store(home)), settings(home, context=512, isa="avx2"))
    assert (plan.context_tokens.value, plan.context_tokens.reason) == (512, "as requested")
    assert plan.isa.value == "avx2"
    assert plan.threads.value >= 1
    assert plan.threads.reason


def refuse_late(files: ModelFiles, plan: Plan) -> Loaded:
    raise UnsupportedModel("the tensor type NEW ('blk.0.attn_q.weight')")


def load_echo(files: ModelFiles, plan: Plan) -> Loaded:
    return EchoEngine(files.name, plan.context_tokens.value)


LATE = EngineEntry("native", f"{__name__}:refuse_late", formats=("gguf",))
OTHER = EngineEntry("other", f"{__name__}:load_echo", formats=("gguf",), unused=("precision",))


def test_what_our_engine_refuses_while_it_loads_runs_with_the_next_and_the_reason_is_told(
    home: Path, starter_gguf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_loaded(str(starter_gguf), settings(home, context=64), entries=(LATE, OTHER))) as loaded:
        assert (loaded.info.engine, loaded.info.context_tokens) == ("echo", 64)
    assert "runs with other: the native engine does not run the tensor type NEW" in caplog.text


def test_what_our_engine_refuses_while_it_loads_is_refused_where_nothing_else_may_run_it(
    home: Path, starter_gguf: Path
) -> None:
    with pytest.raises(UnsupportedModel, match="tensor type NEW"):
        open_loaded(str(starter_gguf), settings(home, engine="native"), entries=(LATE, OTHER))
    with pytest.raises(UnsupportedModel, match="tensor type NEW"):
        open_loaded(str(starter_gguf), settings(home), entries=(LATE,))
    with pytest.raises(InvalidRequest, match="other engine has no use for --precision"):
        open_loaded(str(starter_gguf), settings(home, precision="fast"), entries=(LATE, OTHER))


def test_the_starter_model_answers(home: Path, starter_gguf: Path) -> None:
    if not find_engine("native").is_installed():
        pytest.skip("the native engine is not installed; madang._core cannot be imported")
    with closing(open_model(f"file:{starter_gguf}", settings(home, context=256))) as engine:
        assert engine.info.context_tokens == 256
        request = Request(prompt="The capital of France is", sampling=SamplingParams(temperature=0), max_tokens=8)
        assert "Paris" in collect(engine.generate(request)).text


def test_the_draft_model_is_found_by_name(home: Path, starter_gguf: Path) -> None:
    reference = f"file:{starter_gguf}"
    with pytest.raises(ModelNotFound, match="smollm2"):
        open_model(reference, settings(home, context=256, speculation="draft:smollm2"))
    chosen = settings(
        home, context=256, speculation=f"draft:{reference}", concurrency=3, kv_memory="50MB", kv_type="int8"
    )
    with closing(open_model(reference, chosen)) as engine:
        assert engine.info.max_concurrency == 3
        request = Request(prompt="The capital of France is", sampling=SamplingParams(temperature=0), max_tokens=8)
        assert "Paris" in collect(engine.generate(request)).text
