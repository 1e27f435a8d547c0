"""What ``madang prune``, ``distill`` and ``merge`` tell of what they made: its certificate, its run, a line."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from madang.cli.console import data, data_json
from madang.cli.ledger import keep_run, tell_run
from madang.core.settings import Settings
from madang.core.units import format_bytes

CHUNK_TOKENS: Final = 256
REPORT_CHUNKS: Final = 128


@dataclass(slots=True)
class Made:
    """A folder that a verb wrote, of ``sources``, and what is known of it.

    document     for programs; with its certificate, where there is one
    evaluation   the figures as ``madang runs`` compares them: of what was made, and of the first before it
    """

    kind: str
    sources: Sequence[str]
    document: dict[str, Any]
    begun_s: float  # of time.monotonic
    evaluation: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.document["path"])

    def certify(self, models: dict[str, Path], words: str, threads: int, told: dict[str, Any]) -> None:
        """Compare it, the last of the models, with the others on a text, and put the certificate into the folder."""
        from madang.core.writing import write_atomically
        from madang.native import MutableModel
        from madang.quantization.divergence import cut
        from madang.training.certificate import CERTIFICATE_FILE, as_evaluation, certificate_of, measure_folders

        chunks = cut(MutableModel(self.path, threads).tokenize(words), CHUNK_TOKENS, at_most=REPORT_CHUNKS)
        found = measure_folders(models, chunks, threads)
        certificate = {**certificate_of(models, found, threads), **told}
        write_atomically(self.path / CERTIFICATE_FILE, json.dumps(certificate, indent=2) + "\n")
        self.document["certificate"] = certificate
        first, *_, last = found.items()
        self.evaluation = {
            "evaluation": as_evaluation(self.path.name, last[1], chunks).to_dict(),
            "evaluation_of_base": as_evaluation(*first, chunks).to_dict(),
        }

    def keep(self, settings: Settings) -> None:
        """Into the ledger."""
        from madang.storage import Experiment
        from madang.training.models import digest_of

        figures = list(self.document.get("certificate", {}).get("models", {}).values())[-1:]
        scores = {"perplexity": figures[0]["perplexity"], "KL": {"value": figures[0]["mean_kl"]}} if figures else {}
        if "loss" in self.document:
            scores["loss"] = {"value": self.document["loss"]}
        own = Experiment(
            kind=self.kind,
            model=self.path.name,
            digest=digest_of(self.path),
            made_at=datetime.now(UTC),
            seconds=time.monotonic() - self.begun_s,
            facts={"of": list(self.sources), "scores": scores},
            document={**self.document, **self.evaluation},
        )
        tell_run(keep_run(settings.home, own))

    def tell(self, *, as_json: bool) -> None:
        """One line for people, with a table of the certificate above it, or everything for programs."""
        if as_json:
            data_json(self.document)
            return
        for name, found in self.document.get("certificate", {}).get("models", {}).items():
            data(
                f"{name:10}  perplexity {found['perplexity']['value']:.2f}  KL {found['mean_kl']:.3f}  "
                f"{format_bytes(found['size_bytes'])}  "
                f"prompt {found['prompt_tokens_s']:.0f}/s  decode {found['decode_tokens_s']:.0f}/s"
            )
        data(f"{self.document['path']}  {format_bytes(int(self.document['size_bytes']))}")
