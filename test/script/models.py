"""TorchScript files for the tests of lib/script, and what Python's own forward hooks see on the eager models.

    python3 models.py FOLDER [--torchvision]

For each model: `<name>.scripted.pt` and `<name>.traced.pt` (where it can be traced), and in `<name>.json` and
`<name>.bin` the inputs, the output, what every module was given and gave (one entry per call), and the gradients of
the mean square of all features with respect to the input and to every parameter.
"""

import enum
import json
import os
import sys
import warnings
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn

warnings.filterwarnings("ignore")


# ---- Models ----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.downsample is not None:
            x = self.downsample(x)
        y += x
        return self.relu(y)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.layer1 = nn.Sequential(Block(8, 8, 1), Block(8, 8, 1))
        self.layer2 = nn.Sequential(Block(8, 16, 2), Block(16, 16, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(torch.flatten(self.pool(x), 1))


class Mixed(nn.Module):
    def __init__(self, inputs: int):
        super().__init__()
        self.one = nn.Conv2d(inputs, 4, 1)
        self.three = nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, 2, 1))

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.pooled(x)], 1)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Mixed(3)
        self.b = Mixed(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        return self.head(self.b(self.a(x)).mean([2, 3]))


class Branches(nn.Module):
    """Modules inside of if, for and while; scripted only."""

    def __init__(self):
        super().__init__()
        self.positive = nn.Linear(6, 6)
        self.negative = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.steps = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.again = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid())

    def forward(self, x, rounds: int = 2):
        if float(x.sum()) > 0:
            x = self.positive(x)
        else:
            x = self.negative(x)
        for step in self.steps:
            if x.dim() == 2:
                x = step(x) + x
        count = 0
        while count < rounds:
            x = self.again(x)
            count += 1
        for i in range(rounds):
            if i % 2 == 0:
                x = self.again(x)
            else:
                x = self.positive(x)
        return x


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
        self.alias = self.inner

    def forward(self, x):
        x = self.inner(x)
        x = self.inner(x) * 2
        return self.inner(x)


class Stages(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)])
        self.heads = nn.ModuleDict({"small": nn.Conv2d(3, 2, 1), "large": nn.Conv2d(3, 4, 1)})
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x).relu()
        return torch.cat([self.heads["small"](x), self.heads["large"](x)], 1)


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x[:, :3] * 2, x[:, 3:] + 1)


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        return {"logits": self.fc(x), "norm": x.square().sum(1)}


class Joined(nn.Module):
    def forward(self, parts: List[Tensor], scale: Optional[float] = None) -> Tensor:
        joined = torch.cat(parts, 1)
        if scale is not None:
            joined = joined * scale
        return joined


class Structured(nn.Module):
    """Modules that give tuples and dicts and take lists; traced with strict=False."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.halves = Halves()
        self.joined = Joined()
        self.scores = Scores()

    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        y, (h, c) = self.lstm(x)
        left, right = self.halves(y[:, -1] + h[0])
        z = self.joined([left, right], 0.5)
        return self.scores(z + c[0])


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def features(self, x):
        return self.fc(x)

    def forward(self, x):
        return self.features(x).relu()


class Delegating(nn.Module):
    """Modules called in methods other than forward."""

    def __init__(self):
        super().__init__()
        self.encoder = Inner()
        self.head = nn.Linear(4, 2)

    def forward_features(self, x):
        return self.encoder(x) + self.encoder.features(x)

    def forward(self, x):
        return self.head(self.forward_features(x))


# ---- Models for other tests, not compared with hooks -------------------------------------------------------------------


@torch.jit.interface
class Layer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


class Late(nn.Module):
    """What taps can't reach, and what they can by a detour."""

    declared: Layer

    def __init__(self):
        super().__init__()
        self.declared = Inner()
        self.forked = nn.Linear(4, 4)
        self.choices = nn.ModuleList([Inner(), Inner()])
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor, which: int = 0):
        future = torch.jit.fork(self.forked, x)
        chosen: Layer = self.choices[which]
        y = self.declared.forward(x) + chosen.forward(x)
        return self.fc(y) + torch.jit.wait(future)

    @torch.jit.export
    def encode(self, x: Tensor):
        return self.declared.forward(x)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Calls(nn.Module):
    """Every kind of argument and result."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight

    @torch.jit.export
    def scalars(self, i: int, f: float, b: bool, s: str, c: complex) -> Tuple[int, float, bool, str, complex]:
        return i + 1, f / 2, not b, s + "!", c * 2

    @torch.jit.export
    def optional(self, x: Optional[Tensor] = None, n: Optional[int] = None) -> Tuple[Optional[Tensor], Optional[int]]:
        return x, n

    @torch.jit.export
    def named(self, a: int, b: int = 10, c: int = 100) -> int:
        return a + b * c

    @torch.jit.export
    def lists(self, xs: List[Tensor], n: List[List[int]], s: List[str]) -> Tuple[List[Tensor], List[List[int]], List[str]]:
        n.append([7])
        return xs[::-1], n, s

    @torch.jit.export
    def dicts(self, d: Dict[str, Tensor], e: Dict[int, List[float]]) -> Tuple[Dict[str, Tensor], Dict[int, List[float]]]:
        d["new"] = torch.zeros(1)
        e[5] = [0.5]
        return d, e

    @torch.jit.export
    def tuples(self, p: Point, t: Tuple[int, Tuple[Tensor, str]]) -> Tuple[Point, Tuple[str, Tensor]]:
        return Point(p.x + 1, p.y * 2), (t[1][1], t[1][0] + t[0])

    @torch.jit.export
    def big(self, n: int) -> int:
        return n * 2

    @torch.jit.export
    def color(self, c: Color) -> Color:
        return Color.RED if c == Color.BLUE else Color.BLUE

    @torch.jit.export
    def where(self, d: torch.device) -> torch.device:
        return d

    @torch.jit.export
    def nothing(self) -> None:
        pass

    @torch.jit.export
    def fails(self, x: Tensor) -> Tensor:
        if x.numel() > 1:
            raise ValueError("more than one element")
        return torch.mm(x, x)

    @torch.jit.export
    def busy(self, x: Tensor, rounds: int) -> Tensor:
        for _ in range(rounds):
            x = torch.mm(x, x) / x.size(0)
        return x

    @torch.jit.export
    def either(self, v: Union[int, str]) -> str:
        if isinstance(v, int):
            return "int"
        return "str"


class Tied(nn.Module):
    """Shares a parameter, has buffers of both kinds, a frozen parameter and a plain tensor attribute."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 4, bias=False)
        self.out = nn.Linear(4, 4, bias=False)
        self.out.weight = self.embed.weight
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.register_buffer("mean", torch.tensor([1.0, 2, 3, 4]))
        self.register_buffer("count", torch.tensor(3), persistent=False)
        self.plain = torch.ones(4)

    def forward(self, x):
        return self.out(self.embed(x) - self.mean) * self.scale + self.plain + self.count


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.conv2(x).relu()
        return self.fc(self.drop(x.mean([2, 3])))


# ---- What hooks see ----------------------------------------------------------------------------------------------------


def tensors_in(value, steps=""):
    """The tensors inside a value, by steps such as [0][1] or [logits]."""
    if isinstance(value, Tensor):
        yield steps, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from tensors_in(each, f"{steps}[{key}]")
    elif hasattr(value, "_fields"):
        for name in value._fields:
            yield from tensors_in(getattr(value, name), f"{steps}[{name}]")
    elif isinstance(value, (tuple, list)):
        for i, each in enumerate(value):
            yield from tensors_in(each, f"{steps}[{i}]")


class Writer:
    def __init__(self, path):
        self.path, self.parts, self.offset, self.known = path, [], 0, {}

    def add(self, tensor):
        key = id(tensor)
        if key not in self.known:
            data = tensor.detach().contiguous().cpu()
            raw = bytes(data.reshape(-1).view(torch.uint8).tolist())  # without NumPy, which may not be there
            entry = {"dtype": str(data.dtype)[6:], "shape": list(data.shape), "offset": self.offset, "bytes": len(raw)}
            self.parts.append(raw + bytes(-len(raw) % 8))
            self.offset += len(self.parts[-1])
            self.known[key] = (entry, tensor)
        return self.known[key][0]

    def write(self, description):
        with open(self.path + ".bin", "wb") as file:
            file.write(b"".join(self.parts))
        with open(self.path + ".json", "w") as file:
            json.dump(description, file)


def observe(model, inputs):
    """Runs the eager model; by module path what each call was given and gave."""
    outputs, given, handles = {}, {}, []
    for path, module in model.named_modules():

        def hook(_, args, kwargs, output, path=path):
            first = next((each for each in args if isinstance(each, Tensor)), None)
            given.setdefault(path, []).append({"": first} if first is not None else dict(tensors_in(list(args))))
            outputs.setdefault(path, []).append(dict(tensors_in(output)))

        handles.append(module.register_forward_hook(lambda m, a, o, hook=hook: hook(m, a, {}, o)))
    result = model(*inputs)
    for handle in handles:
        handle.remove()
    return result, outputs, given


def describe(name, model, inputs, folder, trace, script=True, gradients=True):
    path = os.path.join(folder, name)
    forms = []
    if script:
        torch.jit.save(torch.jit.script(model), path + ".scripted.pt")
        forms.append("scripted")
    if trace:
        tensors = tuple(each for each in inputs if isinstance(each, Tensor))
        torch.jit.save(torch.jit.trace(model, tensors, strict=False), path + ".traced.pt")
        forms.append("traced")
    inputs = [each.clone().requires_grad_(gradients) if isinstance(each, Tensor) else each for each in inputs]
    output, outputs, given = observe(model, inputs)
    writer = Writer(path)
    gradient_entries = {}
    if gradients:
        # Of the values as they are at the end: what hooks saw and then was changed in place has its last value.
        features = [each for path in outputs for call in outputs[path] for each in call.values()]
        loss = sum((each.double() ** 2).mean() for each in features)
        loss.backward()
        gradient_entries = {key: writer.add(p.grad) for key, p in model.named_parameters() if p.grad is not None}
        gradient_entries["input"] = writer.add(inputs[0].grad)
    entries = lambda calls: {p: [{s: writer.add(t) for s, t in call.items()} for call in c] for p, c in calls.items()}
    writer.write(
        {
            "forms": forms,
            "inputs": [writer.add(each) if isinstance(each, Tensor) else each for each in inputs],
            "output": {steps: writer.add(each) for steps, each in tensors_in(output)},
            "outputs": entries(outputs),
            "given": entries(given),
            "gradients": gradient_entries,
            "state": {key: writer.add(each) for key, each in model.state_dict().items()},
            "parameters": [key for key, _ in model.named_parameters()],
        }
    )


def own_models(folder):
    torch.manual_seed(0)
    image = torch.randn(2, 3, 12, 12)
    describe("residual", Residual().eval(), [image], folder, trace=True)
    describe("inception", Inception().eval(), [image], folder, trace=True)
    describe("branches", Branches().eval(), [torch.randn(3, 6).abs(), 3], folder, trace=False)
    describe("branches-negative", Branches().eval(), [-torch.randn(3, 6).abs(), 2], folder, trace=False)
    describe("shared", Shared().eval(), [torch.randn(4, 5)], folder, trace=True)
    describe("stages", Stages().eval(), [image], folder, trace=True)
    describe("structured", Structured().eval(), [torch.randn(2, 5, 6)], folder, trace=True)
    describe("delegating", Delegating().eval(), [torch.randn(3, 4)], folder, trace=True)

    for name, model in {"late": Late(), "calls": Calls(), "tied": Tied(), "student": Student()}.items():
        torch.jit.save(torch.jit.script(model), os.path.join(folder, name + ".pt"))
    tied = torch.jit.load(os.path.join(folder, "tied.pt"))
    facts = {
        "state": list(tied.state_dict()),
        "parameters": [key for key, _ in tied.named_parameters()],
        "buffers": [key for key, _ in tied.named_buffers()],
        "requiresGrad": [p.requires_grad for p in tied.parameters()],
        "output": tied(torch.ones(1, 4)).tolist(),
    }
    with open(os.path.join(folder, "tied.json"), "w") as file:
        json.dump(facts, file)
    torch.save(Student().state_dict(), os.path.join(folder, "weights.pt"))
    torch.save(Student(), os.path.join(folder, "pickled.pt"))
    torch.save(Student().state_dict(), os.path.join(folder, "weights.pth"), _use_new_zipfile_serialization=False)


def import_torchvision():
    """Also one built for CUDA beside a torch for the CPU, where it can't load its operators: the models need none."""
    try:
        import torchvision
    except RuntimeError:
        for name in [each for each in sys.modules if each.startswith("torchvision")]:
            del sys.modules[name]
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ["nms", "qnms"]:
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_torchvision.operators = operators  # they are gone with it
        import torchvision
    return torchvision


def torchvision_models(folder):
    torchvision = import_torchvision()
    torch.manual_seed(0)
    image = torch.randn(2, 3, 96, 96)
    for name in ["resnet18", "mobilenet_v2", "densenet121", "googlenet", "efficientnet_b0"]:
        options = {"init_weights": False, "transform_input": False} if name == "googlenet" else {}
        model = getattr(torchvision.models, name)(weights=None, **options).eval()
        describe("tv-" + name, model, [image], folder, trace=True, gradients=False)


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    (torchvision_models if "--torchvision" in sys.argv else own_models)(sys.argv[1])
