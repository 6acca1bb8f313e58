/** Images of one format as those of another, against NumPy (test/reference/images.py). */
import { describe, expect, it } from 'vitest'
import { data, memory, scope, torch, type Tensor } from '../lib/index.js'
import { codeOf } from './codes.js'
import { tensor } from './device.js'
import reference from './reference/images.json' with { type: 'json' }

const { convertImages } = data

/** Formats come out of JSON. */
const formatsOf = (each: (typeof reference)[number]) =>
  ({ from: each.from, to: each.to }) as data.ImageConversion

describe('convertImages', () => {
  it.each(reference)('gives what NumPy gives: $name', each => {
    const result = scope(() => convertImages(formatsOf(each))(tensor(each.images, { dtype: 'float64' })))
    const expected = tensor(each.expected, { dtype: 'float64' })
    expect(result.shape).toEqual(expected.shape)
    expect(torch.allclose(result, expected, { rtol: 1e-9, atol: 1e-9 })).toBe(true)
  })

  it('comes back to where it began', () => {
    const [first] = reference
    const { from, to } = formatsOf(first!)
    const x = tensor(first!.images)
    const back = convertImages({ from: to, to: from! })(convertImages({ from, to })(x))
    expect(torch.allclose(back, x, { atol: 1e-6 })).toBe(true)
  })

  it('takes bytes, and keeps the dtype of floats', () => {
    const bytes = tensor(new Uint8Array([0, 255, 51]), {}).reshape([1, 3, 1, 1])
    const convert = convertImages({ from: { range: [0, 255] }, to: {} })
    expect(convert(bytes).dtype).toBe('float32')
    expect(convert(bytes).reshape([3]).tolist()).toEqual([0, 1, expect.closeTo(0.2, 6)])
    expect(convert(bytes.to('float16')).dtype).toBe('float16')
  })

  it('gives the images themselves where nothing changes', () => {
    const x = tensor([[[[1]]]])
    expect(convertImages({ from: { mean: [0.5] }, to: { mean: [0.5] } })(x)).toBe(x)
  })

  it('holds nothing but two small tensors of constants', () => {
    const convert = convertImages({ to: { mean: [0.5], std: [0.25] } })
    const x = tensor([[[[1]]]])
    scope(() => void convert(x))
    const before = memory().tensors
    for (let i = 0; i < 5; i++) scope(() => void convert(x))
    expect(memory().tensors).toBe(before)
  })

  it.each([
    ['no format to go to', {}],
    ['a negative std', { to: { std: [-1] } }],
    ['white below black', { to: { range: [1, 0] } }],
    ['another order', { to: { order: 'GBR' } }],
    ['another layout', { to: { layout: 'CHW' } }],
    ['no size', { to: { size: 0 } }],
    ['a size of three', { to: { size: [1, 2, 3] } }],
    ['two and three channels', { to: { mean: [1, 2], std: [1, 2, 3] } }],
    ['one channel with three means', { to: { channels: 1, mean: [1, 2, 3] } }],
    ['text for a mean', { from: { mean: ['0.5'] }, to: {} }],
    ['a name that no format has, to come from', { from: { meen: [0.5] }, to: {} }],
    ['a name that no format has, to go to', { from: {}, to: { sze: 3 } }],
    ['null to come from', { from: null, to: {} }],
    ['two channels of three', { from: { channels: 3 }, to: { channels: 2 } }],
  ])('refuses %s', (_, formats) => {
    expect(codeOf(() => convertImages(formats as unknown as data.ImageConversion))).toBe('ERR_ARGUMENT')
  })

  it('refuses images that are not as was said, and other values', () => {
    const convert = convertImages({ from: { mean: [1, 2, 3] }, to: {} })
    for (const shape of [
      [1, 1, 2, 2],
      [3, 2, 2],
      [1, 2, 2, 3],
    ])
      expect(codeOf(() => convert(torch.zeros(shape)))).toBe('ERR_SHAPE_MISMATCH')
    expect(
      codeOf(() =>
        convertImages({ from: { layout: 'NHWC', channels: 3 }, to: {} })(torch.zeros([1, 3, 2, 2])),
      ),
    ).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => convertImages({ to: { channels: 1 } })(torch.zeros([1, 2, 2, 2])))).toBe(
      'ERR_SHAPE_MISMATCH',
    )
    for (const [given, wanted] of [
      [3, 2],
      [4, 1],
      [2, 3],
    ] as const)
      expect(codeOf(() => convertImages({ to: { channels: wanted } })(torch.zeros([1, given, 2, 2])))).toBe(
        'ERR_SHAPE_MISMATCH',
      )
    expect(convertImages({ to: { channels: 2 } })(torch.zeros([1, 1, 2, 2])).shape).toEqual([1, 2, 2, 2])
    expect(codeOf(() => convert(5 as unknown as Tensor))).toBe('ERR_ARGUMENT')
  })
})
