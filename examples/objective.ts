/**
 * Several methods at once: labels, outputs and attention, with weights that follow the epochs, and a term of one's own.
 * The pictures of a batch are mixed, and a moving average of the weights is kept.
 *
 *     npx tsx examples/objective.ts
 */
import {
  data,
  evaluate,
  manualSeed,
  methods,
  models,
  nn,
  Term,
  trainClassifier,
  trainWithObjective,
  type Observation,
} from 'alambic'

/** The student's embedding, through a linear layer, points where the teacher's does. */
class Direction extends Term {
  override readonly needsEmbedding = true
  project: nn.Linear | undefined

  /** Called once, with the first batch: the sizes are known now. */
  override prepare({ student, teacher }: Observation): void {
    this.project = new nn.Linear(student.embedding!.size(1), teacher.embedding!.size(1))
  }

  override forward({ student, teacher }: Observation) {
    const ours = this.project!.forward(student.embedding!)
    return nn.functional.cosineSimilarity(ours, teacher.embedding!, { dim: 1 }).mean().neg().add(1)
  }
}

const kind = { size: 16, classes: 4 }
const pictures = data.proceduralImages({ count: 1500, seed: 1, ...kind })
const test = new data.DataLoader(data.proceduralImages({ count: 500, seed: 2, ...kind }), { batchSize: 250 })

manualSeed(1)
const teacher = new models.ConvNet({ widths: [16, 32, 64], classes: 4 })
const train = new data.DataLoader(pictures, { batchSize: 64, shuffle: true })
await trainClassifier(teacher, train, null, { epochs: 5, lr: 3e-3, log: null })
console.log(`teacher: ${(await evaluate(teacher, test)).toFixed(1)}%`)

const student = new models.ConvNet({ widths: [8, 16, 32], classes: 4 })
const mixed = new data.DataLoader(pictures, {
  batchSize: 64,
  shuffle: true,
  transform: data.cutMix({ classes: 4 }),
})
const { history, ema } = await trainWithObjective(teacher, student, mixed, test, {
  objective: [
    { term: new methods.CrossEntropy(), weight: 0.5 },
    { term: new methods.KD({ temperature: 4 }), weight: { value: 0.5, warmUp: 3 } },
    {
      term: new methods.Attention({ layers: ['stage1', 'stage2'], variant: 'code' }),
      weight: { value: 100, to: 4 },
    },
    { term: new Direction(), weight: 0.5 },
  ],
  epochs: 6,
  lr: 3e-3,
  ema: 0.98,
  log: null,
  onEpoch: ({ epoch, loss, parts, accuracy, emaAccuracy }) => {
    const values = Object.entries(parts).map(([name, value]) => `${name} ${value.toFixed(3)}`)
    console.log(`epoch ${epoch}: loss ${loss.toFixed(3)} (${values.join(', ')})`)
    console.log(`  accuracy ${accuracy!.toFixed(1)}%, of the averaged weights ${emaAccuracy!.toFixed(1)}%`)
  },
})
console.log(`${history.length} epochs; the average of the weights has ${Object.keys(ema!).length} tensors`)
