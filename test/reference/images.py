"""Images in one format as those of another, by NumPy and torch.nn.functional: for data.image-format.test.ts.

Run: python test/reference/images.py
"""
import json
import pathlib

import numpy
import torch

rng = numpy.random.default_rng(0)
PIXELS = rng.integers(0, 256, (2, 3, 6, 5)).astype(numpy.float64) / 255
MEAN, STD = [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]
OTHER_MEAN, OTHER_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def put(pixels, mean=(0,), std=(1,), span=(0, 1), order="RGB", layout="NCHW"):
    x = pixels[:, ::-1] if order == "BGR" else pixels
    x = span[0] + x * (span[1] - span[0])
    x = (x - numpy.reshape(mean, (1, -1, 1, 1))) / numpy.reshape(std, (1, -1, 1, 1))
    return numpy.ascontiguousarray(x.transpose(0, 2, 3, 1) if layout == "NHWC" else x)


def sized(x, size):
    return torch.nn.functional.interpolate(torch.from_numpy(x), size=size, mode="bilinear", antialias=True).numpy()


def grey(pixels):
    return (pixels * numpy.reshape([0.299, 0.587, 0.114], (1, 3, 1, 1))).sum(1, keepdims=True)


own = {"mean": MEAN, "std": STD}
other = {"mean": OTHER_MEAN, "std": OTHER_STD}
CASES = [
    ("another normalisation", own, other, put(PIXELS, MEAN, STD), put(PIXELS, OTHER_MEAN, OTHER_STD)),
    ("0 to 255", own, {"range": [0, 255]}, put(PIXELS, MEAN, STD), put(PIXELS, span=(0, 255))),
    ("-1 to 1 from 0 to 255", {"range": [0, 255]}, {"range": [-1, 1]}, put(PIXELS, span=(0, 255)), put(PIXELS, span=(-1, 1))),
    ("Caffe's", own, {"range": [0, 255], "order": "BGR", "mean": [103.94, 116.78, 123.68]}, put(PIXELS, MEAN, STD),
     put(PIXELS, mean=[103.94, 116.78, 123.68], span=(0, 255), order="BGR")),
    ("RGB of BGR", {"order": "BGR", "mean": MEAN[::-1], "std": STD[::-1]}, other,
     put(PIXELS, MEAN[::-1], STD[::-1], order="BGR"), put(PIXELS, OTHER_MEAN, OTHER_STD)),
    ("channels last", own, {**other, "layout": "NHWC"}, put(PIXELS, MEAN, STD),
     put(PIXELS, OTHER_MEAN, OTHER_STD, layout="NHWC")),
    ("from channels last", {**own, "layout": "NHWC"}, other, put(PIXELS, MEAN, STD, layout="NHWC"),
     put(PIXELS, OTHER_MEAN, OTHER_STD)),
    ("larger", own, {**other, "size": [12, 15]}, put(PIXELS, MEAN, STD), sized(put(PIXELS, OTHER_MEAN, OTHER_STD), (12, 15))),
    ("smaller", own, {**other, "size": 3}, put(PIXELS, MEAN, STD), sized(put(PIXELS, OTHER_MEAN, OTHER_STD), (3, 3))),
    ("grey of RGB", own, {"channels": 1, "mean": [0.1307], "std": [0.3081]}, put(PIXELS, MEAN, STD),
     put(grey(PIXELS), [0.1307], [0.3081])),
    ("grey of BGR", {"order": "BGR"}, {"channels": 1}, put(PIXELS, order="BGR"), grey(PIXELS)),
    ("RGB of grey", {"mean": [0.1307], "std": [0.3081], "channels": 1}, {**other, "channels": 3},
     put(grey(PIXELS), [0.1307], [0.3081]), put(numpy.repeat(grey(PIXELS), 3, 1), OTHER_MEAN, OTHER_STD)),
]
pathlib.Path(__file__).with_name("images.json").write_text(json.dumps([
    {"name": name, "from": given, "to": wanted, "images": x.tolist(), "expected": y.tolist()}
    for name, given, wanted, x, y in CASES
]) + "\n")
