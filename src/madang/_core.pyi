"""The C++ core (csrc/). Dimensions: n tokens in a batch, s sequences, p pages of a sequence, v words."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Bits = npt.NDArray[np.uint32]

PAGE_TOKENS: int

def available_isas() -> list[str]:
    """Instruction sets that can run here, best first."""

def tensor_types() -> list[tuple[int, tuple[int, int]]]:
    """The types that run: (id, (elements, bytes) of a block)."""

class DecoderShape:
    n_layers: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    vocab_size: int
    norm_epsilon: float
    rope_interleaved: bool
    inverse_frequencies: list[float]
    rope_magnitude: float
    window_tokens: list[int]

class Decoder:
    def __init__(self, shape: DecoderShape, n_threads: int, isa: str, outlier: float = 0.0) -> None: ...
    def set_tensor(self, name: str, type: int, rows: int, columns: int, data: npt.NDArray[np.uint8]) -> None: ...
    def complete(self) -> None: ...
    def reserve_pages(self, n: int) -> None: ...
    def copy_page(self, source: int, target: int) -> None: ...
    def read_page(self, page: int) -> npt.NDArray[np.uint8]:
        """A copy of a page's keys and values, [page_bytes]; they mean something to the same model only."""
    def write_page(self, page: int, data: npt.NDArray[np.uint8]) -> None: ...
    def step(self, tokens: Ints, positions: Ints, sequences: Ints, page_tables: Ints, outputs: Ints) -> None:
        """tokens, positions, sequences [n]; page_tables [s, p]; outputs: batch indices. ValueError if wrong."""
    def log_probabilities(self, row: int, tokens: Ints) -> tuple[list[float], int]:
        """Of each of ``tokens`` the natural logarithm of its probability, as Choice has it; and the likeliest token."""
    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """A copy, [v]; row i belongs to outputs[i] of the last step."""
    @property
    def n_pages(self) -> int: ...
    @property
    def page_bytes(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def n_threads(self) -> int: ...
    @property
    def isa(self) -> str: ...

class NothingAllowed(RuntimeError):
    """A mask left no token to draw."""

class SamplerOptions:
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    repeat_last_n: int
    seed: int
    bias: list[tuple[int, float]]

class Choice:
    @property
    def token(self) -> int: ...
    @property
    def logprob(self) -> float: ...
    @property
    def alternatives(self) -> list[tuple[int, float]]: ...

class Sampler:
    def __init__(self, options: SamplerOptions) -> None: ...
    def accept(self, tokens: Ints) -> None: ...
    def sample(self, decoder: Decoder, row: int, n_alternatives: int = -1, mask: Bits | None = None) -> Choice:
        """mask: bit t % 32 of word t // 32 says whether token t may come. Raises NothingAllowed, RuntimeError."""
    def sample_from(
        self, logits: npt.NDArray[np.float32], n_alternatives: int = -1, mask: Bits | None = None
    ) -> Choice: ...
