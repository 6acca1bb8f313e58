/** Tensors as text, in PyTorch's layout: at most four decimals, aligned columns, the middle of long dimensions left out. */
import { noGrad } from './autograd.js'
import { scope } from './memory.js'
import type { Tensor } from './tensor.js'
import { torch } from './torch/index.js'

const precision = 4
/** Tensors with more elements are summarized. */
const threshold = 1000
/** Elements shown at either end of a summarized dimension. */
const edge = 3
const lineWidth = 80
const prefix = 'tensor('

export function formatTensor(tensor: Tensor): string {
  if (tensor.isDisposed) return 'tensor(<released>)'
  return noGrad(() => scope(() => prefix + formatElements(tensor) + formatSuffix(tensor) + ')'))
}

function formatElements(tensor: Tensor): string {
  if (tensor.device === 'meta') return '...'
  if (tensor.numel() === 0) return '[]'
  const { shape } = tensor
  const summarize = tensor.numel() > threshold
  const shown = summarize ? withoutMiddle(tensor) : tensor
  const values = [shown.tolist()].flat(Infinity as 1) as Value[]
  const write = makeWriter(values, tensor.dtype)
  let position = 0
  const build = (depth: number): string => {
    if (depth === shape.length) return write(values[position++]!)
    const size = shape[depth]!
    const cut = summarize && size > 2 * edge
    const count = cut ? 2 * edge : size
    const parts = Array.from({ length: count }, () => build(depth + 1))
    const isRow = depth === shape.length - 1
    if (cut) parts.splice(edge, 0, isRow ? ' ...' : '...')
    return isRow ? joinRow(parts, depth) : joinBlocks(parts, depth, shape.length)
  }
  return build(0)
}

type Value = number | boolean | { re: number; im: number }

function withoutMiddle(tensor: Tensor): Tensor {
  let result = tensor
  tensor.shape.forEach((size, dim) => {
    if (size <= 2 * edge) return
    const head = result.narrow(dim, 0, edge)
    const tail = result.narrow(dim, size - edge, edge)
    result = torch.cat([head, tail], { dim })
  })
  return result
}

function joinRow(parts: string[], depth: number): string {
  const indent = ' '.repeat(prefix.length + depth + 1)
  const perLine = Math.max(1, Math.floor((lineWidth - indent.length + 1) / ((parts[0]?.length ?? 0) + 2)))
  const lines: string[] = []
  for (let i = 0; i < parts.length; i += perLine) lines.push(parts.slice(i, i + perLine).join(', '))
  return `[${lines.join(`,\n${indent}`)}]`
}

function joinBlocks(parts: string[], depth: number, dimensions: number): string {
  const separator = ',' + '\n'.repeat(dimensions - depth - 1) + ' '.repeat(prefix.length + depth + 1)
  return `[${parts.join(separator)}]`
}

function formatSuffix(tensor: Tensor): string {
  const parts: string[] = []
  if (tensor.numel() === 0 && tensor.ndim !== 1) parts.push(`size=(${tensor.shape.join(', ')})`)
  if (tensor.device !== 'cpu') parts.push(`device='${tensor.device}'`)
  if (!['float32', 'int64', 'bool', 'complex64'].includes(tensor.dtype)) parts.push(`dtype=${tensor.dtype}`)
  const { gradFn } = tensor
  if (gradFn !== null) parts.push(`gradFn=<${gradFn}>`)
  else if (tensor.requiresGrad) parts.push('requiresGrad=true')
  return parts.map(part => `, ${part}`).join('')
}

/** How one element is written, decided by all that are shown: the same width, point and exponent for each. */
function makeWriter(values: Value[], dtype: string): (value: Value) => string {
  const write = dtype.startsWith('complex')
    ? writeComplex(values as { re: number; im: number }[])
    : dtype.startsWith('float') || dtype.startsWith('bfloat')
      ? makeFloatWriter(values as number[])
      : String
  const width = Math.max(...values.map(value => write(value as never).length))
  return value => write(value as never).padStart(width)
}

function writeComplex(values: { re: number; im: number }[]): (value: { re: number; im: number }) => string {
  const re = makeFloatWriter(values.map(value => value.re))
  const im = makeFloatWriter(values.map(value => Math.abs(value.im)))
  return value =>
    `${re(value.re)}${value.im < 0 || Object.is(value.im, -0) ? '-' : '+'}${im(Math.abs(value.im))}j`
}

function makeFloatWriter(values: number[]): (value: number) => string {
  const magnitudes = values.filter(value => Number.isFinite(value) && value !== 0).map(Math.abs)
  const largest = Math.max(...magnitudes, 0)
  const smallest = Math.min(...magnitudes, Infinity)
  const whole = values.every(value => !Number.isFinite(value) || Number.isInteger(value))
  const wide = largest / smallest > 1000 && magnitudes.length > 0
  const scientific = largest > 1e8 || (!whole && (smallest < 1e-4 || wide))
  return value => {
    if (Number.isNaN(value)) return 'nan'
    if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf'
    if (scientific) return toScientific(value)
    if (whole) return `${Object.is(value, -0) ? '-0' : value}.`
    return halfToEven(value.toFixed(precision), value.toFixed(60))
  }
}

/** JavaScript's `1.5e+0` as `1.5000e+00`. */
function toScientific(value: number): string {
  const [digits, exponent] = value.toExponential(precision).split('e') as [string, string]
  const exact = value.toExponential(60).split('e')[0]!
  return `${halfToEven(digits, exact)}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`
}

/** JavaScript rounds a tie away from zero, Python to the even digit: 0.78125 is 0.7812. */
function halfToEven(rounded: string, exact: string): string {
  const cut = exact.slice(0, exact.indexOf('.') + 1 + precision)
  const isTie = /^50*$/.test(exact.slice(cut.length))
  return isTie && Number(cut.at(-1)) % 2 === 0 ? cut : rounded
}
