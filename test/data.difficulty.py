"""How hard the procedural images are: trains nets of four sizes with PyTorch and prints their test accuracy.

The table in docs/data.md comes from here. From the repository's root, with torch and numpy installed:

    python test/data.difficulty.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

DUMP = """
import { writeFileSync } from 'node:fs'
const [root, folder] = process.argv.slice(-2)
const { renderImages } = await import(`${root}/lib/data/procedural/render.ts`)
for (const [name, count, seed] of [['train', 6000, 1], ['test', 2000, 2]]) {
  const { pixels, labels } = renderImages(count, seed, 32, 10)
  writeFileSync(`${folder}/${name}.pixels`, pixels)
  writeFileSync(`${folder}/${name}.labels`, labels)
}
"""
BATCH = 64


def images(folder, name):
    pixels = np.fromfile(folder / f"{name}.pixels", np.uint8).reshape(-1, 3, 32, 32)
    labels = np.fromfile(folder / f"{name}.labels", np.uint8)
    return (torch.from_numpy(pixels) / 255 - 0.47) / 0.285, torch.from_numpy(labels).long()


def convolution(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def convnet(a, b, c):
    return nn.Sequential(
        *convolution(3, a), nn.MaxPool2d(2), *convolution(a, b), nn.MaxPool2d(2),
        *convolution(b, c), nn.MaxPool2d(2), *convolution(c, c), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(c, 10),
    )  # fmt: skip


def test_accuracy(make, train, test, epochs, rate, weight_decay):
    torch.manual_seed(0)
    net = make()
    images, labels = train
    steps = len(images) // BATCH
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    for _ in range(epochs):
        net.train()
        for batch in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        predictions = torch.cat([net(part).argmax(1) for part in test[0].split(500)])
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return parameters, (predictions == test[1]).float().mean().item()


def main():
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "dump.mts"
        script.write_text(DUMP)
        root = Path(__file__).resolve().parent.parent
        subprocess.run(["npx", "tsx", script, root, folder], cwd=root, check=True)
        train, test = images(folder, "train"), images(folder, "test")
    nets = {
        "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), 1e-3, 1e-2),
        "8-16-32": (lambda: convnet(8, 16, 32), 4e-3, 0),
        "12-24-48": (lambda: convnet(12, 24, 48), 4e-3, 0),
        "32-64-128": (lambda: convnet(32, 64, 128), 4e-3, 0),
    }
    for name, (make, rate, weight_decay) in nets.items():
        parameters, accuracy = test_accuracy(make, train, test, epochs, rate, weight_decay)
        print(f"{name:10} {parameters:8,} parameters: {accuracy:.1%}", flush=True)


main()
