"""The Python side of data.ts: a data set of images as bytes, as it is written with torch, in a DataLoader."""
import time

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from peer import serve

MEAN, STD = torch.tensor([0.49, 0.48, 0.45]).view(3, 1, 1), torch.tensor([0.25, 0.24, 0.26]).view(3, 1, 1)


class Images(Dataset):
    def __init__(self, count, size, augmented):
        self.pixels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
        self.labels = torch.randint(10, (count,))
        self.size, self.augmented = size, augmented

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = (self.pixels[index].float() / 255 - MEAN) / STD
        if self.augmented:
            top, left, flip = torch.randint(9, ()), torch.randint(9, ()), torch.randint(2, ())
            image = F.pad(image, (4, 4, 4, 4))[:, top:top + self.size, left:left + self.size]
            if flip:
                image = image.flip(-1)
        return image, self.labels[index]


loader = None


def answer(count=None, size=32, batch=64, augmented=False):
    global loader
    if count is not None:
        loader = DataLoader(Images(count, size, augmented), batch, shuffle=True)
        return {}
    start = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    return {'milliseconds': (time.perf_counter() - start) * 1000, 'images': images}


serve(answer)
