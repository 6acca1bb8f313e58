"""What Python's own functions and methods give where several overloads of an operator would take the call, or where
a function of Python's stands before the operator: cases for operators.python.test.ts.

Run: python test/reference/python_calls.py
"""
import json
import pathlib

import torch

x = torch.sin(torch.arange(12.0)).reshape(3, 4)
signal = torch.cos(torch.arange(32.0) * 0.7)
window = torch.hann_window(8)
HALVES = (torch.float16, torch.bfloat16)

CASES = {}


def case(name, result):
    """The name is the call in JavaScript; the test has a function of this name."""
    if result.is_complex():
        result = torch.view_as_real(result)
    CASES[name] = {"dtype": str(result.dtype).removeprefix("torch."), "shape": list(result.shape),
                   "values": result.double().flatten().tolist()}


case("torch.stft(signal, 8, { returnComplex: true })", torch.stft(signal, 8, return_complex=True))
case("torch.stft(signal, 8, { hopLength: 2, window, returnComplex: true })",
     torch.stft(signal, 8, hop_length=2, window=window, return_complex=True))
case("torch.stft(signal, 8, { center: false, returnComplex: true })",
     torch.stft(signal, 8, center=False, return_complex=True))
case("torch.stft(signal, 8, { padMode: 'constant', returnComplex: true })",
     torch.stft(signal, 8, pad_mode="constant", return_complex=True))
case("signal.stft(8, { normalized: true, onesided: false, returnComplex: true })",
     signal.stft(8, normalized=True, onesided=False, return_complex=True))
case("torch.istft(torch.stft(signal, 8, { window, returnComplex: true }), 8, { window })",
     torch.istft(torch.stft(signal, 8, window=window, return_complex=True), 8, window=window))
case("torch.bernoulli(ones([4]), { out })", torch.bernoulli(torch.ones(4), out=torch.zeros(4)))
case("torch.bernoulli(zeros([4]), { out })", torch.bernoulli(torch.zeros(4), out=torch.ones(4)))
case("torch.softmax(x, 0, { dtype: 'float64' })", torch.softmax(x, 0, dtype=torch.float64))
case("x.logSoftmax(1, { dtype: 'float16' })", x.log_softmax(1, dtype=torch.float16))
case("x.sum(0, { dtype: 'float64' })", x.sum(0, dtype=torch.float64))
case("x.cumsum(1, { dtype: 'float64' })", x.cumsum(1, dtype=torch.float64))
case("x.prod({ dtype: 'float64' })", x.prod(dtype=torch.float64))
case("x.std()", x.std())
case("x.std({ dim: [0], correction: 0 })", x.std(dim=0, correction=0))
case("x.norm()", x.norm())
case("torch.cdist(x, x)", torch.cdist(x, x))
for dtype in HALVES:
    name = str(dtype).removeprefix("torch.")
    for op in ("add", "sub", "mul", "div"):
        for number in (0.9, 1 / 3, 3, 1e-3, 1000):
            case(f"x.to('{name}').{op}({number!r})", getattr(x.to(dtype), op)(number))
            case(f"x.to('{name}').{op}_({number!r})", getattr(x.to(dtype), op + "_")(number))
    for op in ("subtract", "multiply", "divide", "true_divide"):
        js = "trueDivide" if op == "true_divide" else op
        case(f"x.to('{name}').{js}_(0.9)", getattr(x.to(dtype), op + "_")(0.9))
    for op in ("lt", "eq"):
        case(f"x.to('{name}').{op}(0.9)", getattr(x.to(dtype), op)(0.9))
for op in ("add", "mul", "sub", "div"):
    for dtype, number in ((torch.uint8, 300), (torch.int64, 0.5), (torch.int32, 7), (torch.bool, 2), (torch.float64, 1 / 3)):
        if op == "sub" and dtype == torch.bool:
            continue
        name = str(dtype).removeprefix("torch.")
        case(f"tensor([1, 2, 3], {{ dtype: '{name}' }}).{op}({number!r})",
             getattr(torch.tensor([1, 2, 3]).to(dtype), op)(number))

path = pathlib.Path(__file__).with_name("python_calls.json")
path.write_text("{\n" + ",\n".join(
    f"{json.dumps(name)}:{json.dumps(each, separators=(',', ':'))}" for name, each in CASES.items()) + "\n}\n")
print(len(CASES))
