"""How PyTorch prints tensors: cases for tensor.format.test.ts. Run: python test/reference/format.py"""
import json
import math
import pathlib
import random

import torch

random.seed(11)
INF, NAN = math.inf, math.nan



def pattern(shape):
    return (torch.arange(math.prod(shape)).reshape(shape) * 37 % 1009).float() / 8


NAMED = {
    "scalar": torch.tensor(3.5),
    "scalar whole": torch.tensor(2.0),
    "vector whole": torch.tensor([1.0, 2.0, -3.0]),
    "vector": torch.tensor([0.5, -1.25, 3.14159265]),
    "matrix": torch.arange(12.0).reshape(3, 4) / 8,
    "three dimensions": torch.arange(24.0).reshape(2, 3, 4) - 11.5,
    "int64": torch.tensor([[1, -20], [300, 4]]),
    "int32": torch.tensor([1, 2], dtype=torch.int32),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8),
    "float64": torch.tensor([0.1, 0.2], dtype=torch.float64),
    "bfloat16": torch.tensor([0.5, 0.25], dtype=torch.bfloat16),
    "tiny values": torch.tensor([1e-9, 1.0]),
    "large values": torch.tensor([1.5e9, 1.0]),
    "wide range": torch.tensor([0.001, 100.0]),
    "narrow range": torch.tensor([0.5, 100.25]),
    "whole and wide": torch.tensor([1.0, 1e6]),
    "whole and large": torch.tensor([1e9, 2e9]),
    "whole, wide, with zero": torch.tensor([[0.0, 1.0], [-5000.0, 2.0]]),
    "exactly a thousand apart": torch.tensor([1.0, 1000.0]),
    "a little more": torch.tensor([1.0, 1001.0]),
    "not finite": torch.tensor([NAN, INF, -INF, 1.5]),
    "not finite, whole": torch.tensor([NAN, INF, -INF, 1.0]),
    "not finite, scientific": torch.tensor([NAN, INF, -INF, 1e-7, 0.0, -0.0]),
    "not finite only": torch.tensor([NAN, INF, -INF]),
    "not finite and zero": torch.tensor([[NAN, 0.0], [-0.0, -INF]]),
    "negative zeros": torch.tensor([-0.0, 0.0, 1.0, -12.0]),
    "negative zero and fractions": torch.tensor([-0.0, 0.25]),
    "ties": torch.tensor([0.78125, 0.15625, 2.03125, -0.78125, 0.03125]),
    "ties, scientific": torch.tensor([1.00005e8, 3.0, 2.5e8, 1000050000.0], dtype=torch.float64),
    "largest and smallest": torch.tensor([3.4028235e38, 1.1754944e-38, 1e-45]),
    "largest double": torch.tensor([1.7976931348623157e308, 5e-324], dtype=torch.float64),
    "largest half": torch.tensor([65504.0, 6e-8], dtype=torch.float16),
    "large int64": torch.tensor([2**62, -(2**63), 1]),
    "large uint64": torch.tensor([2**64 - 1, 0], dtype=torch.uint64),
    "zeros": torch.zeros(2, 2),
    "empty vector": torch.zeros(0),
    "empty matrix": torch.zeros(0, 3),
    "empty behind": torch.zeros(2, 0, 3),
    "booleans": torch.tensor([[True, False], [False, True]]),
    "one boolean": torch.tensor(True),
    "true only": torch.tensor([True, True]),
    "large matrix": torch.arange(1600).reshape(40, 40),
    "long vector": torch.arange(1200),
    "vector over several lines": torch.arange(40.0) / 4,
    "large in the middle only": torch.zeros(7, 7, 30),
    "complex": torch.tensor([1 + 2j, -0.5 - 0.25j, 3 - 0j]),
    "complex, wide": torch.tensor([1e-9 + 1e5j, 2 - 3j]),
    "complex, not finite": torch.tensor([complex(NAN, INF), complex(-INF, -0.0), complex(1, NAN)]),
    "complex scalar": torch.tensor(1.5 - 2j),
    "complex, many": torch.arange(30) * (0.5 - 1j),
    "complex128": torch.tensor([[1j]], dtype=torch.complex128),
    "complex32": torch.tensor([1 + 0.5j], dtype=torch.complex32),
}

for dtype in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"):
    NAMED[f"empty vector of {dtype}"] = torch.zeros(0, dtype=getattr(torch, dtype))
    NAMED[f"empty matrix of {dtype}"] = torch.zeros(2, 0, dtype=getattr(torch, dtype))
    for size in range(1, 26, 3):  # lines of many lengths, for `dtype=` at their ends
        NAMED[f"{size} of {dtype}"] = torch.ones(size, dtype=getattr(torch, dtype))
    for width in (17, 20, 23):
        NAMED[f"a matrix of {dtype}, {width} wide"] = torch.ones(2, width, dtype=getattr(torch, dtype))
for length in (6, 7, 8):
    for shape in ((200, length), (length, 200), (3, length, 60), (length, 2, 2, 50)):
        NAMED[f"summarized {shape}"] = pattern(shape)
        NAMED[f"summarized int64 {shape}"] = torch.arange(math.prod(shape)).reshape(shape)
for index in range(110):
    shape = [random.randint(1, 6) for _ in range(random.randint(0, 3))]
    scale = random.choice([1, 1, 10, 1e3, 1e4, 1e-3, 1e-5, 1e6])
    special = [0.0, -0.0, NAN, INF, -INF, 1.0, -2.0]
    whole = random.random() < 0.3
    make = lambda: random.choice(special) if random.random() < 0.15 else \
        float(round(random.uniform(-5, 5) * scale)) if whole else random.gauss(0, 1) * scale
    dtype = random.choice([torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16])
    NAMED[f"random {index}"] = torch.tensor([make() for _ in range(math.prod(shape))], dtype=torch.float64).to(dtype).reshape(shape)
for index in range(40):
    size = random.randint(1, 20)
    highest = random.choice([5, 100, 127])
    dtype = random.choice(["int64", "int32", "int16", "int8"])
    NAMED[f"random integers {index}"] = torch.tensor(
        [random.randint(-highest, highest) for _ in range(size)], dtype=getattr(torch, dtype))
for index in range(30):
    size = random.randint(1, 9)
    scale = random.choice([1, 100, 1e-4, 1e5])
    part = lambda: random.choice([random.gauss(0, 1) * scale, float(random.randint(-3, 3))])
    NAMED[f"random complex {index}"] = torch.tensor([complex(part(), part()) for _ in range(size)], dtype=torch.complex64)


def text_of(value):
    """Numbers as text: JSON has neither nan nor inf, nor integers of 64 bits."""
    return f"{value.real} {value.imag}" if isinstance(value, complex) else str(value)


def values(tensor):
    flat = tensor.reshape(-1)
    flat = flat.to(torch.complex128) if flat.is_complex() else flat.double() if flat.is_floating_point() else flat
    listed = [text_of(each) for each in flat.tolist()]
    if len(listed) > 100 and listed == [str(i) for i in range(len(listed))]:
        return "arange"
    if len(listed) > 100 and torch.equal(tensor, pattern(tensor.shape)):
        return "pattern"
    return listed[0] if listed and len(set(listed)) == 1 else listed


# What is recorded: `leaf` requires a gradient, `product` was made by a multiplication.
for size in (1, 2, 6, 7, 8, 9, 17, 18, 40):
    for dtype in (torch.float32, torch.float64):
        leaf = torch.full((size,), 0.5, dtype=dtype, requires_grad=True)
        NAMED[f"leaf of {size} {dtype}"] = leaf
        NAMED[f"product of {size} {dtype}"] = leaf * 1
NAMED["empty leaf"] = torch.zeros(0, 2, requires_grad=True)


def role(tensor):
    return {"role": "product" if tensor.grad_fn else "leaf"} if tensor.requires_grad else {}


path = pathlib.Path(__file__).with_name("format.json")
path.write_text("[\n" + ",\n".join(json.dumps(
    {"name": name, "dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "values": values(t.detach()), "text": str(t)} | role(t),
    separators=(",", ":"), ensure_ascii=False)
    for name, t in NAMED.items()
) + "\n]\n")
print(len(NAMED))
