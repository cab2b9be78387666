"""Writes the header of a GGUF file and, behind it, as many zeros as its tensors would take: a sparse file."""
import math
import struct

# type: (number, weights in a block, bytes of a block)
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q5_0": (6, 32, 22), "Q8_0": (8, 32, 34),
         "Q4_K": (12, 256, 144), "Q6_K": (14, 256, 210)}


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def value(v):
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    if isinstance(v, list) and v and isinstance(v[0], str):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(text(x) for x in v)
    return struct.pack("<II", 4, v)


def write(file, values, tensors):
    """tensors: [(name, (columns, rows), type)]"""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(text(k) + value(v) for k, v in values.items())
    at = 0
    for name, shape, kind in tensors:
        number, weights, size = TYPES[kind]
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, at)
        at += -(-(math.prod(shape) // weights * size) // 32) * 32
    with open(file, "wb") as f:
        f.write(head)
        f.truncate(-(-len(head) // 32) * 32 + at)
    return file


def llama_like(file, layers, dim, ff, heads, kv_heads, vocab, kinds, name="model", file_type=15, more=None):
    """A model of Llama's form. kinds: of "matrix", "embedding" and "output"; None for that: tied embeddings."""
    head = dim // heads
    tensors = [("token_embd.weight", (dim, vocab), kinds["embedding"])]
    for i in range(layers):
        for part, shape in (("attn_q", (dim, dim)), ("attn_k", (dim, head * kv_heads)),
                            ("attn_v", (dim, head * kv_heads)), ("attn_output", (dim, dim)), ("ffn_gate", (dim, ff)),
                            ("ffn_up", (dim, ff)), ("ffn_down", (ff, dim))):
            tensors.append((f"blk.{i}.{part}.weight", shape, kinds["matrix"]))
        tensors.append((f"blk.{i}.attn_norm.weight", (dim,), "F32"))
    tensors.append(("output_norm.weight", (dim,), "F32"))
    if kinds["output"]:
        tensors.append(("output.weight", (dim, vocab), kinds["output"]))
    values = {"general.architecture": "llama", "general.name": name, "general.file_type": file_type,
              "llama.block_count": layers, "llama.context_length": 32768, "llama.embedding_length": dim,
              "llama.feed_forward_length": ff, "llama.attention.head_count": heads,
              "llama.attention.head_count_kv": kv_heads, "tokenizer.ggml.tokens": ["x"] * vocab, **(more or {})}
    return write(file, values, tensors)
