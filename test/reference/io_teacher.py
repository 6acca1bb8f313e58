"""Logits of the published CIFAR-10 ResNet-20, computed by PyTorch's functions: for io.files.test.ts.

Run: python test/reference/io_teacher.py path/to/resnet20-12fca82f.th
"""
import json
import pathlib
import sys

import torch
import torch.nn.functional as F

weights = torch.load(sys.argv[1], map_location="cpu", weights_only=True)["state_dict"]
weights = {key.removeprefix("module."): value for key, value in weights.items()}


def conv(x, name, stride=1):
    return F.conv2d(x, weights[name + ".weight"], stride=stride, padding=1)


def norm(x, name):
    return F.batch_norm(x, weights[name + ".running_mean"], weights[name + ".running_var"], weights[name + ".weight"],
                        weights[name + ".bias"], training=False)


def block(x, name, channels, stride):
    hidden = F.relu(norm(conv(x, name + ".conv1", stride), name + ".bn1"))
    hidden = norm(conv(hidden, name + ".conv2"), name + ".bn2")
    added = channels - x.shape[1]
    shortcut = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, added // 2, added // 2))
    return F.relu(hidden + shortcut)


def forward(x):
    x = F.relu(norm(conv(x, "conv1"), "bn1"))
    for stage, channels in enumerate((16, 32, 64), start=1):
        for i in range(3):
            x = block(x, f"layer{stage}.{i}", channels, 2 if stage > 1 and i == 0 else 1)
    return F.linear(F.avg_pool2d(x, 8).flatten(1), weights["linear.weight"], weights["linear.bias"])


# Any input will do that both sides can make exactly.
x = (torch.arange(4 * 3 * 32 * 32) % 251).float().reshape(4, 3, 32, 32) / 64 - 2
with torch.no_grad():
    logits = forward(x)
path = pathlib.Path(__file__).with_name("io_teacher.json")
path.write_text(json.dumps({"logits": logits.tolist()}, indent=1) + "\n")
