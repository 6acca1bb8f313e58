/** What makes training faster than the plain loop: what is given, what trials choose, and how it is put in force. */
import { autocast } from '../autograd/autocast.js'
import { AlambicError, argumentError } from '../errors.js'
import { bfloat16Unit, processorQuota } from '../system/machine.js'
import { nearest } from '../checks/names.js'
import { native } from '../native/loader.js'
import type { Module } from '../nn/module.js'
import type { Device } from '../tensors/types.js'

/** In what convolutions and matrix products are computed. */
export type Precision = 'float32' | 'bfloat16' | 'float16'

/** Settings of your own; those left out are chosen as by `'auto'`. */
export interface SpeedOptions {
  /**
   * `'bfloat16'`: convolutions and matrix products of both models compute in bfloat16, parameters and losses stay
   * float32, see {@link autocast}. Tried if the processor or GPU has instructions for it. `'float16'`: likewise, with a
   * scaled loss; never tried.
   */
  precision?: Precision
  /**
   * Memory format of the weights, and so of the features, while training. `'channelsLast'` is tried if there are
   * convolutions.
   */
  memoryFormat?: 'contiguous' | 'channelsLast'
  /** Whether the teacher computes with prepared copies of its weights, batch norms folded into convolutions. */
  prepareTeacher?: boolean
  /** Number of libtorch's threads. Fewer than at present are tried; never more than the container may use. */
  threads?: number
  /** Whether the next batch is loaded while a step runs. Default: true. */
  prefetch?: boolean
}

/** `'exact'` is `'auto'` without what changes results by more than rounding: without bfloat16. */
export type Speed = 'auto' | 'exact' | SpeedOptions

const known = ['precision', 'memoryFormat', 'prepareTeacher', 'threads', 'prefetch'] as const

/** How the steps of a training run. */
export interface Way {
  readonly precision: Precision
  readonly memoryFormat: 'contiguous' | 'channelsLast'
  readonly prepareTeacher: boolean
  readonly threads: number
  readonly compile: boolean
}

/** A choice and why it was made. */
export interface Choice {
  what: string
  why: string
}

/** What the log says of each part of a way. */
export type Choices = { -readonly [Part in keyof Way]?: Choice }

/** How one training runs: made by {@link chooseSpeed}, and completed by trials with the first batch. */
export interface Plan {
  /** Whether `speed` was given; without it models and threads are left alone. */
  readonly isChosen: boolean
  readonly prefetch: boolean
  readonly device: Device
  /** In force. Before trials, and where there are none, the way of the plain loop but for what was given. */
  way: Way
  /** What trials are to choose. */
  readonly open: ReadonlySet<keyof Way>
  choices: Choices
  /** How the trials went, for the log. */
  trials?: string
}

/**
 * @param model what is trained
 * @param compile the option of that name, which trials leave alone where it is given
 * @param precision likewise
 * @throws AlambicError `ERR_ARGUMENT`, `ERR_DEVICE`
 */
export function chooseSpeed(
  speed: Speed | undefined,
  model: Module,
  device: Device,
  compile: boolean | undefined,
  precision?: Precision,
): Plan {
  if (speed === undefined) return asItIs(device, compile, requirePrecision(precision, device))
  const given = { ...optionsOf(speed), ...(precision !== undefined && { precision }) }
  requirePrecision(given.precision, device)
  const open = new Set<keyof Way>()
  const choices: Choices = {}
  const decide = <Part extends keyof Way>(part: Part, value: Way[Part], choice?: Choice): Way[Part] => {
    const byHand = (given as Partial<Way>)[part]
    if (byHand !== undefined) choices[part] = { what: `${part} ${String(byHand)}`, why: 'as given' }
    else if (choice !== undefined) choices[part] = choice
    else open.add(part)
    return byHand ?? value
  }
  const [threads, whyThreads] = mostThreads()
  const format = formatOf(model)
  const way = {
    precision: decide('precision', 'float32', againstTryingBFloat16(speed, device)),
    memoryFormat: decide('memoryFormat', format.now, format.why),
    prepareTeacher: decide('prepareTeacher', true),
    threads: decide('threads', threads, device === 'cpu' && threads > 1 ? undefined : whyThreads),
    compile: compile ?? false,
  }
  if (typeof speed === 'string' && compile === undefined) open.add('compile')
  if (open.has('threads')) choices.threads = whyThreads
  return { isChosen: true, device, way, prefetch: given.prefetch ?? true, open, choices }
}

/** libtorch has no float16 for what computes on the CPU. */
function requirePrecision(precision: Precision | undefined, device: Device): Precision | undefined {
  if (precision !== 'float16' || device !== 'cpu') return precision
  throw new AlambicError(
    'ERR_DEVICE',
    "precision: expected 'bfloat16' or 'float32' on the CPU, got 'float16', which is for GPUs",
  )
}

function asItIs(device: Device, compile = false, precision: Precision = 'float32'): Plan {
  const way: Way = {
    precision,
    memoryFormat: 'contiguous',
    prepareTeacher: false,
    threads: native.numThreads(),
    compile,
  }
  return { isChosen: false, device, way, prefetch: false, open: new Set(), choices: {} }
}

/** For a training that goes on: nothing is tried again. */
export function asBefore(plan: Plan, way: Way): Plan {
  const choices: Choices = { precision: { what: way.precision, why: 'as before' } }
  return { ...plan, way, open: new Set(), choices }
}

/** Why bfloat16 is not tried; undefined where it is. */
function againstTryingBFloat16(speed: Speed, device: Device): Choice | undefined {
  if (speed === 'exact') return { what: 'float32', why: 'exact' }
  if (bfloat16Unit(device) !== null) return undefined
  return { what: 'float32', why: `nothing known on ${device} is faster in bfloat16` }
}

/** The format that a model has; and why no other is tried, where it is so. */
function formatOf(model: Module): { now: Way['memoryFormat']; why?: Choice } {
  const images = model.parameters().filter(parameter => parameter.ndim === 4)
  if (images.length === 0) return { now: 'contiguous', why: { what: '', why: '' } }
  if (images.every(parameter => parameter.isContiguous())) return { now: 'contiguous' }
  return { now: 'channelsLast', why: { what: 'channels-last', why: 'as the model is' } }
}

function mostThreads(): [number, Choice] {
  const current = native.numThreads()
  const quota = processorQuota()
  const threads = quota === null ? current : Math.min(current, Math.max(1, Math.round(quota)))
  const why = threads < current ? `the container may use ${quota!} processors` : 'as set'
  return [threads, { what: countThreads(threads), why }]
}

/** `1 thread`, `2 threads` */
export function countThreads(count: number): string {
  return `${count} thread${count === 1 ? '' : 's'}`
}

function optionsOf(speed: Speed): SpeedOptions {
  if (speed === 'auto' || speed === 'exact') return {}
  if (typeof speed !== 'object' || speed === null)
    throw argumentError('speed', "'auto', 'exact' or an object", speed)
  const unknown = Object.keys(speed).find(name => !known.includes(name as keyof SpeedOptions))
  if (unknown !== undefined) {
    const near = nearest(unknown, known, 1)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `speed: there is no option ${JSON.stringify(unknown)}; ` +
        (near.length > 0 ? `did you mean ${JSON.stringify(near[0])}?` : `there are: ${known.join(', ')}`),
    )
  }
  checkOneOf('precision', speed.precision, ['float32', 'bfloat16', 'float16'])
  checkOneOf('memoryFormat', speed.memoryFormat, ['contiguous', 'channelsLast'])
  checkOneOf('prepareTeacher', speed.prepareTeacher, [true, false])
  checkOneOf('prefetch', speed.prefetch, [true, false])
  const { threads } = speed
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 4096))
    throw argumentError('speed: threads', 'an integer from 1 to 4096', threads)
  return speed
}

function checkOneOf(name: string, value: unknown, values: readonly unknown[]): void {
  if (value !== undefined && !values.includes(value))
    throw argumentError(`speed: ${name}`, values.map(each => JSON.stringify(each)).join(' or '), value)
}

/** `speed: bfloat16 (98.2 ms a step, float32 141); channels-last (…); …` */
export function describePlan({ choices, trials }: Plan, teachers: readonly string[]): string {
  const text = (choice: Choice | undefined) =>
    choice === undefined || choice.what === '' ? [] : [`${choice.what} (${choice.why})`]
  const { precision, memoryFormat, threads, prepareTeacher, compile } = choices
  const parts = [
    ...text(precision),
    ...text(memoryFormat),
    ...text(threads),
    ...teachers.map(teacher => withFigures(teacher, prepareTeacher)),
    ...text(compile),
    ...(trials === undefined ? [] : [trials]),
  ]
  return `speed: ${parts.join('; ')}`
}

/** What was done to the teacher, and what it gained. */
function withFigures(teacher: string, choice: Choice | undefined): string {
  if (choice === undefined || choice.what !== '') return teacher
  return teacher.endsWith(')') ? `${teacher.slice(0, -1)}; ${choice.why})` : `${teacher} (${choice.why})`
}

/** Runs what computes features, outputs and losses in the plan's precision. */
export function inPrecision<T>({ way, device }: Plan, body: () => T): T {
  return way.precision === 'float32' ? body() : autocast({ device, dtype: way.precision }, body)
}

/** Makes `way` the plan's: threads and the model's memory format are then so. */
export function putInForce(plan: Plan, model: Module, way: Way): void {
  if (native.numThreads() !== way.threads) native.setNumThreads(way.threads)
  if (plan.way.memoryFormat !== way.memoryFormat) model.to({ memoryFormat: way.memoryFormat })
  plan.way = way
}

/** Threads and memory format as planned while `body` runs, and as they were afterwards. */
export async function withPlan<T>(plan: Plan, model: Module, body: () => Promise<T>): Promise<T> {
  if (!plan.isChosen) return body()
  const threads = native.numThreads()
  const wasContiguous = model.parameters().every(parameter => parameter.isContiguous())
  native.setNumThreads(plan.way.threads)
  if (plan.way.memoryFormat === 'channelsLast') model.to({ memoryFormat: 'channelsLast' })
  try {
    return await body()
  } finally {
    native.setNumThreads(threads)
    if (wasContiguous) model.to({ memoryFormat: 'contiguous' })
  }
}
