"""Networks for steps.py, as the well-known Python implementations are built: activations in place, features on request.

Each returns (logits, features), the outputs of the layers that lib/models calls `featureLayers`.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F


def conv(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class ThreeConvolutions(nn.Module):
    """StudentWithFeatureExtraction of lib/distill/student.ts."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1)
        self.conv2 = nn.Conv2d(64, 128, 3, padding=1)
        self.conv3 = nn.Conv2d(128, 256, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(256, 10)

    def forward(self, x):
        features = [F.relu(self.conv1(x))]
        features.append(F.relu(self.conv2(features[-1])))
        features.append(F.relu(self.conv3(features[-1])))
        return self.fc(self.pool(features[-1]).flatten(1)), features


class Basic(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out, inplace=True)


def residual_stage(inputs, outputs, blocks, stride):
    return nn.Sequential(*(Basic(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1)
                           for i in range(blocks)))


class Staged(nn.Module):
    """A stem, stages whose outputs are the features, and a linear classifier."""

    def __init__(self, stem, stages, head, width, classes=10):
        super().__init__()
        self.stem, self.stages, self.head = stem, nn.ModuleList(stages), head
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.fc(self.head(x).flatten(1)), features


def cifar_resnet(depth):
    blocks = (depth - 2) // 6
    return Staged(nn.Sequential(conv(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(inplace=True)),
                  [residual_stage(16, 16, blocks, 1), residual_stage(16, 32, blocks, 2),
                   residual_stage(32, 64, blocks, 2)], nn.AdaptiveAvgPool2d(1), 64)


def resnet18():
    stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
                         nn.MaxPool2d(3, 2, 1))
    widths = [64, 64, 128, 256, 512]
    return Staged(stem, [residual_stage(widths[i], widths[i + 1], 2, 1 if i == 0 else 2) for i in range(4)],
                  nn.AdaptiveAvgPool2d(1), 512)


class Preactivation(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.shortcut = None if inputs == outputs else conv(inputs, outputs, 1, stride)

    def forward(self, x):
        active = F.relu(self.bn1(x), inplace=True)
        out = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        return torch.add(x if self.shortcut is None else self.shortcut(active), out)


def wide_resnet(depth, factor):
    blocks = (depth - 4) // 6
    widths = [16, 16 * factor, 32 * factor, 64 * factor]
    stages = [nn.Sequential(*(Preactivation(widths[i] if j == 0 else widths[i + 1], widths[i + 1],
                                            2 if i > 0 and j == 0 else 1) for j in range(blocks)))
              for i in range(3)]
    head = nn.Sequential(nn.BatchNorm2d(widths[3]), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
    return Staged(conv(3, 16, 3), stages, head, widths[3])


def activated(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Sequential(conv(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs),
                         nn.ReLU6(inplace=True))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            activated(inputs, hidden, 1) if expansion > 1 else nn.Identity(),
            activated(hidden, hidden, 3, stride, hidden), conv(hidden, outputs, 1), nn.BatchNorm2d(outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


def mobilenet_v2():
    settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                (6, 320, 1, 1)]
    layers, width = [activated(3, 32, 3, 2)], 32
    for expansion, outputs, blocks, stride in settings:
        for i in range(blocks):
            layers.append(Inverted(width, outputs, stride if i == 0 else 1, expansion))
            width = outputs
    stages = [nn.Sequential(*layers[start:end]) for start, end in ((1, 4), (4, 7), (7, 14), (14, 18))]
    head = nn.Sequential(activated(320, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.2))
    return Staged(layers[0], stages, head, 1280)
