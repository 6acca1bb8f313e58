/** The networks of the demo: one architecture, a wide teacher and a narrow student. */
import { ConvNet } from '../../models/index.js'
import type { DataName, DemoData } from './data.js'

const widths = { teacher: [32, 64, 128, 128], student: [8, 16, 32, 32] }

/** What the student learns to reproduce: the features that the teacher classifies by. */
export const featureLayers = ['stage4']

/** Where it learns to look: the pooled outputs of the first three stages. */
export const attentionLayers = ['stage2.0', 'stage3.0', 'stage4.0']

export function makeTeacher({ channels, classes }: DemoData): ConvNet {
  return new ConvNet({ inChannels: channels, classes, widths: widths.teacher, downsample: 'pool' })
}

export function makeStudent({ channels, classes }: DemoData): ConvNet {
  return new ConvNet({ inChannels: channels, classes, widths: widths.student, downsample: 'pool' })
}

/** What is trained, for the head of the report. */
export function describeNets(): [role: string, text: string][] {
  return Object.entries(widths).map(([role, list]) => [
    role,
    `four 3×3 convolutions with batch norm, ${list.join(', ')} channels`,
  ])
}

/** Enough to tell the methods apart; on real data a few epochs of many images, on procedural more of fewer. */
export function defaultEpochs(data: DataName): { teacherEpochs: number; epochs: number } {
  return data === 'procedural' ? { teacherEpochs: 8, epochs: 12 } : { teacherEpochs: 4, epochs: 4 }
}
