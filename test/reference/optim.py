#!/usr/bin/env python3
"""Reference values for optimizers, learning-rate schedules and gradient clipping, from PyTorch's own.

The gradients are a fixed table (multiples of 1/64, exact in every dtype), so that nothing but the optimizer is compared.

    python3 optim.py            writes optim.json beside this file
    python3 optim.py --check    compares this PyTorch's values with the stored ones (1e-5 relative)

Needs PyTorch 2.5 or later and no other package.
"""
import argparse
import json
import math
import random
import sys
from pathlib import Path

import torch

OUTPUT = Path(__file__).with_name('optim.json')
STEPS = 30
SHAPES = [[3, 4], [5]]
numbers = random.Random(20260101)


def draw(shape):
    return [numbers.randint(-255, 255) / 64 for _ in range(math.prod(shape))]


PARAMETERS = [draw(shape) for shape in SHAPES]
GRADIENTS = [[draw(shape) for shape in SHAPES] for _ in range(STEPS)]

# Names as in PyTorch. `groups`: options of the first and the second parameter, in groups of their own.
CONFIGURATIONS = [
    ('SGD', {'lr': 0.1}),
    ('SGD', {'lr': 0.05, 'weight_decay': 0.1}),
    ('SGD', {'lr': 0.05, 'momentum': 0.9}),
    ('SGD', {'lr': 0.05, 'momentum': 0.9, 'dampening': 0.25, 'weight_decay': 0.01}),
    ('SGD', {'lr': 0.02, 'momentum': 0.8, 'nesterov': True, 'weight_decay': 0.01}),
    ('SGD', {'lr': 0.02, 'momentum': 0.8, 'nesterov': True, 'maximize': True}),
    ('SGD', {'lr': 0.02, 'momentum': 0.5, 'weight_decay': 0.1, 'maximize': True}),
    ('Adam', {}),
    ('Adam', {'lr': 0.02, 'betas': [0.8, 0.95], 'eps': 1e-4}),
    ('Adam', {'lr': 0.02, 'weight_decay': 0.1}),
    ('Adam', {'lr': 0.02, 'amsgrad': True, 'betas': [0.5, 0.6]}),
    ('Adam', {'lr': 0.02, 'amsgrad': True, 'weight_decay': 0.05, 'maximize': True, 'betas': [0.9, 0.7]}),
    ('AdamW', {}),
    ('AdamW', {'lr': 0.02, 'weight_decay': 0.3}),
    ('AdamW', {'lr': 0.02, 'weight_decay': 0.3, 'amsgrad': True, 'betas': [0.5, 0.6]}),
    ('AdamW', {'lr': 0.02, 'weight_decay': 0.3, 'maximize': True}),
    ('SGD', {'lr': 0.05, 'groups': [{'momentum': 0.9}, {'lr': 0.2, 'weight_decay': 0.01}]}),
    ('Adam', {'lr': 0.05, 'groups': [{'betas': [0.7, 0.9]}, {'lr': 0.01, 'amsgrad': True}]}),
]


def make_parameters(dtype):
    return [torch.tensor(values, dtype=dtype).reshape(shape).requires_grad_()
            for values, shape in zip(PARAMETERS, SHAPES)]


def make_optimizer(name, options, parameters):
    options = {key: tuple(value) if key == 'betas' else value for key, value in options.items()}
    groups = options.pop('groups', None)
    if groups is not None:
        parameters = [{**group, 'params': [parameter]} for group, parameter in zip(groups, parameters)]
    return getattr(torch.optim, name)(parameters, **options)


def take_steps(optimizer, parameters, first, last):
    """The second parameter has no gradient in step 1: it is skipped then and lags behind in its count."""
    for step in range(first, last):
        for i, parameter in enumerate(parameters):
            skipped = step == 1 and i == 1
            parameter.grad = None if skipped else torch.tensor(GRADIENTS[step][i]).to(parameter).reshape_as(parameter)
        optimizer.step()


def values_of(tensors):
    return [tensor.detach().reshape(-1).tolist() for tensor in tensors]


def plain_state(optimizer):
    """The optimizer's state dict with lists in the place of tensors."""
    saved = optimizer.state_dict()
    state = {index: {name: None if value is None else value.reshape(-1).tolist() for name, value in entries.items()}
             for index, entries in saved['state'].items()}
    return {'state': state, 'param_groups': saved['param_groups']}


def optimizer_case(name, options, dtype):
    parameters = make_parameters(dtype)
    optimizer = make_optimizer(name, options, parameters)
    take_steps(optimizer, parameters, 0, 2)
    second = values_of(parameters)
    take_steps(optimizer, parameters, 2, 15)
    half = {'parameters': values_of(parameters), 'stateDict': plain_state(optimizer)}
    take_steps(optimizer, parameters, 15, STEPS)
    return {'optimizer': name, 'options': options, 'dtype': str(dtype).removeprefix('torch.'), 'second': second,
            'half': half, 'last': values_of(parameters)}


# --- schedules --------------------------------------------------------------------------------------------------

S = torch.optim.lr_scheduler
METRICS = [1.0, 0.9, 0.85, 0.85, 0.8499, 0.86, 0.87, 0.9, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.7, 0.71, 0.72, 0.73,
           0.74, 0.75, 0.76, 0.77, 0.78]


def sequential(optimizer):
    return S.SequentialLR(optimizer, [S.LinearLR(optimizer, 0.1, total_iters=4), S.CosineAnnealingLR(optimizer, 9, 0.001),
                                      S.ExponentialLR(optimizer, 0.9)], [4, 13])


def sequential_steps(optimizer):
    return S.SequentialLR(optimizer, [S.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)), S.StepLR(optimizer, 2, 0.5),
                                      S.MultiStepLR(optimizer, [2, 5])], [3, 9])


# name: how it is made, and of which optimizer
SCHEDULES = {
    'LambdaLR': lambda o: S.LambdaLR(o, [lambda epoch: 0.95 ** epoch, lambda epoch: 1 / (1 + epoch)]),
    'StepLR': lambda o: S.StepLR(o, 5, 0.3),
    'MultiStepLR': lambda o: S.MultiStepLR(o, [3, 7, 7, 12], 0.5),
    'ExponentialLR': lambda o: S.ExponentialLR(o, 0.93),
    'CosineAnnealingLR': lambda o: S.CosineAnnealingLR(o, 7, 0.001),
    'LinearLR': lambda o: S.LinearLR(o),
    'LinearLR down': lambda o: S.LinearLR(o, 1.0, 0.2, 8),
    'OneCycleLR': lambda o: S.OneCycleLR(o, 0.4, total_steps=24),
    'OneCycleLR linear, three phases': lambda o: S.OneCycleLR(
        o, [0.4, 0.1], epochs=4, steps_per_epoch=6, pct_start=0.4, anneal_strategy='linear', base_momentum=0.7,
        max_momentum=0.9, div_factor=10.0, final_div_factor=100.0, three_phase=True),
    'OneCycleLR without momentum': lambda o: S.OneCycleLR(o, 0.4, total_steps=24, cycle_momentum=False),
    'ReduceLROnPlateau': lambda o: S.ReduceLROnPlateau(o, patience=2),
    'ReduceLROnPlateau with all options': lambda o: S.ReduceLROnPlateau(
        o, mode='max', factor=0.5, patience=1, threshold=0.05, threshold_mode='abs', cooldown=2, min_lr=[0.03, 0.001],
        eps=1e-3),
    'ReduceLROnPlateau max rel': lambda o: S.ReduceLROnPlateau(o, mode='max', factor=0.5, patience=1),
    'SequentialLR': sequential,
    'SequentialLR of steps': sequential_steps,
    'StepLR and ExponentialLR together': lambda o: (S.StepLR(o, 4, 0.5), S.ExponentialLR(o, 0.9)),
}


def schedule_case(name, optimizer_name):
    parameters = make_parameters(torch.float64)
    groups = [{'params': [parameters[0]]}, {'params': [parameters[1]], 'lr': 0.02}]
    optimizer = getattr(torch.optim, optimizer_name)(groups, lr=0.1)
    made = SCHEDULES[name](optimizer)
    schedulers = made if isinstance(made, tuple) else (made,)
    lrs, momenta = [], []

    def record():
        lrs.append([group['lr'] for group in optimizer.param_groups])
        momenta.append([group['betas'][0] if 'betas' in group else group['momentum'] for group in optimizer.param_groups])

    record()
    for metric in METRICS[:23]:
        optimizer.step()
        for scheduler in schedulers:
            if isinstance(scheduler, S.ReduceLROnPlateau):
                scheduler.step(metric)
            else:
                scheduler.step()
        record()
    return {'schedule': name, 'optimizer': optimizer_name, 'lrs': lrs, 'momenta': momenta}


# --- clipping ---------------------------------------------------------------------------------------------------


def norm_case(max_norm, norm_type):
    parameters = make_parameters(torch.float64)
    for i, parameter in enumerate(parameters):
        parameter.grad = torch.tensor(GRADIENTS[0][i], dtype=torch.float64).reshape_as(parameter)
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
    return {'maxNorm': max_norm, 'normType': 'Infinity' if math.isinf(norm_type) else norm_type, 'norm': norm.item(),
            'gradients': values_of(parameter.grad for parameter in parameters)}


def make_all():
    return {
        'shapes': SHAPES,
        'parameters': PARAMETERS,
        'gradients': GRADIENTS,
        'optimizers': [optimizer_case(name, options, dtype)
                       for name, options in CONFIGURATIONS for dtype in (torch.float64, torch.float32)],
        'metrics': METRICS,
        'schedules': [schedule_case(name, optimizer) for name in SCHEDULES for optimizer in ('SGD', 'Adam')],
        'clipping': [norm_case(max_norm, norm_type) for max_norm in (1.0, 1000.0)
                     for norm_type in (1.0, 2.0, 3.0, math.inf)],
    }


def differences(ours, theirs, path=''):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() & theirs.keys():  # options of groups differ between versions
            yield from differences(ours[key], theirs[key], f'{path}.{key}')
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f'{path}[{i}]')
    elif isinstance(ours, float) and isinstance(theirs, float):
        if not math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-9):
            yield f'{path}: {ours!r} here, {theirs!r} stored'
    elif ours != theirs:
        yield f'{path}: {ours!r} here, {theirs!r} stored'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='compare with the stored values instead of writing them')
    check = parser.parse_args().check
    torch.set_num_threads(1)
    result = json.loads(json.dumps(make_all()))  # keys become strings, as they are stored
    if check:
        found = list(differences(result, json.loads(OUTPUT.read_text())))
        print('\n'.join(found) or f'all agree on PyTorch {torch.__version__}')
        sys.exit(1 if found else 0)
    lines = ',\n'.join(f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in result.items())
    OUTPUT.write_text(f'{{"madeBy": "test/reference/optim.py", "pytorch": "{torch.__version__}",\n{lines}\n}}\n')
    print(f'{OUTPUT.name}: {len(result["optimizers"])} optimizers, {len(result["schedules"])} schedules')


if __name__ == '__main__':
    main()
