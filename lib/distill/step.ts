/** One step of training: loss, gradients, update. */
import type { Batch } from '../data/dataset.js'
import { AlambicError } from '../errors.js'
import { DividedScope, scope } from '../memory/memory.js'
import { clipGradNorm_, type Optimizer } from '../optim/index.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Accumulation } from './accumulation.js'
import type { LossParts } from './fit.js'
import type { LossScale } from './loss-scale.js'
import type { Turns } from './turns.js'

/** What a step works with. */
export interface StepContext {
  loss: (batch: Batch) => LossParts
  /** What the optimizer trains. */
  parameters: Tensor[]
  optimizer: Optimizer
  clipGradNorm: number | undefined
  /** Where several batches make a step. */
  accumulation?: Accumulation | undefined
  /** Where gradients are computed in float16. */
  lossScale?: LossScale | undefined
}

/** What is computed in several parts, one after the other. */
export type InParts<T> = Generator<undefined, T, undefined>

/** All parts at once. */
export function completed<T>(parts: InParts<T>): T {
  for (;;) {
    const next = parts.next()
    if (next.done) return next.value
  }
}

/** For steps between whose parts the event loop turns. */
export interface DividedContext extends StepContext {
  /** {@link loss} in parts. */
  lossInParts: (batch: Batch) => InParts<LossParts>
}

/** Numbers by the names of the loss's parts, `total` among them. */
export type LossValues = Record<string, number>

/** @throws AlambicError `ERR_NAN_LOSS` before any weight has changed: for the loss, and for a norm that is clipped */
export function trainStep(context: StepContext, batch: Batch, where: string): LossValues {
  context.optimizer.zeroGrad()
  // The backward frees what it no longer needs, which a scope around it would hold.
  const parts = scope(() => context.loss(batch))
  return learnFrom(context, parts, where, batch.labels.size(0))
}

/**
 * {@link trainStep} in parts, between which the event loop turns where they are long: the teacher's forward, the
 * student's with the loss, and the backward with the update. From the backward on nobody else runs: gradients of others
 * do not mix with those of the step, and weights are never seen half updated.
 *
 * @param takeBatch called first, in the step's scope
 * @throws AlambicError as {@link trainStep}; `ERR_AUTOGRAD` where others changed weights during the step
 */
export async function trainInParts(
  context: DividedContext,
  takeBatch: () => Batch,
  where: string,
  turns: Turns,
): Promise<LossValues> {
  const whole = new DividedScope()
  try {
    const batch = whole.run(takeBatch)
    context.optimizer.zeroGrad()
    const [parts, isAlone] = await computeInParts(context.lossInParts(batch), whole, turns)
    if (!isAlone) context.optimizer.zeroGrad()
    return whole.run(() => learnFrom(context, parts, where, batch.labels.size(0)))
  } finally {
    whole.close()
  }
}

/** Returns as well whether nobody else ran meanwhile. The backward frees what a scope around it would hold. */
async function computeInParts<T>(
  parts: InParts<T>,
  whole: DividedScope,
  turns: Turns,
): Promise<[result: T, isAlone: boolean]> {
  const inner = new DividedScope()
  let result: T | undefined
  let isAlone = true
  try {
    for (;;) {
      const next = inner.run(() => parts.next())
      if (next.done) {
        result = next.value
        break
      }
      if (await turns.between()) isAlone = false
    }
  } finally {
    whole.run(() => {
      inner.close(result)
    })
  }
  if (await turns.between()) isAlone = false
  return [result, isAlone]
}

/** Gradients and update of a loss that was computed; with accumulation the update comes when a step is complete. */
export function learnFrom(
  context: StepContext,
  parts: LossParts,
  where: string,
  samples: number,
): LossValues {
  const values = readParts(parts)
  refuseNonFinite(values, where, context.optimizer)
  const { parameters, lossScale } = context
  if (lossScale === undefined) parts.total.backward()
  else lossScale.backward(parts.total, parameters)
  if (context.accumulation === undefined) update(context, values, where)
  else context.accumulation.add(samples, values)
  return values
}

/** @throws AlambicError `ERR_NAN_LOSS` for a norm that is clipped, before any weight has changed */
export function update(
  { parameters, optimizer, clipGradNorm, lossScale }: StepContext,
  values: LossValues,
  where: string,
): void {
  if (lossScale?.endsStep() === false) return
  if (clipGradNorm !== undefined) {
    const norm = clipGradNorm_(parameters, clipGradNorm)
    refuseNonFiniteNorm(norm.item(), values, where, optimizer)
  }
  optimizer.step()
}

/** @throws AlambicError `ERR_NAN_LOSS` */
export function refuseNonFinite(values: LossValues, where: string, optimizer: Optimizer): void {
  if (Number.isFinite(values['total'])) return
  throw nonFinite(`the loss is no longer finite at ${where}`, values, optimizer, ', clipGradNorm,')
}

/**
 * A finite loss may have a gradient that is not: the norm that was to be clipped tells.
 *
 * @throws AlambicError `ERR_NAN_LOSS`
 */
export function refuseNonFiniteNorm(
  norm: number,
  values: LossValues,
  where: string,
  optimizer: Optimizer,
): void {
  if (Number.isFinite(norm)) return
  throw nonFinite(
    `the norm of the gradient is ${norm} at ${where}, of a loss that is finite`,
    values,
    optimizer,
    '',
  )
}

function nonFinite(what: string, values: LossValues, optimizer: Optimizer, remedy: string): AlambicError {
  const parts = Object.entries(values).map(([name, value]) => `${name}=${value}`)
  const guilty = Object.keys(values).filter(name => name !== 'total' && !Number.isFinite(values[name]))
  const isNot = guilty.length === 0 ? '' : `it is ${guilty.join(' and ')} that is not; `
  const rates = optimizer.paramGroups.map(group => group.lr)
  return new AlambicError(
    'ERR_NAN_LOSS',
    `${what}: ${parts.join(', ')} (learning rate ${rates.join(', ')}); ${isNot}the weights are as the step before left them. ` +
      `A lower learning rate${remedy} or a look at the inputs may help`,
  )
}

function readParts(parts: LossParts): LossValues {
  return Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, (part as Tensor).item()]))
}
