"""A student in torch: its loss on one step's sequences, and its folder when it has learnt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.core.errors import EngineUnavailable, UnsupportedModel
from madang.core.writing import replacing, within_disk
from madang.formats.families import describe_folder
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.json_object import read_json_object
from madang.training.distilling.losses import LossParts, top_k_kl
from madang.training.distilling.teacher_logits import TeacherRows, labelled
from madang.training.examples.encoding import Encoded
from madang.training.folders import copy_companions, require_new

# Rows of full logits that exist at once, forwards and again backwards.
_PIECE_ROWS: Final = 512
_UNUSUAL_HEADS: Final = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class Student:
    """A causal model of a folder, with weights in float32; ``bfloat16`` computes in that and keeps them."""

    def __init__(self, folder: Path, *, precision: str | None = None, n_threads: int | None = None) -> None:
        """Load it where there is most to compute with. Raises EngineUnavailable without torch, UnsupportedModel."""
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise EngineUnavailable("Training needs PyTorch.", hint="pip install 'madang[train]'") from error
        config = read_json_object(folder / CONFIG_FILE, MAX_CONFIG_BYTES)
        unusual = [name for name in _UNUSUAL_HEADS if config.get(name) is not None]
        if unusual:
            raise UnsupportedModel(f"models with '{unusual[0]}' as students", engine="distilling")
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.precision = precision or ("bfloat16" if self.device == "cuda" else "float32")
        self._folder = folder
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(self.device)
        self.model.train()

    @property
    def parameters(self) -> dict[str, Any]:
        """By name; a tied head is not there twice."""
        return dict(self.model.named_parameters())

    def parts(self, items: Sequence[Encoded], teacher: Sequence[TeacherRows] | None, temperature: float) -> LossParts:
        """Sums over the labelled tokens of the sequences; without a teacher, the KL is 0."""
        import torch
        from torch.utils.checkpoint import checkpoint

        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            hidden = self._hidden(items)
        labels = np.concatenate([item.labels[1:][labelled(item)] for item in items]).astype(np.int64)
        labels_n = torch.from_numpy(labels).to(self.device)
        teacher_n = None if teacher is None else self._joined(teacher)
        kl = cross_entropy = hidden.new_zeros((), dtype=torch.float32)
        for begin in range(0, len(labels), _PIECE_ROWS):
            own = slice(begin, begin + _PIECE_ROWS)
            rows = None if teacher_n is None else tuple(part[own] for part in teacher_n)
            piece = partial(self._piece, temperature=temperature)
            more_kl, more = checkpoint(piece, hidden[own], labels_n[own], rows, use_reentrant=False)
            kl, cross_entropy = kl + more_kl, cross_entropy + more
        return LossParts(kl, cross_entropy)

    def _hidden(self, items: Sequence[Encoded]) -> Any:
        """What the head reads of each labelled token, [n, n_embd], sequence after sequence."""
        import torch

        longest = max(len(item.input_ids) for item in items)
        tokens = np.zeros((len(items), longest), np.int64)
        mask = np.zeros((len(items), longest), np.int64)
        for row, item in enumerate(items):
            tokens[row, : len(item.input_ids)] = item.input_ids
            mask[row, : len(item.input_ids)] = 1
        given = {"input_ids": torch.from_numpy(tokens).to(self.device), "use_cache": False}
        if not mask.all():
            given["attention_mask"] = torch.from_numpy(mask).to(self.device)
        states = self.model.get_decoder()(**given).last_hidden_state
        places = np.concatenate([labelled(item) + row * longest for row, item in enumerate(items)])
        return states.reshape(-1, states.shape[-1])[torch.from_numpy(places).to(self.device)]

    def _piece(self, hidden: Any, labels: Any, teacher: tuple[Any, Any, Any] | None, *, temperature: float) -> Any:
        import torch

        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = self.model.get_output_embeddings()(hidden)
        cross_entropy = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        if teacher is None:
            return logits.new_zeros((), dtype=torch.float32), cross_entropy
        return top_k_kl(logits, *teacher, temperature).sum(), cross_entropy

    def _joined(self, teacher: Sequence[TeacherRows]) -> tuple[Any, Any, Any]:
        import torch

        words, logits, tail = (np.concatenate(parts) for parts in zip(*teacher, strict=True))
        return (
            torch.from_numpy(words.astype(np.int64)).to(self.device),
            torch.from_numpy(logits).to(self.device),
            torch.from_numpy(tail).to(self.device),
        )

    def save(self, target: Path, documents: dict[str, Any]) -> None:
        """Write it as a folder, in the type that it came in. Raises InvalidRequest, NotEnoughDisk."""
        import torch

        require_new(target)
        named = read_json_object(self._folder / CONFIG_FILE, MAX_CONFIG_BYTES)
        stored = getattr(torch, str(named.get("dtype", named.get("torch_dtype", "float32"))), torch.float32)
        total_bytes = sum(parameter.numel() for parameter in self.parameters.values()) * stored.itemsize
        with within_disk(target.parent, total_bytes), replacing(target) as folder:
            self.model.to(stored).save_pretrained(folder)
            copy_companions(self._folder, folder)
            for name, document in documents.items():
                folder.joinpath(name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            describe_folder(folder)
