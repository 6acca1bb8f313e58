"""The Python side of steps.ts: training steps of students, alone and taught, as such loops are usually written."""
import contextlib
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import networks
from peer import serve

NETWORKS = {
    'three-convolutions': networks.ThreeConvolutions,
    'resnet56': lambda: networks.cifar_resnet(56),
    'resnet20': lambda: networks.cifar_resnet(20),
    'resnet8': lambda: networks.cifar_resnet(8),
    'wrn-40-2': lambda: networks.wide_resnet(40, 2),
    'wrn-16-2': lambda: networks.wide_resnet(16, 2),
    'resnet18': networks.resnet18,
    'mobilenet-v2': networks.mobilenet_v2,
}

ALPHA = 0.5


class AdaptationLayer(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.adapt = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        if inputs != outputs:
            nn.init.xavier_uniform_(self.adapt.weight)

    def forward(self, x):
        return self.adapt(x)


def align(student, teacher):
    if student.shape[-2:] < teacher.shape[-2:]:
        teacher = F.adaptive_avg_pool2d(teacher, student.shape[-2:])
    elif student.shape[-2:] != teacher.shape[-2:]:
        student = F.adaptive_avg_pool2d(student, teacher.shape[-2:])
    return student, teacher


class Training:
    """A student, with a teacher or without, and the batch that it learns again and again."""

    def __init__(self, student, teacher, batch, size, dtype, device, compiled):
        torch.manual_seed(0)
        self.device = device
        self.data = torch.randn(batch, 3, size, size, device=device)
        self.labels = torch.randint(10, (batch,), device=device)
        self.student = NETWORKS[student]().to(device).train()
        self.teacher = teacher and NETWORKS[teacher]().to(device).eval()
        self.adaptation = nn.ModuleList()
        if teacher:
            with torch.no_grad():
                pairs = zip(self.teacher(self.data)[1], self.student.eval()(self.data)[1])
            self.adaptation.extend(AdaptationLayer(t.shape[1], s.shape[1]) for t, s in pairs)
            self.adaptation.to(device)
            self.student.train()
        self.optimizer = torch.optim.Adam([*self.student.parameters(), *self.adaptation.parameters()], lr=1e-3)
        self.dtype = getattr(torch, dtype)
        self.teach = self.run_teacher
        self.learn = self.run_student
        if compiled:
            # On a GPU CUDA graphs take the place of single launches, as in Alambic's compiled step.
            mode = 'default' if device == 'cpu' else 'reduce-overhead'
            self.teach, self.learn = (torch.compile(each, mode=mode) for each in (self.teach, self.learn))
        self.compiled = compiled

    def autocast(self):
        return contextlib.nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device, dtype=self.dtype)

    def run_teacher(self, data):
        with torch.no_grad(), self.autocast():
            return self.teacher(data)[1]

    def run_student(self, data, labels, teacher_features):
        with self.autocast():
            logits, features = self.student(data)
            if teacher_features is None:
                return F.cross_entropy(logits, labels)
            adapted = [layer(feature) for layer, feature in zip(self.adaptation, teacher_features)]
            feature_loss = 0.0
            for s, t in zip(features, adapted):
                feature_loss = feature_loss + F.mse_loss(*align(s, t))
            feature_loss = feature_loss / len(features)
            return ALPHA * feature_loss + (1 - ALPHA) * F.cross_entropy(logits, labels)

    def step(self):
        if self.compiled and self.device != 'cpu':
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad()
        teacher_features = self.teach(self.data) if self.teacher else None
        total = self.learn(self.data, self.labels, teacher_features)
        total.backward()
        self.optimizer.step()
        return total.item()


def peak_memory():
    """Of this process, in KiB, as Linux counts it."""
    with open('/proc/self/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('VmHWM'))


training = None


def answer(prepare=None, steps=1, memory=False):
    global training
    if prepare is not None:
        training = Training(**prepare)
        training.step()
        training.step()
        return {}
    if memory:
        return {'peak': peak_memory()}
    start = time.perf_counter()
    for _ in range(steps):
        loss = training.step()
    return {'milliseconds': (time.perf_counter() - start) * 1000 / steps, 'loss': loss}


serve(answer)
