"""GGUF files built byte by byte, so that each can be wrong in exactly one way."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10
TYPE_F32, TYPE_Q4_0, TYPE_Q4_K = 0, 2, 12


class Defect(NamedTuple):
    """A file that must be refused with a sentence that contains ``problem``."""

    name: str
    content: bytes
    problem: str
    unsupported: bool = False


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def string(text: str | bytes) -> bytes:
    encoded = text.encode() if isinstance(text, str) else text
    return u64(len(encoded)) + encoded


def pair(key: str | bytes, value_type: int, payload: bytes) -> bytes:
    return string(key) + u32(value_type) + payload


def array(item_type: int, n_items: int, payload: bytes) -> bytes:
    return u32(item_type) + u64(n_items) + payload


def tensor(name: str | bytes, dims: Sequence[int], type_id: int = TYPE_F32, offset: int = 0) -> bytes:
    return string(name) + u32(len(dims)) + b"".join(u64(dim) for dim in dims) + u32(type_id) + u64(offset)


def gguf(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data_bytes: int = 0,
    *,
    version: int = 3,
    n_pairs: int | None = None,
    n_tensors: int | None = None,
) -> bytes:
    """A file with the default alignment of 32; the counts lie when they are given."""
    header = b"GGUF" + u32(version)
    header += u64(len(tensors) if n_tensors is None else n_tensors) + u64(len(pairs) if n_pairs is None else n_pairs)
    header += b"".join(pairs) + b"".join(tensors)
    return header + b"\0" * (-len(header) % 32) + b"\0" * data_bytes


ARCHITECTURE = pair("general.architecture", STRING, string("llama"))
VALID = gguf(
    [
        ARCHITECTURE,
        pair("llama.block_count", U32, u32(2)),
        pair("llama.rope.freq_base", F32, struct.pack("<f", 10000.0)),
        pair("tokenizer.ggml.add_bos_token", BOOL, b"\1"),
        pair("tokenizer.ggml.tokens", ARRAY, array(STRING, 3, string("a") + string("한국") + string(""))),
        pair("tokenizer.ggml.scores", ARRAY, array(F32, 3, struct.pack("<3f", 0, -1, -2))),
        pair("flags", ARRAY, array(BOOL, 2, b"\0\1")),
        pair("none", ARRAY, array(STRING, 0, b"")),
    ],
    [tensor("token_embd.weight", [4, 3], TYPE_F32, 0), tensor("blk.0.attn_q.weight", [64, 2], TYPE_Q4_0, 64)],
    64 + 4 * 18,
)


def _with(pairs: Sequence[bytes] = (), tensors: Sequence[bytes] = (), data_bytes: int = 0, **lies: int) -> bytes:
    return gguf([ARCHITECTURE, *pairs], tensors, data_bytes, **lies)


def _aligned_to(alignment: int) -> bytes:
    return _with([pair("general.alignment", U32, u32(alignment))], [tensor("a", [8])], 1024)


NOT_GGUF = [
    Defect("text file", b"Once upon a time there was a llama.\n" * 9, "it is a text file"),
    Defect("git lfs pointer", b"version https://git-lfs.example/spec/v1\noid sha256:00\n", "Git LFS pointer"),
    Defect("web page", b"<!DOCTYPE html><html></html>", "looks like a web page"),
    Defect("zip archive", b"PK\x03\x04" + b"\0" * 60, "it is a zip archive"),
    Defect("format before GGUF", b"tjgg" + u32(3) + b"\0" * 60, "GGML format"),
    Defect("random bytes", bytes(range(128, 256)), "does not begin with 'GGUF'"),
    Defect("magic only", b"GGUF", "ends inside the version"),
    Defect("no counts", b"GGUF" + u32(3), "ends inside the number of tensors"),
    Defect("version 1", gguf(version=1), "GGUF version 1, only versions 2 and 3", unsupported=True),
    Defect("version 99", gguf(version=99), "GGUF version 99", unsupported=True),
    Defect("big-endian", b"GGUF" + struct.pack(">I", 3) + b"\0" * 64, "big-endian", unsupported=True),
]

BAD_METADATA = [
    Defect("key count absurd", _with(n_pairs=2**63), f"claims {2**63} metadata keys"),
    Defect("key count too high by one", _with(n_pairs=2), "metadata key 1 has 0 bytes"),
    Defect("key twice", _with([ARCHITECTURE]), "'general.architecture' occurs twice"),
    Defect("key empty", _with([pair("", U32, u32(0))]), "metadata key 1 has 0 bytes"),
    Defect("key too long", _with([pair("k" * 65_536, U32, u32(0))]), "metadata key 1 has 65536 bytes"),
    Defect("key length absurd", _with([u64(2**64 - 1) + b"k"]), f"metadata key 1 has {2**64 - 1} bytes"),
    Defect("key past the end", _with([u64(60_000) + b"k"]), "ends inside metadata key 1"),
    Defect("key not UTF-8", _with([pair(b"\xff\xfe", U32, u32(0))]), "metadata key 1 is not UTF-8"),
    Defect("key with escape codes", _with([pair("a\x1b[31m", U32, u32(0))]), "metadata key 1 has unprintable"),
    Defect("value type unknown", _with([pair("k", 13, u32(0))]), "'k' has the unknown value type 13"),
    Defect("value cut off", _with([pair("k", U64, b"")])[:-8], "ends inside metadata 'k'"),
    Defect("boolean two", _with([pair("k", BOOL, b"\2")]), "'k' is a boolean with the value 2"),
    Defect("string past the end", _with([pair("k", STRING, u64(2**40) + b"x")]), "ends inside metadata 'k'"),
    Defect("string length overflow", _with([pair("k", STRING, u64(2**64 - 1))]), "ends inside metadata 'k'"),
    Defect("string not UTF-8", _with([pair("k", STRING, string(b"\xed\xa0\x80"))]), "'k' is not UTF-8"),
    Defect("array of arrays", _with([pair("k", ARRAY, array(ARRAY, 1, array(U32, 0, b"")))]), "array of arrays"),
    Defect("array item type unknown", _with([pair("k", ARRAY, array(77, 0, b""))]), "unknown value type 77"),
    Defect("array longer than the file", _with([pair("k", ARRAY, array(U32, 2**30, b""))]), "claims 1073741824 items"),
    Defect("array size overflow", _with([pair("k", ARRAY, array(U64, 2**61, b""))]), f"claims {2**61} items"),
    Defect("string array longer than the file", _with([pair("k", ARRAY, array(STRING, 2**62, b""))]), "more than"),
    Defect(
        "string array item past the end",
        _with([pair("k", ARRAY, array(STRING, 2, string("a") + u64(2**63)))]),
        "ends inside item 1 of metadata 'k'",
    ),
    Defect(
        "string array cut off",
        _with([pair("k", ARRAY, array(STRING, 3, string("a" * 101) + string("bcdefghijk")))]),
        "ends inside item 2 of metadata 'k'",
    ),
    Defect(
        "string array not UTF-8",
        _with([pair("k", ARRAY, array(STRING, 2, string("a") + string(b"\xc3")))]),
        "item 1 of metadata 'k' is not UTF-8",
    ),
    Defect(
        "boolean array with a seven", _with([pair("k", ARRAY, array(BOOL, 2, b"\1\7"))]), "booleans with the value 7"
    ),
    Defect("alignment zero", _aligned_to(0), "'general.alignment' is 0"),
    Defect("alignment not a power of two", _aligned_to(48), "48, expected a power of two"),
    Defect("alignment absurd", _aligned_to(2**31), "'general.alignment' is 2147483648"),
    Defect(
        "alignment a text",
        _with([pair("general.alignment", STRING, string("32"))]),
        "'general.alignment' is a text, expected a whole number",
    ),
    Defect(
        "second part of a split model",
        _with([pair("split.count", U32, u32(3)), pair("split.no", U32, u32(1))]),
        "part 2 of 3",
        unsupported=True,
    ),
]

BAD_TENSORS = [
    Defect("tensor count absurd", _with(n_tensors=2**64 - 1), f"claims {2**64 - 1} tensors"),
    Defect("tensor count too high by one", _with(tensors=[tensor("a", [8])], n_tensors=2), "tensor"),
    Defect("tensor twice", _with(tensors=[tensor("a", [8]), tensor("a", [8], offset=32)], data_bytes=64), "'a' occurs"),
    Defect("tensor name empty", _with(tensors=[tensor("", [8])], data_bytes=32), "tensor name has 0 bytes"),
    Defect("tensor name too long", _with(tensors=[tensor("a" * 65, [8])], data_bytes=32), "tensor name has 65 bytes"),
    Defect("tensor name not UTF-8", _with(tensors=[tensor(b"\x80", [8])], data_bytes=32), "tensor name is not UTF-8"),
    Defect("no dimensions", _with(tensors=[tensor("a", [])], data_bytes=32), "'a' has 0 dimensions"),
    Defect("five dimensions", _with(tensors=[tensor("a", [1] * 5)], data_bytes=32), "'a' has 5 dimensions"),
    Defect("dimension of zero", _with(tensors=[tensor("a", [8, 0])], data_bytes=32), "dimension of zero"),
    Defect("element count overflow", _with(tensors=[tensor("a", [2**32, 2**32])], data_bytes=32), "63 bits"),
    Defect("element count wraps to one", _with(tensors=[tensor("a", [2**64 - 1] * 2)], data_bytes=32), "63 bits"),
    Defect("size overflow", _with(tensors=[tensor("a", [2**62])], data_bytes=32), "tensor 'a' ends at byte"),
    Defect(
        "row not whole blocks", _with(tensors=[tensor("a", [48], TYPE_Q4_0)], data_bytes=32), "whole blocks of Q4_0"
    ),
    Defect("row half a superblock", _with(tensors=[tensor("a", [128, 2], TYPE_Q4_K)], data_bytes=288), "of Q4_K"),
    Defect("type unknown", _with(tensors=[tensor("a", [8], 777)], data_bytes=32), "unknown (id 777)", unsupported=True),
    Defect("type removed", _with(tensors=[tensor("a", [32], 31)], data_bytes=32), "Q4_0_4_4", unsupported=True),
    Defect("offset unaligned", _with(tensors=[tensor("a", [8], offset=4)], data_bytes=64), "offset 4, no multiple"),
    Defect("offset past the end", _with(tensors=[tensor("a", [8], offset=2**20)], data_bytes=32), "file ends at byte"),
    Defect("offset overflow", _with(tensors=[tensor("a", [8], offset=2**64 - 32)], data_bytes=32), "ends at byte"),
    Defect("data cut off by one byte", _with(tensors=[tensor("a", [8])], data_bytes=31), "tensor 'a' ends at byte"),
    Defect("no data at all", _with(tensors=[tensor("a", [8])]), "tensor 'a' ends at byte"),
    Defect(
        "tensors overlap", _with(tensors=[tensor("a", [16]), tensor("b", [8], offset=32)], data_bytes=64), "overlap"
    ),
    Defect("tensors share bytes", _with(tensors=[tensor("a", [8]), tensor("b", [8])], data_bytes=64), "overlap"),
]

DEFECTS = NOT_GGUF + BAD_METADATA + BAD_TENSORS
