"""Checkpoints as public zoos lay them out, with other things beside the weights: for io.checkpoints.test.ts.

Run: python test/reference/zoo.py
"""
import argparse
import base64
import collections
import enum
import io
import json
import os
import pathlib

import numpy
import torch


class Color(enum.Enum):
    RED = 1


class Config(dict):
    """As many configuration packages have: a dict of a class of its own."""


class Meter:
    def __init__(self, value):
        self.value = value


class Runs:
    def __init__(self, *how):
        self.how = how

    def __reduce__(self):
        return self.how


torch.manual_seed(0)
NET = torch.nn.Linear(3, 2)
OPTIMIZER = torch.optim.SGD(NET.parameters(), lr=0.1, momentum=0.9)
NET(torch.ones(4, 3)).sum().backward()
OPTIMIZER.step()
WEIGHTS = NET.state_dict()
BESIDE = {"epoch": 3, "optimizer": OPTIMIZER.state_dict()}
INNER = ["weight", "bias"]

# name, value, the keys without an entry, and the objects that are not known by their paths
CASES = [
    ("a best accuracy", {**BESIDE, "model": WEIGHTS, "best_acc": torch.tensor(91.5)}, INNER, {}),
    ("a best accuracy with one element", {"state_dict": WEIGHTS, "best_prec1": torch.tensor([91.5])}, INNER, {}),
    ("the states of generators", {"model": WEIGHTS, "rng": torch.get_rng_state()}, INNER, {}),
    ("the weights of classes", {**BESIDE, "model_state_dict": WEIGHTS, "class_weights": torch.ones(2)}, INNER, {}),
    ("a namespace", {"opt": argparse.Namespace(lr=0.1, names=["a", "b"]), "model": WEIGHTS}, INNER,
     {"opt": "argparse.Namespace"}),
    ("a NumPy number", {"epoch": 1, "state_dict": WEIGHTS, "best": numpy.float64(0.5)}, INNER,
     {"best": f"{numpy.float64(0.5).__reduce__()[0].__module__}.scalar"}),
    ("a NumPy array", {"model": WEIGHTS, "history": numpy.arange(3.0)}, INNER,
     {"history": f"{numpy.arange(3.0).__reduce__()[0].__module__}._reconstruct"}),
    ("a path, a member of an enumeration, a class and a function",
     {"model": WEIGHTS, "log": pathlib.PurePosixPath("runs/1"), "color": Color.RED, "kind": Meter, "init": numpy.zeros},
     INNER, {"log": "pathlib.PurePosixPath", "color": "__main__.Color", "kind": "__main__.Meter", "init": "numpy.zeros"}),
    ("objects in objects", {"model": WEIGHTS, "meters": [Meter(Meter(numpy.float32(1))), Config(a=Meter(1))]}, INNER,
     {"meters.0": "__main__.Meter", "meters.1": "__main__.Config"}),
    ("an object with tensors of its own", {"model": WEIGHTS, "ema": Meter(torch.ones(3))}, INNER, {"ema": "__main__.Meter"}),
    ("what would run", {"model": WEIGHTS, "extra": Runs(os.system, ("touch alambic-zoo-ran",))}, INNER,
     {"extra": f"{os.system.__module__}.system"}),
    ("a defaultdict", {"model": collections.defaultdict(Meter, WEIGHTS), "epoch": 1}, INNER, {}),
    ("a model of its own", {"weight": torch.ones(2, 2), "bias": torch.ones(2), "model": WEIGHTS},
     ["weight", "bias", "model.weight", "model.bias"], {}),
    ("a model of its own and an epoch", {"epoch": 1, "head.weight": torch.ones(1), "model": WEIGHTS},
     ["head.weight", "model.weight", "model.bias"], {}),
    ("an embedding and a model of its own", {"embedding": torch.ones(4, 2), "model": WEIGHTS},
     ["embedding", "model.weight", "model.bias"], {}),
    ("two entries", {"model": WEIGHTS, "state_dict": WEIGHTS},
     ["model.weight", "model.bias", "state_dict.weight", "state_dict.bias"], {}),
    ("another part of the model", {"model": WEIGHTS, "classifier": collections.OrderedDict(weight=torch.ones(4, 2))},
     ["model.weight", "model.bias", "classifier.weight"], {}),
    ("another part of the same names", {"model": WEIGHTS, "heads": [torch.nn.Linear(2, 4).state_dict()]},
     ["model.weight", "model.bias", "heads.0.weight", "heads.0.bias"], {}),
    ("an average of the weights",
     {"state_dict": WEIGHTS, "ema": {"decay": 0.9, "shadow": {f"module.{k}": v / 2 for k, v in WEIGHTS.items()}}}, INNER, {}),
    ("a loss with weights in a checkpoint",
     {**BESIDE, "model": WEIGHTS, "criterion": collections.OrderedDict(weight=torch.ones(2))}, INNER, {}),
    ("a namespace beside weights without an entry", {"net": WEIGHTS, "args": argparse.Namespace(lr=0.1)},
     ["net.weight", "net.bias"], {"args": "argparse.Namespace"}),
]

# name, value, entry, and what is refused: it is needed
NEEDED = [
    ("a whole module", {"model": NET, "epoch": 1}, None, "torch.nn.modules.linear.Linear"),
    ("weights in a dict of another class", {"model": Config(WEIGHTS)}, None, "__main__.Config"),
    ("weights in a dict of another class, by entry", {"a": WEIGHTS, "model": Config(WEIGHTS)}, "model", "__main__.Config"),
    ("a namespace by entry", {"opt": argparse.Namespace(lr=0.1), "model": WEIGHTS}, "opt", "argparse.Namespace"),
    ("a namespace with weights", argparse.Namespace(model=WEIGHTS), None, "argparse.Namespace"),
    ("a tensor in an object among others", {"weight": torch.ones(2), "bias": Meter(torch.ones(2))}, None, "__main__.Meter"),
]


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return base64.b64encode(buffer.getvalue()).decode()


FORMATS = [("new", {}), ("old", {"_use_new_zipfile_serialization": False}), ("protocol 4", {"pickle_protocol": 4})]

result = {
    "torch": torch.__version__,
    "weight": NET.weight.tolist(),
    "cases": [
        {"name": f"{name}, {kind}", "file": saved(value, **options), "keys": keys, "unknown": unknown}
        for name, value, keys, unknown in CASES for kind, options in FORMATS
    ],
    # The old format puts a module's source code into the file, with its path.
    "needed": [
        {"name": f"{name}, {kind}", "file": saved(value, **options), "entry": entry, "what": what}
        for name, value, entry, what in NEEDED for kind, options in FORMATS
        if not (kind == "old" and "module" in name)
    ],
}
pathlib.Path(__file__).with_name("zoo.json").write_text(json.dumps(result, indent=1) + "\n")
