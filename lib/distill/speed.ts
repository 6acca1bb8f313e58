/** What makes training faster than the plain loop, and how it is chosen. */
import { autocast } from '../autocast.js'
import { AlambicError, argumentError } from '../errors.js'
import { bfloat16Unit, processorQuota } from '../machine.js'
import { nearest } from '../names.js'
import { native } from '../native/loader.js'
import type { Module } from '../nn/module.js'
import type { Device } from '../types.js'

/** Each choice by hand; what is left out is chosen as by `'auto'`. */
export interface SpeedOptions {
  /**
   * `'bfloat16'`: convolutions and matrix products of both models compute in bfloat16, parameters and losses stay
   * float32, see {@link autocast}. Chosen where the processor or GPU has instructions for it.
   */
  precision?: 'float32' | 'bfloat16'
  /** Of the weights, and so of the features, while training. Chosen: `'channelsLast'`, where there are convolutions. */
  memoryFormat?: 'contiguous' | 'channelsLast'
  /** Whether the teacher's batch norms are folded into its convolutions. Chosen: true. */
  prepareTeacher?: boolean
  /** Threads of libtorch. Chosen: as they are, but no more than the container may use. */
  threads?: number
  /** Whether a batch is asked for while the one before is trained on. Chosen: true. */
  prefetch?: boolean
}

export type Speed = 'auto' | SpeedOptions

const known = ['precision', 'memoryFormat', 'prepareTeacher', 'threads', 'prefetch'] as const

/** A choice and why it was made. */
interface Choice {
  what: string
  why: string
}

/** How one training runs: made by {@link chooseSpeed}. */
export interface Plan {
  readonly isChosen: boolean
  readonly precision: 'float32' | 'bfloat16'
  readonly memoryFormat: 'contiguous' | 'channelsLast'
  readonly prepareTeacher: boolean
  readonly threads: number | null
  readonly prefetch: boolean
  readonly device: Device
  readonly choices: Choice[]
}

/**
 * @param model what is trained
 * @throws AlambicError `ERR_ARGUMENT`
 */
export function chooseSpeed(speed: Speed | undefined, model: Module, device: Device): Plan {
  if (speed === undefined) return asItIs(device)
  const given = speed === 'auto' ? {} : speed
  checkOptions(given)
  const choices: Choice[] = []
  const choose = <T>(name: keyof SpeedOptions, choice: () => [value: T, what: string, why: string]): T => {
    const value = given[name] as T | undefined
    if (value !== undefined) {
      choices.push({ what: `${name} ${String(value)}`, why: 'as given' })
      return value
    }
    const [chosen, what, why] = choice()
    if (what !== '') choices.push({ what, why })
    return chosen
  }
  return {
    isChosen: true,
    device,
    precision: choose('precision', () => choosePrecision(device)),
    memoryFormat: choose('memoryFormat', () => chooseMemoryFormat(model)),
    prepareTeacher: choose('prepareTeacher', () => [true, '', '']), // the teacher reports by itself
    threads: choose('threads', chooseThreads),
    prefetch: choose('prefetch', () => [true, '', '']),
    choices,
  }
}

function asItIs(device: Device): Plan {
  return {
    isChosen: false,
    precision: 'float32',
    memoryFormat: 'contiguous',
    prepareTeacher: false,
    threads: null,
    prefetch: false,
    device,
    choices: [],
  }
}

function choosePrecision(device: Device): ['float32' | 'bfloat16', string, string] {
  const unit = bfloat16Unit(device)
  return unit === null
    ? ['float32', 'float32', `nothing known on ${device} is faster in bfloat16`]
    : ['bfloat16', 'bfloat16', `${unit} has it`]
}

function chooseMemoryFormat(model: Module): ['contiguous' | 'channelsLast', string, string] {
  const hasImages = model.parameters().some(parameter => parameter.ndim === 4)
  return hasImages
    ? ['channelsLast', 'channels-last', 'convolutions run faster in it']
    : ['contiguous', '', '']
}

function chooseThreads(): [number | null, string, string] {
  const current = native.numThreads()
  const quota = processorQuota()
  if (quota === null || quota >= current) return [null, `${current} threads`, 'as set']
  const threads = Math.max(1, Math.round(quota))
  return [threads, `${threads} threads`, `the container may use ${quota} processors`]
}

function checkOptions(options: SpeedOptions): void {
  if (typeof options !== 'object' || options === null)
    throw argumentError('speed', "'auto' or an object", options)
  const unknown = Object.keys(options).find(name => !known.includes(name as keyof SpeedOptions))
  if (unknown !== undefined) {
    const near = nearest(unknown, known, 1)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `speed: there is no option ${JSON.stringify(unknown)}; ` +
        (near.length > 0 ? `did you mean ${JSON.stringify(near[0])}?` : `there are: ${known.join(', ')}`),
    )
  }
  checkOneOf('precision', options.precision, ['float32', 'bfloat16'])
  checkOneOf('memoryFormat', options.memoryFormat, ['contiguous', 'channelsLast'])
  checkOneOf('prepareTeacher', options.prepareTeacher, [true, false])
  checkOneOf('prefetch', options.prefetch, [true, false])
  const { threads } = options
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 4096))
    throw argumentError('speed: threads', 'an integer from 1 to 4096', threads)
}

function checkOneOf(name: string, value: unknown, values: readonly unknown[]): void {
  if (value !== undefined && !values.includes(value))
    throw argumentError(`speed: ${name}`, values.map(each => JSON.stringify(each)).join(' or '), value)
}

/** `speed: bfloat16 (avx512_bf16 has it); channels-last (…)` */
export function describePlan({ choices }: Plan, teacher: string | undefined): string {
  const parts = choices.map(({ what, why }) => `${what} (${why})`)
  return `speed: ${[...parts, ...(teacher === undefined ? [] : [teacher])].join('; ')}`
}

/** Runs what computes features, outputs and losses in the plan's precision. */
export function inPrecision<T>({ precision, device }: Plan, body: () => T): T {
  return precision === 'bfloat16' ? autocast({ device, dtype: 'bfloat16' }, body) : body()
}

/** Threads and memory format as planned while `body` runs, and as they were afterwards. */
export async function withPlan<T>(plan: Plan, model: Module, body: () => Promise<T>): Promise<T> {
  if (!plan.isChosen) return body()
  const threads = native.numThreads()
  const wasContiguous = model.parameters().every(parameter => parameter.isContiguous())
  if (plan.threads !== null) native.setNumThreads(plan.threads)
  if (plan.memoryFormat === 'channelsLast') model.to({ memoryFormat: 'channelsLast' })
  try {
    return await body()
  } finally {
    native.setNumThreads(threads)
    if (wasContiguous) model.to({ memoryFormat: 'contiguous' })
  }
}
