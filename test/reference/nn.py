#!/usr/bin/env python3
"""Reference values for the layers, functions, initial values and networks of `lib/nn` and `lib/models`, from PyTorch.

Everything is computed in float64 from numbers that any language can make anew (see `pattern`), so that only results
are stored. Options stand here under their JavaScript names and are translated for PyTorch.

    python3 nn.py            writes nn.json beside this file
    python3 nn.py --check    compares this PyTorch's values with the stored ones (1e-11 relative)

Needs PyTorch 1.13 or later and no other package. The random numbers under `drawn` belong to the version that wrote
the file.
"""
import argparse
import json
import math
import re
import sys
import warnings
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

OUTPUT = Path(__file__).with_name('nn.json')


# --- numbers --------------------------------------------------------------------------------------------------------


def pattern(shape, seed):
    """Distinct numbers in (-0.5, 0.5), none of them 0, without a random number generator: up to 1009 differ."""
    count = math.prod(shape)
    values = [((i * 7919 + seed * 104729) % 1009) / 1009 - 0.5 for i in range(count)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def store(tensor):
    return {'shape': list(tensor.shape), 'values': tensor.detach().reshape(-1).tolist()}


# --- names ----------------------------------------------------------------------------------------------------------


def snake_case(name):
    return re.sub('[A-Z]', lambda match: '_' + match[0].lower(), name)


def to_python(value):
    return tuple(to_python(each) for each in value) if isinstance(value, list) else value


def keywords(options):
    return {snake_case(name): getattr(torch, value) if name == 'dtype' else to_python(value)
            for name, value in options.items()}


def construct(layer, args, options):
    return getattr(nn, layer)(*map(to_python, args), **keywords(options))


# --- layers ---------------------------------------------------------------------------------------------------------


def fill(module):
    """Parameters and running statistics by position; variances are positive."""
    with torch.no_grad():
        for i, (name, tensor) in enumerate(module.state_dict(keep_vars=True).items()):
            if name.endswith('num_batches_tracked'):
                continue
            values = pattern(tensor.shape, 100 + i)
            tensor.copy_(values + 1 if name.endswith('running_var') else values)


def named_buffers(module):
    return {name: store(buffer.double()) for name, buffer in module.named_buffers()}


def run_layer(layer, args, options, shape, *, mode='train', steps=1, indices=None):
    module = construct(layer, args, options).double()
    fill(module)
    module.train(mode == 'train')
    case = dict(layer=layer, args=args, options=options, mode=mode, repr=repr(module),
                keys=list(module.state_dict().keys()), steps=[])
    for step in range(steps):
        module.zero_grad()
        if indices is not None:
            x = torch.tensor(indices)
            case['indices'] = indices
        else:
            x = pattern(shape, 1 + step).requires_grad_()
            case['input'] = shape
        y = module(x)
        y.backward(pattern(y.shape, 50 + step))
        gradients = {name: store(parameter.grad) for name, parameter in module.named_parameters()}
        case['steps'].append(dict(output=store(y), inputGradient=None if indices is not None else store(x.grad),
                                  gradients=gradients, buffers=named_buffers(module)))
    return case


def layers():
    image, small = [2, 4, 5, 6], [2, 4, 3, 3]
    yield run_layer('Conv1d', [3, 4, 3], {}, [2, 3, 8])
    yield run_layer('Conv1d', [4, 2, 3], {'stride': 2, 'padding': 1, 'dilation': 2, 'groups': 2, 'bias': False}, [2, 4, 9])
    yield run_layer('Conv1d', [2, 3, 4], {'padding': 'same', 'paddingMode': 'circular'}, [2, 2, 7])
    yield run_layer('Conv2d', [4, 3, 3], {}, image)
    yield run_layer('Conv2d', [4, 3, 1], {'bias': False}, image)
    yield run_layer('Conv2d', [4, 6, [3, 2]], {'stride': [2, 1], 'padding': [1, 0], 'dilation': [1, 2], 'groups': 2}, image)
    yield run_layer('Conv2d', [4, 3, 3], {'padding': 'same'}, image)
    yield run_layer('Conv2d', [4, 3, [2, 4]], {'padding': 'same', 'dilation': [1, 1]}, image)
    yield run_layer('Conv2d', [4, 3, 3], {'padding': 'valid'}, image)
    yield run_layer('Conv2d', [4, 3, 3], {'padding': 1}, [4, 5, 6])
    for padding_mode in ('reflect', 'replicate', 'circular'):
        yield run_layer('Conv2d', [4, 3, 3], {'padding': [2, 1], 'paddingMode': padding_mode}, image)
    yield run_layer('Conv2d', [4, 2, [2, 4]], {'padding': 'same', 'paddingMode': 'reflect'}, image)
    yield run_layer('Conv2d', [4, 2, 3], {'padding': 1, 'paddingMode': 'reflect'}, [4, 5, 6])
    yield run_layer('Conv2d', [4, 8, 3], {'groups': 4, 'padding': 1}, image)
    yield run_layer('Conv3d', [2, 3, 2], {}, [1, 2, 3, 4, 3])
    yield run_layer('Conv3d', [2, 2, [1, 2, 3]], {'stride': [1, 2, 1], 'padding': [0, 1, 1]}, [2, 2, 3, 4, 3])
    yield run_layer('ConvTranspose2d', [4, 3, 3], {}, small)
    yield run_layer('ConvTranspose2d', [4, 6, [3, 2]],
                    {'stride': 2, 'padding': [1, 0], 'outputPadding': 1, 'groups': 2, 'dilation': [2, 1]}, small)
    yield run_layer('ConvTranspose2d', [4, 3, 2], {'bias': False}, [4, 3, 3])
    yield run_layer('Linear', [6, 4], {}, [3, 6])
    yield run_layer('Linear', [6, 4], {'bias': False}, [2, 3, 6])
    yield run_layer('Linear', [6, 1], {}, [6])

    for mode in ('train', 'eval'):
        yield run_layer('BatchNorm1d', [4], {}, [5, 4], mode=mode, steps=2)
        yield run_layer('BatchNorm1d', [4], {'eps': 0.001}, [3, 4, 2], mode=mode, steps=2)
        yield run_layer('BatchNorm2d', [4], {}, image, mode=mode, steps=2)
        yield run_layer('BatchNorm2d', [4], {'momentum': None}, image, mode=mode, steps=3)
        yield run_layer('BatchNorm2d', [4], {'momentum': 0.3, 'affine': False}, image, mode=mode, steps=2)
        yield run_layer('BatchNorm2d', [4], {'trackRunningStats': False}, image, mode=mode, steps=2)
    yield run_layer('BatchNorm2d', [4], {'bias': False}, image)
    yield run_layer('GroupNorm', [2, 4], {}, image)
    yield run_layer('GroupNorm', [1, 4], {'bias': False}, image)
    yield run_layer('GroupNorm', [4, 4], {'eps': 0.01, 'affine': False}, [3, 4])
    yield run_layer('LayerNorm', [6], {}, image)
    yield run_layer('LayerNorm', [[5, 6]], {'eps': 0.01}, image)
    yield run_layer('LayerNorm', [[4, 5, 6]], {'elementwiseAffine': False}, image)
    yield run_layer('LayerNorm', [6], {'bias': False}, [3, 6])

    yield run_layer('MaxPool2d', [2], {}, image)
    yield run_layer('MaxPool2d', [[3, 2]], {'stride': [2, 1], 'padding': [1, 0], 'ceilMode': True}, image)
    yield run_layer('MaxPool2d', [2], {'stride': 1, 'dilation': 2}, [4, 5, 6])
    yield run_layer('AvgPool2d', [2], {}, image)
    yield run_layer('AvgPool2d', [3], {'stride': 2, 'padding': 1, 'countIncludePad': False, 'ceilMode': True}, image)
    yield run_layer('AvgPool2d', [[2, 3]], {'divisorOverride': 5}, [4, 5, 6])
    yield run_layer('AdaptiveAvgPool2d', [1], {}, image)
    yield run_layer('AdaptiveAvgPool2d', [[3, None]], {}, image)
    yield run_layer('AdaptiveAvgPool2d', [[2, 4]], {}, [4, 5, 6])
    yield run_layer('AdaptiveMaxPool2d', [2], {}, image)
    yield run_layer('AdaptiveMaxPool2d', [[None, 2]], {}, image)

    yield run_layer('Dropout', [0.4], {}, [3, 4], mode='eval')
    yield run_layer('Dropout', [0], {}, [3, 4])
    yield run_layer('Dropout', [1], {}, [3, 4])
    yield run_layer('Dropout2d', [1], {}, image)
    yield run_layer('Embedding', [5, 3], {}, None, indices=[[0, 4, 2], [2, 2, 1]])
    yield run_layer('Embedding', [5, 3], {'paddingIdx': 2, 'scaleGradByFreq': True}, None, indices=[0, 2, 4, 4])
    yield run_layer('Embedding', [5, 3], {'paddingIdx': -1}, None, indices=[0, 4])
    yield run_layer('Embedding', [5, 3], {'maxNorm': 0.3, 'normType': 1.5}, None, indices=[0, 2, 3])

    for activation in ('ReLU', 'ReLU6', 'LeakyReLU', 'GELU', 'SiLU', 'Sigmoid', 'Tanh', 'Hardswish', 'Hardsigmoid',
                       'Identity'):
        yield run_layer(activation, [], {}, [3, 4])
    yield run_layer('LeakyReLU', [], {'negativeSlope': 0.2}, [3, 4])
    yield run_layer('GELU', [], {'approximate': 'tanh'}, [3, 4])
    yield run_layer('Softmax', [1], {}, [3, 4])
    yield run_layer('Softmax', [-3], {}, [2, 3, 4])
    yield run_layer('Flatten', [], {}, image)
    yield run_layer('Flatten', [], {'startDim': 2, 'endDim': 3}, image)
    yield run_layer('Upsample', [], {'scaleFactor': 2}, image)
    yield run_layer('Upsample', [], {'size': [7, 3], 'mode': 'bilinear'}, image)
    yield run_layer('Upsample', [], {'scaleFactor': [1.5, 2], 'mode': 'bicubic', 'alignCorners': True}, image)


# --- functions ------------------------------------------------------------------------------------------------------


def run_function(name, inputs, options, *, args=(), labels=None, differentiable=1):
    """`inputs` are shapes, or dicts {kind: shape} that say which numbers the function wants."""
    tensors = [make_input(each, 1 + i) for i, each in enumerate(inputs)]
    leaves = tensors[:differentiable]
    for leaf in leaves:
        leaf.requires_grad_()
    given = tensors + ([torch.tensor(labels)] if labels is not None else []) + [to_python(each) for each in args]
    python_options = keywords(options)
    if 'weight' in options:
        python_options['weight'] = torch.tensor(options['weight'], dtype=torch.float64)
    y = getattr(F, snake_case(name))(*given, **python_options)
    y.backward(pattern(y.shape, 50))
    return dict(function=name, inputs=inputs, labels=labels, args=list(args), options=options, output=store(y),
                gradients=[store(leaf.grad) for leaf in leaves])


def make_input(spec, seed):
    if isinstance(spec, list):
        return pattern(spec, seed)
    (kind, shape), = spec.items()
    values = pattern(shape, seed)
    return values.softmax(1) if kind == 'probabilities' else values.log_softmax(1)


def functions():
    labels = [2, 0, 4]
    yield run_function('crossEntropy', [[3, 5]], {}, labels=labels)
    yield run_function('crossEntropy', [[3, 5]], {'reduction': 'none'}, labels=labels)
    yield run_function('crossEntropy', [[3, 5]], {'reduction': 'sum', 'labelSmoothing': 0.1}, labels=labels)
    yield run_function('crossEntropy', [[3, 5]], {'weight': [1, 2, 0.5, 1, 3]}, labels=labels)
    yield run_function('crossEntropy', [[3, 5]], {'weight': [1, 2, 0.5, 1, 3], 'labelSmoothing': 0.2}, labels=labels)
    yield run_function('crossEntropy', [[3, 5]], {}, labels=[2, -100, 4])
    yield run_function('crossEntropy', [[3, 5]], {'ignoreIndex': 7}, labels=[2, 7, 4])
    yield run_function('crossEntropy', [[2, 3, 2, 2]], {}, labels=[[[0, 1], [2, 0]], [[1, 1], [2, 2]]])
    yield run_function('crossEntropy', [[5]], {}, labels=3)
    yield run_function('crossEntropy', [[3, 5], {'probabilities': [3, 5]}], {})
    yield run_function('mseLoss', [[3, 4], [3, 4]], {}, differentiable=2)
    yield run_function('mseLoss', [[3, 4], [3, 4]], {'reduction': 'sum'}, differentiable=2)
    yield run_function('mseLoss', [[3, 4], [3, 4]], {'reduction': 'none'}, differentiable=2)
    for reduction in ('mean', 'sum', 'none', 'batchmean'):
        inputs = [{'logProbabilities': [3, 4]}, {'probabilities': [3, 4]}]
        yield run_function('klDiv', inputs, {'reduction': reduction})
    yield run_function('klDiv', [{'logProbabilities': [3, 4]}, {'logProbabilities': [3, 4]}],
                       {'reduction': 'batchmean', 'logTarget': True})
    yield run_function('normalize', [[3, 4, 2]], {})
    yield run_function('normalize', [[3, 4]], {'p': 1, 'dim': 0})
    yield run_function('normalize', [[3, 4]], {'eps': 2})
    yield run_function('cosineSimilarity', [[3, 4], [3, 4]], {}, differentiable=2)
    yield run_function('adaptiveAvgPool2d', [[2, 3, 5, 6]], {}, args=[[2, None]])
    yield run_function('relu', [[3, 4]], {})
    yield run_function('leakyRelu', [[3, 4]], {})
    yield run_function('gelu', [[3, 4]], {})
    yield run_function('silu', [[3, 4]], {})
    yield run_function('softmax', [[3, 4]], {}, args=[1])
    yield run_function('logSoftmax', [[3, 4]], {}, args=[-1])
    line, image, volume = [2, 3, 6], [2, 3, 4, 5], [1, 2, 3, 4, 3]
    for mode, shape, size in (('nearest', line, [4]), ('nearest', image, [7, 3]), ('nearest', volume, [2, 6, 4]),
                              ('nearest-exact', line, [4]), ('nearest-exact', image, [7, 3]),
                              ('nearest-exact', volume, [2, 6, 4]), ('linear', line, [9]), ('bilinear', image, [7, 3]),
                              ('bicubic', image, [7, 3]), ('trilinear', volume, [2, 6, 4]), ('area', line, [4]),
                              ('area', image, [7, 3]), ('area', volume, [2, 6, 4])):
        yield run_function('interpolate', [shape], {'size': size, 'mode': mode})
    for mode in ('bilinear', 'bicubic'):
        yield run_function('interpolate', [image], {'size': 8, 'mode': mode, 'alignCorners': True})
        yield run_function('interpolate', [image], {'size': [2, 2], 'mode': mode, 'antialias': True})
        yield run_function('interpolate', [image], {'scaleFactor': 1.7, 'mode': mode})
        yield run_function('interpolate', [image], {'scaleFactor': 1.7, 'mode': mode, 'recomputeScaleFactor': True})
    yield run_function('interpolate', [image], {'scaleFactor': [0.5, 1.5]})
    yield run_function('interpolate', [image], {'scaleFactor': 0.5, 'mode': 'area'})


# --- random numbers -------------------------------------------------------------------------------------------------


def python_value(name, value):
    """Modes and nonlinearities have camelCase names in JavaScript too."""
    return snake_case(value) if name in ('mode', 'nonlinearity') else value


def draw_layer(layer, args, options):
    torch.manual_seed(7)
    module = construct(layer, args, options)
    return dict(layer=layer, args=args, options=options,
                state={name: store(tensor) for name, tensor in module.named_parameters()},
                next=torch.rand(1).item())


def draw_init(function, shape, options, dtype='float32'):
    torch.manual_seed(11)
    tensor = torch.full(shape, 0.25, dtype=getattr(torch, dtype))
    python_options = {snake_case(name): python_value(name, value) for name, value in options.items()}
    getattr(nn.init, snake_case(function))(tensor, **python_options)
    return dict(init=function, shape=shape, options=options, dtype=dtype, result=store(tensor.double()),
                next=torch.rand(1).item())


def draw_dropout(layer, p, shape):
    torch.manual_seed(13)
    return dict(layer=layer, p=p, input=shape, output=store(construct(layer, [p], {})(pattern(shape, 1))))


def drawn():
    layers = [
        draw_layer('Conv1d', [4, 6, 3], {'groups': 2}),
        draw_layer('Conv2d', [3, 8, 3], {}),
        draw_layer('Conv2d', [3, 2, 5], {'bias': False}),
        draw_layer('Conv2d', [3, 4, 3], {'dtype': 'float64'}),
        draw_layer('Conv3d', [2, 3, 2], {}),
        draw_layer('ConvTranspose2d', [3, 4, 3], {}),
        draw_layer('Linear', [20, 10], {}),
        draw_layer('Linear', [3, 2], {'bias': False}),
        draw_layer('Embedding', [10, 4], {}),
        draw_layer('Embedding', [5, 3], {'paddingIdx': 1}),
    ]
    inits = [
        draw_init('uniform_', [3, 4], {}),
        draw_init('uniform_', [5, 8], {'a': -2, 'b': 3}),
        draw_init('normal_', [3, 2], {}),
        draw_init('normal_', [5, 8], {'mean': 1, 'std': 0.1}),
        draw_init('xavierUniform_', [4, 6], {}),
        draw_init('xavierUniform_', [4, 3, 3, 3], {'gain': 2}),
        draw_init('xavierNormal_', [4, 6], {}),
        draw_init('xavierNormal_', [4, 3, 3], {'gain': 0.5}),
        draw_init('kaimingUniform_', [4, 6], {}),
        draw_init('kaimingUniform_', [4, 3, 3], {'mode': 'fanOut', 'nonlinearity': 'relu'}),
        draw_init('kaimingUniform_', [4, 6], {'nonlinearity': 'tanh'}, 'float64'),
        draw_init('kaimingNormal_', [4, 6], {'a': 0.2}),
        draw_init('kaimingNormal_', [4, 3, 3, 3], {'mode': 'fanOut'}),
        draw_init('truncNormal_', [5, 8], {}),
        draw_init('truncNormal_', [5, 8], {'std': 0.5, 'a': -0.4, 'b': 0.6}),
        draw_init('truncNormal_', [5, 8], {'a': 1.5, 'b': 3}),
        draw_init('orthogonal_', [4, 6], {}),
        draw_init('orthogonal_', [6, 2, 2], {'gain': 2}),
    ]
    return dict(layers=layers, inits=inits,
                dropouts=[draw_dropout('Dropout', 0.3, [6, 8]), draw_dropout('Dropout2d', 0.5, [3, 8, 2, 2])])


# --- networks -------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A residual block with the shortcut of option A."""

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.stride, self.missing = stride, channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        shortcut = x
        if self.missing > 0:
            half = self.missing // 2
            shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class ResNet(nn.Module):
    def __init__(self, depth, width, classes):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        for i, (before, channels) in enumerate([(width, width), (width, 2 * width), (2 * width, 4 * width)]):
            strides = [1 if i == 0 else 2] + [1] * (blocks - 1)
            stage = [Block(before if j == 0 else channels, channels, stride) for j, stride in enumerate(strides)]
            setattr(self, f'layer{i + 1}', nn.Sequential(*stage))
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
            features.append(x)
        x = F.avg_pool2d(x, x.shape[-2:]).flatten(1)
        return self.linear(x), features


def networks():
    for depth, width, mode in ((8, 2, 'train'), (14, 2, 'eval')):
        model = ResNet(depth, width, 5).double()
        fill(model)
        model.train(mode == 'train')
        logits, features = model(pattern([2, 3, 8, 8], 1))
        logits.backward(pattern(logits.shape, 50))
        yield dict(depth=depth, width=width, classes=5, mode=mode, keys=list(model.state_dict().keys()),
                   modules=[name for name, _ in model.named_modules()],
                   logits=store(logits), features=[store(each) for each in features],
                   gradients={name: store(parameter.grad) for name, parameter in model.named_parameters()
                              if name in ('conv1.weight', 'layer2.0.bn1.weight', 'layer3.0.conv1.weight',
                                          'linear.bias')},
                   buffers={name: store(buffer.double()) for name, buffer in model.named_buffers()
                            if name.startswith('layer2.0.bn2')})


# --- the file -------------------------------------------------------------------------------------------------------


def compute():
    return dict(torch=torch.__version__.split('+')[0], layers=list(layers()), functions=list(functions()),
                drawn=drawn(), networks=list(networks()))


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
        if abs(actual - expected) > 1e-11 * max(1, abs(expected)):
            yield f'{where}: {actual}, stored {expected}'
    elif actual != expected:
        yield f'{where}: {actual}, stored {expected}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='compare instead of writing')
    check = parser.parse_args().check
    warnings.simplefilter('ignore')  # PyTorch's advice on defaults and speed
    torch.use_deterministic_algorithms(True)
    values = compute()
    if not check:
        OUTPUT.write_text(json.dumps(values, separators=(',', ':')) + '\n')
        return
    found = list(differences(values, json.loads(OUTPUT.read_text())))
    print('\n'.join(found) or 'equal')
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
