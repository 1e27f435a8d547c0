"""One model in memory whose matrices change their types, and what that does to its next-token distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from madang.formats.reading import OpenFile
from madang.formats.tensors import TensorType
from madang.native import MutableModel
from madang.quantization.divergence import Divergence, KeptLogits, measure
from madang.quantization.matrices import QuantizableMatrix
from madang.quantization.screen import Encoder

Mix = Mapping[str, TensorType]


class Workbench:
    """The reference's logits on some texts are kept; the model itself becomes whatever is measured."""

    def __init__(
        self,
        model: MutableModel,
        matrices: Sequence[QuantizableMatrix],
        encoder: Encoder,
        texts: Mapping[str, Sequence[Sequence[int]]],
        folder: Path,
    ) -> None:
        """``model`` is the reference, and nobody else uses it any more; ``texts`` are chunks of tokens by name.

        Raises NotEnoughDisk, and what the model raises.
        """
        self._model, self._encoder, self._texts = model, encoder, texts
        self._matrices = {matrix.name: matrix for matrix in matrices}
        self._references = {
            name: KeptLogits(folder / name, model, chunks, model.description.spec.vocab_size)
            for name, chunks in texts.items()
        }
        self._now: dict[str, tuple[TensorType, bool] | None] = dict.fromkeys(self._matrices)

    def measure(self, mix: Mix, text: str, *, n_chunks: int | None = None, feedback: bool = True) -> Divergence:
        """With these matrices in these types, and all others as in the source. ``n_chunks``: only the first ones."""
        for name in self._matrices:
            wanted = (mix[name], feedback) if name in mix else None
            if self._now[name] != wanted:
                self._set(name, wanted)
        return measure(self._references[text], self._model, self._texts[text][:n_chunks])

    def forget(self) -> None:
        """Delete what was kept of the reference."""
        for reference in self._references.values():
            reference.forget()

    def _set(self, name: str, wanted: tuple[TensorType, bool] | None) -> None:
        matrix = self._matrices[name]
        if wanted is None:
            begin, end = matrix.tensor.file_range
            with OpenFile(matrix.tensor.path) as file:
                data = file.read(begin, end - begin).reshape(matrix.n_rows, -1)
            self._model.exchange(matrix.exchange(matrix.tensor.type, data))
        else:
            data = self._encoder.encode(matrix, wanted[0], feedback=wanted[1])
            self._model.exchange(matrix.exchange(wanted[0], data))
        self._now[name] = wanted
