/** What is trained: teachers and students of the literature. */
import {
  manualSeed,
  models,
  randint,
  randn,
  StudentWithFeatureExtraction,
  type Device,
} from '../lib/index.js'
import type { Classifier, FeatureLayer } from '../lib/distill/index.js'
import type { Batch } from '../lib/data/index.js'

export interface Pair {
  name: string
  makeTeacher: () => Classifier
  makeStudent: () => Classifier
  featureLayers: readonly FeatureLayer[]
  batch: number
  /** Height and width of the images. */
  size: number
  /** Names of the networks in steps.py. */
  python: { teacher: string; student: string }
}

export const pairs: readonly Pair[] = [
  {
    name: 'ResNet-56 → ResNet-20',
    makeTeacher: () => models.resnet56B(),
    makeStudent: () => models.resnet20B(),
    featureLayers: ['layer1', 'layer2', 'layer3'],
    batch: 64,
    size: 32,
    python: { teacher: 'resnet56', student: 'resnet20' },
  },
  {
    name: 'WRN-40-2 → WRN-16-2',
    makeTeacher: () => models.wrn_40_2(),
    makeStudent: () => models.wrn_16_2(),
    featureLayers: ['block1', 'block2', 'block3'],
    batch: 32,
    size: 32,
    python: { teacher: 'wrn-40-2', student: 'wrn-16-2' },
  },
  {
    name: 'ResNet-18 → MobileNetV2',
    makeTeacher: () => models.resnet18({ classes: 10 }),
    makeStudent: () => models.mobilenetV2({ classes: 10 }),
    featureLayers: [
      { teacher: 'layer1', student: 'features.3' },
      { teacher: 'layer2', student: 'features.6' },
      { teacher: 'layer3', student: 'features.13' },
      { teacher: 'layer4', student: 'features.17' },
    ],
    batch: 32,
    size: 64,
    python: { teacher: 'resnet18', student: 'mobilenet-v2' },
  },
  {
    name: 'three convolutions → the same',
    makeTeacher: () => new StudentWithFeatureExtraction(),
    makeStudent: () => new StudentWithFeatureExtraction(),
    featureLayers: ['relu1', 'relu2', 'relu3'],
    batch: 8,
    size: 32,
    python: { teacher: 'three-convolutions', student: 'three-convolutions' },
  },
]

export function makeBatch({ batch, size }: Pick<Pair, 'batch' | 'size'>, device: Device = 'cpu'): Batch {
  manualSeed(0)
  return { data: randn([batch, 3, size, size], { device }), labels: randint(0, 10, [batch], { device }) }
}
