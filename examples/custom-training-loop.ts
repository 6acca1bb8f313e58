/**
 * The distillation loop by hand, without `trainWithFeatureDistillation`. `scope()` releases tensors, `dispose()` the
 * batches; the number of live tensors stays the same from step to step.
 *
 *     npx tsx examples/custom-training-loop.ts
 */
import {
  AdaptationLayer,
  attachFeatures,
  data,
  evaluate,
  FeatureDistillationLoss,
  manualSeed,
  memory,
  models,
  nn,
  noGrad,
  optim,
  scope,
  trainClassifier,
} from 'alambic'

const kind = { size: 16, classes: 4 }
const pictures = data.proceduralImages({ count: 2000, seed: 1, ...kind })
const train = new data.DataLoader(pictures, { batchSize: 64, shuffle: true, dropLast: true })
const test = new data.DataLoader(data.proceduralImages({ count: 500, seed: 2, ...kind }), { batchSize: 250 })

manualSeed(1)
const teacher = new models.ConvNet({ widths: [16, 32, 64], classes: 4 })
await trainClassifier(teacher, train, null, { epochs: 5, lr: 3e-3, log: null })
console.log(`teacher: ${(await evaluate(teacher, test)).toFixed(1)}%`)

// FitNets' regressors: one per level, from the student's channels to the teacher's, trained with the student.
const student = new models.ConvNet({ widths: [8, 16, 32], classes: 4 })
const adapters = new nn.ModuleList([new AdaptationLayer(16, 32), new AdaptationLayer(32, 64)])
const layers = ['stage2', 'stage3']
const criterion = new FeatureDistillationLoss({ alpha: 0.5, weights: [1, 2] }) // the deeper level counts twice
const optimizer = new optim.Adam([...student.parameters(), ...adapters.parameters()], { lr: 3e-3 })

// Attached once. Capturing then takes one function call per layer and step.
const teacherProbe = attachFeatures(teacher, layers)
const studentProbe = attachFeatures(student, layers)
teacher.eval()

for (let epoch = 1; epoch <= 4; epoch++) {
  student.train()
  let sum = 0
  for await (const { data: images, labels } of train) {
    // The scope releases all tensors of the step: features, losses, the graph. Its result is a number.
    sum += scope(() => {
      const taught = noGrad(() => teacherProbe.forward(images).features)
      const { output: logits, features } = studentProbe.forward(images)
      const loss = criterion.forward(
        layers.map((layer, i) => adapters.at(i).forward(features[layer]!)),
        layers.map(layer => taught[layer]!),
        logits,
        labels,
      )
      optimizer.zeroGrad()
      loss.total.backward()
      optim.clipGradNorm_(student.parameters(), 5)
      optimizer.step()
      return loss.total.item()
    })
    images.dispose() // the batch was made outside of the scope
    labels.dispose()
  }
  const accuracy = await evaluate(student, test)
  const mean = (sum / train.length).toFixed(4)
  console.log(
    `epoch ${epoch}: loss ${mean}, accuracy ${accuracy.toFixed(1)}%, ${memory().tensors} live tensors`,
  )
}

teacherProbe.detach()
studentProbe.detach()
