"""How PyTorch prints tensors: cases for tensor.format.test.ts. Run: python test/reference/format.py"""
import json
import pathlib

import torch

CASES = {
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
    "not finite": torch.tensor([float("nan"), float("inf"), -float("inf"), 1.5]),
    "zeros": torch.zeros(2, 2),
    "empty vector": torch.zeros(0),
    "empty matrix": torch.zeros(0, 3),
    "large matrix": torch.arange(1600.0).reshape(40, 40) / 64,
    "long vector": torch.arange(1200),
    "vector over several lines": torch.arange(40.0) / 4,
    "large in the middle only": torch.zeros(7, 7, 30),
}


def values(tensor):
    """Floats as text: JSON has neither nan nor inf."""
    flat = tensor.reshape(-1)
    return [repr(value) for value in flat.double().tolist()] if tensor.dtype.is_floating_point else flat.tolist()


path = pathlib.Path(__file__).with_name("format.json")
path.write_text(json.dumps([
    {"name": name, "dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "values": values(t), "text": str(t)}
    for name, t in CASES.items()
], indent=1) + "\n")
