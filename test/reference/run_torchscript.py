"""Runs a TorchScript file on tensors given as JSON and prints what it gives, for test/export.test.ts.

Standard input: {"file": path, "inputs": [{"shape": [...], "data": [...]}]}. Output: the tensors in the order of the
structure, the structure itself, the state dict's keys and the dotted paths of the modules.
"""
import json
import sys

import torch


def structure(value, tensors):
    if isinstance(value, torch.Tensor):
        tensors.append({"shape": list(value.shape), "data": value.flatten().tolist()})
        return "tensor"
    if isinstance(value, dict):
        return {key: structure(value[key], tensors) for key in sorted(value)}
    return [structure(each, tensors) for each in value]


request = json.load(sys.stdin)
module = torch.jit.load(request["file"])
inputs = [torch.tensor(each["data"], dtype=torch.float32).reshape(each["shape"]) for each in request["inputs"]]
tensors = []
with torch.no_grad():
    shape = structure(module(*inputs), tensors)
parameters = list(module.parameters())
json.dump(
    {
        "tensors": tensors,
        "structure": shape,
        "keys": list(module.state_dict()),
        "modules": [path for path, _ in module.named_modules()],
        "distinct_parameters": len({parameter.data_ptr() for parameter in parameters}),
        "training": getattr(module, "training", False),
    },
    sys.stdout,
)
