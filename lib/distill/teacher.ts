/** A teacher made fast: it only infers, always in eval mode, and its weights stay as they are. */
import { noGrad } from '../tensors/grad-mode.js'
import { asObserved, isObserved } from '../features/capture.js'
import { scope } from '../memory/memory.js'
import { aroundForward } from '../nn/around-forward.js'
import { BatchNorm } from '../nn/normalization.js'
import { Convolution, ConvTranspose2d } from '../nn/conv.js'
import { Linear } from '../nn/linear.js'
import type { Module } from '../nn/module.js'
import { Parameter } from '../nn/parameter.js'
import type { Tensor } from '../tensors/tensor.js'
import { inPrecision, type Plan } from './speed.js'

/** A convolution whose output goes through a batch norm, and nowhere else. */
interface Pair {
  convolution: Convolution
  norm: BatchNorm
}

interface Call {
  inputs: unknown[]
  output: unknown
}

/** The calls of each layer in one forward. */
type Calls = Map<Module, Call[]>

/** What a layer computes with instead of its own parameters. */
interface Substitute {
  layer: Convolution | Linear
  weight: Parameter
  bias: Parameter | null
}

/** What trials and the log know of a teacher. */
export type TeacherInTraining = Pick<PreparedTeacher, 'adopt' | 'settle' | 'description'>

/** How far, relative to the largest value, folding may move what the teacher gives: rounding in float32 does less. */
const tolerance = 1e-3

/**
 * Lets a teacher compute with prepared copies of its weights: batch norms folded into the convolutions before them,
 * channels-last, in the precision of the plan. The teacher itself is changed only while {@link run} runs, so that others
 * may use it between two steps.
 */
export class PreparedTeacher {
  /** What {@link run} computes with. */
  private substitutes: Substitute[] = []
  private folded: BatchNorm[] = []
  /** In the teacher's own dtype; what other copies are made of. */
  private original: Substitute[] = []
  /** The precision and memory format of the copies. */
  private form = ''
  private whatWasDone = ''

  constructor(
    private readonly teacher: Module,
    private readonly plan: Plan,
  ) {}

  /** What was done, for the log. */
  get description(): string {
    return this.plan.way.prepareTeacher ? this.whatWasDone : 'the teacher as it is'
  }

  /**
   * Prepares with the first batch: which batch norm follows which convolution is seen from a forward, and the result is
   * held against the teacher's own. A convolution that a probe observes keeps its batch norm.
   *
   * @param forward gives all that the training takes from the teacher
   */
  prepare(forward: () => Tensor[]): void {
    const { open, way } = this.plan
    if (!way.prepareTeacher) return
    noGrad(() =>
      scope(() => {
        const { pairs, outputs } = this.observe(forward)
        const norms = this.teacher.modules().filter(module => module instanceof BatchNorm).length
        this.use(pairs)
        const difference = pairs.length === 0 ? 0 : largestDifference(this.swapped(forward), outputs)
        if (!(difference <= tolerance)) this.use([])
        this.whatWasDone = describe(pairs.length, norms, difference)
      }),
    )
    this.original = this.substitutes
    this.substitutes = []
    this.adopt()
    if (open.size === 0) this.settle()
  }

  /** Computes from now on in the precision and memory format that the plan has now. */
  adopt(): void {
    const { precision, memoryFormat } = this.plan.way
    const form = `${precision} ${memoryFormat}`
    if (form === this.form) return
    const before = this.substitutes
    this.substitutes = this.makeCopies()
    this.form = form
    release(before)
  }

  /** The plan will not change any more: releases what it does without. */
  settle(): void {
    release(this.original)
    this.original = []
    if (this.plan.way.prepareTeacher) return
    release(this.substitutes)
    this.substitutes = []
  }

  /** Runs `body`, which calls the teacher, with what was prepared. */
  run<T>(body: () => T): T {
    return inPrecision(this.plan, () => (this.plan.way.prepareTeacher ? this.swapped(body) : body()))
  }

  /** Releases the copies. */
  dispose(): void {
    this.settle()
    release(this.substitutes)
    this.substitutes = []
    this.folded = []
  }

  // ---- Finding what belongs together ---------------------------------------------------------------------------------

  private observe(forward: () => Tensor[]): { pairs: Pair[]; outputs: Tensor[] } {
    const calls: Calls = new Map()
    // Of containers the input goes on to those inside; what else they do with it, the comparison shows.
    const leaves = this.teacher.modules().filter(module => module.children().length === 0)
    const observed = new Set(leaves.filter(isObserved))
    const undo = leaves.map(module => {
      const list: Call[] = []
      calls.set(module, list)
      return aroundForward(module, (forward, inputs) => {
        const output = forward(...inputs)
        list.push({ inputs, output })
        return output
      })
    })
    try {
      const outputs = asObserved(leaves, forward) // no layer does another's work as well
      return { pairs: pairsAmong(calls, observed), outputs }
    } finally {
      for (const each of undo.reverse()) each()
    }
  }

  // ---- Copies ----------------------------------------------------------------------------------------------------------

  private use(pairs: readonly Pair[]): void {
    this.dispose()
    this.folded = pairs.map(pair => pair.norm)
    const normOf = new Map(pairs.map(pair => [pair.convolution, pair.norm]))
    for (const layer of this.teacher.modules()) {
      if (!(layer instanceof Convolution) && !(layer instanceof Linear)) continue
      const norm = layer instanceof Convolution ? normOf.get(layer) : undefined
      const { weight, bias } = norm === undefined ? layer : fold(layer as Convolution, norm)
      this.substitutes.push({ layer, weight: constant(weight), bias: bias && constant(bias) })
    }
  }

  /** In the plan's precision and memory format; they are compared with the teacher's own weights before. */
  private makeCopies(): Substitute[] {
    const { precision, memoryFormat } = this.plan.way
    const finished = (parameter: Parameter) => {
      const ordered = parameter.ndim === 4 ? parameter.contiguous({ memoryFormat }) : parameter.contiguous()
      const isNarrowed = precision !== 'float32' && ordered.dtype === 'float32'
      return constant(isNarrowed ? ordered.to(precision) : ordered)
    }
    return noGrad(() =>
      scope(() =>
        this.original.map(({ layer, weight, bias }) => ({
          layer,
          weight: finished(weight),
          bias: bias && finished(bias),
        })),
      ),
    )
  }

  private swapped<T>(body: () => T): T {
    const own = this.substitutes.map(({ layer }) => ({ layer, weight: layer.weight, bias: layer.bias }))
    const put = (all: readonly Substitute[], isFolded: boolean) => {
      for (const { layer, weight, bias } of all) Object.assign(layer, { weight, bias })
      for (const norm of this.folded) norm.isFolded = isFolded
    }
    put(this.substitutes, true)
    try {
      return body()
    } finally {
      put(own, false)
    }
  }
}

/** A convolution that is observed keeps its batch norm. */
function pairsAmong(calls: Calls, observed: ReadonlySet<Module>): Pair[] {
  const takers = new Map<unknown, Module[]>()
  for (const [module, list] of calls)
    for (const { inputs } of list)
      for (const input of inputs) takers.set(input, [...(takers.get(input) ?? []), module])
  const pairs: Pair[] = []
  for (const [module, list] of calls) {
    if (!isFoldable(module) || list.length !== 1 || observed.has(module)) continue
    const [taker, ...others] = takers.get(list[0]!.output) ?? []
    if (!(taker instanceof BatchNorm) || others.length > 0 || calls.get(taker)!.length !== 1) continue
    if (taker.trackRunningStats) pairs.push({ convolution: module, norm: taker })
  }
  return pairs
}

function isFoldable(module: Module): module is Convolution {
  return module instanceof Convolution && !(module instanceof ConvTranspose2d) // whose first dimension is the input's
}

/** γ (W x + b − μ) / √(σ² + ε) + β as one convolution, computed in float64. */
function fold(convolution: Convolution, norm: BatchNorm): { weight: Tensor; bias: Tensor } {
  const { dtype } = convolution.weight
  const wide = (tensor: Tensor) => tensor.detach().to('float64')
  const inverse = wide(norm.running_var!).add(norm.eps).rsqrt()
  const scale = norm.weight === null ? inverse : inverse.mul(wide(norm.weight))
  const shifted = wide(norm.running_mean!).neg()
  const centred = convolution.bias === null ? shifted : shifted.add(wide(convolution.bias))
  const bias = norm.bias === null ? centred.mul(scale) : centred.mul(scale).add(wide(norm.bias))
  const perChannel = [-1, ...convolution.weight.shape.slice(1).map(() => 1)]
  const weight = wide(convolution.weight).mul(scale.reshape(perChannel))
  return { weight: weight.to(dtype), bias: bias.to(dtype) }
}

/** Like all parameters, it outlives the scope around. */
function constant(data: Tensor): Parameter {
  return new Parameter(data, { requiresGrad: false })
}

function release(substitutes: readonly Substitute[]): void {
  for (const { weight, bias } of substitutes) {
    weight.dispose()
    bias?.dispose()
  }
}

function largestDifference(actual: readonly Tensor[], expected: readonly Tensor[]): number {
  return Math.max(
    ...expected.map((tensor, i) => {
      const scale = Math.max(tensor.abs().max().item(), Number.MIN_VALUE)
      return actual[i]!.sub(tensor).abs().max().item() / scale
    }),
  )
}

function describe(pairs: number, norms: number, difference: number): string {
  if (norms === 0) return 'teacher frozen'
  if (!(difference <= tolerance))
    return `teacher's batch norms left alone (folding would change what it gives by ${difference.toPrecision(2)})`
  return `${pairs} of the teacher's ${norms} batch norms folded (exact to ${difference.toExponential(0)})`
}
