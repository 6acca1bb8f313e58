/**
 * A teacher that Python saved: lists its layers, and lets a student learn from one of them.
 *
 *     npx tsx examples/torchscript.ts teacher.pt layer2
 *
 * In Python: torch.jit.save(torch.jit.script(model.eval()), 'teacher.pt'), of a model for images (N, 3, 32, 32).
 */
import { data, loadTorchScript, models, trainWithFeatureDistillation, type Tensor } from 'alambic'

const [file, layer = 'layer2'] = process.argv.slice(2)
if (file === undefined) {
  console.log('usage: npx tsx examples/torchscript.ts TEACHER.pt LAYER')
  process.exit()
}

const teacher = await loadTorchScript<[Tensor], Tensor>(file)
console.log(String(teacher))
console.table(teacher.summary())

const images = data.proceduralImages({ count: 256 })
const student = models.resnet20()
await trainWithFeatureDistillation(teacher, student, new data.DataLoader(images, { batchSize: 32 }), null, {
  featureLayers: [{ student: 'layer2', teacher: layer }],
  epochs: 2,
  logEvery: 1,
})
