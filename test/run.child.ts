/**
 * A run that exercises all that a checkpoint has to hold, in a process of its own, so that it can be killed:
 * `run.child.ts folder compile slow`. Goes on where there is a checkpoint. Prints a digest of its end.
 */
import { createHash } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import {
  data,
  Distiller,
  manualSeed,
  methods,
  nn,
  optim,
  type DistillerOptions,
  type RunResult,
  type Tensor,
} from '../lib/index.js'
import { RunFolder } from '../lib/run/folder.js'

export class Net extends nn.Module<[Tensor], Tensor> {
  readonly body: nn.Sequential
  readonly head: nn.Linear
  readonly dropout = new nn.Dropout(0.3)

  constructor(width: number) {
    super()
    this.body = new nn.Sequential(
      new nn.Conv2d(3, width, 3, { padding: 1, stride: 2 }),
      new nn.BatchNorm2d(width),
      new nn.ReLU(),
      new nn.Conv2d(width, width, 3, { padding: 1, stride: 2 }),
      new nn.BatchNorm2d(width),
    )
    this.head = new nn.Linear(width, 4)
  }

  override forward(x: Tensor): Tensor {
    return this.head.forward(this.dropout.forward(this.body.forward(x).relu().mean([2, 3])))
  }
}

/** Batch norm, dropout, augmentation, moving average, terms with parts, schedules and two stages. */
export function exampleRun(): DistillerOptions {
  manualSeed(7)
  const [student, teacher] = [new Net(6), new Net(12)]
  const images = { size: 16, classes: 4 }
  const augment = { horizontalFlip: true, cropPadding: 2 }
  return {
    teacher,
    student,
    train: data.proceduralImages({ ...images, count: 230, seed: 1, augment }),
    validation: 30,
    test: data.proceduralImages({ ...images, count: 40, seed: 2 }),
    batchSize: 16,
    seed: 5,
    ema: 0.9,
    stages: [
      {
        name: 'hints',
        epochs: 2,
        objective: [new methods.Features({ layers: ['body.0'], adapt: 'student' })],
        trained: ['body'],
        optimizer: parameters => new optim.Adam(parameters, { lr: 0.01 }),
      },
      {
        name: 'distillation',
        epochs: 3,
        objective: [
          new methods.CrossEntropy(),
          { term: new methods.KD(), weight: { value: 0.5, warmUp: 2 } },
          new methods.Features({ layers: ['body.0', 'body'], adapt: 'teacher' }),
          { term: new methods.Features({ layers: ['body.2'], adapt: 'student' }), name: 'more' },
        ],
        optimizer: parameters => new optim.SGD(parameters, { lr: 0.05, momentum: 0.9 }),
        schedule: optimizer => new optim.lrScheduler.OneCycleLR(optimizer, 0.1, { totalSteps: 39 }),
        scheduleInterval: 'step',
      },
    ],
  }
}

/** Of all that a run ends with: weights, metrics, numbers. */
export function digestOf({ student }: DistillerOptions, result: RunResult): string {
  const hash = createHash('sha256')
  for (const [name, tensor] of Object.entries(student.stateDict())) {
    const { buffer, byteOffset, byteLength } = tensor.toTypedArray()
    hash.update(name).update(new Uint8Array(buffer, byteOffset, byteLength))
  }
  const epochs = result.epochs.map(({ seconds: _, ...epoch }) => epoch)
  const { seconds: _, changes: __, folder: ___, ...numbers } = result
  return hash.update(JSON.stringify({ ...numbers, epochs })).digest('hex')
}

async function main(folder: string, compile: boolean, pause: number): Promise<void> {
  const options = { ...exampleRun(), compile, checkpoint: { everySteps: 3 } }
  const isThere = (await new RunFolder(folder).listCheckpoints()).length > 0
  const run = isThere ? await Distiller.resume(folder, options) : new Distiller({ ...options, folder })
  run.on('step', ({ runStep }) => {
    process.stdout.write(`step ${runStep}\n`)
    return pause > 0 ? setTimeout(pause) : undefined
  })
  const result = await run.start()
  process.stdout.write(`${JSON.stringify({ digest: digestOf(options, result), changes: result.changes })}\n`)
}

if (import.meta.url === pathToFileURL(process.argv[1]!).href) {
  const [, , folder, compile, pause] = process.argv
  await main(folder!, compile === 'true', Number(pause ?? 0))
}
