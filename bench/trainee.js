/**
 * A process of its own, without a compiler in it, that trains or computes a loss and says what it took: for `memory`
 * and `growth`. Arguments: where the library is, and a task as JSON.
 */
import { readFileSync } from 'node:fs'
import process from 'node:process'

const [library, task] = process.argv.slice(2)
const alambic = await import(String(library))
const { deviceMemory, keep, manualSeed, models, randint, randn, scope, trainWithFeatureDistillation } =
  alambic

const networks = {
  resnet56: () => models.resnet56B(),
  resnet20: () => models.resnet20B(),
  resnet8: () => new models.CifarResNetB(8),
}

/** Bytes: now, and at most since the process began. */
function resident() {
  const status = readFileSync('/proc/self/status', 'utf8')
  /** @param {string} name */
  const read = name => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) * 1024
  return { now: read('VmRSS'), peak: read('VmHWM') }
}

/** @param {import('./child.js').TrainTask} task */
async function train({ teacher, student, batch, size, steps, levels = 3, device = 'cpu', compile = false }) {
  manualSeed(0)
  const images = {
    data: randn([batch, 3, size, size], { device }),
    labels: randint(0, 10, [batch], { device }),
  }
  const batches = {
    *[Symbol.iterator]() {
      for (let i = 0; i < steps; i++) yield { data: images.data.clone(), labels: images.labels.clone() }
    },
  }
  /** @type {number[]} */
  const times = []
  /** @type {number[]} */
  const memory = []
  /** @type {import('../lib/index.js').DeviceMemory[]} */
  const gpu = []
  let last = performance.now()
  const [taught, teaching] = [networks[student]().to(device), networks[teacher]().to(device)]
  await trainWithFeatureDistillation(teaching, taught, batches, null, {
    featureLayers: ['layer1', 'layer2', 'layer3'].slice(0, levels),
    epochs: 1,
    log: null,
    compile,
    onStep() {
      times.push(performance.now() - last)
      memory.push(resident().now)
      if (device !== 'cpu') gpu.push(deviceMemory(device))
      last = performance.now()
    },
  })
  return { times: [times], resident: memory, gpu }
}

/**
 * Of each point in turn, so that what else happens on the machine meets all of them.
 *
 * @param {import('./child.js').LossTask} task
 */
function loss({ criterion, points, steps }) {
  const { AttentionTransfer, FeatureDistillationLoss } = alambic
  const module =
    criterion === 'attention' ? new AttentionTransfer() : new FeatureDistillationLoss({ criterion })
  const inputs = points.map(({ shape, levels }) => {
    const make = () => Array.from({ length: levels }, () => keep(randn(shape)))
    const [student, teacher, logits] = [make(), make(), keep(randn([shape[0], 10]))]
    for (const each of [...student, logits]) each.requiresGrad = true
    return { student, teacher, logits, labels: keep(randint(0, 10, [shape[0]])) }
  })
  /** @type {number[][]} */
  const times = points.map(() => [])
  for (let i = 0; i < steps; i++)
    inputs.forEach(({ student, teacher, logits, labels }, point) => {
      const start = performance.now()
      scope(() => {
        for (const each of [...student, logits]) each.grad = null
        module.forward(student, teacher, logits, labels).total.backward()
      })
      times[point]?.push(performance.now() - start)
    })
  return { times, resident: [], gpu: [] }
}

const { kind, ...options } = JSON.parse(String(task))
scope(() => void randn([1])) // the first use loads libtorch
const { now: before } = resident()
const result = kind === 'train' ? await train(options) : loss(options)
console.log(JSON.stringify({ ...result, before, peak: resident().peak }))
