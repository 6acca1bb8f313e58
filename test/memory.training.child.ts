/**
 * The process that `memory.training.test.ts` watches: trains a small convolutional net with Adam and prints what it
 * held on the way. Arguments: who releases (`scope` or `backstop`), steps, and any of `collect` (collect garbage every
 * 50 steps) and `leak` (keep one tensor of 4 KiB a step).
 */
import { readFileSync } from 'node:fs'
import {
  manualSeed,
  memory,
  nn,
  ones,
  optim,
  randint,
  randn,
  scope,
  torch,
  unscoped,
  type Tensor,
} from '../lib/index.js'

export interface Sample {
  step: number
  tensors: number
  /** Bytes of memory that is the process's own, without mapped files, which the kernel may drop at any time. */
  resident: number
}

export interface Report {
  samples: Sample[]
  /** Tensors alive before the first step. */
  tensorsBefore: number
  /** The same after a collection at the end. */
  tensorsAfter: number
  firstLoss: number
  lastLoss: number
}

class Net extends nn.Module {
  conv1 = new nn.Conv2d(3, 8, 3, { padding: 1 })
  norm = new nn.BatchNorm2d(8)
  conv2 = new nn.Conv2d(8, 16, 3, { padding: 1 })
  linear = new nn.Linear(16, 10)

  forward(x: Tensor): Tensor {
    const hidden = torch.maxPool2d(this.norm.forward(this.conv1.forward(x)).relu(), [2, 2])
    return this.linear.forward(
      this.conv2
        .forward(hidden)
        .relu()
        .flatten({ startDim: 2 })
        .amax({ dim: [2] }),
    )
  }
}

const [releasedBy, steps, ...switches] = process.argv.slice(2) as ['scope' | 'backstop', string, ...string[]]
const stepsPerSample = 50

function residentBytes(): number {
  if (process.platform !== 'linux') return process.memoryUsage.rss()
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
}

/** Finalizers run some turns after the collection. */
async function collectGarbage(): Promise<void> {
  globalThis.gc!()
  for (let i = 0; i < 3; i++) await new Promise(resolve => setTimeout(resolve, 1))
}

manualSeed(1)
const net = new Net()
const optimizer = new optim.Adam(net.parameters(), { lr: 1e-3 })
const images = randn([8, 3, 16, 16])
const labels = randint(10, [8])

function step(): number {
  optimizer.zeroGrad()
  const loss = torch.crossEntropyLoss(net.forward(images), labels)
  loss.backward()
  optimizer.step()
  return loss.item()
}

async function train(): Promise<Report> {
  await collectGarbage()
  const tensorsBefore = memory().tensors
  const leaked: Tensor[] = []
  const losses: number[] = []
  const samples: Sample[] = []
  for (let i = 1; i <= Number(steps); i++) {
    losses.push(releasedBy === 'scope' ? scope(step) : step())
    if (switches.includes('leak')) leaked.push(unscoped(() => ones([1024])))
    await new Promise(resolve => setImmediate(resolve))
    if (i % stepsPerSample > 0) continue
    if (switches.includes('collect')) await collectGarbage()
    samples.push({ step: i, tensors: memory().tensors, resident: residentBytes() })
  }
  await collectGarbage()
  return {
    samples,
    tensorsBefore,
    tensorsAfter: memory().tensors,
    firstLoss: losses[0]!,
    lastLoss: losses.at(-1)!,
  }
}

console.log(JSON.stringify(await train()))
