"""Which module reads which architecture, and what is known of those that none reads."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from madang.core.errors import UnsupportedModel
from madang.formats.families.forms import FolderForm, GGUFForm
from madang.formats.families.sources import Source, unsupported
from madang.formats.folder import ModelFolder, read_folder
from madang.formats.gguf import GGUFFile, read_gguf
from madang.formats.spec import ModelDescription

Format: TypeAlias = Literal["gguf", "huggingface"]

_GGUF: Final = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "phi2": "phi",
    "phi3": "phi3",
    "stablelm": "stablelm",
    "falcon": "falcon",
    "gpt2": "gpt2",
    "exaone": "exaone",
    "exaone4": "exaone4",
    "smollm3": "smollm3",
    "starcoder2": "starcoder2",
    "bert": "bert",
    "nomic-bert": "nomic_bert",
}
_FOLDERS: Final = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "mixtral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "phi": "phi",
    "phi3": "phi3",
    "stablelm": "stablelm",
    "stablelm_epoch": "stablelm",
    "falcon": "falcon",
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "gpt2": "gpt2",
    "exaone": "exaone",
    "exaone4": "exaone4",
    "smollm3": "smollm3",
    "starcoder2": "starcoder2",
    "bert": "bert",
    "roberta": "bert",
    "xlm-roberta": "bert",
    "camembert": "bert",
    "nomic_bert": "nomic_bert",
}
# What others are made of, by name without "-" and "_".
_RECOGNISED: Final = {
    name: reason
    for reason, names in {
        "state-space layers": "mamba mamba2 falconmamba jamba bamba zamba2 granitehybrid granitemoehybrid falconh1 "
        "nemotronh plamo2 lfm2 lfm2moe",
        "recurrent layers": "rwkv rwkv6 rwkv6qwen2 rwkv7 arwkv7 recurrentgemma",
        "gated delta networks": "qwen3next qwen35 qwen35moe kimilinear olmohybrid",
        "latent attention": "deepseek2 deepseekv2 deepseekv3 deepseekv32 minicpm3 plm kimik2 glmdsa",
        "shared experts": "deepseek qwen2moe glm4moe dots1 bailingmoe bailingmoe2 ernie45moe hunyuanmoe granitemoe",
        "experts": "dbrx grok phimoe olmoe arctic minimaxm2 minimaxm1 exaonemoe grovemoe smallthinker lladamoe",
        "attention sinks": "gptoss",
        "chunked attention and experts": "llama4 llama4text",
        "per-layer embeddings": "gemma3n gemma3ntext gemma4 gemma4text",
        "an encoder and a decoder": "t5 t5encoder mt5 umt5 bart mbart whisper",
        "scaled residuals and logits": "granite minicpm",
        "LayerNorm without biases and scaled logits": "commandr cohere cohere2",
        "norms of whole projections": "olmo olmo2 olmo3",
        "ALiBi": "mpt bloom baichuan refact jais jinabertv2",
        "images": "qwen2vl qwen25vl qwen3vl qwen3vlmoe llava mistral3 pixtral idefics3 smolvlm chameleon cogvlm",
        "other layers": "gptneox gptj starcoder gptbigcode codegen opt internlm2 internlm3 chatglm glm4 glm nemotron "
        "deci openelm bitnet arcee apertus seedoss hunyuandense ernie45 orion xverse plamo codeshell qwen "
        "modernbert neobert eurobert jinabertv3 nomicbertmoe gemmaembedding distilbert mpnet xlnet electra deberta "
        "debertav2 diffllama ministral ministral3 llada dream",
    }.items()
    for name in names.split()
}


def supported_architectures() -> tuple[str, ...]:
    """Values of ``general.architecture`` that have a family here."""
    return tuple(_GGUF)


def supported_model_types() -> tuple[str, ...]:
    """Values of config.json's ``model_type`` that have a family here."""
    return tuple(_FOLDERS)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """The canonical model in a GGUF file.

    Raises UnsupportedModel for an architecture without a family or a file with something that its family does not know,
    MalformedFile for metadata or tensors that are missing or contradict each other.
    """
    module = _GGUF.get(file.architecture)
    if module is None:
        raise _unknown(file)
    description: ModelDescription = import_module(f"madang.formats.families.{module}").describe_gguf(file)
    return description


def describe_folder(path: Path) -> ModelDescription:
    """The canonical model in a Hugging Face folder; errors as ``describe_gguf``, and ModelNotFound without one."""
    return describe_source(read_folder(path))


def describe_source(folder: ModelFolder) -> ModelDescription:
    """The same for a folder that was read; errors as ``describe_gguf``."""
    module = _FOLDERS.get(folder.architecture)
    if module is None:
        raise _unknown(folder)
    quantization = folder.section("quantization_config")
    if quantization.metadata:
        method = quantization.get_str("quant_method", "own")
        raise unsupported(folder, f"the {method[:40]} quantization")
    description: ModelDescription = import_module(f"madang.formats.families.{module}").describe_folder(folder)
    return description


def describe_model(path: Path, model_format: Format) -> ModelDescription:
    """The canonical model at ``path``; errors as the two above."""
    return describe_gguf(read_gguf(path)) if model_format == "gguf" else describe_folder(path)


def _unknown(source: Source) -> UnsupportedModel:
    name = source.architecture
    reason = _RECOGNISED.get(name.lower().replace("-", "").replace("_", "").replace(".", ""))
    what = f"the architecture '{name[:60]}'" + (f" ({reason})" if reason else "")
    return unsupported(source, what, certain=reason is not None)


def gguf_form(source: Source, description: ModelDescription) -> GGUFForm:
    """How the model of a source, described as ``description``, is written as GGUF. Raises CannotConvert."""
    form: GGUFForm = _family(source).gguf_form(source, description)
    return form


def folder_form(source: Source, description: ModelDescription) -> FolderForm:
    """The same as a folder."""
    form: FolderForm = _family(source).folder_form(source, description)
    return form


def _family(source: Source) -> Any:
    names = _GGUF if isinstance(source, GGUFFile) else _FOLDERS
    return import_module(f"madang.formats.families.{names[source.architecture]}")
