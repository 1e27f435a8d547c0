"""Train the small 256-aligned Llama that quantizers are measured on, in float32, and write it as GGUF.

    python benchmarks/train_reference.py TARGET.gguf [--steps 1200]

The starter model lies on a 4-bit grid and its width is no multiple of 256, so nothing can be learned from it about
K-types; this one has natural float32 weights. It reads the data files of the tests, except wikitext (importance and
certification are measured there), KoBEST and KLUE. One thread and a fixed seed; about 20 minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from own_engine import DATA

SEED = 5
CHUNK_TOKENS, BATCH = 256, 8
EVEN_DECAY_FROM = 0.4  # of all steps: the learning rate is constant until here, then falls to 0


@dataclass(frozen=True)
class Shape:
    """Dimensions; every row is a multiple of 256 elements."""

    n_embd: int = 256
    n_layers: int = 6
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 64
    n_ff: int = 768
    vocab_size: int = 4096
    context_tokens: int = 1024
    norm_epsilon: float = 1e-5
    rope_base: float = 10_000.0


def read_texts() -> list[str]:
    """The corpus, in a fixed order."""
    english, korean = DATA / "english", DATA / "korean"
    texts = [(english / "tinyshakespeare.txt").read_text(encoding="utf-8")]
    for line in (english / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        texts.append(f"{item['question']}\n{item['answer']}\n\n")
    for line in (english / "qmsum_val.jsonl").read_text(encoding="utf-8").splitlines():
        turns = json.loads(line)["meeting_transcripts"]
        texts.append("".join(f"{turn['speaker']}: {turn['content']}\n" for turn in turns) + "\n")
    for name in ("en_pud", "ko_pud"):
        lines = (DATA / "parallel" / f"{name}.conllu").read_text(encoding="utf-8").splitlines()
        texts.append("\n".join(line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")))
    texts += [path.read_text(encoding="utf-8") for path in sorted((korean / "rust_book").glob("*.md"))]
    with (korean / "chatbot_data.csv").open(encoding="utf-8") as rows:
        texts.append("\n".join(f"{row['Q']}\n{row['A']}" for row in csv.DictReader(rows)))
    return texts


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE as GPT-2 has it; token 0 ends a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions of neighbouring pairs, the order that GGUF files of Llama have."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)


class Block(nn.Module):
    """Attention and feed-forward, each after an RMSNorm."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.shape = s
        self.attention_norm, self.ffn_norm = (nn.RMSNorm(s.n_embd, s.norm_epsilon) for _ in range(2))
        self.q = nn.Linear(s.n_embd, s.n_heads * s.head_dim, bias=False)
        self.k = nn.Linear(s.n_embd, s.n_kv_heads * s.head_dim, bias=False)
        self.v = nn.Linear(s.n_embd, s.n_kv_heads * s.head_dim, bias=False)
        self.output = nn.Linear(s.n_heads * s.head_dim, s.n_embd, bias=False)
        self.gate = nn.Linear(s.n_embd, s.n_ff, bias=False)
        self.up = nn.Linear(s.n_embd, s.n_ff, bias=False)
        self.down = nn.Linear(s.n_ff, s.n_embd, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """[batch, n, n_embd] to the same."""
        n_batch, n, _ = x.shape
        read = self.attention_norm(x)
        q, k, v = (f(read).view(n_batch, n, -1, self.shape.head_dim).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = rotated(q, cosine, sine), rotated(k, cosine, sine)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.output(seen.transpose(1, 2).reshape(n_batch, n, -1))
        read = self.ffn_norm(x)
        return x + self.down(functional.silu(self.gate(read)) * self.up(read))


class Llama(nn.Module):
    """Embedding, blocks, and the embedding again as output."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.shape = s
        self.embedding = nn.Embedding(s.vocab_size, s.n_embd)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.n_layers))
        self.norm = nn.RMSNorm(s.n_embd, s.norm_epsilon)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                deep = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * s.n_layers) if deep else 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, n, vocab] of [batch, n]."""
        s = self.shape
        inverse = s.rope_base ** (-torch.arange(0, s.head_dim, 2) / s.head_dim)
        angles = torch.outer(torch.arange(tokens.shape[1]).float(), inverse)
        cosine, sine = angles.cos(), angles.sin()
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cosine, sine)
        logits: Tensor = self.norm(x) @ self.embedding.weight.T
        return logits


def batches(tokens: Tensor, n_steps: int, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets, from random places."""
    for _ in range(n_steps):
        begins = torch.randint(len(tokens) - CHUNK_TOKENS - 1, (BATCH,), generator=draw)
        cut = torch.stack([tokens[begin : begin + CHUNK_TOKENS + 1] for begin in begins.tolist()])
        yield cut[:, :-1], cut[:, 1:]


def train(tokens: Tensor, shape: Shape, n_steps: int) -> Llama:
    """AdamW on next-token loss."""
    torch.manual_seed(SEED)
    model = Llama(shape)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95))

    def rate(step: int) -> float:
        return min((step + 1) / 60, 1.0, (n_steps - step) / (n_steps * (1 - EVEN_DECAY_FROM)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    started = time.perf_counter()
    for step, (inputs, targets) in enumerate(batches(tokens, n_steps, torch.Generator().manual_seed(SEED))):
        loss = functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == n_steps - 1:
            print(f"step {step}  loss {loss.item():.3f}  {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return model


def write(path: Path, model: Llama, tokenizer: Tokenizer) -> None:
    """Everything in F32, with the tokenizer."""
    s, writer = model.shape, GGUFWriter(path, "llama")
    writer.add_name("madang reference 256")
    writer.add_context_length(s.context_tokens)
    writer.add_embedding_length(s.n_embd)
    writer.add_block_count(s.n_layers)
    writer.add_feed_forward_length(s.n_ff)
    writer.add_head_count(s.n_heads)
    writer.add_head_count_kv(s.n_kv_heads)
    writer.add_rope_dimension_count(s.head_dim)
    writer.add_rope_freq_base(s.rope_base)
    writer.add_layer_norm_rms_eps(s.norm_epsilon)
    writer.add_vocab_size(s.vocab_size)
    add_tokenizer(writer, tokenizer)
    for name, values in named_tensors(model):
        array = np.ascontiguousarray(values.detach().numpy(), np.float32)
        writer.add_tensor(name, array, raw_dtype=GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    """Vocabulary and merges."""
    facts = json.loads(tokenizer.to_str())["model"]
    texts = sorted(facts["vocab"], key=facts["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types([TokenType.CONTROL if i == 0 else TokenType.NORMAL for i in range(len(texts))])
    writer.add_token_merges([" ".join(pair) for pair in facts["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


def named_tensors(model: Llama) -> Iterator[tuple[str, Tensor]]:
    """In GGUF's names."""
    yield "token_embd.weight", model.embedding.weight
    yield "output_norm.weight", model.norm.weight
    names = {
        "attention_norm": "attn_norm",
        "q": "attn_q",
        "k": "attn_k",
        "v": "attn_v",
        "output": "attn_output",
        "ffn_norm": "ffn_norm",
        "gate": "ffn_gate",
        "up": "ffn_up",
        "down": "ffn_down",
    }
    for index, block in enumerate(model.blocks):
        for own, name in names.items():
            yield f"blk.{index}.{name}.weight", getattr(block, own).weight


def main(arguments: Sequence[str]) -> int:
    """Train and write; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    texts, shape = read_texts(), Shape()
    tokenizer = train_tokenizer(texts, shape.vocab_size)
    tokens = torch.tensor([token for text in texts for token in [*tokenizer.encode(text).ids, 0]])
    print(f"{sum(map(len, texts)):,} characters, {len(tokens):,} tokens", file=sys.stderr)
    model = train(tokens, shape, options.steps)
    unfinished = options.target.with_suffix(".part")
    write(unfinished, model, tokenizer)
    unfinished.replace(options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
