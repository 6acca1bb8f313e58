/** Models, losses and optimizers of a training that are not what they should be: the error says which of them. */
import { describe, expect, it } from 'vitest'
import * as alambic from '../lib/index.js'
import { LogitsDistillationLoss, nn, optim, tensor, zeros, type Tensor } from '../lib/index.js'

class Net extends nn.Module<[Tensor], Tensor> {
  fc = new nn.Linear(2, 2)
  forward(x: Tensor): Tensor {
    return this.fc.forward(x)
  }
}

class Giving extends Net {
  constructor(private readonly wrap: (logits: Tensor) => unknown) {
    super()
  }

  override forward(x: Tensor): Tensor {
    return this.wrap(super.forward(x)) as Tensor
  }
}

const batches = () => [{ data: zeros([2, 2]), labels: tensor([0n, 1n]) }]
const quiet = { epochs: 1, log: null }
const asynchronous = () => new Giving(logits => Promise.resolve(logits))
const listing = () => new Giving(logits => [logits])

const classify = (model: Net, options = {}) =>
  alambic.trainClassifier(model, batches(), null, { ...quiet, ...options })
const byLogits = (teacher: Net, student: Net, options = {}) =>
  alambic.trainWithLogitsDistillation(teacher, student, batches(), null, { ...quiet, ...options })
const byFeatures = (teacher: Net, student: Net, options = {}) =>
  alambic.trainWithFeatureDistillation(teacher, student, batches(), null, {
    ...quiet,
    featureLayers: ['fc'],
    ...options,
  })
const lossGiving = (result: unknown) => {
  const loss = new LogitsDistillationLoss()
  loss.forward = () => result as ReturnType<typeof loss.forward>
  return loss
}

describe('training', () => {
  const refused: [what: string, train: () => Promise<unknown>, code: string, ...words: string[]][] = [
    ['an asynchronous model', () => classify(asynchronous()), 'ERR_ASYNC_CALLBACK', 'the model'],
    ['a model with a list', () => classify(listing()), 'ERR_ARGUMENT', 'the model', 'logits', '[Tensor]'],
    [
      'an asynchronous teacher',
      () => byLogits(asynchronous(), new Net()),
      'ERR_ASYNC_CALLBACK',
      'the teacher',
    ],
    [
      'a student with a list',
      () => byLogits(new Net(), listing()),
      'ERR_ARGUMENT',
      'the student',
      '[Tensor]',
    ],
    ['a student with features', () => byFeatures(new Net(), listing()), 'ERR_ARGUMENT', 'the student'],
    [
      'an asynchronous student',
      () => byFeatures(new Net(), asynchronous()),
      'ERR_ASYNC_CALLBACK',
      'the student',
    ],
    [
      'an asynchronous loss',
      () => byLogits(new Net(), new Net(), { loss: lossGiving(Promise.resolve({})) }),
      'ERR_ASYNC_CALLBACK',
      'the loss',
    ],
    [
      'a loss without total',
      () => byLogits(new Net(), new Net(), { loss: lossGiving({ sum: zeros([]) }) }),
      'ERR_ARGUMENT',
      'the loss',
      'total',
      '{ sum }',
    ],
    [
      'a loss for logits where features are distilled',
      () => byFeatures(new Net(), new Net(), { loss: new LogitsDistillationLoss() }),
      'ERR_ARGUMENT',
      'LogitsDistillationLoss: teacherLogits: expected a tensor',
    ],
    [
      'an optimizer of other parameters',
      () => classify(new Net(), { optimizer: () => new optim.SGD(new Net().parameters()) }),
      'ERR_ARGUMENT',
      'optimizer',
      '2 others',
    ],
    [
      'a misspelled member of a format',
      () => byLogits(new Net(), new Net(), { teacherInput: { from: { meen: [1] }, to: {} } }),
      'ERR_ARGUMENT',
      'did you mean "mean"?',
    ],
    [
      'a misspelled member of a feature layer',
      () => byFeatures(new Net(), new Net(), { featureLayers: [{ student: 'fc', teacher: 'fc', x: 1 }] }),
      'ERR_ARGUMENT',
      'there is no option "x"',
    ],
  ]
  it.each(refused)('refuses %s', async (_, train, code, ...words) => {
    const error = await train().then(
      () => undefined,
      (error: unknown) => error as alambic.AlambicError,
    )
    expect(error?.code, error?.message).toBe(code)
    for (const word of words) expect(error?.message).toContain(word)
  })

  it('refuses one module as teacher and student, and takes a copy', async () => {
    const [teacher, student] = [new Net(), new Net()]
    await expect(byLogits(teacher, teacher)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    await expect(byFeatures(teacher, teacher)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
    student.loadStateDict(teacher.stateDict())
    expect((await byLogits(teacher, student)).history).toHaveLength(1)
  })

  it('takes an optimizer of some of the parameters', async () => {
    const model = new Net()
    const result = await classify(model, { optimizer: () => new optim.SGD([model.fc.bias!], { lr: 0.1 }) })
    expect(result.history).toHaveLength(1)
  })
})
