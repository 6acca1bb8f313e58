/**
 * Tensors as text, laid out as PyTorch does: at most four decimals, aligned columns, the middle of long dimensions left
 * out, lines of 80 characters. The words are JavaScript's: `true`, `gradFn=`, `requiresGrad=true`, dtypes without
 * `torch.`; lines break where Python's do.
 */
import { noGrad } from './grad-mode.js'
import { readElements } from './elements.js'
import { scope } from '../memory/memory.js'
import type { Tensor } from './tensor.js'
import { torch } from '../calls/index.js'
import type { Complex, DType } from './types.js'

const precision = 4
/** Tensors with more elements are summarized. */
const threshold = 1000
/** Elements shown at either end of a summarized dimension. */
const edge = 3
const lineWidth = 80

/** Never throws: a tensor whose elements cannot be read says why. */
export function formatTensor(tensor: Tensor): string {
  if (tensor.isDisposed) return 'tensor(<released>)'
  try {
    return noGrad(() => scope(() => format(tensor)))
  } catch (error) {
    return `tensor(<${error instanceof Error ? error.message : String(error)}>)`
  }
}

function format(tensor: Tensor): string {
  if (tensor.isNested) return formatNested(tensor)
  if (tensor.layout === 'sparse') return formatSparse(tensor)
  if (tensor.layout.startsWith('sparse')) return formatCompressed(tensor)
  if (tensor.dtype.startsWith('q')) return formatQuantized(tensor)
  return formatDense(tensor)
}

// ---- What stands behind the elements -----------------------------------------------------------------------------------

/** Something behind the elements: as we write it, and how long it is in Python, which decides where lines break. */
interface Suffix {
  text: string
  length: number
}

function suffix(text: string, python = text): Suffix {
  return { text, length: python.length }
}

function sizeOf(shape: readonly number[]): string {
  return shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`
}

function sizeSuffix(tensor: Tensor): Suffix {
  return suffix(`size=${sizeOf(tensor.shape)}`)
}

function deviceSuffixes(tensor: Tensor): Suffix[] {
  return tensor.device === 'cpu' ? [] : [suffix(`device='${tensor.device}'`)]
}

function dtypeSuffixes({ dtype }: Tensor, known: readonly DType[] = inferred): Suffix[] {
  return known.includes(dtype) ? [] : [suffix(`dtype=${dtype}`, `dtype=torch.${dtype}`)]
}

/** What elements show without being told. */
const inferred: readonly DType[] = ['float32', 'int64', 'bool', 'complex64']

const layoutNames: Record<string, string> = {
  sparse: 'sparse_coo',
  sparseCsr: 'sparse_csr',
  sparseCsc: 'sparse_csc',
  sparseBsr: 'sparse_bsr',
  sparseBsc: 'sparse_bsc',
  mkldnn: '_mkldnn',
}

function lastSuffixes(tensor: Tensor): Suffix[] {
  const suffixes: Suffix[] = []
  const layout = layoutNames[tensor.layout]
  if (layout !== undefined) suffixes.push(suffix(`layout=${layout}`, `layout=torch.${layout}`))
  const { gradFn } = tensor
  if (gradFn !== null) suffixes.push(suffix(`gradFn=<${gradFn}>`, `grad_fn=<${gradFn}>`))
  else if (tensor.requiresGrad) suffixes.push(suffix('requiresGrad=true', 'requires_grad=True'))
  return suffixes
}

function join(text: string, suffixes: readonly Suffix[], indent: number, breakFirst = false): string {
  let result = text
  // As Python counts: without a line break lastIndexOf gives -1 on both sides.
  let length = text.length - text.lastIndexOf('\n') + 1
  for (const [i, { text: part, length: partLength }] of suffixes.entries()) {
    if ((breakFirst && i === 0) || length + partLength + 2 > lineWidth) {
      result += `,\n${' '.repeat(indent)}${part}`
      length = indent + partLength
    } else {
      result += `, ${part}`
      length += partLength + 2
    }
  }
  return `${result})`
}

// ---- Kinds of tensors ----------------------------------------------------------------------------------------------

const prefix = 'tensor('
const indent = prefix.length

function formatDense(tensor: Tensor): string {
  const suffixes = deviceSuffixes(tensor)
  if (tensor.device.startsWith('meta')) {
    suffixes.push(sizeSuffix(tensor), ...dtypeSuffixes(tensor, ['float32']))
    return join(`${prefix}...`, [...suffixes, ...lastSuffixes(tensor)], indent)
  }
  if (tensor.numel() === 0) {
    if (tensor.ndim !== 1) suffixes.push(sizeSuffix(tensor))
    suffixes.push(...dtypeSuffixes(tensor, ['float32']))
  } else suffixes.push(...dtypeSuffixes(tensor))
  return join(prefix + formatElements(tensor, indent), [...suffixes, ...lastSuffixes(tensor)], indent)
}

function formatNested(tensor: Tensor): string {
  const parts = tensor.unbind().map(each => formatTensor(each).replace(/^/gm, '  '))
  return join(`nested_tensor([\n${parts.join(',\n')}\n]`, lastSuffixes(tensor), 'nested_tensor('.length)
}

function formatSparse(tensor: Tensor): string {
  const isMeta = tensor.device.startsWith('meta')
  const suffixes = [...deviceSuffixes(tensor), sizeSuffix(tensor)]
  if (!isMeta) suffixes.push(suffix(`nnz=${tensor._nnz()}`))
  suffixes.push(...dtypeSuffixes(tensor))
  const parts = [part('indices', tensor._indices()), part('values', tensor._values())]
  return join(prefix + joinParts(parts), [...suffixes, ...lastSuffixes(tensor)], indent, true)
}

function formatCompressed(tensor: Tensor): string {
  const suffixes = [...deviceSuffixes(tensor), sizeSuffix(tensor)]
  if (!tensor.device.startsWith('meta')) suffixes.push(suffix(`nnz=${tensor._nnz()}`))
  suffixes.push(...dtypeSuffixes(tensor))
  const byRow = tensor.layout === 'sparseCsr' || tensor.layout === 'sparseBsr'
  const parts = [
    byRow ? part('crow_indices', tensor.crowIndices()) : part('ccol_indices', tensor.ccolIndices()),
    byRow ? part('col_indices', tensor.colIndices()) : part('row_indices', tensor.rowIndices()),
    part('values', tensor.values()),
  ]
  return join(prefix + joinParts(parts), [...suffixes, ...lastSuffixes(tensor)], indent)
}

function part(name: string, tensor: Tensor): string {
  const start = `${name}=tensor(`
  const isMeta = tensor.device.startsWith('meta')
  const elements = isMeta ? '...' : formatElements(tensor, indent + start.length)
  const size = isMeta || tensor.numel() === 0 ? `, size=${sizeOf(tensor.shape)}` : ''
  return `${start}${elements}${size})`
}

function joinParts(parts: readonly string[]): string {
  return parts.join(`,\n${' '.repeat(indent)}`)
}

function formatQuantized(tensor: Tensor): string {
  const suffixes = [...deviceSuffixes(tensor), sizeSuffix(tensor), ...dtypeSuffixes(tensor)]
  const plain = tensor.dequantize()
  suffixes.push(...quantizationSuffixes(tensor))
  return join(prefix + formatElements(plain, indent), [...suffixes, ...lastSuffixes(tensor)], indent)
}

function quantizationSuffixes(tensor: Tensor): Suffix[] {
  const scheme = tensor.qscheme()
  const name = suffix(`quantization_scheme=${scheme}`, `quantization_scheme=torch.${scheme}`)
  if (scheme.startsWith('per_tensor'))
    return [name, suffix(`scale=${asPython(tensor.qScale())}`), suffix(`zero_point=${tensor.qZeroPoint()}`)]
  return [
    name,
    tensorSuffix('scale', tensor.qPerChannelScales()),
    tensorSuffix('zero_point', tensor.qPerChannelZeroPoints()),
    suffix(`axis=${tensor.qPerChannelAxis()}`),
  ]
}

/** A number as Python writes it: 1.0, 1e-05. */
function asPython(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e16) return `${value}.0`
  if (Math.abs(value) >= 1e-4 && Math.abs(value) < 1e16) return String(value)
  return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2')
}

function tensorSuffix(name: string, tensor: Tensor): Suffix {
  const text = `${name}=${formatTensor(tensor)}`
  return suffix(text, text.replace('dtype=', 'dtype=torch.'))
}

// ---- Elements ------------------------------------------------------------------------------------------------------

type Value = number | bigint | boolean | Complex

/** How one element is written, decided by all that are shown: the same width, point and exponent for each. */
interface Writer {
  write(value: Value): string
  /** Of a column; what is longer stands out. */
  width: number
}

function formatElements(tensor: Tensor, indentation: number): string {
  if (tensor.numel() === 0) return '[]'
  const { shape } = tensor
  const summarize = tensor.numel() > threshold
  const shown = summarize ? withoutMiddle(plain(tensor)) : tensor
  const values = readElements(shown.toTypedArray(), shown.dtype)
  const writer = makeWriter(values, tensor.dtype)
  let position = 0
  const build = (depth: number): string => {
    if (depth === shape.length) return writer.write(values[position++]!)
    const size = shape[depth]!
    const cut = summarize && size > 2 * edge
    const count = cut ? 2 * edge : size
    const parts = Array.from({ length: count }, () => build(depth + 1))
    const isRow = depth === shape.length - 1
    if (cut) parts.splice(edge, 0, isRow ? ' ...' : '...')
    return isRow
      ? joinRow(parts, writer.width, indentation + depth)
      : joinBlocks(parts, shape.length - depth - 1, indentation + depth)
  }
  return build(0)
}

/** In a layout and a dtype that pieces can be cut and joined in. */
function plain(tensor: Tensor): Tensor {
  const dense = tensor.layout === 'strided' ? tensor : tensor.toDense()
  return dense.dtype.startsWith('float8') ? dense.to('float32') : dense
}

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

function joinRow(parts: readonly string[], width: number, indentation: number): string {
  const perLine = Math.max(1, Math.floor((lineWidth - indentation) / (width + 2)))
  const lines: string[] = []
  for (let i = 0; i < parts.length; i += perLine) lines.push(parts.slice(i, i + perLine).join(', '))
  return `[${lines.join(`,\n${' '.repeat(indentation + 1)}`)}]`
}

function joinBlocks(parts: readonly string[], lines: number, indentation: number): string {
  return `[${parts.join(`,${'\n'.repeat(lines)}${' '.repeat(indentation + 1)}`)}]`
}

function makeWriter(values: readonly Value[], dtype: DType): Writer {
  if (dtype.startsWith('complex')) return makeComplexWriter(values as readonly Complex[])
  if (/^b?float/.test(dtype)) return makeFloatWriter(values as readonly number[])
  const plain = values as readonly (number | bigint | boolean)[]
  const width = plain.reduce<number>((most, value) => Math.max(most, String(value).length), 1)
  return { write: value => `${value as number | bigint | boolean}`.padStart(width), width }
}

function makeComplexWriter(values: readonly Complex[]): Writer {
  const re = makeFloatWriter(values.map(value => value.re))
  const im = makeFloatWriter(values.map(value => value.im))
  return {
    write: value => {
      const imaginary = im.write((value as Complex).im).trimStart()
      return `${re.write((value as Complex).re)}${imaginary.startsWith('-') ? '' : '+'}${imaginary}j`
    },
    width: re.width + im.width + 1,
  }
}

function makeFloatWriter(values: readonly number[]): Writer {
  const finite = values.filter(value => Number.isFinite(value) && value !== 0)
  let largest = 0
  let smallest = Infinity
  for (const value of finite) {
    largest = Math.max(largest, Math.abs(value))
    smallest = Math.min(smallest, Math.abs(value))
  }
  const whole = finite.every(Number.isInteger)
  const scientific = finite.length > 0 && (largest / smallest > 1000 || largest > 1e8 || smallest < 1e-4)
  const text = (value: number): string => {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf'
    if (scientific) return toScientific(value)
    if (whole) return `${Object.is(value, -0) ? '-0' : value}.`
    return toFixed(value)
  }
  // As in Python, zeros and what is not finite have no say in the width.
  const width = finite.reduce((most, value) => Math.max(most, text(value).length), 1)
  return { write: value => text(value as number).padStart(width), width }
}

function toFixed(value: number): string {
  const sign = value < 0 || Object.is(value, -0) ? '-' : ''
  const magnitude = Math.abs(value)
  return sign + halfToEven(magnitude.toFixed(precision), magnitude.toFixed(60))
}

/** JavaScript's `1.5e+0` as `1.5000e+00`. */
function toScientific(value: number): string {
  const sign = value < 0 || Object.is(value, -0) ? '-' : ''
  const magnitude = Math.abs(value)
  const [digits, exponent] = magnitude.toExponential(precision).split('e') as [string, string]
  const exact = magnitude.toExponential(60).split('e')[0]!
  return `${sign}${halfToEven(digits, exact)}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`
}

/** JavaScript rounds a tie away from zero, Python to the even digit: 0.78125 is 0.7812. */
function halfToEven(rounded: string, exact: string): string {
  const cut = exact.slice(0, exact.indexOf('.') + 1 + precision)
  const isTie = /^50*$/.test(exact.slice(cut.length))
  return isTie && Number(cut.at(-1)) % 2 === 0 ? cut : rounded
}
