/** TorchScript files of TypeScript modules. */
import { statSync } from 'node:fs'
import { dirname } from 'node:path'
import { noGrad } from '../tensors/grad-mode.js'
import { asObserved } from '../features/capture.js'
import { AlambicError, argumentError, show } from '../errors.js'
import { makeAtomically } from '../io/atomic-file.js'
import { requireScriptPath } from '../io/other-kinds.js'
import { scope } from '../memory/memory.js'
import type { Handle, ModuleDescription, NativeTracedModule, TensorStructure } from '../native/contract.js'
import { native } from '../native/loader.js'
import { inMode } from '../nn/modes.js'
import { checkFields, type Module } from '../nn/module.js'
import {
  boolean,
  callback,
  listOf,
  orNull,
  readOptions,
  requireKind,
  tensor,
  type Kinds,
} from '../checks/options.js'
import { getRngState, setRngState } from '../random/index.js'
import { isError, isPlainObject } from '../checks/realms.js'
import { Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import { describeRead, ReadLog } from '../trace/reads.js'
import { withScopes } from '../trace/scopes.js'

export interface ExportOptions {
  /**
   * Prepares for deployment: parameters become constants and batch norms are folded into convolutions. The file has no
   * state dict then and cannot be trained further. Default: false.
   */
  freeze?: boolean
  /**
   * Exports the module as it behaves in training: dropout is active, batch norms use and update batch statistics.
   * Default: false.
   */
  training?: boolean
  /**
   * Called with a line for each decision that the export fixed; may be asynchronous. Default: `console.warn`; null for
   * none.
   */
  warn?: ((line: string) => unknown) | null
}

/** What {@link exportTorchScript} returns. */
export interface ExportResult {
  /** The lines that `warn` was called with. */
  warnings: string[]
}

const exportOptions: Kinds<ExportOptions> = { freeze: boolean, training: boolean, warn: orNull(callback) }

/** What a module may return: a tensor, or arrays and objects of them. */
type Output = Tensor | readonly Output[] | { readonly [key: string]: Tensor }

/**
 * Writes a module as TorchScript: Python's `torch.jit.load` and libtorch run it without this package. The file has the
 * module's parameters, buffers and layers under their names, so its `state_dict()` has the keys of
 * {@link Module.stateDict}. The forward is run once on the examples and its operators are recorded; arrays become
 * tuples, objects dicts.
 *
 * The file has the weights at the time of the call. Before the file gets its final name it is loaded again, and must
 * give the module's output. Decisions that the forward made by values (`item()`, `tolist()`) or sizes are fixed in the
 * file: for values there is always a warning, for sizes if the file does not give the module's output for twice the
 * examples.
 *
 * @param exampleInputs the tensors with which forward is called
 * @throws AlambicError `ERR_ARGUMENT` for inputs or outputs that are not tensors, and for a path with the ending of
 *   another kind of file, such as `.onnx`; `ERR_NOT_IMPLEMENTED` for a forward that TorchScript cannot express;
 *   `ERR_EXPORT` for a field with a name that TorchScript does not allow, and when the saved file cannot be read or
 *   gives another output than the module; `ERR_FILE_NOT_FOUND` for a folder that does not exist
 * @example await exportTorchScript(student, [x], 'student.pt')
 */
export async function exportTorchScript(
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- any module can be exported
  module: Module<any[], any>,
  exampleInputs: readonly Tensor[],
  path: string,
  options: ExportOptions = {},
): Promise<ExportResult> {
  const {
    freeze = false,
    training = false,
    ...others
  } = readOptions('exportTorchScript', options, exportOptions)
  const warn: ExportOptions['warn'] = others.warn === undefined ? console.warn : others.warn
  checkInputs(exampleInputs)
  checkTarget(path, { freeze, training })
  checkFields(module)
  checkNames(module, freeze)
  const warnings: string[] = []
  await makeAtomically(path, temporary => {
    inMode(module, training, () => {
      const { traced, reads } = unchanged(module, () =>
        // A frozen file has no layers left whose outputs could be captured.
        asObserved(freeze ? [] : module.modules(), () => trace(module, exampleInputs)),
      )
      if (freeze) traced.freeze()
      traced.save(temporary)
      unchanged(module, () => verify(module, exampleInputs, temporary, freeze))
      warnings.push(
        ...reads.values.map(read => `the file always takes the value that ${describeRead(read)} had`),
      )
      if (reads.shapes && !unchanged(module, () => worksForTwice(module, exampleInputs, temporary)))
        warnings.push(
          `the file is for inputs of the examples' sizes only (${exampleInputs.map(describe).join(', ')}): ` +
            'the forward reads sizes, and they are fixed',
        )
    })
  })
  for (const line of warnings) await warn?.(`exportTorchScript: ${line}`)
  return { warnings }
}

function checkInputs(inputs: readonly Tensor[]): void {
  requireKind('exampleInputs', listOf(tensor, 'an array of tensors'), inputs)
  if (inputs.length === 0) throw argumentError('exampleInputs', 'an array of tensors', inputs)
}

/** What can be said without the module. @internal */
export function checkTarget(
  path: string,
  { freeze = false, training = false }: { freeze?: boolean; training?: boolean },
): void {
  if (freeze && training)
    throw new AlambicError(
      'ERR_ARGUMENT',
      'freeze: expected training false: what is frozen cannot be trained',
    )
  if (typeof path !== 'string' || path === '') throw argumentError('path', 'a file name', path)
  requireScriptPath('exportTorchScript', path)
  const directory = dirname(path)
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new AlambicError('ERR_FILE_NOT_FOUND', `exportTorchScript: there is no folder ${directory}`)
}

// ---- Names -----------------------------------------------------------------------------------------------------------

/** Words of TorchScript's grammar (`torch/csrc/jit/frontend/lexer.h`), which a file cannot have as names. */
const WORDS = new Set(
  (
    'False None True and as assert break class continue def del elif else for global if import in is not or pass ' +
    'raise return while with'
  ).split(' '),
)

/** What classes in a file say about their fields. */
const CLASS_FIELDS = new Set(['__annotations__', '__parameters__', '__buffers__'])

/**
 * Names that the grammar does not take matter only where the file has them: what is frozen has none.
 *
 * @throws AlambicError `ERR_EXPORT` for the first field with a name that TorchScript cannot have
 */
function checkNames(root: Module, frozen: boolean): void {
  for (const [path, module] of root.namedModules()) {
    const { parameters, buffers } = module.ownTensors()
    const fields = [
      ...parameters.map(({ name }) => [name, 'parameter'] as const),
      ...buffers.map(({ name }) => [name, 'buffer'] as const),
      ...module.namedChildren().map(([name]) => [name, 'layer'] as const),
    ]
    for (const [name, kind] of fields) {
      const problem = problemInModules(name) ?? (frozen ? undefined : problemInFiles(name, kind))
      if (problem === undefined) continue
      const where = path === '' ? '' : ` at ${show(path)}`
      throw new AlambicError(
        'ERR_EXPORT',
        `exportTorchScript: the ${kind} ${show(name)} of ${module.constructor.name}${where}: expected a name that ` +
          `TorchScript can have, got ${problem}; give the field another name`,
      )
    }
  }
}

function problemInModules(name: string): string | undefined {
  if (name === '') return 'an empty one'
  if (name === 'forward' || name === 'training') return 'one that its modules have themselves'
  return name.includes('.') ? 'one with "."' : undefined
}

function problemInFiles(name: string, kind: 'parameter' | 'buffer' | 'layer'): string | undefined {
  if (WORDS.has(name)) return "a word of TorchScript's grammar"
  if (CLASS_FIELDS.has(name)) return 'one that its classes have themselves'
  if (name === 'torch' && kind !== 'layer') return 'that of the namespace of its operators'
  // eslint-disable-next-line no-control-regex -- these are what is asked for
  const [character] = /[^\x00-\x7f]|["\\\n\r]/u.exec(name) ?? []
  return character === undefined ? undefined : `one with ${show(character)}`
}

// ---- Tracing ---------------------------------------------------------------------------------------------------------

function trace(module: Module, inputs: readonly Tensor[]): { traced: NativeTracedModule; reads: ReadLog } {
  const layers: string[] = []
  const reads = new ReadLog(() => layers.at(-1) ?? '')
  const listener = {
    enter(path: string) {
      layers.push(path)
      native.enterScope(path)
    },
    leave() {
      layers.pop()
      native.leaveScope()
    },
  }
  const forward = () => toStructure('output', module.forward(...inputs) as Output)
  const handles = inputs.map(({ handle }) => handle)
  const traced = withScopes(
    module,
    listener,
    () => new native.TracedModule(describeModules(module), handles, forward, reads.note),
  )
  return { traced, reads }
}

/** Every module once, the root first: shared ones stay shared. */
function describeModules(root: Module): ModuleDescription[] {
  const modules = root.modules()
  const numbers = new Map(modules.map((module, number) => [module, number]))
  const withHandles = <T extends { tensor: Tensor }>(list: T[]) =>
    list.map(each => ({ ...each, tensor: each.tensor.handle }))
  return modules.map(module => {
    const { parameters, buffers } = module.ownTensors()
    return {
      // Short names, as minifiers give them, may be words.
      className: WORDS.has(module.constructor.name) ? `${module.constructor.name}_` : module.constructor.name,
      training: module.training,
      parameters: withHandles(parameters),
      buffers: withHandles(buffers),
      children: module.namedChildren().map(([name, child]) => ({ name, module: numbers.get(child)! })),
    }
  })
}

function toStructure(name: string, value: Output): TensorStructure {
  if (value instanceof Tensor) return value.handle
  if (Array.isArray(value)) return (value as Output[]).map((each, i) => toStructure(`${name}[${i}]`, each))
  if (!isPlainObject(value) || Object.keys(value).length === 0)
    throw argumentError(`exportTorchScript: ${name}`, 'a tensor, or arrays and objects of tensors', value)
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => {
      if (each instanceof Tensor) return [key, each.handle]
      throw argumentError(`exportTorchScript: ${name}.${key}`, 'a tensor', each)
    }),
  )
}

// ---- Verifying -------------------------------------------------------------------------------------------------------

/** Loads the file and compares. Freezing computes weights anew, which rounds otherwise. */
function verify(module: Module, inputs: readonly Tensor[], path: string, frozen: boolean): void {
  const difference = compareOutputs(module, inputs, path, frozen)
  if (difference === undefined) return
  throw new AlambicError(
    'ERR_EXPORT',
    `exportTorchScript: the saved file does not give the module's output: ${difference}; the forward may depend on ` +
      'something that changes from call to call',
  )
}

function worksForTwice(module: Module, inputs: readonly Tensor[], path: string): boolean {
  const twice = inputs.map(each => (each.ndim === 0 ? each : torch.cat([each, each])))
  try {
    return compareOutputs(module, twice, path, true) === undefined
  } catch {
    return false
  }
}

/** What differs, or undefined. Both run with the same random numbers. */
function compareOutputs(
  module: Module,
  inputs: readonly Tensor[],
  path: string,
  roughly: boolean,
): string | undefined {
  const restore = rememberRandomState(module)
  const expected = flatten('output', toStructure('output', module.forward(...inputs) as Output))
  restore()
  const handles = inputs.map(({ handle }) => handle)
  const actual = flatten('output', runSaved(path, handles), true)
  if (expected.length !== actual.length) return `${expected.length} tensors became ${actual.length}`
  for (const [i, [name, tensor]] of expected.entries()) {
    const difference = compareTensors(tensor, actual[i]![1], roughly)
    if (difference !== undefined) return `${name}: ${difference}`
  }
  return undefined
}

/** What libtorch cannot read or run again is no file for anyone. */
function runSaved(path: string, inputs: Handle[]): TensorStructure {
  try {
    return native.runSavedModule(path, inputs)
  } catch (error) {
    if (!isError(error)) throw error
    throw new AlambicError(
      'ERR_EXPORT',
      `exportTorchScript: libtorch cannot run the file that it saved: ${error.message.trim()}`,
      { cause: error },
    )
  }
}

function compareTensors(expected: Tensor, actual: Tensor, roughly: boolean): string | undefined {
  if (describe(expected) !== describe(actual)) return `${describe(expected)} became ${describe(actual)}`
  if (torch.equal(expected, actual)) return undefined
  const tolerance =
    roughly || expected.numel() === 0 ? { rtol: 1e-3, atol: 1e-4 } : { rtol: 1e-5, atol: 1e-6 }
  if (torch.allclose(expected, actual, { ...tolerance, equalNan: true })) return undefined
  const largest = expected.to('float64').sub(actual.to('float64')).abs().max().item()
  return `values of ${describe(expected)} differ by up to ${show(largest)}`
}

/** Tensors by where they stand in the output, keys in order. `owned`: the handles are ours to release. */
function flatten(name: string, structure: TensorStructure, owned = false): [string, Tensor][] {
  if (typeof structure === 'number') return [[name, new Tensor(owned ? structure : native.alias(structure))]]
  if (Array.isArray(structure))
    return (structure as TensorStructure[]).flatMap((each, i) => flatten(`${name}[${i}]`, each, owned))
  return Object.entries(structure as Record<string, number>)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([key, each]) => flatten(`${name}.${key}`, each, owned))
}

function describe(tensor: Tensor): string {
  return `${tensor.dtype} (${tensor.shape.join(', ')})`
}

// ---- Leaving everything as it was ------------------------------------------------------------------------------------

/** Runs forwards that may count batches and draw random numbers, and takes that back. */
function unchanged<T>(module: Module, body: () => T): T {
  return noGrad(() =>
    scope(() => {
      const buffers = module.buffers().map(buffer => [buffer, buffer.clone()] as const)
      const restore = rememberRandomState(module)
      try {
        return body()
      } finally {
        for (const [buffer, before] of buffers) buffer.copy_(before)
        restore()
      }
    }),
  )
}

/** Of the CPU and of the devices that the module is on. Returns what comes back to it. */
function rememberRandomState(module: Module): () => void {
  const devices = new Set(['cpu', ...module.parameters().map(({ device }) => device)])
  const states = Array.from(devices, device => [device, getRngState(device)] as const)
  return () => {
    for (const [device, state] of states) setRngState(state, device)
  }
}
