#!/usr/bin/env python3
"""Writes tests/corpus/safetensors: small files, whole networks (`ok_`) and one for each kind of damage.

    python generate.py            # needs nothing but Python

`src/import/container.rs` says what the reader must answer to each; the fuzz targets start from them.
"""

import json
import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "safetensors"
BOTH = ("", "_reverse")


def put(name: str, header, data: bytes = b"", length: int | None = None) -> None:
    """A file of such a header (JSON, or bytes as they stand) that claims to be `length` bytes long."""
    if not isinstance(header, bytes):
        header = json.dumps(header, separators=(",", ":")).encode()
    whole = struct.pack("<Q", len(header) if length is None else length) + header + data
    assert len(whole) < 2048, name
    (FOLDER / name).write_bytes(whole)


def put_list(name: str, tensors) -> None:
    (FOLDER / name).write_bytes(b"#" + b"".join(bytes(tensor) for tensor in tensors))


def network(shapes, dtype="F32", size=4):
    """Header and data of tensors one behind the other."""
    header, at = {}, 0
    for name, shape in shapes:
        end = at + size
        for dimension in shape:
            end = at + (end - at) * dimension
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    return header, bytes(31 * k % 61 for k in range(at))


def torch(gates, inputs, hidden, layers=1, sides=("",), bias=True, prefix="", is_cell=False):
    shapes = []
    for layer in range(layers):
        for side in sides:
            end = "" if is_cell else f"_l{layer}{side}"
            width = hidden * len(sides) if layer else inputs
            shapes.append((f"{prefix}weight_ih{end}", [gates * hidden, width]))
            shapes.append((f"{prefix}weight_hh{end}", [gates * hidden, hidden]))
            if bias:
                shapes += [(f"{prefix}{name}{end}", [gates * hidden]) for name in ("bias_ih", "bias_hh")]
    return shapes


def keras(gates, inputs, hidden, layers=1, sides=("",), bias_rows=(), bias=True, is_bare=False):
    shapes = []
    for layer in range(layers):
        for side in sides:
            start = "" if is_bare else f"l{layer}{side}."
            width = hidden * len(sides) if layer else inputs
            shapes.append((f"{start}kernel", [width, gates * hidden]))
            shapes.append((f"{start}recurrent_kernel", [hidden, gates * hidden]))
            if bias:
                shapes.append((f"{start}bias", [*bias_rows, gates * hidden]))
    return shapes


def whole_networks() -> None:
    put("ok_lstm", *network(torch(4, 1, 2)))
    put("ok_gru_bf16_layers", *network(torch(3, 2, 1, 2, prefix="m."), "BF16", 2))
    put("ok_rnn_bidirectional_f16", *network(torch(1, 1, 2, 1, BOTH, bias=False), "F16", 2))
    put("ok_lstm_peepholes", *network(torch(4, 1, 1) + [("weight_peephole_l0", [3, 1])]))
    put("ok_lstm_cell", *network(torch(4, 1, 1, prefix="cell.", is_cell=True)))
    put("ok_keras_lstm_layers", *network(keras(4, 2, 1, 2)))
    put("ok_keras_gru_bidirectional", *network(keras(3, 1, 1, 1, BOTH, bias_rows=(2,))))
    put("ok_keras_gru_reset_before", *network(keras(3, 1, 2)))
    put("ok_keras_rnn_bare", *network(keras(1, 3, 2, bias=False, is_bare=True)))
    # Headers alone and lists of tensors, as the fuzz targets complete them (fuzz/src/lib.rs).
    put_list("list_lstm", [(0, 4, 4, 1), (1, 4, 4, 1), (2, 36, 4, 0), (3, 36, 4, 0)])
    put_list("list_keras_gru", [(6, 4, 1, 3), (7, 4, 1, 3), (8, 36, 3, 0)])
    for name in ("lstm", "gru_bf16_layers", "lstm_cell", "keras_lstm_layers", "keras_gru_bidirectional"):
        whole = (FOLDER / f"ok_{name}").read_bytes()
        (size,) = struct.unpack("<Q", whole[:8])
        (FOLDER / f"header_only_{name}").write_bytes(whole[8 : 8 + size])


def other_tensors() -> None:
    put("checkpoint", *network(torch(4, 1, 1, prefix="a.") + torch(3, 1, 1, prefix="b.")))
    put("ok_lstm_projection", *network([("weight_ih_l0", [8, 1]), ("weight_hh_l0", [8, 1]), ("weight_hr_l0", [1, 2])]))
    put("weight_norm", *network([("weight_ih_l0_g", [4, 1]), ("weight_ih_l0_v", [4, 1])]))
    put("keras_gru_which", *network(keras(3, 1, 1, bias=False)))
    put("dtype_i32", *network(torch(4, 1, 1, bias=False), "I32"))
    far = [("weight_ih_l65535", [1])]
    put("layers_far", *network(torch(4, 1, 1, bias=False) + far))
    put("empty", {})


def damaged_headers() -> None:
    (FOLDER / "no_length").write_bytes(b"\x02\0\0\0")
    put("header_longer_than_file", b"{}", length=3)
    put("header_length_max", b"{}", length=2**64 - 1)
    put("header_length_zero", b"", b"{}")
    put("header_cut", b'{"weight_ih_l0":{"dtype":"F32","sha')
    put("header_not_utf8", b'{"weight_ih_\xff\xfe":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4))
    put("header_array", b"[]")
    put("header_twice", b"{}{}")
    put("deep", b"[" * 900 + b"]" * 900)
    put("deep_in_tensor", b'{"a":' + b"[" * 900 + b"]" * 900 + b"}")
    put("deep_in_metadata", b'{"__metadata__":' + b'{"a":' * 300 + b"1" + b"}" * 301)
    put("metadata_number", b'{"__metadata__":1}')
    put("metadata_twice", b'{"__metadata__":{},"__metadata__":{}}')
    put("field_missing", b'{"a":{"dtype":"F32","shape":[1]}}', bytes(4))
    put("field_twice", b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4))


def tensor(shape, begin, end, dtype="F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def damaged_tensors() -> None:
    one = json.dumps(tensor([1], 0, 4)).encode()
    put("duplicate_name", b'{"weight_ih_l0":%b,"weight_ih_l0":%b}' % (one, one.replace(b"[1]", b"[1, 1]")), bytes(4))
    put("duplicate_name_escaped", b'{"a":%b,"\\u0061":%b}' % (one, one), bytes(4))
    put("overlap", {"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12))
    put("gap", {"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12))
    put("not_from_zero", {"a": tensor([1], 4, 8)}, bytes(8))
    put("backwards", {"a": tensor([0], 4, 0)}, bytes(4))
    put("data_cut", {"a": tensor([4], 0, 16)}, bytes(15))
    put("data_longer", {"a": tensor([4], 0, 16)}, bytes(17))
    put("offset_max", {"a": tensor([1], 0, 2**64 - 1)}, bytes(4))
    put("offset_beyond_u64", {"a": tensor([1], 0, 2**64)}, bytes(4))
    put("offset_negative", {"a": tensor([1], -4, 0)}, bytes(4))
    put("offset_fraction", {"a": tensor([1], 0.0, 4.0)}, bytes(4))
    # Each is as large as bits are counted, together they end 8 bytes below 2^64: the crate adds the header's length to that.
    largest = 2**61 - 1
    many = {f"t{k}": tensor([largest], k * largest, (k + 1) * largest, "U8") for k in range(8)}
    put("offsets_overflow_sum", many)
    put("shape_overflow", {"weight_ih_l0": tensor([2**62, 4], 0, 0)})
    put("shape_overflow_bits", {"weight_ih_l0": tensor([2**61], 0, 0)})
    put("shape_huge_empty", {"weight_ih_l0": tensor([4, 0], 0, 0), "weight_hh_l0": tensor([0, 2**58], 0, 0)})
    put("shape_long", {"a": tensor([1] * 300, 0, 4)}, bytes(4))
    put("shape_not_bytes", {"a": tensor([3], 0, 1, "F4")}, bytes(1))
    put("shape_too_large", {"a": tensor([2**40], 0, 4)}, bytes(4))
    put("dtype_unknown", {"a": tensor([1], 0, 4, "F31")}, bytes(4))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    whole_networks()
    other_tensors()
    damaged_headers()
    damaged_tensors()
    print(f"{len(list(FOLDER.iterdir()))} files")


if __name__ == "__main__":
    main()
