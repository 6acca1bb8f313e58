/** What is in a TorchScript file, and with an input the shape at every tap. */
import { noGrad } from '../tensors/grad-mode.js'
import { AlambicError } from '../errors.js'
import { randn, zeros } from '../tensors/factories.js'
import { scope } from '../memory/memory.js'
import { native } from '../native/loader.js'
import { inMode } from '../nn/modes.js'
import { having, listOf, requireKind, text } from '../checks/options.js'
import { isMap, isPlainObject } from '../checks/realms.js'
import { Tensor } from '../tensors/tensor.js'
import type { DType } from '../tensors/types.js'
import type { ModuleSummary, ScriptMethod, ScriptModule } from './script-module.js'

/** A tensor that can be captured. */
export interface TapShape {
  /** The path for `captureFeatures`. */
  path: string
  dtype: DType
  shape: number[]
}

/** A module of a TorchScript model. */
export interface InspectedModule extends ModuleSummary {
  /** The type of what its forward gives; undefined for a module that is not called. */
  gives?: string
  /** With an input: the tensors of each call. Empty for a module that did not run. */
  taps?: TapShape[][]
}

/** What {@link inspectScript} returns. */
export interface ScriptSummary {
  format: 'TorchScript'
  type: string
  training: boolean
  parameters: number
  methods: ScriptMethod[]
  modules: InspectedModule[]
  /** With an input: the tensors of the output, their paths beginning with a bracket. */
  output?: TapShape[]
}

const scriptModule = having('a ScriptModule', 'calls', 'summary', 'addWholeTap')
const texts = listOf(text, 'an array of strings, one per argument')

/**
 * Lists the modules of a TorchScript model. With inputs it runs the model once, in eval mode, and lists shapes too.
 *
 * @param inputs one string per argument of forward: for a tensor its sizes such as `1,3,32,32`, with a dtype after a
 *   colon if it is not float32 (`1,16:int64`); for other arguments the value
 * @throws AlambicError `ERR_ARGUMENT`, `ERR_SCRIPT`
 */
export function inspectScript(model: ScriptModule, inputs: readonly string[] = []): ScriptSummary {
  requireKind('inspectScript: model', scriptModule, model)
  requireKind('inspectScript: inputs', texts, inputs)
  const calls = new Map(model.calls().map(call => [call.path, call]))
  const summary: ScriptSummary = {
    format: 'TorchScript',
    type: model.qualifiedName,
    training: model.training,
    parameters: model.parameterCount(),
    methods: model.methods(),
    modules: model.summary().map(module => ({ ...module, gives: calls.get(module.path)?.output })),
  }
  if (inputs.length === 0) return summary
  const { output, taps } = runOnce(model, inputs, [...calls.keys()])
  const modules = summary.modules.map(module =>
    calls.has(module.path) ? { ...module, taps: taps.get(module.path) ?? [] } : module,
  )
  return { ...summary, modules, output }
}

/** In eval mode, whatever the mode. */
function runOnce(
  model: ScriptModule,
  inputs: readonly string[],
  paths: string[],
): { output: TapShape[]; taps: Map<string, TapShape[][]> } {
  const taps = new Map<string, TapShape[][]>()
  const undo = paths.map(path =>
    model.addWholeTap('forward', path, {
      isActive: () => true,
      replaces: false,
      see(value) {
        taps.set(path, [...(taps.get(path) ?? []), shapesIn(value, path)])
        return value
      },
    }),
  )
  try {
    const output = inMode(model, false, () =>
      noGrad(() => scope(() => shapesIn(model.forward(...makeInputs(model, inputs)), ''))),
    )
    return { output, taps }
  } finally {
    for (const remove of undo) remove()
  }
}

function shapesIn(value: unknown, path: string): TapShape[] {
  if (value instanceof Tensor) return [{ path, dtype: value.dtype, shape: value.shape }]
  if (Array.isArray(value)) return value.flatMap((each, i) => shapesIn(each, `${path}[${i}]`))
  if (isMap(value))
    return Array.from(value).flatMap(([key, each]) => shapesIn(each, `${path}[${String(key)}]`))
  if (isPlainObject(value))
    return Object.entries(value).flatMap(([key, each]) => shapesIn(each, `${path}[${key}]`))
  return []
}

// ---- Inputs ----------------------------------------------------------------------------------------------------------------

function makeInputs(model: ScriptModule, texts: readonly string[]): unknown[] {
  const forward = model.methods().find(({ name }) => name === 'forward')
  if (!forward) throw new AlambicError('ERR_ARGUMENT', `input: ${model.typeName} has no forward`)
  const expected = forward.arguments
  if (texts.length > expected.length)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `input: forward takes ${expected.map(({ name, type }) => `${name}: ${type}`).join(', ') || 'nothing'}, got ${texts.length} inputs`,
    )
  return texts.map((text, i) => makeInput(text, expected[i]!))
}

function makeInput(text: string, { name, type }: { name: string; type: string }): unknown {
  const bare = /^Optional\[(.*)\]$/.exec(type)?.[1] ?? type
  switch (bare) {
    case 'Tensor':
      return makeTensor(text, name)
    case 'int':
    case 'float':
    case 'number':
      if (text.trim() !== '' && Number.isFinite(Number(text))) return Number(text)
      break
    case 'bool':
      if (text === 'true' || text === 'false') return text === 'true'
      break
    case 'str':
      return text
  }
  throw new AlambicError(
    'ERR_ARGUMENT',
    `input: ${name}: expected ${type}, got ${JSON.stringify(text)}; tensors, numbers, booleans and strings can be given`,
  )
}

/** Random for floating point, else zeros, which are also indices that exist. */
function makeTensor(text: string, name: string): Tensor {
  const [, sizes, dtype = 'float32'] = /^([\d,\s]*)(?::(\w+))?$/.exec(text) ?? []
  const shape = (sizes ?? 'none')
    .split(',')
    .filter(size => size.trim() !== '')
    .map(Number)
  if (!shape.every(Number.isSafeInteger) || !native.dtypes().includes(dtype))
    throw new AlambicError(
      'ERR_ARGUMENT',
      `input: ${name}: expected sizes such as 1,3,32,32, or with a dtype 1,16:int64; got ${JSON.stringify(text)}`,
    )
  const isFloat = dtype.startsWith('float') || dtype === 'bfloat16'
  return isFloat ? randn(shape).to(dtype) : zeros(shape, { dtype: dtype as DType })
}
