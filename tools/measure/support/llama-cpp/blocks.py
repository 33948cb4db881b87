"""A .piom file's tensors in a GGUF file, bit for bit where a GGUF type holds the same codes and scales.

int4 with groups of 32 is Q4_0, int8 with groups of 32 is Q8_0: the same codes and f16 scales. GGUF has no
blocks where 32 does not divide the columns, which PIOM pads: such a matrix becomes f16.
"""

import gguf
import numpy as np

Q4_0, Q8_0 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0
F16 = gguf.GGMLQuantizationType.F16


def is_quantized(tensor):
    return tensor.kind in ("int4", "int8")


def has_blocks(tensor):
    """Whether a GGUF type has the tensor's codes."""
    return is_quantized(tensor) and tensor.group == 32 and tensor.columns % 32 == 0


def codes_and_scales(tensor):
    """Codes (rows, groups, 32) as stored and f16 scales (rows, groups, 1) of an int4 or int8 tensor."""
    raw, groups = np.frombuffer(tensor.data, np.uint8), tensor.columns // 32
    if tensor.layout == "rows":
        rows = raw.reshape(tensor.rows, groups * 34)
        scales = np.ascontiguousarray(rows[:, groups * 32 :]).view("<f2")
        return rows[:, : groups * 32].reshape(tensor.rows, groups, 32), scales[..., None]
    blocks = raw.reshape(-(-tensor.rows // 16), groups, -1)
    if tensor.kind == "int8":
        codes = blocks[..., :512].reshape(len(blocks), groups, 8, 16, 4)
    else:
        packed = blocks[..., :256].reshape(len(blocks), groups, 4, 16, 4)
        codes = np.concatenate([packed & 15, packed >> 4], axis=2)
    codes = codes.transpose(0, 3, 1, 2, 4).reshape(-1, groups, 32)
    scales = np.ascontiguousarray(blocks[..., -32:]).view("<f2").transpose(0, 2, 1)
    return codes[: tensor.rows], scales.reshape(-1, groups, 1)[: tensor.rows]


def block_bytes(tensor):
    """The rows of a quantized tensor as Q4_0 or Q8_0 blocks, and which of the two."""
    codes, scales = codes_and_scales(tensor)
    scales = np.ascontiguousarray(scales).view(np.uint8)
    if tensor.kind == "int8":
        return np.concatenate([scales, codes ^ 0x80], axis=2).reshape(tensor.rows, -1), Q8_0
    packed = codes[..., :16] | codes[..., 16:] << 4
    return np.concatenate([scales, packed], axis=2).reshape(tensor.rows, -1), Q4_0


def add(writer, name, tensors, order=None, kind=None):
    """One tensor, or several below each other, with rows in `order`; `kind`: F16, or None for the codes."""
    tensors = tensors if isinstance(tensors, list) else [tensors]
    if kind is None and all(has_blocks(tensor) for tensor in tensors):
        parts = [block_bytes(tensor) for tensor in tensors]
        data = np.concatenate([data for data, _ in parts])
        writer.add_tensor(name, data if order is None else data[order], raw_dtype=parts[0][1])
        return
    if tensors[0].rows == 1:
        values = np.concatenate([tensor.array()[0] for tensor in tensors])
    else:
        values = np.concatenate([tensor.array() for tensor in tensors])
        # Small tensors stay f32, and so do position embeddings, which are none of the matrices.
        if kind == F16 or any(is_quantized(tensor) for tensor in tensors):
            values = values.astype(np.float16)
    writer.add_tensor(name, values if order is None else values[order])


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def kept_as_f16(model):
    """What the peer gets as f16 though we have it in integers: (name without its layer, columns, count)."""
    found = {}
    for tensor in model.by_name.values():
        # The peer's convolution takes no blocks: patch embeddings are f16 in every mmproj file.
        if is_quantized(tensor) and (not has_blocks(tensor) or "patch_embedding" in tensor.name):
            name = ".".join(part for part in tensor.name.split(".") if not part.isdigit())
            found[name, tensor.columns] = found.get((name, tensor.columns), 0) + 1
    return [(name, columns, count) for (name, columns), count in found.items()]
