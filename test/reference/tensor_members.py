"""Methods and properties of Python's tensors, for tensor.members.test.ts. Run: python test/reference/tensor_members.py"""
import json
import pathlib

import torch

names = sorted(name for name in dir(torch.Tensor) if not name.startswith("_"))
kinds = {name: "method" if callable(getattr(torch.Tensor, name)) else "property" for name in names}
path = pathlib.Path(__file__).with_name("tensor_members.json")
path.write_text(json.dumps({"version": torch.__version__.split("+")[0], "members": kinds}, indent=0) + "\n")
print(len(names))
