/**
 * A data set, a network, a term and a schedule of one's own, for the recipe `own.yaml`, which imports this file. Each is
 * registered under a name and used by it like ours.
 */
import {
  data,
  fromTypedArray,
  methods,
  models,
  nn,
  optim,
  Term,
  type Observation,
  type Tensor,
} from 'alambic'
import { z } from 'zod'

/** Points in the plane, of two classes: inside of a circle and outside. As pictures of 2 channels and one pixel. */
class Circle implements data.Dataset {
  readonly classes = ['inside', 'outside']
  private readonly points: Float32Array

  constructor(
    readonly length: number,
    seed: number,
  ) {
    const random = new data.Random(seed)
    this.points = Float32Array.from({ length: 2 * length }, () => 2 * random.uniform() - 1)
  }

  batch(indices: readonly number[] | Int32Array): data.Batch {
    const at = (index: number) => [this.points[2 * index]!, this.points[2 * index + 1]!] as const
    const points = Float32Array.from(Array.from(indices).flatMap(at))
    const labels = BigInt64Array.from(indices, index => (Math.hypot(...at(index)) < 0.75 ? 0n : 1n))
    return {
      data: fromTypedArray(points, [indices.length, 2, 1, 1]),
      labels: fromTypedArray(labels, [indices.length]),
    }
  }
}

// The recipe's options are held against this schema before anything is made.
const circleOptions = z.strictObject({ count: z.int().min(1).default(200) })

data.register(
  'circle',
  (options, { split }) => {
    const { count } = circleOptions.parse(options)
    return new Circle(count, split === 'train' ? 1 : 2)
  },
  {
    description: 'Points inside and outside of a circle.',
    schema: circleOptions,
    facts: options => ({
      inputShape: [2, 1, 1],
      classes: ['inside', 'outside'],
      length: circleOptions.parse(options).count,
    }),
  },
)

class Perceptron extends nn.Module<[Tensor], Tensor> {
  readonly hidden: nn.Linear
  readonly act = new nn.ReLU()
  readonly out: nn.Linear

  constructor(width: number, inputs: number, classes: number) {
    super()
    this.hidden = new nn.Linear(inputs, width)
    this.out = new nn.Linear(width, classes)
  }

  override forward(x: Tensor): Tensor {
    return this.out.forward(this.act.forward(this.hidden.forward(x.flatten({ startDim: 1 }))))
  }
}

// The second argument says what the recipe's data wants.
models.register('perceptron', ({ width = 8 }, { classes = 2, inputShape = [2, 1, 1] }) => {
  return new Perceptron(width as number, inputShape[0]!, classes)
})

class LogitsMse extends Term {
  override forward({ student, teacher }: Observation): Tensor {
    return nn.functional.mseLoss(student.logits, teacher.logits)
  }
}

methods.register('logitsMse', () => new LogitsMse())

optim.lrScheduler.register(
  'half',
  (optimizer, _options, { length }) => new optim.lrScheduler.StepLR(optimizer, Math.ceil(length / 2)),
)
