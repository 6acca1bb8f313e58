/**
 * A teacher that needs other inputs than its student: pictures from 0 to 255 in the order BGR, as networks from Caffe.
 * The loader gives the student's pictures; `teacherInput` converts them for the teacher.
 *
 *     npx tsx examples/teacher-input.ts
 */
import { data, evaluate, manualSeed, models, trainClassifier, trainWithLogitsDistillation } from 'alambic'

manualSeed(0)
const own = { mean: [0.47, 0.47, 0.47], std: [0.285, 0.285, 0.285] }
const pictures = (count: number, seed: number) =>
  data.proceduralImages({ count, seed, size: 24, classes: 3, ...own })
const train = new data.DataLoader(pictures(900, 1), { batchSize: 50, shuffle: true, seed: 1 })
const test = new data.DataLoader(pictures(300, 2), { batchSize: 100 })

// The format that the teacher was trained on. For published weights: `models.preprocessingOf(weights)`.
const caffe: data.ImageFormat = { range: [0, 255], order: 'BGR', mean: [104, 117, 123] }
const toCaffe = data.convertImages({ from: own, to: caffe })
const inCaffe = new data.DataLoader(train.dataset, {
  batchSize: 50,
  shuffle: true,
  seed: 1,
  transform: batch => ({ ...batch, data: toCaffe(batch.data) }),
})
const teacher = new models.ConvNet({ widths: [16, 32, 64], downsample: 'pool', classes: 3 })
await trainClassifier(teacher, inCaffe, null, { epochs: 12, lr: 5e-3, log: null })

// The same conversion for the evaluation of the teacher and for the distillation.
const asItIs = await evaluate(teacher, test)
const converted = await evaluate(teacher, test, { input: toCaffe })
console.log(
  `teacher: ${asItIs.toFixed(1)} % given the student's pictures, ${converted.toFixed(1)} % given its own`,
)

const student = new models.ConvNet({ widths: [8, 16, 32], downsample: 'pool', classes: 3 })
await trainWithLogitsDistillation(teacher, student, train, test, {
  teacherInput: { from: own, to: caffe },
  epochs: 8,
  lr: 5e-3,
  logEvery: 7,
})
