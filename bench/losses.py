"""The Python side of losses.ts: the losses as written with PyTorch's functions, forward and backward."""
import time

import torch
import torch.nn.functional as F

from peer import serve

ALPHA = 0.5


def flatten(features):
    # view() would refuse channels-last features; both are the same on contiguous ones.
    return features.reshape(features.size(0), -1)


def mse(student, teacher):
    return F.mse_loss(student, teacher)


def cosine(student, teacher):
    student = F.normalize(flatten(student), p=2, dim=1)
    teacher = F.normalize(flatten(teacher), p=2, dim=1)
    return (1 - (student * teacher).sum(dim=1)).mean()


def attention_map(features):
    attention = torch.pow(features, 2).mean(dim=1, keepdim=True)
    return F.normalize(flatten(attention), p=2, dim=1).view_as(attention)


def attention(student, teacher):
    return F.mse_loss(attention_map(student), attention_map(teacher))


LOSSES = {'mse': mse, 'cosine': cosine, 'attention': attention}
inputs = {}


def prepare(shape, channels_last, device):
    def features():
        value = torch.randn(shape, device=device)
        return value.to(memory_format=torch.channels_last) if channels_last else value

    logits = torch.randn(shape[0], 10, requires_grad=True, device=device)
    inputs.update(student=features().requires_grad_(), teacher=features(), logits=logits,
                  labels=torch.randint(10, (shape[0],), device=device))


def step(loss):
    inputs['student'].grad = inputs['logits'].grad = None
    distance = loss(inputs['student'], inputs['teacher'])
    total = ALPHA * distance + (1 - ALPHA) * F.cross_entropy(inputs['logits'], inputs['labels'])
    total.backward()


def synchronize():
    if inputs['student'].is_cuda:
        torch.cuda.synchronize()


def answer(shape=None, channels_last=False, device='cpu', loss=None, repeats=1):
    if shape is not None:
        torch.manual_seed(0)
        prepare(shape, channels_last, device)
        return {}
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        step(LOSSES[loss])
    synchronize()
    return {'milliseconds': (time.perf_counter() - start) * 1000 / repeats}


serve(answer)
