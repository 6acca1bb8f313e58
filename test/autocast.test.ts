/** Mixed precision: what computes in bfloat16, what stays, and that the mode ends with its scope. */
import { describe, expect, test } from 'vitest'
import { autocast, Generator, nn, noGrad, randn, tensor, torch } from '../lib/index.js'
import { bfloat16Instructions, quotaOf } from '../lib/system/machine.js'
import { codeOf } from './codes.js'
import { torchVersion } from './nn.fixtures.js'

const generator = new Generator(1)
const image = randn([2, 3, 8, 8], { generator })

describe('autocast', () => {
  test.each([
    ['a convolution', () => new nn.Conv2d(3, 4, 3).forward(image)],
    ['a linear layer', () => new nn.Linear(8, 4).forward(image)],
    ['a matrix product', () => image.matmul(image)],
  ])('lets %s compute in bfloat16', (_, run) => {
    expect(autocast({}, run).dtype).toBe('bfloat16')
    expect(run().dtype).toBe('float32')
  })

  // Of libtorch 1.13 they do not work in bfloat16 on the CPU, and stay in float32.
  test('lets a transposed convolution compute in bfloat16, where libtorch can', () => {
    const run = () => new nn.ConvTranspose2d(3, 4, 3).forward(image)
    expect(autocast({}, run).dtype).toBe(torchVersion.startsWith('1.') ? 'float32' : 'bfloat16')
    expect(run().dtype).toBe('float32')
  })

  test('computes losses in float32', () => {
    const logits = randn([4, 3]).to('bfloat16')
    const loss = autocast({}, () =>
      nn.functional.crossEntropy(logits, tensor([0, 1, 2, 0], { dtype: 'int64' })),
    )
    expect(loss.dtype).toBe('float32')
  })

  test('gives what the layers give in float32, up to the precision of bfloat16', () => {
    const model = new nn.Sequential(
      new nn.Conv2d(3, 8, 3),
      new nn.BatchNorm2d(8),
      new nn.ReLU(),
      new nn.Conv2d(8, 2, 3),
    )
    noGrad(() => {
      model.eval()
      const exact = model.forward(image)
      const cast = autocast({}, () => model.forward(image)).to('float32')
      const difference = cast.sub(exact).abs().max().item()
      expect(difference).toBeGreaterThan(0)
      expect(difference / exact.abs().max().item()).toBeLessThan(0.03)
    })
  })

  test('leaves parameters and their gradients in float32', () => {
    const layer = new nn.Conv2d(3, 4, 3)
    autocast({}, () => layer.forward(image).to('float32').square().mean()).backward()
    expect(layer.weight.dtype).toBe('float32')
    expect(layer.weight.grad!.dtype).toBe('float32')
    expect(layer.bias!.grad!.dtype).toBe('float32')
  })

  test('sees parameters as they are now, not as an earlier autocast cast them', () => {
    const layer = new nn.Linear(1, 1, { bias: false })
    const one = torch.ones([1, 1])
    const run = () => autocast({}, () => layer.forward(one)).item()
    for (const value of [1, 2]) {
      noGrad(() => layer.weight.fill_(value))
      expect(run()).toBe(value)
    }
  })

  test('is switched off inside by enabled: false, and on again after it', () => {
    const dtypes = autocast({}, () => [
      image.matmul(image).dtype,
      autocast({ enabled: false }, () => image.matmul(image).dtype),
      image.matmul(image).dtype,
    ])
    expect(dtypes).toEqual(['bfloat16', 'float32', 'bfloat16'])
  })

  test('ends when its callback throws', () => {
    expect(() =>
      autocast({}, () => {
        throw new Error('stop')
      }),
    ).toThrow('stop')
    expect(image.matmul(image).dtype).toBe('float32')
  })

  test('computes in float64 what is float64', () => {
    const wide = image.to('float64')
    expect(autocast({}, () => wide.matmul(wide).dtype)).toBe('float64')
    const layer = new nn.Conv2d(3, 4, 3).to('float64')
    expect(autocast({}, () => layer.forward(wide)).dtype).toBe('float64')
  })

  test('refuses devices, dtypes and callbacks that it cannot serve', () => {
    expect(codeOf(() => autocast({ device: 'meta' }, () => 0))).toBe('ERR_DEVICE')
    expect(codeOf(() => autocast({ dtype: 'float32' as 'bfloat16' }, () => 0))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => autocast({}, () => Promise.resolve()))).toBe('ERR_ASYNC_CALLBACK')
    expect(image.matmul(image).dtype).toBe('float32')
  })
})

describe('the machine', () => {
  test.each([
    ['flags\t\t: fpu avx2 avx512f avx512_bf16 sha_ni', 'avx512_bf16'],
    ['flags : fpu amx_tile amx_bf16 avx512_bf16\nflags : fpu', 'amx_bf16'],
    ['Features\t: fp asimd bf16 i8mm', 'bf16'],
    ['flags : fpu avx2', null],
    ['', null],
  ])('%j computes in bfloat16 by %s', (cpuInfo, expected) => {
    expect(bfloat16Instructions(cpuInfo)).toBe(expected)
  })

  test.each([
    ['150000 100000\n', 1.5],
    ['max 100000\n', null],
    ['', null],
  ])('a control group with %j has a quota of %s processors', (cpuMax, expected) => {
    expect(quotaOf(cpuMax)).toBe(expected)
  })
})
