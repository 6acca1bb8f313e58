/**
 * A teacher learns from 3,000 pictures; a student that has only 500 of them learns alone, and then from the teacher's
 * features too.
 *
 *     npx tsx examples/distill.ts
 */
import { data, manualSeed, models, trainClassifier, trainWithFeatureDistillation } from 'alambic'

// Pictures of four figures, generated from a random seed.
const kind = { size: 16, classes: 4 }
const pictures = data.proceduralImages({ count: 3000, seed: 1, ...kind })
const few = pictures.subset([...Array(500).keys()])
const test = new data.DataLoader(data.proceduralImages({ count: 1000, seed: 2, ...kind }), { batchSize: 250 })

manualSeed(1)
const teacher = new models.ConvNet({ widths: [16, 32, 64, 64], classes: 4 })
const lessons = new data.DataLoader(pictures, { batchSize: 64, shuffle: true })
await trainClassifier(teacher, lessons, test, { epochs: 6, lr: 3e-3, logEvery: 5 })

// The same small network twice, from the same initial weights and over the same order of pictures.
const alone = new models.ConvNet({ widths: [8, 16, 32, 32], classes: 4 })
const taught = new models.ConvNet({ widths: [8, 16, 32, 32], classes: 4 })
taught.loadStateDict(alone.stateDict())
const homework = () => new data.DataLoader(few, { batchSize: 32, shuffle: true })
const options = { epochs: 15, lr: 3e-3, logEvery: 14 }

console.log(`alone, ${alone.parameterCount()} parameters`)
await trainClassifier(alone, homework(), test, options)

console.log(`taught by ${teacher.parameterCount()} parameters`)
await trainWithFeatureDistillation(teacher, taught, homework(), test, {
  ...options,
  featureLayers: ['stage3', { student: 'stage4.0.relu', teacher: 'stage4.0.relu' }], // any layer, by dotted path
  adapt: 'student', // 1×1 convolutions bring the student's 32 channels to the teacher's 64
})
