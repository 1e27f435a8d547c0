"""quantization: weights in fewer bits, and what that costs.

Main path: :func:`~madang.quantization.encoding.quantize`, one matrix into the blocks of a type; types come from a name
(presets.py) or a number of bytes (:func:`~madang.quantization.sizing.quantize_to_size`: screen, budget, certificate).
Beside it, checkpoints for PyTorch (:func:`~madang.quantization.checkpoints.quantize_checkpoint`), which other libraries
make in a process of their own.
Invariants of our own quantizers: blocks are those of the GGUF format, to the bit; the same weights give the same bytes
on every machine and with any number of threads; a type that does not fit a tensor is an error, never another type or a
cut row.
"""
