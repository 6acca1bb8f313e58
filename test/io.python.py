"""The other side of io.python.test.ts: reads what Node wrote, says what it found, and writes it again in every format.

Run: python test/io.python.py FOLDER. Reads FOLDER/node*.pt, FOLDER/node*.safetensors; writes FOLDER/python-*.
"""
import json
import pathlib
import struct
import sys

import torch

try:
    import safetensors
    import safetensors.torch
except ImportError:
    safetensors = None

TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16", "I32": "int32",
    "U32": "uint32", "F32": "float32", "I64": "int64", "U64": "uint64", "F64": "float64", "C64": "complex64",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


def read_safetensors(path):
    """A reader of its own, from the format's description."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert (8 + length) % 8 == 0, "the data is not aligned"
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + length + begin:8 + length + end])
        dtype = getattr(torch, TYPES[entry["dtype"]])
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        tensors[key] = flat.reshape(entry["shape"])
    return tensors


def bits(tensor):
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return bytes(plain.reshape(-1).view(torch.uint8).tolist()).hex() if tensor.numel() else ""


def describe(tensors):
    return {key: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape),
                  "strides": list(tensor.stride()), "bits": bits(tensor)} for key, tensor in tensors.items()}


def storage(tensor):
    return tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()  # torch 1.13


def shared(tensors):
    groups = {}
    for key, tensor in tensors.items():
        groups.setdefault(storage(tensor).data_ptr(), []).append(key)
    return [keys for pointer, keys in groups.items() if len(keys) > 1 and pointer]


folder = pathlib.Path(sys.argv[1])
result = {"safetensors": safetensors is not None, "files": {}}
for path in sorted(folder.glob("node*.pt")):
    tensors = torch.load(path, weights_only=True)
    result["files"][path.name] = {"tensors": describe(tensors), "shared": shared(tensors)}
    if path.name != "node-mixed.pt":
        torch.save(tensors, folder / path.name.replace("node", "python-zip"))
        torch.save(tensors, folder / path.name.replace("node", "python-old"), _use_new_zipfile_serialization=False)
for path in sorted(folder.glob("node*.safetensors")):
    tensors = read_safetensors(path)
    result["files"][path.name] = {"tensors": describe(tensors), "shared": []}
    if safetensors is not None:
        # The package may not know the newest dtypes that the format has.
        again = safetensors.torch.load_file(path)
        assert describe(again) == describe(tensors), "the package reads something else"
        with safetensors.safe_open(path, "pt") as file:
            result["metadata"] = file.metadata()
        safetensors.torch.save_file(again, folder / path.name.replace("node", "python"))
checkpoint = folder / "node-checkpoint" / "checkpoint.pt"
if checkpoint.exists():
    # That of 1.13 knows no floating point numbers.
    value = torch.load(checkpoint, weights_only=not torch.__version__.startswith("1."))
    model = torch.nn.Linear(3, 2)
    model.load_state_dict(value["state_dict"])
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.load_state_dict(value["optimizer"])
    state = optimizer.state_dict()["state"][0]
    result["checkpoint"] = {"epoch": value["epoch"], "rest": repr(value["rest"]), "weight": bits(model.weight),
                            "moment": bits(state["exp_avg"]), "lr": optimizer.param_groups[0]["lr"]}
print(json.dumps(result))
