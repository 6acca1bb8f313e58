"""The Python side of tiny-ops.ts: answers {"operation": name, "calls": n} with {"nanoseconds": of one call}."""
import json
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)

a = torch.tensor([1.0, 2.0, 3.0, 4.0])
b = torch.tensor([4.0, 3.0, 2.0, 1.0])
changed = torch.zeros(4)
square = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
image = torch.ones(1, 1, 4, 4)
weight = torch.ones(1, 1, 3, 3)
bias = torch.zeros(1)

row = torch.ones(1, 2)
small_weight = torch.ones(1, 2)
pixel = torch.ones(1, 1, 1, 1)
generator = torch.Generator().manual_seed(1)

OPERATIONS = {
    'add a number': 'a.add(1)',
    'add a tensor': 'a.add(b)',
    'add_ a number': 'changed.add_(1)',
    'add_ a tensor': 'changed.add_(b)',
    'relu': 'a.relu()',
    'sum': 'a.sum()',
    'matmul 2x2': 'square.matmul(square)',
    'view': 'a.view((2, 2))',
    'reshape': 'a.reshape((2, 2))',
    'conv2d with options': 'F.conv2d(image, weight, bias, stride=(1, 1), padding=(1, 1))',
    'one tensor: t': 'square.t()',
    'two tensors: view_as': 'a.view_as(b)',
    'scalar: fill_': 'changed.fill_(2)',
    'int: unsqueeze': 'a.unsqueeze(0)',
    'float, boolean: dropout': 'torch.dropout(a, 0.5, False)',
    'dtype: view': 'a.view(torch.int32)',
    'device: empty': "torch.empty((1,), device='cpu')",
    'string: div': "a.div(b, rounding_mode='floor')",
    'memory format: empty': 'torch.empty((1,), memory_format=torch.contiguous_format)',
    'ints: permute': 'square.permute((1, 0))',
    'floats: upsample_nearest2d': 'torch._C._nn.upsample_nearest2d(pixel, None, [1.0, 1.0])',
    'list of tensors: cat': 'torch.cat([a, b])',
    'no tensor: linear': 'F.linear(row, small_weight, None)',
    'an option: add': 'a.add(b, alpha=2)',
    'generator: bernoulli_': 'changed.bernoulli_(0.5, generator=generator)',
}


def make_loop(expression):
    """Each stands by itself: a call of a function around the operator would count as the operator's."""
    made = {}
    exec(f'def loop(calls):\n    for _ in range(calls):\n        {expression}', globals(), made)
    return made['loop']


LOOPS = {name: make_loop(expression) for name, expression in OPERATIONS.items()}

for line in sys.stdin:
    question = json.loads(line)
    loop, calls = LOOPS[question['operation']], question['calls']
    start = time.perf_counter_ns()
    loop(calls)
    print(json.dumps({'nanoseconds': (time.perf_counter_ns() - start) / calls}), flush=True)
