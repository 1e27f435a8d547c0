"""A student in torch: its loss on one step's sequences, and its folder when it has learnt."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.core.errors import EngineUnavailable
from madang.core.writing import replacing, within_disk
from madang.formats.families import describe_folder
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.json_object import read_json_object
from madang.hardware.cpu import isa
from madang.training.batching import pad_row
from madang.training.distilling.losses import LossParts, top_k_divergence
from madang.training.distilling.own_words import in_own_words
from madang.training.distilling.teacher_logits import TeacherRows
from madang.training.examples.encoding import Encoded
from madang.training.folders import copy_companions, require_new
from madang.training.loss import Objective
from madang.training.planning import fastest_dtype

# Rows of full logits that exist at once, forwards and again backwards.
_PIECE_ROWS: Final = 512


class Student(Objective):
    """The model of a folder, with weights in float32; ``bfloat16`` computes in that and keeps them."""

    def __init__(self, folder: Path, *, precision: str | None = None, n_threads: int | None = None) -> None:
        """Load it where there is most to compute with. Raises EngineUnavailable without torch."""
        try:
            import torch
            from transformers import AutoModelForCausalLM
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise EngineUnavailable("Training needs PyTorch.", hint="pip install 'madang[train]'") from error
        disable_progress_bar()
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        usual = fastest_dtype(isa(), device == "cuda").value
        super().__init__(model.to(device).train(), device, precision or usual)
        self._folder = folder

    @property
    def size_bytes(self) -> int:
        """Of its weights; a tied head is not there twice."""
        return sum(weight.numel() * weight.element_size() for weight in self.causal.parameters())

    def in_own_words(self, item: Encoded, ends: Collection[int], seed: tuple[int, ...]) -> Encoded:
        """See own_words.py."""
        with self._autocast():
            return in_own_words(self.causal, item, ends, seed)

    def parts(
        self, items: Sequence[Encoded], teacher: Sequence[TeacherRows] | None, temperature: float, beta: float = 0.0
    ) -> LossParts:
        """Sums over the labelled tokens of the sequences; without a teacher, the divergence is 0."""
        from torch.utils.checkpoint import checkpoint

        row = pad_row(items)
        if teacher is None:
            cross_entropy = self.loss(row)
            return LossParts(cross_entropy.new_zeros(()), cross_entropy)
        labels_n, teacher_n = self._tensor(row.targets), self._joined(teacher)
        with self._autocast():
            states = self._hidden(row) if self._is_product else self._logits(row)
        piece = partial(self._piece, partial(top_k_divergence, temperature=temperature, beta=beta))
        parts = []
        for begin in range(0, len(row.targets), _PIECE_ROWS):
            own = slice(begin, begin + _PIECE_ROWS)
            rows = tuple(part[own] for part in teacher_n)
            parts.append(checkpoint(piece, states[own], labels_n[own], rows, use_reentrant=False))
        kl, cross_entropy = (sum(sums) for sums in zip(*parts, strict=True))
        return LossParts(kl, cross_entropy)

    def _piece(self, divergence: Any, states: Any, labels: Any, teacher: tuple[Any, Any, Any]) -> LossParts:
        import torch

        with self._autocast():
            logits = self._head(states) if self._is_product else states
        cross_entropy = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        return LossParts(divergence(logits, *teacher).sum(), cross_entropy)

    def _joined(self, teacher: Sequence[TeacherRows]) -> tuple[Any, Any, Any]:
        words, logits, tail = (np.concatenate(parts) for parts in zip(*teacher, strict=True))
        return self._tensor(words.astype(np.int64)), self._tensor(logits), self._tensor(tail)

    def save(self, target: Path, documents: Mapping[str, Any]) -> None:
        """Write it as a folder, in the type that it came in. Raises InvalidRequest, NotEnoughDisk."""
        import torch

        require_new(target)
        named = read_json_object(self._folder / CONFIG_FILE, MAX_CONFIG_BYTES)
        stored = getattr(torch, str(named.get("dtype", named.get("torch_dtype", "float32"))), torch.float32)
        with within_disk(target.parent, self.size_bytes), replacing(target) as folder:
            self.causal.to(stored).save_pretrained(folder)
            copy_companions(self._folder, folder)
            for name, document in documents.items():
                folder.joinpath(name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            describe_folder(folder)
