"""safetensors files built byte by byte, so that each can be wrong in exactly one way."""

from __future__ import annotations

import json
import struct

from tests.formats.malformed.gguf_files import Defect


def safetensors(header: object, data_bytes: int = 0, *, header_bytes: int | None = None) -> bytes:
    """A header (JSON text, bytes, or what becomes JSON) and zeros; the header length lies when it is given."""
    if not isinstance(header, bytes):
        header = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(header) if header_bytes is None else header_bytes) + header + b"\0" * data_bytes


def entry(dtype: object = "F32", shape: object = (2, 2), begin: object = 0, end: object = 16) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _one(data_bytes: int = 16, **fields: object) -> bytes:
    return safetensors({"a": entry() | fields}, data_bytes)


VALID = safetensors(
    {
        "__metadata__": {"format": "pt"},
        "가중치": entry("F16", [3, 4], 16, 40),
        "a": entry(),
        "bias": entry("BF16", [4], 40, 48),
        "ids": entry("I64", [], 48, 56),
        "nothing": entry("F32", [0, 7], 56, 56),
    },
    56,
)

DEFECTS = [
    Defect("four bytes", b"\2\0\0\0", "it has 4 bytes, too few for a header"),
    Defect("text file", b"Once upon a time there was a llama.\n", "it claims a header of"),
    Defect("header length absurd", safetensors({}, header_bytes=2**64 - 1), "and at most 100000000 are allowed"),
    Defect("header length over the limit", safetensors({}, header_bytes=100_000_001), "header of 100000001 bytes"),
    Defect("header longer than the file", safetensors({}, header_bytes=3), "needs 3 bytes, but 2 are left"),
    Defect("header empty", safetensors(b""), "not a JSON object"),
    Defect("header a list", safetensors([]), "not a JSON object"),
    Defect("header after a blank", safetensors(b" {}"), "not a JSON object"),
    Defect("header with a byte order mark", safetensors(b"\xef\xbb\xbf{}"), "not a JSON object"),
    Defect("header in UTF-16", safetensors("{}".encode("utf-16-le")), "not valid JSON"),
    Defect("header not UTF-8", safetensors(b'{"\xff": 1}'), "not UTF-8"),
    Defect("header cut off", safetensors(b'{"a": {"dtype": "F3'), "not valid JSON"),
    Defect("header twice", safetensors(b"{}{}"), "not valid JSON"),
    Defect("header nested deeply", safetensors(b'{"a":' * 200_000), "nested too deeply"),
    Defect("lists nested deeply", safetensors(b'{"a":' + b"[" * 200_000), "nested too deeply"),
    Defect("NaN", safetensors(b'{"a": NaN}'), "'NaN' is not JSON"),
    Defect("number with 5,000 digits", safetensors(b'{"a": ' + b"9" * 5000 + b"}"), "is negative or too large"),
    Defect("name twice", safetensors(b'{"a": 1, "a": 1}'), "the key 'a' occurs twice"),
    Defect("field twice", safetensors(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "the key 'dtype' occurs twice"),
    Defect("name with escape codes", safetensors({"a\x1b[31m": entry()}, 16), "unprintable characters"),
    Defect("name half a surrogate", safetensors(b'{"\\ud800": 1}'), "unprintable characters"),
    Defect("name too long", safetensors({"a" * 1025: entry()}, 16), "key is too long"),
    Defect("metadata a list", safetensors({"__metadata__": []}), "'__metadata__' is not an object of texts"),
    Defect("metadata with numbers", safetensors({"__metadata__": {"a": 1}}), "'__metadata__' is not"),
    Defect("entry a number", safetensors({"a": 1}), "tensor 'a' does not have exactly"),
    Defect(
        "entry without shape", safetensors({"a": {"dtype": "F32", "data_offsets": [0, 0]}}), "does not have exactly"
    ),
    Defect("entry with more", _one(strides=[1, 1]), "does not have exactly"),
    Defect("dtype unknown", _one(dtype="Q4"), "the unknown dtype 'Q4'"),
    Defect("dtype lower case", _one(dtype="f32"), "the unknown dtype 'f32'"),
    Defect("dtype a list", _one(dtype=["F32"]), "the unknown dtype ['F32']"),
    Defect("dtype of 8 bits too short", _one(dtype="F8_E4M3", shape=[17]), "17 bytes by its shape and 16"),
    Defect("dtype of 4 bits uneven", _one(dtype="F4", shape=[31]), "tensor 'a' does not fill whole bytes"),
    Defect("shape a number", _one(shape=4), "shape of tensor 'a'"),
    Defect("shape with a float", _one(shape=[2, 2.0]), "shape of tensor 'a'"),
    Defect("shape with a boolean", _one(shape=[4, True]), "shape of tensor 'a'"),
    Defect("shape negative", _one(shape=[-2, -2]), "is negative or too large"),
    Defect("shape of nine dimensions", _one(shape=[1] * 8 + [4]), "list of up to 8 whole numbers"),
    Defect("shape overflow", _one(shape=[2**62, 4]), f"tensor 'a' is {2**66} bytes by its shape and 16"),
    Defect("shape too large", _one(shape=[2, 3]), "24 bytes by its shape and 16 by its data_offsets"),
    Defect("shape too small", _one(shape=[2, 1]), "8 bytes by its shape and 16 by its data_offsets"),
    Defect("one offset", _one(data_offsets=[16]), "data_offsets of tensor 'a'"),
    Defect("offsets swapped", _one(data_offsets=[16, 0]), "data_offsets of tensor 'a'"),
    Defect("offsets text", _one(data_offsets=["0", "16"]), "data_offsets of tensor 'a'"),
    Defect("offsets negative", _one(data_offsets=[-16, 0]), "is negative or too large"),
    Defect("data cut off", _one(15), "tensors end at byte"),
    Defect("data left over", _one(17), "tensors end at byte"),
    Defect("data without tensors", safetensors({}, 1), "tensors end at byte 10, but the file has 11"),
    Defect("hole at the start", safetensors({"a": entry(begin=4, end=20)}, 20), "hole before tensor 'a'"),
    Defect("hole between", safetensors({"a": entry(), "b": entry(begin=20, end=36)}, 36), "hole between tensors 'a'"),
    Defect("overlap", safetensors({"a": entry(), "b": entry(begin=12, end=28)}, 28), "'a' and 'b' overlap"),
    Defect("same bytes twice", safetensors({"a": entry(), "b": entry()}, 16), "'a' and 'b' overlap"),
]
