/** Calls in which every place has a random value: sizes that nearly fit each other, and among them hostile ones. */
import { randn, randint, Tensor, torch, zeros } from '../lib/index.js'
import type { Parameter, Schema } from '../scripts/generate-operators.js'
import {
  element,
  hostileValues,
  isIndex,
  isList,
  untried,
  type Case,
  type Make,
} from './operators.fuzz.values.js'

/** A value, and how a report calls it. */
type Named = [string, Make]

/** mulberry32: the same numbers for the same seed on every machine. */
class Numbers {
  constructor(private state: number) {}
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  below(count: number): number {
    return Math.floor(this.next() * count)
  }
  chance(probability: number): boolean {
    return this.next() < probability
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }
}

function seedOf(text: string): number {
  let hash = 2166136261
  for (const each of text) hash = Math.imul(hash ^ each.codePointAt(0)!, 16777619)
  return hash
}

const sizes = [1, 1, 2, 2, 3, 4, 4, 5, 8, 16]

/** Seldom one without elements. */
const size = (numbers: Numbers) => (numbers.chance(0.04) ? 0 : numbers.of(sizes))
const shapeOf = (numbers: Numbers, rank: number) => Array.from({ length: rank }, () => size(numbers))

/** How wild a call is: the shape that its values go around, and how often one differs or is hostile. */
interface Mood {
  shape: readonly number[]
  mismatched: number
  hostile: number
}

const moodOf = (numbers: Numbers): Mood => ({
  shape: shapeOf(numbers, numbers.of([1, 2, 2, 3, 3, 4, 4, 4, 5])),
  mismatched: numbers.of([0, 0.1, 0.3, 1]),
  hostile: numbers.of([0, 0.05, 0.1, 0.2]),
})

const isOfChannels = /bias|mean|var$|invstd|scale|zero_point|^gamma|^beta/

/** The shape that a tensor of this name has most often. */
function usual(numbers: Numbers, name: string, shape: readonly number[]): number[] {
  const channels = shape[Math.min(1, shape.length - 1)]!
  if (isOfChannels.test(name)) return [channels]
  if (name.startsWith('weight') && shape.length > 2 && numbers.chance(0.6))
    return [channels, channels, ...shape.slice(2).map(() => 1)]
  if (name.startsWith('weight') && numbers.chance(0.6)) return [channels]
  return [...shape]
}

/** A shape that fits `shape`, or nearly: most operators want tensors of one shape, or of one of its sizes. */
function related(numbers: Numbers, shape: readonly number[]): number[] {
  const at = numbers.below(shape.length)
  const choice = numbers.below(20)
  if (choice < 8) return [...shape]
  if (choice < 11) return shape.map((each, i) => (i === at ? size(numbers) : each))
  if (choice < 14) return [shape[Math.min(numbers.of([0, 1, 1, shape.length - 1]), shape.length - 1)]!]
  if (choice < 15) return shape.slice(1)
  if (choice < 16) return [size(numbers), ...shape]
  if (choice < 17) return [...shape].reverse()
  if (choice < 18) return [shape.reduce((product, each) => product * each, 1)]
  return shapeOf(numbers, numbers.below(6))
}

const isWhole = (name: string) => isIndex.test(name) || /indices|index|sizes$|offset|lengths|mask/.test(name)

function ordinaryTensor(numbers: Numbers, name: string, { shape, mismatched }: Mood): Named {
  const own = numbers.chance(mismatched) ? related(numbers, shape) : usual(numbers, name, shape)
  const whole = isWhole(name) !== numbers.chance(0.1 * mismatched)
  const [dtype, make]: [string, () => Tensor] = whole
    ? ['int64', () => randint(0, numbers.of([1, 2, 4, 20]), own)]
    : numbers.chance(1 - 0.3 * mismatched)
      ? ['float32', () => randn(own)]
      : numbers.of<[string, () => Tensor]>([
          ['float64', () => randn(own, { dtype: 'float64' })],
          ['bfloat16', () => zeros(own, { dtype: 'bfloat16' })],
          ['bool', () => zeros(own, { dtype: 'bool' })],
          ['int32', () => zeros(own, { dtype: 'int32' })],
          ['uint8', () => zeros(own, { dtype: 'uint8' })],
          ['complex64', () => torch.complex(randn(own), randn(own))],
          ['transposed', () => randn([...own].reverse()).permute(own.map((_, i) => own.length - 1 - i))],
        ])
  return [`${dtype}(${own.join(',')})`, make]
}

function ordinary(numbers: Numbers, parameter: Parameter, mood: Mood): Named {
  const kind = element(parameter.type)
  const constant = (value: unknown): Named => [JSON.stringify(value), () => value]
  switch (kind) {
    case 'Tensor':
      return ordinaryTensor(numbers, parameter.name, mood)
    case 'int':
    case 'SymInt':
      return constant(
        numbers.chance(0.3) ? numbers.of(mood.shape) : numbers.of([-2, -1, 0, 0, 1, 1, 1, 2, 2, 3, 4]),
      )
    case 'float':
    case 'Scalar':
      return constant(numbers.of([0, 0.1, 0.5, 1, 2]))
    case 'bool':
      return constant(numbers.chance(0.5))
    case 'str':
      return constant(numbers.of(['none', 'mean', 'sum', 'floor', 'trunc', 'linear', 'max', 'tanh', 'right']))
    case 'ScalarType':
      return constant(numbers.of(['float32', 'float64', 'int64', 'int32', 'bool', 'bfloat16']))
    case 'Layout':
      return constant(numbers.of(['strided', 'sparse', 'sparseCsr']))
    case 'MemoryFormat':
      return constant(numbers.of(['contiguous', 'preserve', 'channelsLast']))
    case 'Device':
      return constant('cpu')
    default:
      return constant(null)
  }
}

const usualIntegers: [RegExp, number[]][] = [
  [/^kernel_size$/, [1, 1, 2]],
  [/stride|dilation/, [1, 1, 2]],
  [/padding/, [0, 0, 1]],
]

function ordinaryList(numbers: Numbers, parameter: Parameter, mood: Mood): Named {
  const kind = element(parameter.type)
  const isSizes = /size|shape/.test(parameter.name) && parameter.name !== 'kernel_size'
  if ((kind === 'int' || kind === 'SymInt') && numbers.chance(isSizes ? 0.6 : 0.2)) {
    const list = related(numbers, mood.shape)
    return [`[${list.join(',')}]`, () => list]
  }
  const declared = Number(/\[(\d+)\]/.exec(parameter.type)?.[1] ?? 0)
  const length = declared > 0 && numbers.chance(0.85) ? declared : numbers.below(5)
  const usualInteger = usualIntegers.find(([names]) => names.test(parameter.name))
  if (usualInteger !== undefined && !numbers.chance(mood.mismatched)) {
    const list = Array.from({ length: declared || 2 }, () => numbers.of(usualInteger[1]))
    return [`[${list.join(',')}]`, () => list]
  }
  const parts = Array.from({ length }, () => ordinary(numbers, parameter, mood))
  return [`[${parts.map(([name]) => name).join(',')}]`, () => parts.map(([, make]) => make())]
}

/** Of the huge expanded tensor every call takes seconds; the calls with one hostile place have it. */
const hostile = (type: string) => hostileValues(type).filter(([name]) => name !== 'expanded')

function valueOf(numbers: Numbers, parameter: Parameter, mood: Mood): Named {
  const { type } = parameter
  if (type.endsWith('?') && numbers.chance(0.25)) return ['null', () => null]
  if (numbers.chance(mood.hostile)) return numbers.of(hostile(type))
  return isList(type) ? ordinaryList(numbers, parameter, mood) : ordinary(numbers, parameter, mood)
}

/** `calls` of each operator. A call depends on nothing but its operator, the seed and its number. */
export function* jointCases(schemas: readonly Schema[], calls: number, seed: number): Generator<Case> {
  for (const schema of schemas) {
    if (untried.test(schema.name)) continue
    for (let call = 0; call < calls; call++) {
      const title = `${schema.name}.${schema.overload} seed ${seed} call ${call}`
      const numbers = new Numbers(seedOf(title))
      const mood = moodOf(numbers)
      const given = schema.parameters.filter(each => !each.hasDefault || numbers.chance(0.5))
      const values = given.map(each => valueOf(numbers, each, mood))
      const described = given.map((each, i) => `${each.name} ${values[i]![0]}`)
      yield {
        schema,
        name: `${title}: ${described.join(', ')}`,
        values: values.map(([, make]) => make),
        names: given.map(each => each.name),
      }
    }
  }
}
