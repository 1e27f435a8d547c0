"""formats: files <-> facts. GGUF, safetensors, tokenizers, chat templates, and the canonical model.

Main path: :func:`read_gguf` -> family -> :class:`DecoderSpec` and tensors by canonical name.
Invariants: nothing in a file is trusted before it is checked; nothing here runs a model or touches the network.
"""
