import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { fromTypedArray, tensor, zeros, type DType } from '../lib/index.js'

interface Case {
  name: string
  dtype: DType
  shape: number[]
  values: (string | number)[]
  text: string
}

const cases = JSON.parse(readFileSync(new URL('reference/format.json', import.meta.url), 'utf8')) as Case[]

/** Our words for what Python prints as `dtype=torch.int32`. */
function toOurs(text: string): string {
  return text.replaceAll('dtype=torch.', 'dtype=')
}

describe('printing', () => {
  it.each(cases)('prints $name as PyTorch does', ({ dtype, shape, values, text }) => {
    const numbers = Float64Array.from(values, value => Number(String(value).replace('inf', 'Infinity')))
    expect(String(fromTypedArray(numbers, shape, { dtype }))).toBe(toOurs(text))
  })

  it('says that a tensor is a leaf with a gradient, or what made it', () => {
    const x = tensor([1, 2], { requiresGrad: true })
    expect(String(x)).toBe('tensor([1., 2.], requiresGrad=true)')
    expect(String(x.mul(x))).toBe('tensor([1., 4.], gradFn=<MulBackward0>)')
  })

  it('prints booleans and complex numbers', () => {
    expect(String(tensor([true, false]))).toBe('tensor([ true, false])')
    expect(String(tensor([1, 2], { dtype: 'complex64' }))).toBe('tensor([1.+0.j, 2.+0.j])')
  })

  it('shows the same in the console, and does not fail for a released tensor', () => {
    const x = zeros([2])
    expect(inspect(x)).toBe('tensor([0., 0.])')
    x.dispose()
    expect(inspect(x)).toBe('tensor(<released>)')
  })

  it('leaves no tensor behind', async () => {
    const { memory } = await import('../lib/index.js')
    const x = zeros([40, 40])
    const before = memory().tensors
    String(x)
    expect(memory().tensors).toBe(before)
  })
})
