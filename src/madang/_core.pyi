"""The C++ core (csrc/). Dimensions: n tokens in a batch, s sequences, g groups of layers, p pages of each, v words."""

import enum

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Bits = npt.NDArray[np.uint32]
TypedBytes = tuple[int, npt.NDArray[np.uint8]]  # a float type's id, and data of it

PAGE_TOKENS: int

def available_isas() -> list[str]:
    """Instruction sets that can run here, best first."""

def tensor_types() -> list[tuple[int, tuple[int, int]]]:
    """The types that run: (id, (elements, bytes) of a block)."""

def packed_bytes(type: int, rows: int, columns: int) -> int:
    """What a matrix takes in memory. ValueError for a type that does not run."""

def unpacked(type: int, rows: int, columns: int, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """[rows, columns] of a tensor that was packed: what products and embeddings see. ValueError as in set_tensor."""

def divergences(
    reference: npt.NDArray[np.float32], logits: npt.NDArray[np.float32], targets: Ints
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Logits [n, v] against a reference's, and the n tokens that came next.

    Gives [n, 3]: KL(reference || other) in nats, and the log-probability of the target in either; and [n]: 1 where the
    likeliest tokens are the same. RuntimeError for rows that are not numbers, ValueError for wrong shapes.
    """

def quantized(
    type: int,
    values: npt.NDArray[np.float32],
    importance: npt.NDArray[np.float32] | None,
    passed_on: npt.NDArray[np.float32] | None,
    n_threads: int,
    isa: str = "",
) -> npt.NDArray[np.uint8]:
    """[rows, bytes of a row] of finite values [rows, columns], with an importance per column or None.

    passed_on   [columns, columns]: with error feedback, column i gives passed_on[i, j] of what column j < i lost

    The same bytes from every instruction set and number of threads. ValueError for a type without
    quantizer, or whose blocks do not divide the columns.
    """

class Activation(enum.Enum):
    silu = ...
    gelu = ...
    gelu_tanh = ...
    relu = ...

class Rope:
    def __init__(self, interleaved: bool, inverse_frequencies: list[float], magnitude: float = 1.0) -> None: ...

class DecoderShape:
    """Starts as a Llama's, without dimensions; csrc/shape.h says what each means."""

    n_layers: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    vocab_size: int
    ropes: list[Rope]
    layer_ropes: list[int]
    long_rope: Rope | None
    window_tokens: list[int]
    page_groups: list[int]
    norm_epsilon: float
    layer_norm: bool
    norms_sum: bool
    parallel: bool
    gated: bool
    causal: bool
    activation: Activation
    n_experts: int
    n_experts_used: int
    experts_normalized: bool
    attention_scale: float | None
    attention_softcap: float | None
    logit_softcap: float | None
    embedding_scale: float
    residual_scale: float
    logit_scale: float

class KvType(enum.Enum):
    """How the cache keeps keys and values."""

    f16 = ...
    int8 = ...

class Input(enum.Enum):
    """Where a layer's matrices read: query, key and value; attention_output; router, gate and up; ffn_down."""

    attention = ...
    attention_output = ...
    ffn = ...
    ffn_down = ...

class Decoder:
    def __init__(
        self, shape: DecoderShape, n_threads: int, isa: str, outlier: float = 0.0, kv_type: KvType = ...
    ) -> None: ...
    def set_tensor(self, name: str, type: int, rows: int, columns: int, data: npt.NDArray[np.uint8]) -> None: ...
    def complete(self) -> None:
        """After the last tensor, and again after others took the place of some."""
    def reserve_pages(self, n: int) -> None: ...
    def copy_page(self, source: int, target: int) -> None: ...
    def read_page(self, page: int) -> npt.NDArray[np.uint8]:
        """A copy of a page's keys and values, [page_bytes]; they mean something to the same model only."""
    def write_page(self, page: int, data: npt.NDArray[np.uint8]) -> None: ...
    def add_adapter(self) -> int:
        """An empty one; its id. Adapters change only while no step runs."""
    def set_adapter_matrix(self, adapter: int, name: str, rank: int, a: TypedBytes, b: TypedBytes) -> None:
        """y += scale * B (A x) for the matrix of that name: A is rank x n_in, B n_out x rank, of float types."""
    def remove_adapter(self, adapter: int) -> None: ...
    def step(
        self,
        tokens: Ints,
        positions: Ints,
        sequences: Ints,
        page_tables: Ints,
        outputs: Ints,
        *,
        wants_logits: bool = True,
        long_rope: Ints | None = None,
        adapters: Ints | None = None,
        adapter_scales: npt.NDArray[np.float32] | None = None,
        types: Ints | None = None,
        trace: bool = False,
        inputs: bool = False,
    ) -> None:
        """tokens, positions, sequences [n]; page_tables [s * g, p]; outputs: batch indices. ValueError if wrong.

        long_rope       [s]: 1 rotates a sequence with the shape's ``long_rope``
        adapters        [s]: ids, or -1; with adapter_scales [s]
        types           [n]: which row of the type embedding each token has; None is the first for all
        trace           keep what ``traced_hidden`` and ``traced_attention`` give, until the next step
        inputs          keep what ``kept_inputs`` and ``kept_slots`` give, until the next step
        """
    def log_probabilities(self, row: int, tokens: Ints) -> tuple[list[float], int]:
        """Of each of ``tokens`` the natural logarithm of its probability, as Choice has it; and the likeliest token."""
    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """A copy, [v]; row i belongs to outputs[i] of the last step."""
    def hidden(self, row: int) -> npt.NDArray[np.float32]:
        """A copy of what the logits are made of, [n_embd]: the last layer's state after the output norm."""
    def traced_hidden(self) -> npt.NDArray[np.float32]:
        """[layers + 1, n, n_embd]: what each layer reads, and what the last one leaves."""
    def traced_attention(self) -> npt.NDArray[np.float32]:
        """[layers, heads, n, positions]: probabilities over the positions of each token's own sequence."""
    def drop_trace(self) -> None:
        """Free what the last step kept; the next one would."""
    def kept_inputs(self, layer: int, place: Input) -> npt.NDArray[np.float32]:
        """What the matrices at a place of a layer read, [n, width]; of experts' ffn_down, [n * experts used, width]."""
    def kept_slots(self, layer: int) -> npt.NDArray[np.int32]:
        """Whose rows of ``ffn_down`` those are: [rows, (token, expert)]; empty where there are no experts."""
    def drop_inputs(self) -> None:
        """Free what the last step kept; the next one would."""
    def read_out(self, states: npt.NDArray[np.float32]) -> None:
        """Leave rows as a step does, of states of any layer, [n, n_embd], without adapters. ValueError: an encoder."""
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
    """Mask and bias left no token to draw."""

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
    def foresee(self, decoder: Decoder, row: int) -> int:
        """The likeliest token, if ``sample`` draws it under any mask that allows it; else -1. Raises RuntimeError."""
    def foresee_from(self, logits: npt.NDArray[np.float32]) -> int: ...
    def take(self, decoder: Decoder, row: int, token: int, n_alternatives: int = -1) -> Choice:
        """What ``sample`` does and returns when it draws ``token``."""
    def take_from(self, logits: npt.NDArray[np.float32], token: int, n_alternatives: int = -1) -> Choice: ...
