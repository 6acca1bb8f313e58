/**
 * A method that Alambic does not have: similarity-preserving distillation (Tung & Mori, "Similarity-Preserving Knowledge
 * Distillation", 2019). Pictures with similar features in the teacher should have similar features in the student.
 * Channels and sizes of the features may differ, because only the similarities between the pictures of a batch are
 * compared.
 *
 *     npx tsx examples/own-loss.ts
 */
import {
  captureFeatures,
  data,
  evaluate,
  manualSeed,
  models,
  nn,
  noGrad,
  optim,
  scope,
  trainClassifier,
  trainWithFeatureDistillation,
  type Tensor,
} from 'alambic'

/** `total` is minimised; the other parts are reported by their names. */
class SimilarityPreserving extends nn.Module<[Tensor[], Tensor[], Tensor, Tensor]> {
  constructor(readonly gamma: number) {
    super()
  }

  override forward(student: Tensor[], teacher: Tensor[], logits: Tensor, labels: Tensor) {
    const levels = student.map((feature, i) => this.similarities(feature).sub(this.similarities(teacher[i]!)))
    const similarity = levels.map(difference => difference.pow(2).mean()).reduce((sum, each) => sum.add(each))
    const classification = nn.functional.crossEntropy(logits, labels)
    return { total: classification.add(similarity.mul(this.gamma)), similarity, classification }
  }

  /** (N, …) → (N, N): the products of all pairs of samples, each row scaled to unit length. */
  similarities(feature: Tensor): Tensor {
    const flat = feature.flatten({ startDim: 1 })
    return nn.functional.normalize(flat.matmul(flat.t()))
  }
}

// ---- A teacher, and a student -------------------------------------------------------------------------------------------

const kind = { size: 16, classes: 4 }
const pictures = data.proceduralImages({ count: 2000, seed: 1, ...kind })
const train = new data.DataLoader(pictures, { batchSize: 64, shuffle: true })
const test = new data.DataLoader(data.proceduralImages({ count: 500, seed: 2, ...kind }), { batchSize: 250 })

manualSeed(1)
const teacher = new models.ConvNet({ widths: [16, 32, 64], classes: 4 })
console.log('teacher')
await trainClassifier(teacher, train, test, { epochs: 5, lr: 3e-3, logEvery: 4 })
const student = new models.ConvNet({ widths: [8, 16, 32], classes: 4 })

// ---- In the built-in loop: any module with this forward is a loss ---------------------------------------------------

const criterion = new SimilarityPreserving(100)
console.log('student, in the ready loop')
await trainWithFeatureDistillation(teacher, student, train, test, {
  featureLayers: ['stage2', 'stage3'],
  loss: criterion,
  adapt: 'none', // the loss compares similarities, not channels
  epochs: 3,
  lr: 3e-3,
  logEvery: 1,
})

// ---- Or step by step, with any optimizer and schedule ---------------------------------------------------------------

const layers = ['stage2', 'stage3']
const optimizer = new optim.AdamW(student.parameters(), { lr: 3e-3, weightDecay: 1e-2 })
const schedule = new optim.lrScheduler.CosineAnnealingLR(optimizer, train.length)
let similarity = 0
student.train()
teacher.eval()
for await (const { data: images, labels } of train) {
  similarity += scope(() => {
    const taught = noGrad(() => captureFeatures(teacher, layers, images).features)
    const { output: logits, features } = captureFeatures(student, layers, images)
    const loss = criterion.forward(pick(features), pick(taught), logits, labels)
    optimizer.zeroGrad()
    loss.total.backward()
    optimizer.step()
    schedule.step()
    return loss.similarity.item()
  })
  images.dispose()
  labels.dispose()
}
const accuracy = await evaluate(student, test)
const mean = (similarity / train.length).toFixed(5)
console.log(`student, step by step\nSimilarity loss ${mean}, Acc=${accuracy.toFixed(2)}%`)

function pick(features: Record<string, Tensor>): Tensor[] {
  return layers.map(layer => features[layer]!)
}
