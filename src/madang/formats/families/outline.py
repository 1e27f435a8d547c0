"""What a plan needs of a GGUF file whose architecture no family knows: sizes, by keys that all architectures share."""

from __future__ import annotations

from madang.formats.gguf import GGUFFile
from madang.formats.spec import DecoderSpec


def outline_spec(file: GGUFFile) -> DecoderSpec:
    """Enough to tell how large the cache can become, and no basis for computing anything.

    What a file does not say is estimated upwards: as many key-value heads as heads, no windows, a cache in every layer.
    Raises MalformedFile.
    """
    arch = file.architecture
    n_layers = file.require_int(f"{arch}.block_count", low=1)
    n_embd = file.require_int(f"{arch}.embedding_length", low=1)
    n_heads = max(_most(file, f"{arch}.attention.head_count", 1), 1)
    head_dim = max(
        file.get_int(f"{arch}.attention.key_length", -(-n_embd // n_heads)),
        file.get_int(f"{arch}.attention.value_length", 0),
    )
    return DecoderSpec(
        architecture=arch,
        n_layers=n_layers,
        n_embd=n_embd,
        n_heads=n_heads,
        n_kv_heads=max(_most(file, f"{arch}.attention.head_count_kv", n_heads), 1),
        head_dim=head_dim,
        n_ff=_most(file, f"{arch}.feed_forward_length", 0),
        vocab_size=len(file.get_strs("tokenizer.ggml.tokens", [])),
        context_tokens=file.require_int(f"{arch}.context_length", low=1),
        norm_epsilon=0.0,
        ropes=(None,) * n_layers,
        window_tokens=(0,) * n_layers,
    )


def _most(file: GGUFFile, key: str, default: int) -> int:
    """A number, or the largest of one for each layer."""
    if isinstance(file.metadata.get(key), int | None):
        return file.get_int(key, default)
    values = file.get_ints(key, None)
    return default if values is None or not values.size else int(values.max())
