import { keep, memory, trainClassifier, trainWithFeatureDistillation, type Tensor } from '../lib/index.js'
import { makeBatch, pairs } from './pairs.js'
import { PacedTraining } from './paced-training.js'
const [which = 'distillation', speed = '', compile = '', n = '30'] = process.argv.slice(2)
const pair = pairs[0]!
const batch = makeBatch(pair, 'cpu')
for (const t of Object.values(batch) as Tensor[]) keep(t)
const options = { ...(speed ? { speed: { precision: speed as 'float32' } } : {}), compile: compile === 'c' }
const student = pair.makeStudent(), teacher = pair.makeTeacher()
const training = new PacedTraining((batches, paced) => which === 'student' ? trainClassifier(student, batches, null, { ...options, ...paced }) : trainWithFeatureDistillation(teacher, student, batches, null, { ...options, ...paced, featureLayers: pair.featureLayers }), batch)
for (let i = 0; i < 5; i++) await training.step()
const before = process.resourceUsage()
const times: number[] = []
for (let i = 0; i < +n; i++) times.push(await training.step())
const after = process.resourceUsage()
times.sort((a, b) => a - b)
console.log(which, speed, compile, 'median', times[times.length >> 1]!.toFixed(1), 'best', times[0]!.toFixed(1), 'faults/step', ((after.minorPageFault - before.minorPageFault) / +n).toFixed(0), 'sys ms/step', ((after.systemCPUTime - before.systemCPUTime) / 1000 / +n).toFixed(1), 'user', ((after.userCPUTime - before.userCPUTime) / 1000 / +n).toFixed(1), 'idle MiB', (memory().idle / 2 ** 20).toFixed(0))
await training.stop()
