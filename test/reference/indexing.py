"""What PyTorch reads and writes by index: cases for tensor.indexing.test.ts. Run: python test/reference/indexing.py"""
import json
import pathlib
import random
import warnings

import torch

warnings.simplefilter("ignore")
random.seed(7)


def decode(entry):
    """An index as JSON into what Python takes."""
    if isinstance(entry, dict):
        if "slice" in entry:
            return slice(*entry["slice"])
        if "tensor" in entry:
            return torch.tensor(entry["tensor"], dtype=getattr(torch, entry["dtype"]))
        return entry["list"]
    return Ellipsis if entry == "..." else entry


def nested(shape, make):
    return make() if not shape else [nested(shape[1:], make) for _ in range(shape[0])]


def random_slice(size):
    bound = lambda: random.choice([None, random.randint(-size - 1, size + 1)])
    return {"slice": [bound(), bound(), random.choice([None, 1, 1, 2, 3])]}


def random_pick(size, picked):
    """Indices of one of the shapes that broadcast with each other."""
    low, high = (-size, size - 1) if random.random() > 0.03 else (-size - 1, size)
    make = lambda: random.randint(low, max(low, high))
    shape = random.choice([picked[-1:], picked[-1:], [1], picked, picked])
    if random.random() < 0.03:
        shape = [5]
    values = nested(shape, make)
    if random.random() < 0.5:
        return {"list": values}
    return {"tensor": values, "dtype": random.choice(["int64", "int64", "int32"])}


def random_mask(sizes):
    if random.random() < 0.04:
        sizes = [sizes[0] + 1, *sizes[1:]]
    values = nested(sizes, lambda: random.random() < 0.5)
    return {"list": values} if random.random() < 0.3 else {"tensor": values, "dtype": "bool"}


def random_index(shape):
    """Entries for some of the dimensions, from left to right."""
    entries = []
    picked = random.choice([[2], [3], [2, 3], [2, 1], [1, 3]])
    left = list(shape)
    has_ellipsis = False
    while left or random.random() < 0.15:
        roll = random.random()
        if roll < 0.07:
            entries.append(None)
        elif roll < 0.12:
            entries.append(random.choice([True, True, True, False]))
        elif roll < 0.17 and not has_ellipsis:
            entries.append("...")
            has_ellipsis = True
            left = left[random.randint(0, len(left)):]
        elif not left:
            if random.random() < 0.04:
                entries.append(0)
            break
        elif roll < 0.32:
            size = left.pop(0)
            low, high = (-size, size - 1) if random.random() > 0.05 else (-size - 1, size)
            index = random.randint(low, max(low, high))
            entries.append(index if random.random() < 0.7 else
                           {"tensor": index, "dtype": random.choice(["int64", "int32", "int8"])})
        elif roll < 0.5:
            entries.append(random_slice(left.pop(0)))
        elif roll < 0.78:
            entries.append(random_pick(left.pop(0), picked))
        else:
            count = random.randint(1, min(len(left), random.choice([1, 2, 2, 3])))
            entries.append(random_mask(left[:count]))
            left = left[count:]
        if random.random() < 0.12:
            break
    return entries


def result_of(run):
    try:
        return run()
    except (IndexError, RuntimeError):
        return None


def filled(shape):
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


def read_case(shape, entries):
    result = result_of(lambda: filled(shape)[tuple(decode(each) for each in entries)])
    case = {"shape": shape, "index": entries}
    return case | ({"error": True} if result is None else {"result": list(result.shape), "values": result.flatten().tolist()})


def write_case(shape, entries):
    index = tuple(decode(each) for each in entries)
    target = result_of(lambda: filled(shape)[index])
    if target is None:
        return None
    sizes = list(target.shape)
    has_duplicates = target.unique().numel() < target.numel()
    if has_duplicates or random.random() < 0.3:
        value = random.choice([-5, 1.0])
        source = value
    else:
        sizes = [size if random.random() < 0.75 else 1 for size in sizes]
        sizes = [1] * random.choice([0, 0, 0, 1, 2]) + sizes[random.choice([0, 0, 0, 1]):]
        if random.random() < 0.06 and sizes:
            sizes[-1] += 1
        value = {"shape": sizes}
        source = -1 - filled(sizes)
    written = filled(shape)

    def write():
        written[index] = source
        return written

    result = result_of(write)
    case = {"shape": shape, "index": entries, "value": value}
    return case | ({"error": True} if result is None else {"values": result.flatten().tolist()})


reads, writes = [], []
while len(reads) < 420:
    shape = [random.choice([1, 2, 2, 3, 3, 4]) if random.random() > 0.03 else 0 for _ in range(random.choice([0, 1, 2, 2, 3, 3, 3, 4]))]
    entries = random_index(shape)
    case = read_case(shape, entries)
    if len(case.get("values", [])) <= 60:
        reads.append(case)
    if len(writes) < 300 and torch.Size(shape).numel() <= 48:
        case = write_case(shape, entries)
        if case is not None:
            writes.append(case)

path = pathlib.Path(__file__).with_name("indexing.json")
lines = lambda cases: ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
path.write_text(f'{{"reads":[\n{lines(reads)}\n],"writes":[\n{lines(writes)}\n]}}\n')
print(len(reads), len(writes), sum("error" in each for each in reads), sum("error" in each for each in writes))
