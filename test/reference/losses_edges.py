#!/usr/bin/env python3
"""Reference values for the distillation losses where inputs depend on each other or logits are infinite, in float64.

The losses over features are those of losses.py. The one over logits is written as the definition says, class by
class: a class that the teacher gives no probability is left out of the sum.

    python3 losses_edges.py            writes losses_edges.json beside this file
    python3 losses_edges.py --check    compares this PyTorch's values with the stored ones (1e-12 relative)
"""
import argparse
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from losses import LEVEL_LOSSES, Numbers, differences, stored

OUTPUT = Path(__file__).with_name('losses_edges.json')
INF = math.inf


# --- features that depend on each other ---------------------------------------------------------------------------


DEPENDENCES = {
    # The features of both sides, made of two leaves.
    'the teacher depends on the student': lambda a, b: (a, a * a + 1 + 0 * b),
    'the student depends on the teacher': lambda a, b: (b.exp() + 0 * a, b),
    'both depend on both': lambda a, b: (a * b + 1, a - b * b),
    'the teacher is the student': lambda a, b: (a + 0 * b, a + 0 * b),
}


def dependence(title, kind):
    numbers = Numbers(title + kind)
    leaves = [numbers.full(2, 3, 3, 2).requires_grad_() for _ in range(2)]
    student, teacher = DEPENDENCES[title](*leaves)
    loss = LEVEL_LOSSES[kind](student, teacher)
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    # Of the sum of their cubes: a second derivative.
    second = torch.autograd.grad(sum(each.pow(3).sum() for each in first), leaves)
    return {
        'title': title,
        'kind': kind,
        'leaves': [stored(each) for each in leaves],
        'loss': loss.item(),
        'first': [stored(each) for each in first],
        'second': [stored(each) for each in second],
    }


# --- logits -------------------------------------------------------------------------------------------------------


def logits_loss(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student, teacher):
        classes = [c for c in range(len(t)) if t[c].item() != -INF]
        if not classes:
            continue
        log_q = F.log_softmax(s / temperature, 0)
        log_p = F.log_softmax(t[classes] / temperature, 0)
        total = total + sum(log_p[i].exp() * (log_p[i] - log_q[c]) for i, c in enumerate(classes))
    return temperature**2 * total / len(student)


def logits_case(name, student, teacher, labels, temperature=1.0, alpha=1.0):
    student = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor(teacher, dtype=torch.float64)
    logits = logits_loss(student, teacher, temperature)
    classification = F.cross_entropy(student, torch.tensor(labels))
    parts = [(weight, part) for weight, part in [(alpha, logits), (1 - alpha, classification)] if weight != 0]
    total = sum(weight * part for weight, part in parts)
    gradient = torch.autograd.grad(total, student)[0] if total.isfinite() else None
    return {
        'name': name,
        'student': numbers(student),
        'teacher': numbers(teacher),
        'labels': labels,
        'temperature': temperature,
        'alpha': alpha,
        'expected': {
            'total': number(total.item()),
            'logits': number(logits.item()),
            'classification': number(classification.item()),
        },
        'gradient': None if gradient is None else numbers(gradient),
    }


def number(value):
    """JSON has no infinity."""
    return value if math.isfinite(value) else str(value)


def numbers(tensor):
    return [[number(value) for value in row] for row in tensor.tolist()]


def logits_cases():
    for temperature in (1.0, 4.0):
        at = f'at temperature {temperature:g}'
        yield logits_case(f'finite logits {at}', [[1, 0, -1], [0.5, 2, -3]], [[2, 0, 1], [-1, 4, 0.25]], [0, 1],
                          temperature, 0.3)
        yield logits_case(f'a class that the teacher rules out {at}', [[1, 0, -1]], [[2, 0, -INF]], [0], temperature)
        yield logits_case(f'a class that both rule out {at}', [[1, 0.5, -INF]], [[2, 0, -INF]], [0], temperature, 0.7)
        yield logits_case(f'other classes in other samples {at}', [[1, 0, -1], [0.5, -INF, 3], [1, 2, 3]],
                          [[-INF, 1, 2], [1, -INF, -INF], [0, 0, 1]], [1, 2, 0], temperature, 0.4)
        yield logits_case(f'a class that only the student rules out {at}', [[1, -INF, -1]], [[2, 0, -1]], [0],
                          temperature)
        yield logits_case(f'one class is left {at}', [[1, 0, -1]], [[-INF, 3, -INF]], [1], temperature, 0.5)
    yield logits_case('a sample whose classes are all ruled out', [[1, 0, -1], [1, 2, 0]],
                      [[-INF, -INF, -INF], [0, 1, 2]], [0, 1])


def evaluate():
    return {
        'dependences': [dependence(title, kind) for title in DEPENDENCES for kind in LEVEL_LOSSES],
        'logits': list(logits_cases()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='compare with the stored values instead of writing them')
    check = parser.parse_args().check
    torch.set_num_threads(1)
    results = evaluate()
    count = sum(len(each) for each in results.values())
    if check:
        stored_results = json.loads(OUTPUT.read_text())
        found = list(differences(results, {name: stored_results[name] for name in results}))
        print('\n'.join(found) or f'{count} cases agree on PyTorch {torch.__version__}')
        sys.exit(1 if found else 0)
    lists = ',\n'.join(
        f'"{name}": [\n' + ',\n'.join(json.dumps(each, separators=(',', ':'), allow_nan=False) for each in cases) + '\n]'
        for name, cases in results.items())
    OUTPUT.write_text(f'{{"madeBy": "test/reference/losses_edges.py", "pytorch": "{torch.__version__}",\n{lists}}}\n')
    print(f'{OUTPUT.name}: {count} cases')


if __name__ == '__main__':
    main()
