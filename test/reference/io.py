"""Files as Python writes them, and what is in them: for io.load.test.ts. Run: python test/reference/io.py

Needs the `safetensors` package besides PyTorch.
"""
import base64
import collections
import io
import json
import pathlib
import pickle

import safetensors.torch
import torch

DTYPES = [
    "bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32",
    "float64", "complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
    "float8_e5m2fnuz", "float8_e8m0fnu",
]
# What libtorch 1.13 has as well.
OLD_DTYPES = [name for name in DTYPES if not name.startswith("float8") and name not in ("uint16", "uint32", "uint64")]
SAFETENSORS = [name for name in DTYPES if not name.endswith("fnuz") and name not in ("complex32", "complex128")]
SAFETENSORS_OLD = [name for name in SAFETENSORS if name in OLD_DTYPES]


def some(dtype, shape=(2, 3), seed=0):
    """Any bits at all: NaNs and denormals too."""
    dtype = getattr(torch, dtype)
    count = torch.Size(shape).numel() * dtype.itemsize
    data = bytes((31 * i + 17 + seed) % 256 for i in range(count))
    if dtype == torch.bool:
        data = bytes(byte % 2 for byte in data)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape).clone()


def state_dict(dtypes):
    return collections.OrderedDict((f"layer.{name}", some(name, seed=i)) for i, name in enumerate(dtypes))


def views():
    storage = torch.arange(24.0)
    return {
        "whole": storage,
        "matrix": storage.view(4, 6),
        "transposed": storage.view(4, 6).t(),
        "slice": storage.view(4, 6)[1:3, ::2],
        "diagonal": storage.view(4, 6)[:, :4].diagonal(),
        "expanded": storage[3:4].expand(5),
        "channels last": torch.arange(48.0).view(2, 3, 2, 4).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(7.5),
        "empty": torch.zeros(0, 3),
    }


def special():
    complex_tensor = torch.tensor([1 + 2j, 3 - 4j])
    parameter = torch.nn.Parameter(torch.tensor([1.5, 2.5]))
    named = torch.nn.Parameter(torch.tensor([3.5]))
    named.note = "kept by Python"
    return {"conjugate": complex_tensor.conj(), "imaginary": torch.tensor([5 + 6j, 7 - 8j]).conj().imag, "parameter": parameter,
            "with attributes": named, "buffer": torch.nn.Buffer(torch.tensor([4.5]))}


def model():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 3, bias=False))
    net[2].weight = torch.nn.Parameter(net[0].weight.t())
    return net


def checkpoint():
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    return {"epoch": 3, "state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.5}


def plain():
    return {"none": None, "true": True, "false": False, "int": -5, "large": 2 ** 60, "huge": 2 ** 100, "float": 0.1,
            "inf": float("inf"), "text": "ünï\n", "list": [1, [2, 3]], "tuple": (1, (2,)), "set": {1}, "bytes": b"\x00\xff",
            "bytearray": bytearray(b"ab"), "complex": 1 + 2j, "size": torch.Size([2, 3]), "dtype": torch.float32,
            "device": torch.device("cuda:1"), "ordered": collections.OrderedDict(a=1), "keys": {1: "one", "b": 2},
            "counter": collections.Counter("aab"), "empty": {}}


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def without_checksums(value):
    torch.serialization.set_crc32_options(False)
    try:
        return saved(value)
    finally:
        torch.serialization.set_crc32_options(True)


OLD = {"_use_new_zipfile_serialization": False}


def bits(tensor):
    plain_tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return plain_tensor.reshape(-1).view(torch.uint8).numpy().tobytes().hex() if tensor.numel() else ""


def describe(tensor):
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "strides": list(tensor.stride()),
            "bits": bits(tensor)}


def case(name, data, tensors, needs_newer=False):
    groups = collections.defaultdict(list)
    for key, tensor in tensors.items():
        groups[tensor.untyped_storage().data_ptr()].append(key)
    return {"name": name, "needsNewer": needs_newer, "file": base64.b64encode(data).decode(),
            "tensors": {key: describe(tensor) for key, tensor in tensors.items()},
            "shared": [keys for pointer, keys in groups.items() if len(keys) > 1 and pointer]}


def prefixed(prefix, tensors):
    return {prefix + key: tensor for key, tensor in tensors.items()}


CASES = [
    case("torch.save, all dtypes", saved(state_dict(DTYPES)), state_dict(DTYPES), True),
    case("torch.save, all dtypes of 1.13", saved(state_dict(OLD_DTYPES)), state_dict(OLD_DTYPES)),
    case("old torch.save, all dtypes", saved(state_dict(DTYPES), **OLD), state_dict(DTYPES), True),
    case("old torch.save, all dtypes of 1.13", saved(state_dict(OLD_DTYPES), **OLD), state_dict(OLD_DTYPES)),
    case("safetensors, all dtypes", safetensors.torch.save(state_dict(SAFETENSORS)), state_dict(SAFETENSORS), True),
    case("safetensors, all dtypes of 1.13", safetensors.torch.save(state_dict(SAFETENSORS_OLD)),
         state_dict(SAFETENSORS_OLD)),
    case("without checksums", without_checksums(state_dict(["float32"])), state_dict(["float32"])),
]
for new_or_old, options in (("torch.save", {}), ("old torch.save", OLD)):
    tensors = views()
    CASES.append(case(f"{new_or_old}, views", saved(tensors, **options), tensors))
    tensors = special()
    CASES.append(case(f"{new_or_old}, special tensors", saved(tensors, **options), tensors))
    state = checkpoint()
    CASES.append(case(f"{new_or_old}, a checkpoint", saved(state, **options), state["state_dict"]))
    for protocol in (0, 3, 4, 5):
        tensors = state_dict(["float32", "int64"])
        data = saved(tensors, pickle_protocol=protocol, **options)
        CASES.append(case(f"{new_or_old}, protocol {protocol}", data, tensors))
    nested = {"a": {"b": torch.ones(2), "c": {"d": torch.zeros(1)}}, "list": [torch.ones(1), {"e": torch.ones(3)}], "n": 3}
    flat = {"a.b": nested["a"]["b"], "a.c.d": nested["a"]["c"]["d"], "list.0": nested["list"][0],
            "list.1.e": nested["list"][1]["e"]}
    CASES.append(case(f"{new_or_old}, nested", saved(nested, **options), flat))

PLAIN = [{"name": f"{name}, protocol {protocol}", "file": base64.b64encode(saved(plain(), pickle_protocol=protocol, **options)).decode()}
         for name, options in (("torch.save", {}), ("old torch.save", OLD)) for protocol in (0, 1, 2, 3, 4, 5)
         if options or protocol >= 2]


class Runs:
    def __init__(self, *how):
        self.how = how

    def __reduce__(self):
        return self.how


class Plain:
    pass


def unsafe():
    import os
    import numpy
    yield "posix.system", Runs(os.system, ("touch alambic-pickle-ran",))
    yield "builtins.eval", Runs(eval, ("1 + 1",))
    yield "builtins.getattr", Runs(getattr, ([], "append"))
    yield "torch.serialization.load", Runs(torch.load, ("x",))
    yield "numpy", numpy.float64(0.5)
    yield "torch.nn.modules.linear.Linear", torch.nn.Linear(2, 2)
    yield "__main__.Plain", Plain()
    yield "state", Runs(collections.OrderedDict, (), Plain())
    yield "a dict's class", type("Sub", (dict,), {"__module__": "__main__"})


globals()["Sub"] = type("Sub", (dict,), {"__module__": "__main__", "__qualname__": "Sub"})


def refused():
    for name, value in unsafe():
        if name == "a dict's class":
            name, value = "__main__.Sub", globals()["Sub"](a=1)
        if name == "state":
            name = "__main__.Plain"
        # The old format puts a module's source code into the file, with its path: no need of that here.
        for protocol in (0, 2, 4) if not isinstance(value, torch.nn.Module) else ():
            # Protocol 0 makes instances by a function.
            what = "copyreg._reconstructor" if protocol == 0 and name.startswith("__main__") else name
            yield {"name": f"{name}, protocol {protocol}", "what": what,
                   "file": base64.b64encode(saved({"a": value}, pickle_protocol=protocol, **OLD)).decode()}
        yield {"name": f"{name} in a zip", "what": name, "file": base64.b64encode(saved({"a": value})).decode()}


path = pathlib.Path(__file__).with_name("io.json")
path.write_text(json.dumps({"torch": torch.__version__, "cases": CASES, "plain": PLAIN, "refused": list(refused())},
                           indent=1) + "\n")
