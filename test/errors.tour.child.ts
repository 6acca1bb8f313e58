/**
 * The process that `errors.tour.test.ts` watches: one bad input after the other, in one process that goes on. Prints
 * a line of JSON for each: what it was refused with, whether a gradient can still be computed afterwards, and how many
 * tensors the refusal left behind.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  AlambicError,
  AttentionTransfer,
  captureFeatures,
  data,
  FeatureDistillationLoss,
  memory,
  models,
  nn,
  ones,
  randn,
  scope,
  tensor,
  torch,
  trainWithFeatureDistillation,
  zeros,
  type Tensor,
} from '../lib/index.js'

/** What a bad input was refused with. */
export interface Refusal {
  input: string
  code: string
  message: string
  /** The gradient of x² at 3, computed afterwards. */
  gradientAfterwards: number
  tensorsLeft: number
}

const folder = mkdtempSync(join(tmpdir(), 'alambic-tour-'))

const resnet = models.resnet20()
const conv = new nn.Conv2d(3, 8, 3)
const logits = zeros([2, 10])
const labels = tensor([0n, 1n])
const feature = (...shape: number[]): Tensor => zeros(shape)
const mse = new FeatureDistillationLoss()
const idxThatEndsEarly = Buffer.concat([Buffer.from([0, 0, 8, 1, 0, 0, 0, 9]), Buffer.alloc(4)])
for (const name of [
  'data_batch_1',
  'data_batch_2',
  'data_batch_3',
  'data_batch_4',
  'data_batch_5',
  'test_batch',
])
  writeFileSync(join(folder, `${name}.bin`), Buffer.alloc(3073 + 100))
const [teacher, student] = [new models.ConvNet(), new models.ConvNet({ widths: [8, 16, 32] })]
const badImages = [{ data: randn([4, 3, 16, 16]).mul(NaN), labels: tensor([0n, 1n, 2n, 3n]) }]
const released = ones([2])
released.dispose()

const inputs: Record<string, () => unknown> = {
  'mismatched channels': () => mse.forward([feature(2, 8, 4, 4)], [feature(2, 16, 4, 4)], logits, labels),
  'unequal lists': () => new AttentionTransfer().forward([feature(2, 8, 4, 4)], [], logits, labels),
  'a label out of range': () =>
    mse.forward([feature(2, 8, 4, 4)], [feature(2, 8, 4, 4)], logits, tensor([0n, 10n])),
  'labels of the wrong dtype': () =>
    mse.forward([feature(2, 8, 4, 4)], [feature(2, 8, 4, 4)], logits, zeros([2])),
  'features of the wrong dtype': () => conv.forward(torch.ones([1, 3, 8, 8], { dtype: 'int64' })),
  'an unknown layer': () => captureFeatures(resnet, ['layer2.0.con1'], zeros([1, 3, 32, 32])),
  'a released tensor': () => released.add(1),
  'an unknown operator': () => (torch as unknown as Record<string, (x: Tensor) => Tensor>)['conv2']!(logits),
  'an idx file that ends early': () => data.readIdx(idxThatEndsEarly),
  'a CIFAR file that ends early': () => data.loadCifar10(folder),
  'images that make the loss NaN': () =>
    trainWithFeatureDistillation(teacher, student, badImages, null, {
      featureLayers: ['stage2'],
      log: null,
    }),
}

function gradientOfSquare(): number {
  return scope(() => {
    const x = tensor(3, { requiresGrad: true })
    x.mul(x).backward()
    return x.grad!.item()
  })
}

/** Finalizers run some turns after the collection. */
async function collectGarbage(): Promise<void> {
  for (let i = 0; i < 4; i++) {
    globalThis.gc!()
    await new Promise(resolve => setTimeout(resolve, 1))
  }
}

/** The error itself would keep alive what its stack refers to. */
async function errorOf(input: string, action: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await action()
  } catch (error) {
    if (error instanceof AlambicError) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error(`${input}: expected an AlambicError, but nothing was thrown`)
}

async function refusalOf(input: string, action: () => unknown): Promise<Refusal> {
  await collectGarbage()
  const before = memory().tensors
  const error = await errorOf(input, action)
  const gradientAfterwards = gradientOfSquare()
  await collectGarbage()
  return { input, ...error, gradientAfterwards, tensorsLeft: memory().tensors - before }
}

try {
  for (const [input, action] of Object.entries(inputs))
    console.log(JSON.stringify(await refusalOf(input, action)))
} finally {
  rmSync(folder, { recursive: true })
}
