import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Device, DeviceMemory } from '../lib/index.js'

/** The library as it is published. */
export const library = new URL('../dist/index.js', import.meta.url).href

export interface TrainTask {
  kind: 'train'
  teacher: 'resnet56' | 'resnet20' | 'resnet8'
  student: 'resnet56' | 'resnet20' | 'resnet8'
  batch: number
  size: number
  steps: number
  /** Of features, 1 to 3. */
  levels?: number
  /** Default: the CPU. */
  device?: Device
  compile?: boolean
}

export interface LossTask {
  kind: 'loss'
  criterion: 'mse' | 'cosine' | 'attention'
  /** Features that are measured in turn. */
  points: readonly { shape: readonly number[]; levels: number }[]
  steps: number
}

export interface ChildResult {
  /** Milliseconds of each step, of a loss for one point after the other. */
  times: number[][]
  /** Of a training, bytes in memory after each step. */
  resident: number[]
  /** Of a training on a GPU, after each step. */
  gpu: DeviceMemory[]
  /** Bytes in memory before the task, and at most. */
  before: number
  peak: number
}

/** Does a task in a process of its own. */
export async function runChild(task: TrainTask | LossTask): Promise<ChildResult> {
  const script = fileURLToPath(new URL('trainee.js', import.meta.url))
  return JSON.parse(await outputOf(process.execPath, [script, library, JSON.stringify(task)])) as ChildResult
}

/** What a program writes; its messages go to the terminal. */
export async function outputOf(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [output, [status]] = (await Promise.all([text(child.stdout), once(child, 'exit')])) as [
    string,
    [number | null],
  ]
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}`)
  return output
}
