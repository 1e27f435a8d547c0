"""``madang quantize --size``, ``--bits`` and ``--fit-memory``: the types that fit, and their certificate."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, note
from madang.cli.making import n_threads
from madang.core.errors import InvalidRequest
from madang.core.settings import Settings
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from madang.formats.gguf import GGUFFile
    from madang.quantization.sizing import CalibrationText, Made

Size = Annotated[
    str | None, typer.Option("--size", metavar="SIZE", help="The types that lose least in a file of at most so much.")
]
Bits = Annotated[
    float | None,
    typer.Option("--bits", metavar="N", min=1, max=16, help="The same for so many bits per weight; GPTQ: 4, 8, 3, 2."),
]
FitMemory = Annotated[
    str | None,
    typer.Option("--fit-memory", metavar="SIZE", help="The same for what fits there, with a cache of 4096 tokens."),
]
Text = Annotated[
    Path | None,
    typer.Option("--text", metavar="FILE", help="Text to measure on, of the kind that the model is for."),
]
HeldOut = Annotated[
    Path | None,
    typer.Option("--held-out", metavar="FILE", help="Text for the certificate. Unset: the last quarter of --text."),
]

_MEMORY_CONTEXT_TOKENS = 4096
_TELL_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What the file may take, as it was asked for; at most one of them."""

    size: str | None
    bits: float | None
    memory: str | None

    @property
    def is_given(self) -> bool:
        """Whether the types are to be searched for."""
        return any(value is not None for value in (self.size, self.bits, self.memory))

    def n_bytes(self, file: GGUFFile) -> int:
        """Bytes of the file; with --fit-memory, of the weights once loaded. Raises InvalidRequest."""
        from madang.quantization.sizing import size_of_bits

        if sum(value is not None for value in (self.size, self.bits, self.memory)) > 1:
            raise InvalidRequest("--size, --bits and --fit-memory exclude each other.", hint="Give one of them.")
        if self.bits is not None:
            return size_of_bits(file, self.bits)
        if self.size is not None:
            return options.n_bytes(self.size, "size")
        return _fitting_memory(file, options.n_bytes(str(self.memory), "fit-memory"))


def _fitting_memory(file: GGUFFile, memory_bytes: int) -> int:
    from madang.formats.families import describe_gguf
    from madang.hardware import kv_cache_bytes, working_bytes
    from madang.hardware.plan import PREFILL_CHUNK_TOKENS

    spec = describe_gguf(file).spec
    n_tokens = min(spec.context_tokens, _MEMORY_CONTEXT_TOKENS)
    step_tokens = min(PREFILL_CHUNK_TOKENS, n_tokens)
    cache_bytes = kv_cache_bytes(spec, n_tokens, step_tokens=step_tokens)
    program_bytes = working_bytes(spec, step_tokens)
    left = memory_bytes - cache_bytes - program_bytes
    if left <= 0:
        raise InvalidRequest(
            f"Of {format_bytes(memory_bytes)}, the cache takes {format_bytes(cache_bytes)} and the program "
            f"{format_bytes(program_bytes)}: nothing is left for weights.",
            param="fit-memory",
            hint="Give more memory.",
        )
    return left


def quantize_to_limit(
    source: Path,
    target: Path,
    limit: Limit,
    *,
    texts: tuple[Path | None, Path | None],
    settings: Settings,
    as_json: bool,
) -> None:
    """Search, certify and write; print what came of it."""
    from madang.formats.gguf import read_gguf
    from madang.quantization.sizing import Work, quantize_to_size

    file = read_gguf(source)
    n_bytes = limit.n_bytes(file)
    if any(tensor.type.block_elements > 1 for tensor in file.tensors.values()):
        note(
            "Note: the source is quantized already. What that lost stays lost, and the certificate does not count it; "
            "types that hold its values exactly seem to lose nothing. Start from floats."
        )
    made = quantize_to_size(
        source,
        target,
        n_bytes,
        calibration_text(*texts),
        work=Work(settings.home / "quantizing", n_threads(settings)),
        tell=Teller(),
        is_loaded=limit.memory is not None,
    )
    if as_json:
        data_json({"path": str(target), "size_bytes": made.written.size_bytes, "certificate": dict(made.certificate)})
    else:
        _print(target, made)


def calibration_text(text: Path | None, held_out: Path | None) -> CalibrationText:
    """What --text and --held-out say, or Python's documentation. Raises InvalidRequest."""
    from madang.quantization.sizing import CalibrationText, python_documentation

    if text is None:
        if held_out is not None:
            raise InvalidRequest("--held-out without --text.", param="held-out", hint="Give both.")
        note("Note: measuring on Python's documentation; --text FILE measures on what the model is for.")
        return CalibrationText.split("Python documentation", python_documentation())
    if held_out is None:
        return CalibrationText.split(text.name, read_text(text))
    return CalibrationText(f"{text.name}, {held_out.name}", read_text(text), read_text(held_out))


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as text: {error}.", param="text") from error


class Teller:
    """A line on stderr now and then."""

    def __init__(self) -> None:
        self._last_s, self._what = -_TELL_EVERY_S, ""

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what or done == total or now - self._last_s >= _TELL_EVERY_S:
            self._last_s, self._what = now, what
            print(f"{what}: {done} of {total}", file=sys.stderr)


def _print(target: Path, made: Made) -> None:
    proof = made.verdict.to_dict()
    rows = [["", "SIZE", "MEAN KL", "SAME TOP", "PERPLEXITY"]]
    rows += [_row(own) for own in proof["contestants"]]
    data_table(rows, right=[1, 2, 3, 4])
    if not made.verdict.is_budget:
        note(f"Note: no mix was certainly better than {made.verdict.chosen.name}, so that is what was written.")
    data(f"{target}  {format_bytes(made.written.size_bytes)}  {made.verdict.chosen.name}")


def _row(own: Mapping[str, Any]) -> list[str]:
    return [
        own["name"],
        format_bytes(own["size_bytes"]),
        f"{own['mean_kl']:.5f}",
        f"{own['top_1_agreement']:.1%}",
        f"{own['perplexity']:.3f}",
    ]
