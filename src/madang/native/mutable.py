"""A decoder whose tensors can be exchanged: what another type or rounding of them does is measured on it.

It reads whole texts of at most ``MAX_TOKENS`` in one step and keeps nothing of them, so it needs no scheduler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.errors import InvalidRequest, UnsupportedModel
from madang.formats.adapters import read_adapter
from madang.formats.spec import ModelDescription
from madang.formats.tensors import Octets, TensorType
from madang.formats.tokenizers import Tokenizer
from madang.hardware import Choice, Plan
from madang.native.adapters import put_beside
from madang.native.loader import load_decoder
from madang.native.opening import read_model

MAX_TOKENS: Final = 1024

Floats = npt.NDArray[np.float32]


class MutableModel:
    """A text model in memory, alone; one thread uses it at a time."""

    def __init__(self, path: Path, n_threads: int) -> None:
        """Load a file or folder; activations keep full precision.

        Raises what an engine does, and UnsupportedModel for an encoder.
        """
        plan = Plan(threads=Choice(n_threads, "given"), context_tokens=Choice(MAX_TOKENS, "the most of a text"))
        self.description, self._tokenizer = read_model(path, "huggingface" if path.is_dir() else "gguf")
        if not self.description.spec.causal:
            raise UnsupportedModel(f"measurements of the encoder {path.name}: it has no next token")
        self._decoder = load_decoder(path.name, self.description, plan)

        self._adapter: int | None = None

    @property
    def isa(self) -> str:
        """Instruction set in use."""
        return self._decoder.isa

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own."""
        return self._tokenizer

    def adapt(self, path: Path) -> None:
        """Read all further texts with the LoRA adapter at ``path``. Raises what read_adapter does, NotEnoughMemory."""
        self._adapter = put_beside(self._decoder, read_adapter(path, self.description))

    def tokenize(self, text: str) -> list[int]:
        """See core.engine.LogitSource."""
        return self._tokenizer.encode(text)

    def logits(self, tokens: Sequence[int]) -> Iterator[Floats]:
        """See core.engine.LogitSource; all rows at once."""
        self._step(tokens, outputs=True)
        yield np.stack([self._decoder.logits(row) for row in range(len(tokens))])

    def exchange(self, tensors: Mapping[str, tuple[TensorType, Octets]]) -> None:
        """Put others in the place of tensors: by canonical name, the type and the bytes of as many rows and columns."""
        for name, (tensor_type, data) in tensors.items():
            shape = self.description.tensors[name].shape
            flat = data.reshape(-1).view(np.uint8)
            self._decoder.set_tensor(name, int(tensor_type), shape[0] if len(shape) == 2 else 1, shape[-1], flat)
        self._decoder.complete()

    def read_inputs(self, tokens: Sequence[int]) -> Inputs:
        """Read a text and keep what every matrix read of it."""
        self._step(tokens, outputs=True, inputs=True, wants_logits=False)
        return Inputs(self._decoder, self.description, len(tokens))

    def _step(self, tokens: Sequence[int], *, outputs: bool, inputs: bool = False, wants_logits: bool = True) -> None:
        n = len(tokens)
        if not 0 < n <= MAX_TOKENS:
            raise InvalidRequest(f"A text to measure has 1 to {MAX_TOKENS} tokens, not {n}.", param="tokens")
        table = np.arange(-(-n // _core.PAGE_TOKENS), dtype=np.int32)[None]
        self._decoder.reserve_pages(table.shape[1])
        positions = np.arange(n, dtype=np.int32)
        self._decoder.step(
            np.array(tokens, np.int32),
            positions,
            np.zeros(n, np.int32),
            table,
            positions if outputs else positions[:0],
            wants_logits=wants_logits,
            adapters=None if self._adapter is None else np.array([self._adapter], np.int32),
            adapter_scales=None if self._adapter is None else np.ones(1, np.float32),
            inputs=inputs,
        )


class Inputs:
    """Rows that matrices read in the last step: valid until the next one."""

    def __init__(self, decoder: _core.Decoder, description: ModelDescription, n_tokens: int) -> None:
        self._decoder, self._description, self._n_tokens = decoder, description, n_tokens

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], Floats]]:
        """Canonical names of the matrices that read the same rows, and the rows, [n, columns]."""
        names = self._description.tensors
        for layer in range(self._description.spec.n_layers):
            for place, parts in _PLACES.items():
                readers = tuple(name for part in parts if (name := f"{layer}.{part}") in names)
                if readers:
                    yield readers, self._decoder.kept_inputs(layer, place)
            if self._description.spec.experts is not None:
                yield from self._of_experts(layer)
        output = "output" if "output" in names else "token_embedding"
        yield (output,), np.stack([self._decoder.hidden(row) for row in range(self._n_tokens)])

    def _of_experts(self, layer: int) -> Iterator[tuple[tuple[str, ...], Floats]]:
        read, gates = (self._decoder.kept_inputs(layer, place) for place in (_core.Input.ffn, _core.Input.ffn_down))
        slots = self._decoder.kept_slots(layer)
        for expert in np.unique(slots[:, 1]).tolist():
            own = slots[:, 1] == expert
            at = f"{layer}.expert.{expert}."
            gated = (f"{at}ffn_gate",) if f"{at}ffn_gate" in self._description.tensors else ()
            yield (*gated, f"{at}ffn_up"), read[slots[own, 0]]
            yield (f"{at}ffn_down",), gates[own]


_PLACES: Final[Mapping[_core.Input, tuple[str, ...]]] = {
    _core.Input.attention: ("query", "key", "value"),
    _core.Input.attention_output: ("attention_output",),
    _core.Input.ffn: ("router", "ffn_gate", "ffn_up"),
    _core.Input.ffn_down: ("ffn_down",),
}
