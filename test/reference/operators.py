#!/usr/bin/env python3
"""Sample calls of ATen operators over every kind of argument, with PyTorch's results.

Each case is called here through torch.ops.aten.<name>, with overload resolution, and by the test through
torch.<camelCaseName>. Calls are written the way JavaScript has to write them, which Python accepts too: arguments
without a default by position, all others by keyword; this script refuses a case that breaks the rule.

    python3 operators.py            writes operators.json beside this file
    python3 operators.py --check    compares this PyTorch's results with the stored ones

Needs PyTorch 1.13 or later and no other package. On an older PyTorch than the one that wrote the file, cases whose
`since` is newer are skipped.
"""
import argparse
import json
import math
import random
import sys
from pathlib import Path

import torch

OUTPUT = Path(__file__).with_name('operators.json')
VERSION = tuple(int(part) for part in torch.__version__.split('.')[:2])

F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
I8, U8, I16, I32, I64, BOOL = torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool
C64, C128 = torch.complex64, torch.complex128
CPU = torch.device('cpu')
NAN, INF = float('nan'), float('inf')


# --- inputs -----------------------------------------------------------------------------------------------------


class Seed:
    """Stands for a new generator with this seed."""

    def __init__(self, seed):
        self.seed = seed


class Each:
    """One number for all entries of an int[n]: Alambic takes it for every int[n], torch.ops only for some."""

    def __init__(self, value, count):
        self.value, self.count = value, count


def t(values, dtype=None):
    """Integers become int64, floats float32."""
    return torch.tensor(values, dtype=dtype)


def r(*shape, dtype=F32, seed=0, low=-4.0, high=4.0):
    """Multiples of 1/64, the same on every machine."""
    numbers = random.Random(repr((shape, seed)))
    count = math.prod(shape)
    values = [round(numbers.uniform(low, high) * 64) / 64 for _ in range(count)]
    return torch.tensor(values, dtype=F64).reshape(shape).to(dtype)


def positive(*shape, **options):
    return r(*shape, low=0.25, high=4.0, **options)


def unit(*shape, **options):
    return r(*shape, low=0.0, high=0.984375, **options)


def whole(*shape, dtype=I64, low=-9, high=9, seed=0):
    numbers = random.Random(repr((shape, seed)))
    return torch.tensor([numbers.randint(low, high) for _ in range(math.prod(shape))], dtype=dtype).reshape(shape)


def distinct(*shape, dtype=F32):
    """Without ties, so that every index is determined."""
    values = [i / 4 - 2 for i in range(math.prod(shape))]
    random.Random(repr(shape)).shuffle(values)
    return torch.tensor(values, dtype=F64).reshape(shape).to(dtype)


def definite(n, seed=0):
    """Symmetric positive definite, float64."""
    a = r(n, n, dtype=F64, seed=seed)
    return a @ a.T + n * torch.eye(n, dtype=F64)


# --- the cases --------------------------------------------------------------------------------------------------

CASES = []


def case(name, *positional, compare='values', since=None, note=None, **keywords):
    """compare: values, or `random` (shape and dtype, and the same seed gives the same numbers), or `meta`
    (shape and dtype alone)."""
    CASES.append(dict(name=name, positional=list(positional), keywords=keywords, compare=compare, since=since,
                      note=note))


def elementwise():
    for name in ['abs', 'neg', 'sin', 'cos', 'tanh', 'sigmoid', 'exp', 'relu', 'sign', 'square', 'erf', 'floor',
                 'round', 'sinc', 'silu', 'mish', 'hardswish', 'selu', 'expm1', 'atan', 'deg2rad', 'relu6',
                 'log_sigmoid', 'hardsigmoid', 'asinh', 'frac', 'trunc', 'isfinite', 'signbit']:
        case(name, r(2, 3))
    for name in ['sqrt', 'rsqrt', 'log', 'log1p', 'reciprocal', 'lgamma', 'digamma', 'log2', 'special_i0']:
        case(name, positive(2, 3, dtype=F64))
    case('special_bessel_j0', r(4, dtype=F64))
    case('special_entr', unit(4, dtype=F64))
    case('logit', unit(5, dtype=F64), eps=0.125)
    case('round', r(3, dtype=F64), decimals=1)
    case('isnan', t([1.0, NAN, INF, -INF]))
    case('isinf', t([1.0, NAN, INF, -INF]))
    case('isposinf', t([1.0, NAN, INF, -INF]))
    case('nan_to_num', t([1.0, NAN, INF, -INF]), nan=0.5, posinf=8.5, neginf=None)
    case('gelu', r(2, 3))
    case('gelu', r(2, 3), approximate='tanh')
    case('elu', r(2, 3), alpha=1.5, scale=2, input_scale=0.5)
    case('leaky_relu', r(2, 3), negative_slope=0.25)
    case('hardtanh', r(2, 3), min_val=-0.5, max_val=0.5)
    case('softplus', r(2, 3), beta=2, threshold=3.5)
    case('threshold', r(2, 3), 0.5, -1)
    case('clamp', r(2, 3), min=-1, max=1.5)
    case('clamp', r(2, 3), max=t([0.5, 1.0, -0.5]))
    case('clamp', whole(4), min=None, max=3)
    case('clamp_min', r(3), 0.5)
    case('prelu', r(2, 3), t([0.25, 0.5, 0.125]))
    case('celu', r(4), alpha=0.5)
    case('glu', r(2, 4), dim=0)
    case('polygamma', 1, positive(3, dtype=F64))
    case('mvlgamma', positive(3, dtype=F64) + 2, 2)


def arithmetic():
    a, b = r(2, 3), r(3, seed=1)
    case('add', a, b)
    case('add', a, b, alpha=2)
    case('add', a, 1.5)
    case('add', whole(2, 3), 2)
    case('add', whole(2, 3), 0.5)
    case('add', whole(2, 3, dtype=I32), r(3, dtype=F16))
    case('add', t([1 + 2j, 0.5 - 1j], C64), 0.5 + 2j)
    case('add', whole(3), whole(3, seed=1), alpha=-3)
    case('sub', a, b, alpha=0.5)
    case('sub', whole(3), 2**53 + 1)
    case('rsub', a, 1, alpha=2)
    case('mul', a, b)
    case('mul', a, 2.5)
    case('mul', t([True, False], BOOL), t([True, True], BOOL))
    case('div', a, positive(3))
    case('div', whole(2, 3), 2)
    case('div', whole(2, 3), 2, rounding_mode='floor')
    case('div', a, positive(3), rounding_mode='trunc')
    case('true_divide', whole(3), 4)
    case('floor_divide', whole(5), 3)
    case('remainder', whole(5), 4)
    case('fmod', r(5), 1.5)
    case('pow', positive(3), 2)
    case('pow', positive(3), 0.5)
    case('pow', 2, r(3, dtype=F64))
    case('pow', t([1 + 1j], C128), t([2.0], F64))
    case('float_power', whole(3), 2)
    case('atan2', r(3), r(3, seed=1))
    case('hypot', r(3), r(3, seed=1))
    case('maximum', r(3), r(3, seed=1))
    case('fmin', t([1.0, NAN]), t([NAN, 2.0]))
    case('lerp', r(3), r(3, seed=1), 0.25)
    case('lerp', r(3), r(3, seed=1), unit(3))
    case('addcmul', r(3), r(3, seed=1), r(3, seed=2), value=0.5)
    case('addcdiv', r(3), r(3, seed=1), positive(3), value=2)
    case('bitwise_and', whole(4), 6)
    case('bitwise_or', whole(4), whole(4, seed=1))
    case('bitwise_not', whole(4, dtype=U8, low=0))
    case('bitwise_left_shift', whole(4, low=0), 2)
    case('__and__', whole(4), 3)
    case('__lshift__', whole(4, low=0), 1)
    case('gcd', whole(4), whole(4, seed=1))
    case('logical_xor', t([0, 1, 2]), t([1, 0, 3]))
    case('logical_not', t([0, 1, 2], I8))
    case('eq', a, 0)
    case('ne', whole(3), whole(3, seed=1))
    case('lt', a, b)
    case('ge', whole(2, 3), 0.5)
    case('isclose', r(3), r(3) + t([0.0, 1e-9, 0.5]), rtol=1e-5, atol=1e-6)
    case('where', t([True, False, True], BOOL), r(3), r(3, seed=1))
    case('where', t([True, False], BOOL), r(2), 0.5)
    case('where', t([True, False, True], BOOL))
    case('heaviside', r(4), t([0.5]))
    case('xlogy', 2, positive(3, dtype=F64))
    case('ldexp', r(3), t([1, 2, 3], I32))
    case('copysign', r(3), -1.0 + 0.5)
    case('nextafter', r(3, dtype=F64), t([0.0, 9.0, -9.0], F64))
    case('real', t([1 + 2j, 3 - 4j], C64))
    case('angle', t([1 + 2j, 3 - 4j], C128))
    case('conj_physical', t([1 + 2j, 3 - 4j], C64))
    case('complex', r(2), r(2, seed=1))
    case('polar', positive(2), r(2))
    case('view_as_real', t([1 + 2j, 3 - 4j], C64))
    case('view_as_complex', r(3, 2))


def reductions():
    a = r(2, 3, 4)
    case('sum', a)
    case('sum', a, dtype=F64)
    case('sum', a, [0, -1])
    case('sum', a, 1, keepdim=True)
    case('sum', t([True, True, False], BOOL))
    case('sum', a, None, dtype=F64)
    case('mean', a)
    case('mean', a, [1], keepdim=True)
    case('mean', whole(4), dtype=F64)
    case('prod', positive(2, 3), 1)
    case('std', a)
    case('std', a, unbiased=False)
    case('std', a, dim=[1, 2], correction=0, keepdim=True, since='2.1')
    case('var', a, [0], unbiased=True)
    case('var_mean', a, [2])
    case('amax', a, dim=[0, 2])
    case('aminmax', a, dim=1, keepdim=True)
    case('max', distinct(2, 3))
    case('max', distinct(2, 3), 1)
    case('max', r(3), r(3, seed=1))
    case('min', distinct(2, 3), 0, keepdim=True)
    case('argmax', distinct(2, 5))
    case('argmax', distinct(2, 5), dim=1)
    case('argmin', distinct(2, 5), dim=0, keepdim=True)
    case('median', distinct(3, 5), 1)
    case('median', distinct(5))
    case('mode', t([[1, 2, 2], [3, 3, 1]], I64), dim=1)
    case('kthvalue', distinct(2, 5), 2, dim=1)
    case('all', t([[True, False], [True, True]], BOOL), 1)
    case('any', t([0.0, 0.5]))
    case('any', t([[True, False], [False, False]], BOOL), 1, keepdim=True)
    case('norm', a)
    case('norm', a, p=1)
    case('norm', a, 2.5, [1, 2], keepdim=True)
    case('norm', a, None, [0], False, dtype=F64)
    case('logsumexp', a, [1])
    case('cumsum', a, 1)
    case('cumprod', positive(2, 3), 1, dtype=F64)
    case('cummax', distinct(2, 5), 1)
    case('logcumsumexp', r(4, dtype=F64), 0)
    case('count_nonzero', whole(3, 4, low=0, high=1), [0])
    case('nansum', t([1.0, NAN, 2.0]))
    case('quantile', r(7, dtype=F64), 0.25)
    case('quantile', r(3, 7, dtype=F64), t([0.25, 0.5], F64), dim=1, interpolation='lower')
    case('dist', r(4), r(4, seed=1), p=3)
    case('trace', r(3, 3))
    case('diff', r(3, 4), n=2, dim=1)
    case('histc', r(9), bins=4, min=-2, max=2)
    case('histogram', r(9), bins=4, range=[-2.0, 2.0])
    case('histogram', r(9), t([-4.0, -1.0, 0.5, 4.0]), weight=positive(9), density=True)
    case('bincount', t([0, 2, 2, 4]), minlength=6)
    case('bincount', t([0, 2, 2]), weights=t([0.5, 1.0, 1.5]))
    case('trapezoid', r(4), dx=0.5)
    case('segment_reduce', r(5), 'mean', lengths=t([2, 3]), unsafe=False)
    case('renorm', r(3, 4), 2, 0, 1.5)


def shapes():
    a = r(2, 3, 4)
    case('reshape', a, [4, -1])
    case('view', a, [6, 4])
    case('view', r(2, 2), I32, compare='meta', note='reinterprets the bytes')
    case('flatten', a, start_dim=1)
    case('unflatten', r(2, 6), 1, [2, 3])
    case('squeeze', r(1, 3, 1))
    case('squeeze', r(1, 3, 1), 0)
    case('unsqueeze', r(3), -1)
    case('transpose', a, 0, 2)
    case('t', r(2, 3))
    case('permute', a, [2, 0, 1])
    case('movedim', a, 0, 2)
    case('movedim', a, [0, 1], [1, 0])
    case('swapaxes', a, 0, 1)
    case('expand', r(1, 3), [2, -1])
    case('expand_as', r(1, 3), r(2, 3))
    case('repeat', r(2, 2), [2, 1, 3])
    case('tile', r(2, 2), [2, 2])
    case('repeat_interleave', r(2, 2), 2, dim=1)
    case('repeat_interleave', r(3, 2), t([1, 0, 2]), dim=0)
    case('flip', a, [0, 2])
    case('roll', r(5), Each(2, 1))
    case('roll', r(3, 3), [1, -1], dims=[0, 1])
    case('rot90', r(2, 3), k=3, dims=[0, 1])
    case('narrow', a, 1, 1, 2)
    case('select', a, 1, -1)
    case('slice', a, dim=2, start=1, end=4, step=2)
    case('slice', a, dim=0, start=None, end=9223372036854775807)
    case('split', r(5, 2), 2)
    case('split', r(5, 2), [1, 4])
    case('chunk', r(2, 5), 3, dim=1)
    case('tensor_split', r(5, 2), 2)
    case('tensor_split', r(5, 2), [1, 3])
    case('unbind', r(3, 2), dim=1)
    case('hsplit', r(2, 4), [1, 3])
    case('unfold', r(7), 0, 3, 2)
    case('as_strided', r(9), [2, 2], [3, 1], storage_offset=1)
    case('diagonal', r(3, 3), offset=1)
    case('diag', r(3), diagonal=-1)
    case('diag_embed', r(2, 2), offset=1, dim1=0, dim2=2)
    case('tril', r(3, 3), diagonal=-1)
    case('cat', [r(2, 3), r(1, 3)])
    case('cat', [r(2, 3), r(2, 1)], dim=1)
    case('cat', [r(2), whole(2), t([True, False], BOOL)])
    case('stack', [r(2, 3), r(2, 3, seed=1)], dim=-1)
    case('hstack', [r(2), r(3)])
    case('block_diag', [r(2, 2), r(1, 3)])
    case('broadcast_tensors', [r(2, 1), r(3)])
    case('broadcast_to', r(1, 3), [2, 3])
    case('meshgrid', [r(2), r(3)], indexing='xy')
    case('cartesian_prod', [t([1, 2]), t([3, 4])])
    case('combinations', t([1, 2, 3]), r=2, with_replacement=True)
    case('pad', r(2, 3), [1, 2], mode='constant', value=0.5)
    case('pad', r(1, 2, 3), [1, 1], mode='reflect')
    case('constant_pad_nd', r(2, 3), [1, 0, 0, 1], value=-1)
    case('reflection_pad2d', r(1, 1, 3, 3), [1, 1, 2, 0])
    case('replication_pad1d', r(1, 2, 3), [2, 1])
    case('pixel_shuffle', r(1, 4, 2, 2), 2)
    case('channel_shuffle', r(1, 4, 1, 2), 2)
    case('im2col', r(1, 1, 3, 3), [2, 2], 1, 0, 1)
    case('col2im', r(1, 4, 4), [3, 3], [2, 2], [1, 1], [0, 0], [1, 1])
    case('gradient', r(5, dtype=F64), spacing=0.5)
    case('gradient', r(3, 4, dtype=F64), spacing=[2, 0.5], dim=[0, 1])


def indexing():
    case('index', r(3, 4), [t([0, 2])])
    case('index', r(3, 4), [None, t([1, 1, 3])])
    case('index', r(3, 4), [t([[0], [2]]), t([1, 3])])
    case('index', r(3, 4), [t([True, False, True], BOOL)])
    case('index_put', r(3, 4), [t([0, 2]), None], r(2, 4, seed=1))
    case('index_put_', r(3), [t([0, 0, 2])], t([1.0, 2.0, 3.0]), accumulate=True)
    case('index_select', r(3, 4), 1, t([3, 0]))
    case('index_add', r(3, 2), 0, t([0, 0]), r(2, 2, seed=1), alpha=0.5)
    case('index_fill', r(3, 2), 0, t([1]), -1)
    case('index_copy', r(3, 2), 0, t([2, 0]), r(2, 2, seed=1))
    case('index_reduce', positive(3), 0, t([0, 0, 1]), positive(3, seed=1), 'prod', include_self=False)
    case('gather', r(2, 3), 1, t([[0, 2], [1, 1]]), sparse_grad=False)
    case('scatter', r(2, 3), 1, t([[0], [2]]), r(2, 1, seed=1))
    case('scatter', r(2, 3), 1, t([[0], [2]]), 1.5)
    case('scatter', r(2, 3), 1, t([[0], [2]]), 2, reduce='multiply')
    case('scatter_add', r(2, 3), 1, t([[0, 0], [2, 1]]), r(2, 2, seed=1))
    case('scatter_reduce', r(3), 0, t([0, 0, 1]), r(3, seed=1), 'amax', include_self=True)
    case('masked_fill', r(2, 3), t([True, False, True], BOOL), -0.5)
    case('masked_select', r(2, 3), t([True, False, True], BOOL))
    case('masked_scatter', r(2, 3), t([True, False, True], BOOL), r(4, seed=1))
    case('take', r(2, 3), t([0, 5]))
    case('take_along_dim', r(2, 3), t([[2], [0]]), dim=1)
    case('put', r(2, 3), t([0, 5]), t([9.0, 8.0]))
    case('nonzero', t([[1, 0], [0, 3]]))
    case('nonzero_numpy', t([[1, 0], [0, 3]]))
    case('nonzero_static', t([1, 0, 3, 0]), size=3, fill_value=-2, since='2.1')
    case('argwhere', t([[1, 0], [0, 3]]))
    case('sort', distinct(2, 5), dim=1, descending=True)
    case('sort', t([2, 1, 2, 1]), stable=True)
    case('argsort', distinct(2, 5))
    case('msort', distinct(4, 2))
    case('topk', distinct(2, 5), 2, dim=1, largest=False)
    case('unique_consecutive', t([1, 1, 2, 2, 1]), return_inverse=True, return_counts=True)
    case('_unique2', t([3, 1, 3, 2]), sorted=True, return_inverse=True, return_counts=True)
    case('searchsorted', t([1.0, 3.0, 5.0]), t([3.0, 4.0]), side='right')
    case('searchsorted', t([1.0, 3.0, 5.0]), 3.5, out_int32=True)
    case('bucketize', t([0.5, 3.0]), t([1.0, 3.0]), right=True)
    case('isin', t([1, 2, 3]), t([2, 5]), invert=True)
    case('isin', t([1, 2, 3]), 2)
    case('embedding', r(5, 3), t([[0, 4], [2, 2]]), padding_idx=2)
    case('one_hot', t([0, 2, 1]), num_classes=4)
    case('diagonal_scatter', r(3, 3), t([1.0, 2.0, 3.0]))
    case('select_scatter', r(2, 3), t([1.0, 2.0]), 1, 0)
    case('slice_scatter', r(4), t([9.0, 8.0]), start=1, end=3)


def linear_algebra():
    case('mm', r(2, 3), r(3, 4))
    case('matmul', r(2, 2, 3), r(3, 2))
    case('bmm', r(2, 2, 3), r(2, 3, 2))
    case('mv', r(2, 3), r(3))
    case('dot', r(4), r(4, seed=1))
    case('vdot', r(4, dtype=F64), r(4, dtype=F64, seed=1))
    case('outer', r(2), r(3))
    case('addmm', r(2, 2), r(2, 3), r(3, 2), beta=0.5, alpha=2)
    case('addmv', r(2), r(2, 3), r(3), beta=0)
    case('baddbmm', r(2, 2, 2), r(2, 2, 3), r(2, 3, 2), alpha=0.5)
    case('addr', r(2, 3), r(2), r(3), alpha=2)
    case('einsum', 'ij,jk->ik', [r(2, 3), r(3, 2)])
    case('einsum', 'bij,bij->b', [r(2, 2, 3), r(2, 2, 3, seed=1)], path=[0, 1])
    case('tensordot', r(2, 3, 4), r(4, 3), [1, 2], [1, 0])
    case('chain_matmul', [r(2, 3), r(3, 4), r(4, 2)])
    case('linalg_multi_dot', [r(2, 3), r(3, 4), r(4, 2)])
    case('kron', r(2, 2), r(1, 3))
    case('linalg_cross', r(2, 3), r(2, 3, seed=1))
    case('cdist', r(2, 3), r(4, 3), p=1)
    case('matrix_power', r(3, 3, dtype=F64), 3)
    case('linalg_matrix_exp', unit(2, 2, dtype=F64))
    case('linalg_inv', definite(3))
    case('linalg_det', r(3, 3, dtype=F64))
    case('linalg_slogdet', definite(3))
    case('linalg_solve', definite(3), r(3, 2, dtype=F64))
    case('linalg_cholesky', definite(3), upper=True)
    case('cholesky_solve', r(3, 1, dtype=F64), torch.linalg.cholesky(definite(3)))
    case('linalg_eigvalsh', definite(3), UPLO='U')
    case('linalg_svdvals', r(3, 2, dtype=F64))
    case('linalg_qr', definite(3), mode='r')
    case('linalg_lu_factor_ex', definite(3))
    case('linalg_lstsq', r(4, 2, dtype=F64), r(4, 1, dtype=F64), rcond=None, driver='gelsy', compare='meta',
         note='the residuals may be empty')
    case('linalg_matrix_rank', definite(3), 1e-6, hermitian=True)
    case('linalg_pinv', r(3, 2, dtype=F64), 1e-12)
    case('linalg_norm', r(3, 3), ord='nuc')
    case('linalg_norm', r(3, 3), ord=1, dim=[0, 1], keepdim=True)
    case('linalg_vector_norm', r(3, 3), ord=3, dim=[1], dtype=F64)
    case('linalg_matrix_norm', r(2, 3, 3), ord='fro', dim=[-2, -1])
    case('linalg_solve_triangular', torch.linalg.cholesky(definite(3)), r(3, 2, dtype=F64), upper=False)
    case('linalg_vander', r(3, dtype=F64), N=4)
    case('fft_fft', r(6, dtype=F64), n=8, norm='ortho')
    case('fft_rfft2', r(3, 4, dtype=F64), dim=[0, 1])
    case('fft_irfft', t([1 + 0j, 2 - 1j, 0.5 + 0j], C128), n=4)
    case('fft_fftshift', r(5), dim=[0])
    case('stft', r(16, dtype=F64), 8, hop_length=4, window=positive(8, dtype=F64), center=False, onesided=True, return_complex=True)


def networks():
    x, w = r(1, 2, 5, 5), r(3, 2, 3, 3)
    case('linear', r(2, 3), r(4, 3), bias=r(4))
    case('linear', r(2, 3), r(4, 3), bias=None)
    case('bilinear', r(2, 3), r(2, 2), r(4, 3, 2), bias=r(4))
    case('conv1d', r(1, 2, 6), r(3, 2, 3), stride=Each(2, 1), padding=Each(1, 1))
    case('conv2d', x, w)
    case('conv2d', x, w, bias=r(3), stride=[2, 1], padding=[1, 0])
    case('conv2d', x, w, padding='same', dilation=Each(2, 2))
    case('conv2d', r(2, 5, 5), r(2, 1, 3, 3), groups=2, padding=Each(1, 2))
    case('conv3d', r(1, 1, 3, 3, 3), r(2, 1, 2, 2, 2), padding='valid')
    case('conv_transpose2d', r(1, 3, 3, 3), r(3, 2, 2, 2), stride=Each(2, 2), output_padding=[1, 0])
    case('convolution', x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    case('convolution_backward', r(1, 3, 3, 3), x, w, [3], [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
         [True, False, True])
    case('conv_tbc', r(5, 1, 2), r(3, 2, 3), r(3), pad=1)
    case('unfold_backward', r(2, 3), [5], 0, 3, 2)
    case('max_pool2d', x, 2)
    case('max_pool2d', x, [3, 3], stride=[1, 2], padding=1, ceil_mode=True)
    case('max_pool2d_with_indices', distinct(1, 1, 5, 5), 2, stride=2)
    case('max_pool1d', r(1, 2, 6), 3, stride=2)
    case('avg_pool2d', x, 2, count_include_pad=False, padding=1, divisor_override=3)
    case('avg_pool1d', r(1, 2, 6), [2])
    case('adaptive_avg_pool2d', x, [3, 2])
    case('adaptive_avg_pool2d', x, Each(1, 2))
    case('adaptive_max_pool2d', distinct(1, 1, 5, 4), [2, 2])
    case('avg_pool3d', r(1, 1, 3, 3, 3), 2, stride=1)
    case('max_unpool2d', t([[[[4.0]]]]), t([[[[3]]]]), [2, 2])
    case('fractional_max_pool2d', distinct(1, 1, 5, 5), [2, 2], [2, 2], t([[[0.25, 0.75]]]))
    case('upsample_nearest2d', r(1, 1, 2, 2), [4, 3])
    case('upsample_nearest2d', r(1, 1, 2, 2), None, [2.0, 1.5], note='the overload with scale factors')
    case('upsample_bilinear2d', r(1, 1, 3, 3), [5, 2], False)
    case('upsample_bilinear2d', r(1, 1, 3, 3), None, True, [2.0, 1.5])
    case('upsample_bicubic2d', r(1, 1, 4, 4), [3, 5], False, scales_h=None)
    case('upsample_linear1d', r(1, 2, 3), [6], True)
    case('_upsample_bilinear2d_aa', r(1, 1, 6, 6), [3, 3], False)
    case('grid_sampler', r(1, 1, 3, 3), r(1, 2, 2, 2, low=-1, high=1), 0, 1, False)
    case('affine_grid_generator', r(1, 2, 3), [1, 1, 2, 2], True)
    case('batch_norm', r(2, 3, 2, 2), r(3), r(3, seed=1), r(3, seed=2), positive(3), False, 0.1, 1e-5, False)
    case('batch_norm', r(2, 3, 2, 2), None, None, None, None, True, 0.1, 1e-5, False)
    case('native_batch_norm', r(2, 3, 2, 2), r(3), r(3, seed=1), r(3, seed=2), positive(3), True, 0.5, 1e-3,
         note='updates the running statistics in place')
    case('instance_norm', r(2, 3, 2, 2), None, None, None, None, True, 0.1, 1e-5, False)
    case('layer_norm', r(2, 3, 4), [3, 4], weight=r(3, 4), bias=None, eps=1e-3)
    case('native_layer_norm', r(2, 4), [4], r(4), r(4, seed=1), 1e-5)
    case('native_layer_norm_backward', r(2, 4), r(2, 4, seed=1), [4], r(2, 1), positive(2, 1), r(4), None,
         [True, True, False])
    case('group_norm', r(2, 4, 3), 2, weight=r(4), bias=r(4, seed=1))
    case('rms_norm', r(2, 4), [4], weight=r(4), eps=1e-4, since='2.4')
    case('cosine_similarity', r(2, 3), r(2, 3, seed=1), dim=1, eps=1e-6)
    case('pairwise_distance', r(2, 3), r(2, 3, seed=1), p=1, keepdim=True)
    case('softmax', r(2, 3), 1)
    case('softmax', r(2, 3), 0, dtype=F64)
    case('_softmax', r(2, 3), 1, False)
    case('_safe_softmax', t([[0.5, 1.0], [-INF, -INF]]), 1, since='2.5')
    case('log_softmax', r(2, 3), 1)
    case('log_softmax', r(2, 3, dtype=BF16), -1)
    case('dropout', r(2, 3), 0.5, False)
    case('scaled_dot_product_attention', r(1, 2, 3, 4), r(1, 2, 3, 4, seed=1), r(1, 2, 3, 4, seed=2),
         attn_mask=t([[True, False, True]], BOOL), since='2.0')
    case('scaled_dot_product_attention', r(1, 2, 3, 4), r(1, 2, 3, 4, seed=1), r(1, 2, 3, 4, seed=2),
         is_causal=True, scale=0.25, since='2.1')
    case('lstm', r(3, 1, 2), [r(1, 1, 2), r(1, 1, 2, seed=1)],
         [r(8, 2), r(8, 2, seed=1), r(8), r(8, seed=1)], True, 1, 0.0, False, False, False)
    case('gru', r(3, 1, 2), r(1, 1, 2), [r(6, 2), r(6, 2, seed=1)], False, 1, 0.0, False, False, False)
    case('lstm_cell', r(1, 2), [r(1, 2), r(1, 2, seed=1)], r(8, 2), r(8, 2, seed=1), b_ih=r(8), b_hh=None)
    case('rnn_tanh_cell', r(1, 2), r(1, 3), r(3, 2), r(3, 3))
    case('embedding_bag', r(5, 2), t([0, 1, 4]), t([0, 2]), mode=1, per_sample_weights=None)
    case('pdist', r(3, 2), p=2)


def losses():
    # Reductions by name are Python's; the operators take 0 for none, 1 for mean, 2 for sum.
    case('mse_loss', r(2, 3), r(2, 3, seed=1))
    case('mse_loss', r(2, 3), r(2, 3, seed=1), reduction=2)
    case('l1_loss', r(2, 3), r(2, 3, seed=1), reduction=0)
    case('smooth_l1_loss', r(2, 3), r(2, 3, seed=1), beta=0.5)
    case('huber_loss', r(2, 3), r(2, 3, seed=1), delta=2.5)
    case('cross_entropy_loss', r(3, 4), t([0, 3, 1]), label_smoothing=0.125)
    case('cross_entropy_loss', r(3, 4), t([0, -100, 1]), weight=positive(4), reduction=0)
    case('nll_loss', r(3, 4), t([0, 3, 1]), ignore_index=3)
    case('nll_loss_forward', r(3, 4), t([0, 3, 1]), None, 1, -100)
    case('kl_div', r(2, 3), unit(2, 3), log_target=True)
    case('binary_cross_entropy', unit(2, 3), unit(2, 3, seed=1), weight=positive(3))
    case('binary_cross_entropy_with_logits', r(2, 3), unit(2, 3), pos_weight=positive(3))
    case('ctc_loss', torch.log_softmax(r(4, 1, 3, dtype=F64), 2), t([[1, 2]]), [4], [2], zero_infinity=True)
    case('triplet_margin_loss', r(2, 3), r(2, 3, seed=1), r(2, 3, seed=2), margin=0.5, swap=True)
    case('margin_ranking_loss', r(3), r(3, seed=1), t([1.0, -1.0, 1.0]), margin=0.25)
    case('cosine_embedding_loss', r(2, 3), r(2, 3, seed=1), t([1, -1]), margin=0.125)
    case('poisson_nll_loss', r(3), positive(3), True, False, 1e-8, 1)
    case('multi_margin_loss', r(2, 3), t([0, 2]), p=1, margin=0.5)
    case('soft_margin_loss', r(3), t([1.0, -1.0, 1.0]))


def creation():
    case('zeros', [2, 3])
    case('zeros', [2], dtype=I64, device=CPU)
    case('ones', [2, 2], dtype=BF16, layout=torch.strided, device=CPU, pin_memory=False)
    case('full', [2, 2], 1.5)
    case('full', [2], 7)
    case('full', [2], True, since='2.0')
    case('full', [2], 1 + 2j)
    case('full', [2], 2**60 + 1, dtype=I64)
    case('empty', [2, 3], dtype=F64, memory_format=None, compare='meta')
    case('empty', [1, 2, 3, 3], memory_format=torch.channels_last, compare='meta')
    case('empty_strided', [2, 3], [1, 2], dtype=I32, compare='meta')
    case('zeros_like', r(2, 3))
    case('zeros_like', r(2, 3), dtype=C64)
    case('ones_like', r(1, 2, 3, 3), memory_format=torch.channels_last)
    case('full_like', r(2), 3, dtype=I16)
    case('new_zeros', r(2, dtype=F64), [3])
    case('new_full', whole(2), [2], 9)
    case('eye', 3)
    case('eye', 2, 3, dtype=F64)
    case('arange', 5)
    case('arange', 2.5)
    case('arange', 1, 4)
    case('arange', 0, 1, step=0.25)
    case('arange', 5, dtype=F32)
    case('linspace', 0, 1, 5)
    case('logspace', 0, 2, 3, base=2.5, dtype=F64)
    case('scalar_tensor', 1.5)
    case('tril_indices', 3, 3, offset=-1)
    case('hann_window', 5)
    case('kaiser_window', 5, False, 12.5, dtype=F64)
    case('to', r(2, 3), F64)
    case('to', r(2, 3), CPU, I32, copy=True)
    case('to', r(2, 3), dtype=F16)
    case('to', r(2, 3), r(2, dtype=F64))
    case('_to_copy', r(1, 2, 2, 2), dtype=F64, memory_format=torch.channels_last)
    case('type_as', r(2), whole(1))
    case('contiguous', r(1, 2, 3, 3), memory_format=torch.channels_last)
    case('clone', r(3, 2).T.contiguous(), memory_format=torch.contiguous_format)
    case('clone', r(1, 2, 2, 3, 3), memory_format=torch.channels_last_3d)
    case('empty_like', r(2, 3), memory_format=torch.preserve_format, compare='meta')
    case('alias', r(2))
    case('to_dense', r(2), dtype=None)
    case('to_sparse', t([[0.0, 1.0], [2.0, 0.0]]))
    case('to_sparse', t([[0.0, 1.0], [2.0, 0.0]]), layout=torch.sparse_csr, since='2.1')
    case('sparse_coo_tensor', t([[0, 1], [1, 0]]), t([3.0, 4.0]), [2, 3])
    case('sparse_csr_tensor', t([0, 1, 2]), t([1, 0]), t([3.0, 4.0]), [2, 2], layout=torch.sparse_csr)


def scalars_and_queries():
    case('item', t(2.5, F64))
    case('item', t(7))
    case('item', t(True, BOOL))
    case('item', t(1 - 2j, C128))
    case('_local_scalar_dense', t(-3))
    case('item', t(2**60 + 1))
    case('is_nonzero', t([0.0]))
    case('equal', whole(3), whole(3))
    case('allclose', r(3), r(3), rtol=1e-5, equal_nan=True)
    case('is_same_size', r(2), r(3))
    case('is_floating_point', whole(2))
    case('is_complex', t([1j], C64))
    case('is_signed', t([1], U8))
    case('size', r(2, 3), 1)
    case('stride', r(2, 3), 0)
    case('can_cast', F32, I32)
    case('promote_types', I32, F16)
    case('result_type', whole(2, dtype=I32), 2.5)
    case('result_type', r(2, dtype=F16), r(2, dtype=BF16))
    case('_nnz', torch.sparse_coo_tensor(torch.tensor([[0, 1]]), t([1.0, 2.0]), (3,)))
    case('sparse_dim', torch.sparse_coo_tensor(torch.tensor([[0, 1]]), t([1.0, 2.0]), (3,)))
    case('frexp', r(3, dtype=F64))
    case('_debug_has_internal_overlap', r(2))
    case('cudnn_is_acceptable', r(2))
    case('is_inference', r(2))
    case('dense_dim', torch.sparse_coo_tensor(torch.tensor([[0, 1]]), t([1.0, 2.0]), (3,)))


def in_place_and_out():
    case('add_', r(2, 3), r(3, seed=1), alpha=0.5)
    case('mul_', r(2, 3), 2)
    case('relu_', r(2, 3))
    case('zero_', r(2, 3))
    case('fill_', r(2, 3), 1.5)
    case('fill_', r(2), t(0.25))
    case('clamp_', r(2, 3), min=0)
    case('copy_', torch.zeros(2, 3), whole(3))
    case('masked_fill_', r(3), t([True, False, True], BOOL), 0)
    case('scatter_', r(2, 3), 1, t([[0], [2]]), 9.5)
    case('t_', r(2, 3))
    case('resize_', r(2, 3), [3], compare='meta')
    case('squeeze_', r(1, 3))
    case('add', r(2, 3), r(3, seed=1), out=torch.zeros(2, 3))
    case('mm', r(2, 3), r(3, 2), out=torch.zeros(2, 2))
    case('cat', [r(2), r(1)], out=torch.zeros(3))
    case('max', distinct(2, 3), 1, max=torch.zeros(2), max_values=torch.zeros(2, dtype=I64))
    case('sort', distinct(4), values=torch.zeros(4), indices=torch.zeros(4, dtype=I64))
    case('arange', 4, out=torch.zeros(4))
    case('linalg_slogdet', definite(2), sign=torch.zeros((), dtype=F64), logabsdet=torch.zeros((), dtype=F64))
    case('split_copy', r(4), 2)
    case('split_copy', r(4), 2, out=[torch.zeros(2), torch.zeros(2)])
    case('swapaxes_', r(2, 3), 0, 1)
    case('addcmul_', r(3), r(3, seed=1), r(3, seed=2), value=2)
    case('index_add_', r(3), 0, t([0, 2]), r(2))
    case('sigmoid', r(3), out=torch.zeros(3))
    case('_foreach_add', [r(2), r(3)], 1.5)
    case('_foreach_add', [r(2), r(3)], [r(2, seed=1), r(3, seed=1)], alpha=2)
    case('_foreach_mul', [r(2), r(3)], [2, 0.5])
    case('_foreach_mul_', [r(2), r(3)], 0.5)
    case('_foreach_addcmul_', [r(2)], [r(2, seed=1)], [r(2, seed=2)], value=0.5)
    case('_foreach_sqrt', [positive(2), positive(3)])
    case('_foreach_norm', [r(2), r(3)], ord=1)
    case('_foreach_lerp', [r(2)], [r(2, seed=1)], 0.25, since='2.0')
    case('_foreach_zero_', [r(2), r(3)])
    case('_amp_foreach_non_finite_check_and_unscale_', [t([2.0, 4.0]), t([INF])], torch.zeros(1), t([0.5]),
         since='2.4')


def quantization():
    case('fake_quantize_per_tensor_affine', r(4), 0.5, 0, -8, 7)
    case('fake_quantize_per_channel_affine', r(2, 2), t([0.5, 0.25]), t([0, 1], I32), 0, 0, 15)
    case('quantize_per_tensor', r(4), 0.5, 10, torch.quint8)


def random_numbers():
    case('rand', [2, 3], compare='random')
    case('rand', [2, 3], generator=Seed(1), dtype=F64, compare='random')
    case('randn', [4], generator=Seed(2), compare='random')
    case('randint', 10, [5], generator=Seed(3), compare='random')
    case('randint', -5, 5, [5], dtype=I32, compare='random')
    case('randperm', 8, generator=Seed(4), compare='random')
    case('rand_like', r(2, 3), compare='random')
    case('bernoulli', unit(4, 4), generator=Seed(5), compare='random')
    case('bernoulli_', torch.zeros(8), p=0.25, generator=Seed(6), compare='random')
    case('normal', r(4), std=2.5, generator=Seed(7), compare='random')
    case('normal', 1.5, positive(4), generator=Seed(8), compare='random')
    case('normal_', torch.zeros(4), mean=1, std=0.5, generator=Seed(9), compare='random')
    case('uniform_', torch.zeros(4), to=2, generator=Seed(10), compare='random')
    case('random_', torch.zeros(4, dtype=I64), 3, 9, generator=Seed(11), compare='random')
    case('exponential_', torch.zeros(4), lambd=2, generator=Seed(12), compare='random')
    case('geometric_', torch.zeros(4), 0.25, generator=Seed(13), compare='random')
    case('log_normal_', torch.zeros(4), std=0.5, generator=Seed(14), compare='random')
    case('cauchy_', torch.zeros(4), median=1, generator=Seed(15), compare='random')
    case('multinomial', positive(6), 3, replacement=True, generator=Seed(16), compare='random')
    case('poisson', positive(6), generator=Seed(17), compare='random')
    case('dropout', torch.ones(64), 0.5, True, compare='random')
    case('native_dropout', torch.ones(64), 0.5, True, compare='random')
    case('rrelu', r(8), training=True, generator=Seed(18), compare='random')
    case('alpha_dropout', torch.ones(64), 0.25, True, compare='random')


def register():
    for group in (elementwise, arithmetic, reductions, shapes, indexing, linear_algebra, networks, losses, creation,
                  scalars_and_queries, in_place_and_out, quantization, random_numbers):
        group()


# --- encoding ---------------------------------------------------------------------------------------------------

MEMORY_FORMATS = {torch.contiguous_format: 'contiguous', torch.channels_last: 'channelsLast',
                  torch.channels_last_3d: 'channelsLast3d', torch.preserve_format: 'preserve'}
# torch.ops returns dtypes by their number.
DTYPE_NUMBERS = {0: U8, 1: I8, 2: I16, 3: I32, 4: I64, 5: F16, 6: F32, 7: F64, 9: C64, 10: C128, 11: BOOL, 15: BF16}
LAYOUTS = {torch.strided: 'strided', torch.sparse_coo: 'sparse', torch.sparse_csr: 'sparseCsr'}


def encode_number(value):
    """JSON has neither NaN nor integers beyond 2^53."""
    if isinstance(value, bool):
        return value
    if isinstance(value, complex):
        return {'re': encode_number(value.real), 'im': encode_number(value.imag)}
    if isinstance(value, int):
        return value if abs(value) < 2**53 else {'bigint': str(value)}
    if math.isnan(value) or math.isinf(value):
        return {'float': {'nan': 'NaN', 'inf': 'Infinity', '-inf': '-Infinity'}[str(value)]}
    return value


def encode_tensor(tensor, with_values=True):
    encoded = {'dtype': str(tensor.dtype).split('.')[1], 'shape': list(tensor.shape)}
    if tensor.layout != torch.strided:
        encoded['layout'] = LAYOUTS[tensor.layout]
        tensor = tensor.to_dense()
    elif tensor.is_quantized:
        tensor = tensor.dequantize()
        encoded['quantized'] = True
    elif tensor.dim() in (4, 5):
        encoded['strides'] = list(tensor.stride())
    if with_values:
        encoded['values'] = [encode_number(value) for value in tensor.reshape(-1).tolist()]
    return {'tensor': encoded}


def encode(value, with_values=True):
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        return encode_tensor(value, with_values)
    if isinstance(value, (list, tuple)):
        return [encode(each, with_values) for each in value]
    if isinstance(value, torch.dtype):
        return str(value).split('.')[1]
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, torch.memory_format):
        return MEMORY_FORMATS[value]
    if isinstance(value, torch.layout):
        return LAYOUTS[value]
    if isinstance(value, Seed):
        return {'generator': value.seed}
    if isinstance(value, Each):
        return value.value
    if isinstance(value, str):
        return value
    return encode_number(value)


# --- calls ------------------------------------------------------------------------------------------------------


def schemas(name):
    return torch._C._jit_get_schemas_for_operator(f'aten::{name}')


def check_form(item):
    """Some overload must have exactly these arguments without default, and these options among the others."""
    for schema in schemas(item['name']):
        required = [a.name for a in schema.arguments if not a.has_default_value() and not a.kwarg_only]
        optional = [a.name for a in schema.arguments if a.has_default_value() or a.kwarg_only]
        needed = [a.name for a in schema.arguments if a.kwarg_only and not a.has_default_value()]
        if (len(required) == len(item['positional']) and set(item['keywords']) <= set(optional)
                and set(needed) <= set(item['keywords'])):
            return
    raise ValueError(f"{item['name']}({len(item['positional'])} positional, {sorted(item['keywords'])}): no such "
                     'form; there are\n' + '\n'.join(map(str, schemas(item['name']))))


def fresh(value):
    """A copy for the call, so that in-place operators leave the case as it is."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, list):
        return [fresh(each) for each in value]
    if isinstance(value, Each):
        return [value.value] * value.count
    if isinstance(value, Seed):
        return torch.Generator().manual_seed(value.seed)
    return value


def evaluate(item):
    check_form(item)
    positional = [fresh(value) for value in item['positional']]
    keywords = {name: fresh(value) for name, value in item['keywords'].items()}
    torch.manual_seed(0)
    result = getattr(torch.ops.aten, item['name'])(*positional, **keywords)
    if item['name'] in ('promote_types', 'result_type'):
        result = DTYPE_NUMBERS[result]
    with_values = item['compare'] == 'values'
    evaluated = {
        'operator': item['name'],
        'positional': encode(item['positional']),
        'options': {name: encode(value) for name, value in item['keywords'].items()},
        'compare': item['compare'],
        'result': encode(result, with_values),
        'after': {'positional': encode(positional_after(positional, item), with_values),
                  'options': {name: encode(after(value, item['keywords'][name]), with_values)
                              for name, value in keywords.items()}},
    }
    for key in ('since', 'note'):
        if item[key]:
            evaluated[key] = item[key]
    return evaluated


def after(now, before):
    return now if isinstance(before, (torch.Tensor, list)) else before


def positional_after(values, item):
    return [after(value, before) for value, before in zip(values, item['positional'])]


def simplify(evaluated):
    """Arguments that the call left alone are not stored twice."""
    changed = {}
    for i, (now, before) in enumerate(zip(evaluated['after']['positional'], evaluated['positional'])):
        if now != before and evaluated['compare'] == 'values':
            changed[str(i)] = now
    for name, now in evaluated['after']['options'].items():
        if now != evaluated['options'][name] and evaluated['compare'] == 'values':
            changed[name] = now
    del evaluated['after']
    if changed:
        evaluated['changed'] = changed
    if not evaluated['options']:
        del evaluated['options']
    if evaluated['compare'] == 'values':
        del evaluated['compare']
    return evaluated


# --- main -------------------------------------------------------------------------------------------------------


def is_available(item):
    return item['since'] is None or VERSION >= tuple(int(part) for part in item['since'].split('.'))


def close(ours, theirs):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            return False
        if ours.keys() == {'tensor'}:
            a, b = ours['tensor'], theirs['tensor']
            tolerance = {'float64': 1e-10, 'complex128': 1e-10, 'bfloat16': 1e-2, 'float16': 1e-3}.get(a['dtype'], 1e-5)
            same = all(a.get(key) == b.get(key) for key in ('dtype', 'shape', 'layout', 'strides'))
            return same and all(near(x, y, tolerance) for x, y in zip(a.get('values', []), b.get('values', [])))
        return all(close(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(close(x, y) for x, y in zip(ours, theirs))
    if isinstance(ours, float) or isinstance(theirs, float):
        return near(ours, theirs, 1e-10)
    return ours == theirs


def near(x, y, tolerance):
    if isinstance(x, dict) and isinstance(y, dict) and 're' in x:
        return near(x['re'], y['re'], tolerance) and near(x['im'], y['im'], tolerance)
    if isinstance(x, float) and isinstance(y, float):
        return abs(x - y) <= tolerance * max(1.0, abs(y))
    return x == y


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='compare with the stored results instead of writing them')
    check = parser.parse_args().check
    torch.set_num_threads(1)
    register()
    if check:
        stored = json.loads(OUTPUT.read_text())['cases']
        assert len(stored) == len(CASES)
        different = 0
        for item, expected in zip(CASES, stored):
            if not is_available(item):
                continue
            try:
                found = simplify(evaluate(item))
                agrees = close(found, expected)
            except Exception as error:  # report every case, not only the first
                found, agrees = repr(error).split('\n')[0][:300], False
            if not agrees:
                different += 1
                print(item['name'], '\n  here  ', json.dumps(found)[:600], '\n  stored', json.dumps(expected)[:600])
        print(f'{len(CASES) - different} of {len(CASES)} cases agree or are newer, on PyTorch {torch.__version__}')
        sys.exit(1 if different else 0)
    results, failures = [], []
    for item in CASES:
        try:
            results.append(simplify(evaluate(item)))
        except Exception as error:  # report every case, not only the first
            failures.append(f"{item['name']}: {error}")
    if failures:
        sys.exit('\n'.join(failures))
    lines = ',\n'.join(json.dumps(result, separators=(',', ':')) for result in results)
    OUTPUT.write_text(
        f'{{"madeBy": "test/reference/operators.py", "pytorch": "{torch.__version__}", "cases": [\n{lines}\n]}}\n')
    print(f"{OUTPUT.name}: {len(results)} cases, {len({item['name'] for item in CASES})} operators")


if __name__ == '__main__':
    main()
