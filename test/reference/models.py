#!/usr/bin/env python3
"""Keys, shapes and outputs of the networks of `lib/models`, from torchvision and from implementations in this file.

    python3 models.py            writes models.json beside this file
    python3 models.py --check    compares with the stored values (1e-9 relative)

Weights are numbers that any language can make anew (see `fill`), in float64, so that only results are stored. Needs
PyTorch and torchvision. Their versions need not fit each other: only Python code of torchvision is used, and its
compiled operators are left out. `drawn` holds initial values after a seed, which belong to the version of PyTorch that
wrote the file.
"""
import argparse
import json
import math
import sys
import types
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.modules['torchvision._meta_registrations'] = types.ModuleType('left out: describes the compiled operators')
import torchvision.models  # noqa: E402

OUTPUT = Path(__file__).with_name('models.json')


# --- CIFAR networks with RepDistiller's keys -------------------------------------------------------------------------


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride, downsample):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + shortcut)


class CifarResNet(nn.Module):
    def __init__(self, depth, widths, classes=10):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv(3, widths[0], 3), nn.BatchNorm2d(widths[0]), nn.ReLU()
        for i in range(3):
            before, after, stride = widths[i], widths[i + 1], 1 if i == 0 else 2
            shortcut = None
            if stride > 1 or before != after:
                shortcut = nn.Sequential(conv(before, after, 1, stride), nn.BatchNorm2d(after))
            blocks = [Residual(before, after, stride, shortcut)]
            while len(blocks) < (depth - 2) // 6:
                blocks.append(Residual(after, after, 1, None))
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
        self.avgpool = nn.AvgPool2d(8)
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(self.avgpool(x).flatten(1))


class Preactivation(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.relu1, self.conv1 = nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, outputs, 3, stride)
        self.bn2, self.relu2, self.conv2 = nn.BatchNorm2d(outputs), nn.ReLU(), conv(outputs, outputs, 3)
        if inputs != outputs:
            self.convShortcut = conv(inputs, outputs, 1, stride)

    def forward(self, x):
        active = self.relu1(self.bn1(x))
        shortcut = self.convShortcut(active) if hasattr(self, 'convShortcut') else x
        return self.conv2(self.relu2(self.bn2(self.conv1(active)))) + shortcut


class Stage(nn.Module):
    def __init__(self, blocks, inputs, outputs, stride):
        super().__init__()
        self.layer = nn.Sequential(*(Preactivation(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1)
                                     for i in range(blocks)))

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, depth, factor, classes=10):
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = conv(3, 16, 3)
        self.block1 = Stage(blocks, 16, 16 * factor, 1)
        self.block2 = Stage(blocks, 16 * factor, 32 * factor, 2)
        self.block3 = Stage(blocks, 32 * factor, 64 * factor, 2)
        self.bn1, self.relu, self.fc = nn.BatchNorm2d(64 * factor), nn.ReLU(), nn.Linear(64 * factor, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * math.prod(module.kernel_size)
                module.weight.data.normal_(0, math.sqrt(2 / fan_out))
        self.fc.bias.data.zero_()

    def forward(self, x):
        x = self.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        return self.fc(F.avg_pool2d(x, 8).flatten(1))


def cifar_resnet(depth, widths=(16, 16, 32, 64)):
    return lambda **options: CifarResNet(depth, widths, **options)


def wide_resnet(depth, factor):
    return lambda **options: WideResNet(depth, factor, **options)


def vision(name):
    make = getattr(torchvision.models, name)
    return lambda classes=1000: make(num_classes=classes)


WIDE = (32, 64, 128, 256)
STAGES = ['layer1', 'layer2', 'layer3']
BLOCKS = ['block1', 'block2', 'block3']
MOBILE = ['features.3', 'features.6', 'features.13', 'features.17']

# By the name in lib/models: how it is made, size of the images, feature points.
NETWORKS = {
    'resnet8x4': (cifar_resnet(8, WIDE), 32, STAGES),
    'resnet32x4': (cifar_resnet(32, WIDE), 32, STAGES),
    'resnet20B': (cifar_resnet(20), 32, STAGES),
    'resnet56B': (cifar_resnet(56), 32, STAGES),
    'resnet110B': (cifar_resnet(110), 32, STAGES),
    'wrn_16_1': (wide_resnet(16, 1), 32, BLOCKS),
    'wrn_16_2': (wide_resnet(16, 2), 32, BLOCKS),
    'wrn_40_1': (wide_resnet(40, 1), 32, BLOCKS),
    'wrn_40_2': (wide_resnet(40, 2), 32, BLOCKS),
    'resnet18': (vision('resnet18'), 64, STAGES + ['layer4']),
    'resnet34': (vision('resnet34'), 64, STAGES + ['layer4']),
    'resnet50': (vision('resnet50'), 64, STAGES + ['layer4']),
    'mobilenetV2': (vision('mobilenet_v2'), 64, MOBILE),
}

# In training mode, batch norm's statistics and gradients come in. Dropout would be drawn, so mobilenetV2 is not here.
TRAINED = ['resnet8x4', 'wrn_16_2']


# --- numbers ----------------------------------------------------------------------------------------------------------


def pattern(shape, seed):
    """Numbers in (-0.5, 0.5), none of them 0, without a random number generator."""
    counted = torch.arange(math.prod(shape), dtype=torch.int64)
    return (((counted * 7919 + seed * 104729) % 1009).double() / 1009 - 0.5).reshape(shape)


def fill(module):
    """By position in the state dict, at scales that keep activations in range."""
    with torch.no_grad():
        for i, (name, tensor) in enumerate(module.state_dict(keep_vars=True).items()):
            if name.endswith('num_batches_tracked'):
                continue
            values = pattern(tensor.shape, 100 + i)
            if tensor.dim() > 1:
                values *= math.sqrt(24 / math.prod(tensor.shape[1:]))
            elif name.endswith('running_var') or name.endswith('weight'):
                values += 1
            tensor.copy_(values)


def summary(tensor):
    """Enough to tell a wrong tensor: the first elements of the last map, and a sum with other weights everywhere."""
    tensor = tensor.detach().double()
    return {'shape': list(tensor.shape), 'last': tensor.reshape(-1)[-4:].tolist(),
            'weighted': (tensor * pattern(tensor.shape, 3)).sum().item(), 'norm': tensor.norm().item()}


def features_of(model, paths, x):
    found = {}
    handles = [model.get_submodule(path).register_forward_hook(
        lambda module, inputs, output, path=path: found.__setitem__(path, output)) for path in paths]
    logits = model(x)
    for handle in handles:
        handle.remove()
    return logits, [found[path] for path in paths]


def describe(name):
    make, size, paths = NETWORKS[name]
    whole = make()
    model = make(classes=10).double().eval()
    fill(model)
    with torch.no_grad():
        logits, features = features_of(model, paths, pattern([2, 3, size, size], 1))
    return dict(
        parameters=sum(each.numel() for each in whole.parameters()),
        state=[f"{key} ({', '.join(map(str, value.shape))})" for key, value in whole.state_dict().items()],
        featureLayers=paths, size=size, logits=logits.tolist(), features=[summary(each) for each in features])


def train(name):
    make, size, _ = NETWORKS[name]
    model = make(classes=10).double()
    fill(model)
    logits = model(pattern([4, 3, size, size], 1))
    logits.backward(pattern(logits.shape, 50))
    return dict(logits=logits.tolist(), gradients={key: summary(each.grad) for key, each in model.named_parameters()},
                buffers={key: summary(each) for key, each in model.named_buffers()})


def draw(name):
    torch.manual_seed(7)
    state = NETWORKS[name][0](classes=10).state_dict()
    return {key: value.reshape(-1)[-3:].tolist() for key, value in state.items() if value.is_floating_point()
            and 'running' not in key}


def compute():
    return dict(torch=torch.__version__.split('+')[0],
                networks={name: describe(name) for name in NETWORKS},
                trained={name: train(name) for name in TRAINED},
                drawn={name: draw(name) for name in ('resnet8x4', 'wrn_16_2', 'resnet18', 'mobilenetV2')})


# --- the file ---------------------------------------------------------------------------------------------------------


def differences(actual, expected, where=''):
    if isinstance(expected, dict):
        for key in expected:
            yield from differences(actual[key], expected[key], f'{where}.{key}')
    elif isinstance(expected, list):
        if len(actual) != len(expected):
            yield f'{where}: {len(actual)} elements, stored {len(expected)}'
        for i, (a, b) in enumerate(zip(actual, expected)):
            yield from differences(a, b, f'{where}[{i}]')
    elif isinstance(expected, float):
        if abs(actual - expected) > 1e-9 * max(1, abs(expected)):
            yield f'{where}: {actual}, stored {expected}'
    elif actual != expected:
        yield f'{where}: {actual}, stored {expected}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='compare instead of writing')
    check = parser.parse_args().check
    values = compute()
    if not check:
        OUTPUT.write_text(json.dumps(values, separators=(',', ':')) + '\n')
        return
    found = list(differences(values, json.loads(OUTPUT.read_text())))
    print('\n'.join(found) or 'equal')
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
