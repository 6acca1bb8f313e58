/** What layers refuse: each with its own message and code. */
import { describe, expect, test } from 'vitest'
import { memory, nn, randn, tensor, zeros, type Tensor } from '../lib/index.js'
import { codeOf } from './codes.js'
import { errorOf, int64 } from './nn.fixtures.js'

type Refusal = [what: string, body: () => unknown, code: string, message: string]

const conv = () => new nn.Conv2d(3, 8, 3)

const inputs: Refusal[] = [
  [
    'other channels',
    () => conv().forward(randn([1, 4, 8, 8])),
    'ERR_CHANNEL_MISMATCH',
    'Conv2d: expected features with 3 channels (N, 3, H, W), got float32 (1, 4, 8, 8)',
  ],
  [
    'other channels without a batch',
    () => conv().forward(randn([4, 8, 8])),
    'ERR_CHANNEL_MISMATCH',
    'Conv2d: expected features with 3 channels (N, 3, H, W), got float32 (4, 8, 8)',
  ],
  [
    'another rank',
    () => conv().forward(randn([3, 8])),
    'ERR_SHAPE_MISMATCH',
    'Conv2d: expected features (N, 3, H, W) or (3, H, W), got float32 (3, 8)',
  ],
  [
    'another dtype',
    () => conv().forward(randn([1, 3, 8, 8], { dtype: 'float64' })),
    'ERR_DTYPE',
    "Conv2d: expected float32 as its weight is, got float64 (1, 3, 8, 8); convert the input with .to('float32') " +
      "or the layer with .to('float64')",
  ],
  [
    'an image smaller than the kernel',
    () => conv().forward(randn([1, 3, 2, 2])),
    'ERR_OPERATOR',
    "Conv2d: Calculated padded input size per channel: (2 x 2). Kernel size: (3 x 3). Kernel size can't be greater " +
      'than actual input size (float32 (1, 3, 2, 2), float32 (8, 3, 3, 3), float32 (8))',
  ],
  [
    'a sequence for an image',
    () => new nn.Conv1d(3, 8, 3).forward(randn([1, 3, 8, 8])),
    'ERR_SHAPE_MISMATCH',
    'Conv1d: expected features (N, 3, L) or (3, L), got float32 (1, 3, 8, 8)',
  ],
  [
    'one channel less',
    () => new nn.Conv3d(1, 2, 1).forward(randn([1, 2, 3, 3, 3])),
    'ERR_CHANNEL_MISMATCH',
    'Conv3d: expected features with 1 channel (N, 1, D, H, W), got float32 (1, 2, 3, 3, 3)',
  ],
  [
    'other channels, transposed',
    () => new nn.ConvTranspose2d(3, 8, 3).forward(randn([1, 8, 8, 8])),
    'ERR_CHANNEL_MISMATCH',
    'ConvTranspose2d: expected features with 3 channels (N, 3, H, W), got float32 (1, 8, 8, 8)',
  ],
  [
    'other features',
    () => new nn.Linear(3, 4).forward(randn([2, 5])),
    'ERR_SHAPE_MISMATCH',
    'Linear: expected features (…, 3), got float32 (2, 5)',
  ],
  [
    'a scalar',
    () => new nn.Linear(1, 4).forward(tensor(2)),
    'ERR_SHAPE_MISMATCH',
    'Linear: expected features (…, 1), got float32 ()',
  ],
  [
    'other channels to normalise',
    () => new nn.BatchNorm2d(4).forward(randn([2, 3, 5, 5])),
    'ERR_CHANNEL_MISMATCH',
    'BatchNorm2d: expected features with 4 channels (N, 4, H, W), got float32 (2, 3, 5, 5)',
  ],
  [
    'another rank to normalise',
    () => new nn.BatchNorm2d(4).forward(randn([2, 4, 5])),
    'ERR_SHAPE_MISMATCH',
    'BatchNorm2d: expected features (N, 4, H, W), got float32 (2, 4, 5)',
  ],
  [
    'another width to normalise',
    () => new nn.BatchNorm1d(4).forward(randn([2, 3])),
    'ERR_CHANNEL_MISMATCH',
    'BatchNorm1d: expected features with 4 channels (N, 4), got float32 (2, 3)',
  ],
  [
    'one value per channel',
    () => new nn.BatchNorm2d(4).forward(randn([1, 4, 1, 1])),
    'ERR_SHAPE_MISMATCH',
    'BatchNorm2d: expected more than one value per channel to normalise by, got float32 (1, 4, 1, 1); ' +
      'use a larger batch, or eval()',
  ],
  [
    'other channels for groups',
    () => new nn.GroupNorm(2, 4).forward(randn([2, 6, 3])),
    'ERR_CHANNEL_MISMATCH',
    'GroupNorm: expected features with 4 channels (N, 4, …), got float32 (2, 6, 3)',
  ],
  [
    'another shape of layers',
    () => new nn.LayerNorm([2, 3]).forward(randn([2, 2, 4])),
    'ERR_SHAPE_MISMATCH',
    'LayerNorm: expected features (…, 2, 3), got float32 (2, 2, 4)',
  ],
  [
    'no image to pool',
    () => new nn.MaxPool2d(2).forward(randn([2, 2])),
    'ERR_SHAPE_MISMATCH',
    'MaxPool2d: expected features (N, C, H, W) or (C, H, W), got float32 (2, 2)',
  ],
  [
    'an index out of range',
    () =>
      new nn.Embedding(3, 4).forward(
        int64([
          [0, 1],
          [3, 0],
        ]),
      ),
    'ERR_INDEX',
    'Embedding: indices[1, 0]: expected 0 to 2, got 3',
  ],
  [
    'indices that are no integers',
    () => new nn.Embedding(3, 4).forward(tensor([0, 1])),
    'ERR_DTYPE',
    'Embedding: expected int64 or int32 indices, got float32 (2)',
  ],
  [
    'no tensor',
    () => conv().forward([1, 2] as unknown as Tensor),
    'ERR_ARGUMENT',
    'Conv2d: input: expected a tensor, got [1, 2]',
  ],
]

describe('inputs', () => {
  test.each(inputs)('%s', (_, body, code, message) => {
    const error = errorOf(body)
    expect([error.code, error.message]).toEqual([code, message])
  })
})

const options: Refusal[] = [
  [
    'a mistyped option',
    () => new nn.Conv2d(3, 8, 3, { pading: 1 } as object),
    'ERR_ARGUMENT',
    'Conv2d: there is no option "pading"; did you mean "padding"?',
  ],
  [
    'a name of Python',
    () => new nn.MaxPool2d(2, { ceil_mode: true } as object),
    'ERR_ARGUMENT',
    'MaxPool2d: there is no option "ceil_mode"; did you mean "ceilMode"?',
  ],
  [
    'groups that do not divide',
    () => new nn.Conv2d(3, 8, 3, { groups: 2 }),
    'ERR_ARGUMENT',
    'Conv2d: inChannels: expected a multiple of groups (2), got 3',
  ],
  [
    'too few sizes',
    () => new nn.Conv2d(3, 8, [3]),
    'ERR_ARGUMENT',
    'Conv2d: kernelSize: expected 2 integers of at least 1, got [3]',
  ],
  [
    'a size that is no integer',
    () => new nn.Conv2d(3, 8, 2.5),
    'ERR_ARGUMENT',
    'Conv2d: kernelSize: expected an integer, got 2.5',
  ],
  [
    'a stride of 0',
    () => new nn.Conv1d(3, 8, 3, { stride: 0 }),
    'ERR_ARGUMENT',
    'Conv1d: stride: expected 1 integer of at least 1, got [0]',
  ],
  [
    'same padding with a stride',
    () => new nn.Conv2d(3, 8, 3, { padding: 'same', stride: 2 }),
    'ERR_ARGUMENT',
    'Conv2d: padding: "same" needs stride 1, got stride [2, 2]',
  ],
  [
    'an unknown padding',
    () => new nn.Conv2d(3, 8, 3, { padding: 'full' as 'same' }),
    'ERR_ARGUMENT',
    'Conv2d: padding: expected integers, "same" or "valid", got "full"',
  ],
  [
    'an unknown padding mode',
    () => new nn.Conv2d(3, 8, 3, { paddingMode: 'mirror' as 'reflect' }),
    'ERR_ARGUMENT',
    'Conv2d: paddingMode: expected "zeros", "reflect", "replicate" or "circular", got "mirror"',
  ],
  [
    'no channels',
    () => new nn.Conv2d(0, 8, 3),
    'ERR_ARGUMENT',
    'Conv2d: inChannels: expected an integer of at least 1, got 0',
  ],
  [
    'groups of other channels',
    () => new nn.GroupNorm(3, 4),
    'ERR_ARGUMENT',
    'GroupNorm: numChannels: expected a multiple of numGroups (3), got 4',
  ],
  [
    'too much padding',
    () => new nn.AvgPool2d(2, { padding: 2 }),
    'ERR_ARGUMENT',
    'AvgPool2d: padding: expected at most half of kernelSize [2, 2], got [2, 2]',
  ],
  [
    'no probability',
    () => new nn.Dropout(1.5),
    'ERR_ARGUMENT',
    'Dropout: p: expected a probability from 0 to 1, got 1.5',
  ],
  [
    'a padding row out of range',
    () => new nn.Embedding(3, 2, { paddingIdx: 3 }),
    'ERR_ARGUMENT',
    'Embedding: paddingIdx: expected an index below numEmbeddings (3), got 3',
  ],
]

describe('options', () => {
  test.each(options)('%s', (_, body, code, message) => {
    const error = errorOf(body)
    expect([error.code, error.message]).toEqual([code, message])
  })
})

test('a released input or parameter is no other tensor, and no missing one', () => {
  const layer = conv()
  const x = randn([1, 3, 8, 8])
  layer.bias!.dispose()
  expect(errorOf(() => layer.forward(x)).code).toBe('ERR_TENSOR_RELEASED')
  x.dispose()
  expect(errorOf(() => conv().forward(x)).code).toBe('ERR_TENSOR_RELEASED')
})

test('a weight of another shape is told by libtorch, with the layer and the tensors', () => {
  const layer = conv()
  layer.weight = new nn.Parameter(zeros([8, 5, 3, 3]))
  const error = errorOf(() => layer.forward(randn([1, 3, 8, 8])))
  expect(error.code).toBe('ERR_OPERATOR')
  expect(error.message).toMatch(
    /^Conv2d: .*\(float32 \(1, 3, 8, 8\), float32 \(8, 5, 3, 3\), float32 \(8\)\)$/,
  )
})

test('a subclass is called by its own name', () => {
  class Projection extends nn.Conv2d {}
  const error = errorOf(() => new Projection(3, 8, 1).forward(randn([1, 4, 2, 2])))
  expect(error.message).toMatch(/^Projection: /)
})

test('a forward that fails leaves nothing behind', () => {
  const layer = conv()
  const x = randn([1, 4, 8, 8])
  const before = memory().tensors
  errorOf(() => layer.forward(x))
  expect(memory().tensors).toBe(before)
})

describe('what makes no sense is refused when a layer is made:', () => {
  const any = nn as unknown as Record<string, new (...args: unknown[]) => nn.Module>
  const eps = 'eps: expected a number of at least 0, got -1'
  const half = { size: 2, scaleFactor: 2 }
  const either = 'expected either size or scaleFactor'
  const size = 'outputSize: expected an integer of at least 0, null, or two of these'
  const rows: [layer: string, args: unknown[], message: string][] = [
    ['BatchNorm2d', [3, { eps: -1 }], eps],
    ['BatchNorm1d', [3, { eps: Infinity }], 'eps: expected a number of at least 0, got Infinity'],
    ['BatchNorm2d', [3, { momentum: 2 }], 'momentum: expected a number from 0 to 1, or null, got 2'],
    ['BatchNorm2d', [3, { momentum: -0.1 }], 'momentum: expected a number from 0 to 1, or null, got -0.1'],
    ['GroupNorm', [2, 4, { eps: -1 }], eps],
    ['LayerNorm', [3, { eps: -1 }], eps],
    ['LayerNorm', [-1], 'normalizedShape: expected integers of at least 0, got [-1]'],
    ['LeakyReLU', [{ negativeSlope: Infinity }], 'negativeSlope: expected a finite number, got Infinity'],
    ['Embedding', [3, 2, { maxNorm: -1 }], 'maxNorm: expected a number of at least 0, or null, got -1'],
    ['Embedding', [3, 2, { paddingIdx: -4 }], 'paddingIdx: expected an integer from -3 to 2, got -4'],
    ['Conv2d', [3, 3, 3, { padding: null }], 'padding: expected integers, "same" or "valid", got null'],
    ['AdaptiveAvgPool2d', [-1], `${size}, got -1`],
    ['AdaptiveAvgPool2d', [[null, -1]], `${size}, got [null, -1]`],
    ['AdaptiveAvgPool2d', [[1]], `${size}, got [1]`],
    ['AdaptiveMaxPool2d', [undefined], `${size}, got undefined`],
    ['Softmax', [], 'dim: expected an integer, got undefined'],
    ['Softmax', [1.5], 'dim: expected an integer, got 1.5'],
    ['Upsample', [{}], `${either}, got neither`],
    ['Upsample', [], `${either}, got neither`],
    ['Upsample', [half], `${either}, got both`],
    [
      'Upsample',
      [{ scaleFactor: 0 }],
      'scaleFactor: expected a number above 0, or one per spatial dimension, got 0',
    ],
    [
      'Upsample',
      [{ size: [2, 0] }],
      'size: expected an integer of at least 1, or one per spatial dimension, got [2, 0]',
    ],
    [
      'Upsample',
      [{ size: [] }],
      'size: expected an integer of at least 1, or one per spatial dimension, got []',
    ],
    [
      'Upsample',
      [{ size: 2, alignCorners: true }],
      "alignCorners: expected false for mode 'nearest', got true",
    ],
    ['Upsample', [{ size: 2, antialias: true }], "antialias: expected false for mode 'nearest', got true"],
  ]

  test.each(rows)('%s %j', (layer, args, message) => {
    expect(errorOf(() => new any[layer]!(...args))).toMatchObject({
      code: 'ERR_ARGUMENT',
      message: `${layer}: ${message}`,
    })
  })

  test('what PyTorch gives a meaning stays', () => {
    const made = [
      () => new nn.BatchNorm2d(3, { eps: 0, momentum: null }),
      () => new nn.BatchNorm2d(3, { momentum: 0 }),
      () => new nn.BatchNorm2d(3, { momentum: 1 }),
      () => new nn.LayerNorm(0),
      () => new nn.LeakyReLU({ negativeSlope: -1 }),
      () => new nn.Embedding(3, 2, { maxNorm: Infinity, normType: Infinity, paddingIdx: -3 }),
      () => new nn.AdaptiveAvgPool2d(0),
      () => new nn.AdaptiveMaxPool2d([null, 3]),
      () => new nn.Softmax(-1),
      () => new nn.Upsample({ scaleFactor: [0.5, 2], size: null }),
      () => new nn.Upsample({ size: 2, mode: 'bicubic', antialias: true, alignCorners: true }),
    ]
    for (const make of made) expect(make).not.toThrow()
  })
})

describe('messages that name what came:', () => {
  test('interpolate without a size', () => {
    const x = zeros([1, 1, 2, 2])
    const message = (options: object) => errorOf(() => nn.functional.interpolate(x, options)).message
    expect(message({})).toBe('interpolate: expected either size or scaleFactor, got neither')
    expect(message({ size: 1, scaleFactor: 1 })).toBe(
      'interpolate: expected either size or scaleFactor, got both',
    )
    expect(message({ size: 1.5 })).toBe(
      'interpolate: size: expected an integer of at least 1, or one per spatial dimension, got 1.5',
    )
  })

  test('a tensor in the place of options', () => {
    const y = zeros([2], { requiresGrad: true }).mul(2)
    expect(errorOf(() => y.backward(zeros([2]) as never))).toMatchObject({
      code: 'ERR_ARGUMENT',
      message: 'backward: options: expected an object such as { gradient }, got Tensor',
    })
  })

  test('a gain for what is no slope', () => {
    expect(errorOf(() => nn.init.calculateGain('leakyRelu', 'x' as never))).toMatchObject({
      code: 'ERR_ARGUMENT',
      message: 'calculateGain: negativeSlope: expected a number, got "x"',
    })
  })
})

test.each<[string, () => unknown]>([
  ['ModuleDict', () => new nn.ModuleDict().set('__proto__', new nn.Linear(1, 1))],
  ['Sequential', () => new nn.Sequential({ ['__proto__']: new nn.Linear(1, 1) })],
])('%s refuses the name __proto__, which would replace its class', (_, make) => {
  expect(codeOf(make)).toBe('ERR_ARGUMENT')
})

describe('Inputs that a Sequential would not see', () => {
  const one = zeros([1, 2])

  test('are refused', () => {
    const error = errorOf(() =>
      new nn.Sequential(new nn.ReLU()).forward(...([one, one] as unknown as [Tensor])),
    )
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toBe('Sequential: forward: expected one input, as ReLU takes, got 2')
    const nested = new nn.Sequential(new nn.Sequential(new nn.Linear(2, 2)))
    expect(codeOf(() => nested.forward(...([one, 1] as unknown as [Tensor])))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => new nn.Sequential().forward(...([one, one] as unknown as [Tensor])))).toBe(
      'ERR_ARGUMENT',
    )
  })

  test('are passed on to a first module that takes them', () => {
    class Sum extends nn.Module<[Tensor, Tensor], Tensor> {
      forward(x: Tensor, y: Tensor) {
        return x.add(y)
      }
    }
    class Scaled extends nn.Module<[Tensor, { by?: number }?], Tensor> {
      forward(x: Tensor, { by = 1 } = {}) {
        return x.mul(by)
      }
    }
    const two = new nn.Sequential<[Tensor, Tensor]>(new Sum(), new nn.ReLU())
    expect(two.forward(tensor([1]), tensor([2])).tolist()).toEqual([3])
    const scaled = new nn.Sequential<[Tensor, { by?: number }?]>(new Scaled())
    expect(scaled.forward(tensor([1]), { by: 3 }).tolist()).toEqual([3])
  })
})
