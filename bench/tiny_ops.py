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

# Each loop stands by itself: a call of a function around the operator would count as the operator's.


def add_number(calls):
    for _ in range(calls):
        a.add(1)


def add_tensor(calls):
    for _ in range(calls):
        a.add(b)


def add_number_in_place(calls):
    for _ in range(calls):
        changed.add_(1)


def add_tensor_in_place(calls):
    for _ in range(calls):
        changed.add_(b)


def relu(calls):
    for _ in range(calls):
        a.relu()


def total(calls):
    for _ in range(calls):
        a.sum()


def matmul(calls):
    for _ in range(calls):
        square.matmul(square)


def view(calls):
    for _ in range(calls):
        a.view((2, 2))


def reshape(calls):
    for _ in range(calls):
        a.reshape((2, 2))


def conv2d(calls):
    for _ in range(calls):
        F.conv2d(image, weight, bias, stride=(1, 1), padding=(1, 1))


OPERATIONS = {
    'add a number': add_number,
    'add a tensor': add_tensor,
    'add_ a number': add_number_in_place,
    'add_ a tensor': add_tensor_in_place,
    'relu': relu,
    'sum': total,
    'matmul 2x2': matmul,
    'view': view,
    'reshape': reshape,
    'conv2d with options': conv2d,
}

for line in sys.stdin:
    question = json.loads(line)
    operation, calls = OPERATIONS[question['operation']], question['calls']
    start = time.perf_counter_ns()
    operation(calls)
    print(json.dumps({'nanoseconds': (time.perf_counter_ns() - start) / calls}), flush=True)
