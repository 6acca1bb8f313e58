/** Trains a teacher, then one student per method from the same initial weights and on the same data order. */
import { DataLoader } from '../../data/index.js'
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  LogitsDistillationLoss,
  trainClassifier,
  trainWithFeatureDistillation,
  trainWithLogitsDistillation,
  type Classifier,
  type FitOptions,
  type TrainingResult,
} from '../../distill/index.js'
import type { StateDict } from '../../nn/module.js'
import * as optim from '../../optim/index.js'
import { manualSeed } from '../../random/index.js'
import type { Device } from '../../tensors/types.js'
import type { DemoData } from './data.js'
import { attentionLayers, featureLayers, makeStudent, makeTeacher } from './nets.js'
import type { Progress } from './progress.js'
import type { Row } from './table.js'

/** How a student learns. */
export const methods = ['alone', 'logits', 'features', 'attention'] as const
export type Method = (typeof methods)[number]

export interface DemoSettings {
  methods: readonly Method[]
  teacherEpochs: number
  epochs: number
  batchSize: number
  lr: number
  seed: number
  device: Device
  signal: AbortSignal
}

export const rowNames: Record<Method, string> = {
  alone: 'student alone',
  logits: 'student + logits',
  features: 'student + features',
  attention: 'student + attention',
}

/** The rows so far reach `onRow` one by one, so that a stopped run can show them. */
export async function runDemo(
  data: DemoData,
  settings: DemoSettings,
  progress: Progress,
  onRow: (row: Row) => void,
): Promise<void> {
  const { seed, device, signal } = settings
  manualSeed(seed)
  const teacher = makeTeacher(data).to(device)
  const initial = makeStudent(data).to(device).stateDict()

  const train = async (
    name: string,
    model: Classifier,
    epochs: number,
    run: (loaders: Loaders, options: FitOptions) => Promise<TrainingResult>,
  ): Promise<void> => {
    manualSeed(seed)
    const loaders = makeLoaders(data, settings)
    progress.begin(name, epochs, loaders.train.length)
    try {
      const options: FitOptions = {
        epochs,
        lr: settings.lr,
        scheduler: optimizer =>
          new optim.lrScheduler.OneCycleLR(optimizer, settings.lr, {
            totalSteps: epochs * loaders.train.length,
          }),
        schedulerInterval: 'step',
        device,
        signal,
        log: null,
        onStep: step => progress.step(step),
        onEpoch: report => progress.epoch(report),
      }
      const { history, stopped } = await run(loaders, options)
      onRow({ name, parameters: model.parameterCount(), history, stopped })
    } finally {
      progress.end()
    }
  }

  await train('teacher', teacher, settings.teacherEpochs, (loaders, options) =>
    trainClassifier(teacher, loaders.train, loaders.validation, options),
  )
  for (const method of settings.methods) {
    if (signal.aborted) return
    const student = copyOf(initial, data, device)
    await train(rowNames[method], student, settings.epochs, (loaders, options) =>
      trainStudent(method, teacher, student, loaders, options),
    )
  }
}

interface Loaders {
  train: DataLoader
  validation: DataLoader
}

function makeLoaders(data: DemoData, { batchSize, seed }: DemoSettings): Loaders {
  return {
    train: new DataLoader(data.train, {
      batchSize,
      shuffle: true,
      seed,
      dropLast: data.train.length > batchSize,
    }),
    validation: new DataLoader(data.validation, { batchSize: 256 }),
  }
}

function copyOf(initial: StateDict, data: DemoData, device: Device): Classifier {
  const student = makeStudent(data).to(device)
  student.loadStateDict(initial)
  return student
}

function trainStudent(
  method: Method,
  teacher: Classifier,
  student: Classifier,
  { train, validation }: Loaders,
  options: FitOptions,
): Promise<TrainingResult> {
  switch (method) {
    case 'alone':
      return trainClassifier(student, train, validation, options)
    case 'logits':
      return trainWithLogitsDistillation(teacher, student, train, validation, {
        ...options,
        loss: new LogitsDistillationLoss({ alpha: 0.5, temperature: 4 }),
      })
    case 'features':
      return trainWithFeatureDistillation(teacher, student, train, validation, {
        ...options,
        featureLayers,
        loss: new FeatureDistillationLoss({ alpha: 0.9, criterion: 'cosine' }),
        adapt: 'student',
      })
    case 'attention':
      // Maps of unit norm have small differences: alpha is near 1 where both parts should weigh alike.
      return trainWithFeatureDistillation(teacher, student, train, validation, {
        ...options,
        featureLayers: attentionLayers,
        loss: new AttentionTransfer({ alpha: 0.99 }),
      })
  }
}
