#!/usr/bin/env python3
"""Reference values for the distillation losses, computed in float64 with PyTorch's autograd.

The formulas follow section 10.3 of the course that Alambic implements (FeatureDistillationLoss and
AttentionTransfer), written with plain PyTorch operations and nothing of Alambic's own code. What the course leaves
open is decided as documented: a weighted mean over levels, and, for attention, RepDistiller's pooling before the
squares as an option.

    python3 losses.py            writes losses.json beside this file
    python3 losses.py --check    compares this PyTorch's values with the stored ones (1e-12 relative)

Needs PyTorch 1.13 or later and no other package.
"""
import argparse
import json
import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

OUTPUT = Path(__file__).with_name('losses.json')
EPS = 1e-12


# --- the losses -------------------------------------------------------------------------------------------------


def align(student, teacher):
    """Pools the spatially larger of two 4-D features to the other's size; sizes compare as Python's tuples do."""
    if student.shape == teacher.shape or student.dim() != 4 or teacher.dim() != 4:
        return student, teacher
    student_size, teacher_size = tuple(student.shape[-2:]), tuple(teacher.shape[-2:])
    if student_size < teacher_size:
        return student, F.adaptive_avg_pool2d(teacher, student_size)
    if student_size > teacher_size:
        return F.adaptive_avg_pool2d(student, teacher_size), teacher
    return student, teacher


def mse(student, teacher):
    return F.mse_loss(*align(student, teacher))


def cosine(student, teacher):
    student, teacher = align(student, teacher)
    student = F.normalize(student.reshape(student.size(0), -1), p=2.0, dim=1, eps=EPS)
    teacher = F.normalize(teacher.reshape(teacher.size(0), -1), p=2.0, dim=1, eps=EPS)
    return (1 - (student * teacher).sum(dim=1)).mean()


def attention_map(features):
    attention = features.pow(2).mean(dim=1, keepdim=True)
    flat = attention.reshape(attention.size(0), -1)
    return F.normalize(flat, p=2.0, dim=1, eps=EPS).reshape(attention.shape)


def attention(student, teacher):
    student_map, teacher_map = attention_map(student), attention_map(teacher)
    if student_map.shape != teacher_map.shape:
        teacher_map = F.interpolate(teacher_map, size=student_map.shape[-2:], mode='bilinear', align_corners=False)
    return F.mse_loss(student_map, teacher_map)


def pooled_attention(student, teacher):
    """RepDistiller: the feature with the larger height is pooled before it is squared; of equal heights, the wider."""
    return F.mse_loss(*map(attention_map, align(student, teacher)))


def level_mean(losses, weights):
    weights = [1.0] * len(losses) if weights is None else weights
    return sum(weight * loss for weight, loss in zip(weights, losses) if weight != 0) / sum(weights)


LEVEL_LOSSES = {'mse': mse, 'cosine': cosine, 'attention': attention, 'pooled attention': pooled_attention}


def distillation_loss(kind, students, teachers, logits, labels, alpha, weights):
    distillation = level_mean([LEVEL_LOSSES[kind](s, t) for s, t in zip(students, teachers)], weights)
    classification = F.cross_entropy(logits, labels)
    # What weighs nothing is no part of the sum, nor of its gradients.
    parts = [(alpha, distillation), (1 - alpha, classification)]
    total = sum(weight * part for weight, part in parts if weight != 0)
    return total, distillation, classification


# --- inputs -----------------------------------------------------------------------------------------------------


class Numbers:
    """Deterministic inputs. Multiples of 1/64 below 4 are exact even in bfloat16, so a run in a lower precision
    starts from the very same numbers."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def short(self, *shape):
        return self._tensor(shape, lambda: self.random.randint(-255, 255) / 64)

    def full(self, *shape):
        return self._tensor(shape, lambda: self.random.gauss(0, 1))

    @staticmethod
    def _tensor(shape, draw):
        count = 1
        for size in shape:
            count *= size
        return torch.tensor([draw() for _ in range(count)], dtype=torch.float64).reshape(shape)


def make_case(name, kind, levels, *, alpha=0.5, weights=None, classes=5, labels=None, change=None, full=False,
              low_precision=True):
    numbers = Numbers(name)
    draw = numbers.full if full else numbers.short
    batch = levels[0][0][0]
    students = [draw(*student) for student, _ in levels]
    teachers = [draw(*teacher) for _, teacher in levels]
    logits = draw(batch, classes)
    labels = [i % classes for i in range(batch)] if labels is None else labels
    if change is not None:
        change(students, teachers, logits)
    return dict(name=name, kind=kind, alpha=alpha, weights=weights, students=students, teachers=teachers,
                logits=logits, labels=labels, low_precision=low_precision)


def same(*shape):
    return shape, shape


def zero_first_student_sample(students, _teachers, _logits):
    students[0][0] = 0


def zero_first_samples(students, teachers, _logits):
    students[0][0] = 0
    teachers[0][0] = 0


def tiny_first_samples(students, teachers, _logits):
    """Norms under EPS but not zero: `clamp_min` decides, and its gradient is that of a constant divisor."""
    students[0][0] *= 2.0**-60
    teachers[0][0] *= 2.0**-60


def identical_features(students, teachers, _logits):
    teachers[0].copy_(students[0])


def opposite_features(students, teachers, _logits):
    teachers[0].copy_(-students[0])


def extreme_logits(_students, _teachers, logits):
    logits.mul_(64)


def cases():
    sizes = [
        ('same sizes', [same(2, 3, 4, 5)]),
        ('teacher larger', [((2, 2, 3, 3), (2, 2, 6, 6))]),
        ('student larger', [((2, 2, 6, 4), (2, 2, 3, 2))]),
        ('teacher larger, sizes that do not divide', [((2, 2, 3, 3), (2, 2, 7, 5))]),
        ('student larger, sizes that do not divide', [((2, 2, 7, 7), (2, 2, 5, 3))]),
        ('student height smaller and width larger', [((2, 3, 4, 6), (2, 3, 6, 4))]),
        ('student height larger and width smaller', [((2, 3, 6, 4), (2, 3, 4, 6))]),
        ('same height, teacher wider', [((2, 3, 4, 3), (2, 3, 4, 6))]),
        ('same height, student wider', [((2, 3, 4, 7), (2, 3, 4, 5))]),
        ('student of one pixel', [((3, 4, 1, 1), (3, 4, 3, 3))]),
        ('several levels', [((2, 1, 6, 6), (2, 1, 6, 6)), ((2, 2, 3, 3), (2, 2, 6, 6)), ((2, 3, 4, 4), (2, 3, 2, 2))]),
        ('one sample', [((1, 3, 4, 4), (1, 3, 6, 6))]),
    ]
    for kind in ('mse', 'cosine'):
        for title, levels in sizes:
            yield make_case(f'{kind}: {title}', kind, levels)
        yield make_case(f'{kind}: 2-D features', kind, [same(4, 7)])
        yield make_case(f'{kind}: 3-D features', kind, [same(2, 5, 3)])
        yield make_case(f'{kind}: 5-D features', kind, [same(2, 2, 3, 2, 2)])
        yield make_case(f'{kind}: features of several ranks', kind, [same(2, 3, 4, 4), same(2, 6, 3), same(2, 9)])
        yield make_case(f'{kind}: zero student sample', kind, [same(3, 2, 3, 3)], change=zero_first_student_sample)
        yield make_case(f'{kind}: zero student and teacher samples', kind, [same(3, 2, 3, 3)],
                        change=zero_first_samples)
        yield make_case(f'{kind}: samples with a norm under eps', kind, [same(3, 2, 3, 3)], change=tiny_first_samples)
        yield make_case(f'{kind}: teacher equal to the student', kind, [same(2, 3, 4, 4)], change=identical_features)
        yield make_case(f'{kind}: teacher opposite to the student', kind, [same(2, 3, 4, 4)], change=opposite_features)

    for title, levels in sizes:
        yield make_case(f'attention: {title}', 'attention', levels)
    yield make_case('attention: channels differ', 'attention', [((2, 3, 4, 5), (2, 7, 4, 5))])
    yield make_case('attention: channels differ, teacher larger', 'attention', [((2, 3, 3, 3), (2, 5, 6, 6))])
    yield make_case('attention: channels differ, student larger', 'attention', [((2, 5, 7, 5), (2, 3, 4, 4))])
    yield make_case('attention: one channel', 'attention', [((2, 1, 4, 4), (2, 5, 4, 4))])
    yield make_case('attention: zero student sample', 'attention', [((3, 2, 3, 3), (3, 4, 3, 3))],
                    change=zero_first_student_sample)
    yield make_case('attention: zero samples, teacher resized', 'attention', [((3, 2, 3, 3), (3, 4, 6, 6))],
                    change=zero_first_samples)
    yield make_case('attention: maps with a norm under eps', 'attention', [((3, 2, 3, 3), (3, 4, 3, 3))],
                    change=tiny_first_samples, low_precision=False)
    yield make_case('attention: teacher equal to the student', 'attention', [same(2, 3, 4, 4)],
                    change=identical_features)

    for title, levels in [
        ('same sizes', [((2, 3, 4, 5), (2, 7, 4, 5))]),
        ('teacher larger', [((2, 3, 4, 4), (2, 6, 8, 8))]),
        ('student larger', [((2, 3, 8, 8), (2, 6, 4, 4))]),
        ('sizes that do not divide', [((2, 3, 5, 5), (2, 2, 7, 7)), ((2, 3, 7, 7), (2, 2, 3, 3))]),
        ('teacher higher, not square', [((2, 3, 4, 3), (2, 3, 8, 6))]),
        ('student higher and narrower', [((2, 3, 6, 4), (2, 3, 4, 6))]),
    ]:
        yield make_case(f'pooled attention: {title}', 'pooled attention', levels)

    three_levels = [((2, 2, 4, 4), (2, 2, 4, 4)), ((2, 3, 3, 3), (2, 3, 5, 5)), ((2, 3, 3, 3), (2, 3, 2, 2))]
    for kind in LEVEL_LOSSES:
        yield make_case(f'{kind}: weights', kind, three_levels, weights=[0.5, 2.0, 1.25])
        yield make_case(f'{kind}: a level of weight zero', kind, three_levels, weights=[1.0, 0.0, 3.0])
        yield make_case(f'{kind}: alpha 0', kind, [same(2, 3, 4, 4)], alpha=0.0)
        yield make_case(f'{kind}: alpha 0.3', kind, [((2, 3, 4, 4), (2, 3, 6, 6))], alpha=0.3)
        yield make_case(f'{kind}: alpha 1', kind, [((2, 3, 4, 4), (2, 3, 6, 6))], alpha=1.0)
        yield make_case(f'{kind}: numbers of full precision', kind, [((2, 3, 5, 5), (2, 3, 7, 6))], full=True)

    yield make_case('classification: first and last class', 'mse', [same(4, 3)], alpha=0.3, classes=10,
                    labels=[0, 9, 9, 0])
    yield make_case('classification: two classes', 'cosine', [same(3, 3)], classes=2, labels=[1, 0, 1])
    yield make_case('classification: one class', 'attention', [same(2, 3, 2, 2)], classes=1, labels=[0, 0])
    yield make_case('classification: logits far apart', 'mse', [same(3, 3)], alpha=0.0, classes=4,
                    labels=[3, 0, 2], change=extreme_logits)


# --- results ----------------------------------------------------------------------------------------------------


def stored(tensor):
    return {'shape': list(tensor.shape), 'values': tensor.reshape(-1).tolist()}


def gradients(output, students, teachers, logits):
    """Gradients of one loss part; what it does not depend on is null."""
    inputs = [*students, *teachers, logits]
    found = torch.autograd.grad(output, inputs, retain_graph=True, allow_unused=True)
    found = [None if gradient is None else stored(gradient) for gradient in found]
    return {
        'studentFeatures': found[:len(students)],
        'teacherFeatures': found[len(students):-1],
        'logits': found[-1],
    }


def evaluate(case):
    students = [t.clone().requires_grad_() for t in case['students']]
    teachers = [t.clone().requires_grad_() for t in case['teachers']]
    logits = case['logits'].clone().requires_grad_()
    labels = torch.tensor(case['labels'], dtype=torch.int64)
    total, distillation, classification = distillation_loss(
        case['kind'], students, teachers, logits, labels, case['alpha'], case['weights'])
    result = {
        'name': case['name'],
        'kind': case['kind'],
        'alpha': case['alpha'],
        'weights': case['weights'],
        'lowPrecision': case['low_precision'],
        'studentFeatures': [stored(t) for t in students],
        'teacherFeatures': [stored(t) for t in teachers],
        'logits': stored(logits),
        'labels': case['labels'],
        'expected': {
            'total': total.item(),
            'distillation': distillation.item(),
            'classification': classification.item(),
        },
        'gradients': gradients(total, students, teachers, logits),
    }
    if case['weights'] is not None or case['alpha'] != 0.5:
        # Each part is an output in its own right: its gradients hold without the other part in the sum.
        result['partGradients'] = {
            'distillation': gradients(distillation, students, teachers, logits),
            'classification': gradients(classification, students, teachers, logits),
        }
    if 'attention' in case['kind']:
        result['attentionMaps'] = [stored(attention_map(t)) for t in students]
    return result


def differences(ours, theirs, path=''):
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        for key in ours:
            yield from differences(ours[key], theirs[key], f'{path}.{key}')
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f'{path}[{i}]')
    elif isinstance(ours, float) and isinstance(theirs, float):
        if abs(ours - theirs) > 1e-12 * max(1.0, abs(theirs)):
            yield f'{path}: {ours!r} here, {theirs!r} stored'
    elif ours != theirs:
        yield f'{path}: {ours!r} here, {theirs!r} stored'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='compare with the stored values instead of writing them')
    check = parser.parse_args().check
    torch.set_num_threads(1)
    results = [evaluate(case) for case in cases()]
    if check:
        found = list(differences(results, json.loads(OUTPUT.read_text())['cases']))
        print('\n'.join(found) or f'{len(results)} cases agree on PyTorch {torch.__version__}')
        sys.exit(1 if found else 0)
    lines = ',\n'.join(json.dumps(result, separators=(',', ':')) for result in results)
    OUTPUT.write_text(
        f'{{"madeBy": "test/reference/losses.py", "pytorch": "{torch.__version__}", "cases": [\n{lines}\n]}}\n')
    print(f'{OUTPUT.name}: {len(results)} cases')


if __name__ == '__main__':
    main()
