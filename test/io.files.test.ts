/** Real files that others made, where they are there: `../shared/data` beside the project, or `ALAMBIC_TEST_DATA`. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { arange, loadStateDict, models, noGrad, type Tensor } from '../lib/index.js'
import { inspectWeights } from '../lib/io/inspect.js'
import { packageRoot } from '../lib/native/loader.js'
import { failure } from './data.fixtures.js'
import reference from './reference/io_teacher.json' with { type: 'json' }

const folder = process.env['ALAMBIC_TEST_DATA'] ?? join(packageRoot, '..', 'shared', 'data')
const because = existsSync(folder) ? '' : ` (no data in ${folder}: set ALAMBIC_TEST_DATA)`

function filesIn(name: string): string[] {
  const path = join(folder, name)
  return existsSync(path) ? readdirSync(path).filter(file => /\.(pt|safetensors|dat|jit)$/.test(file)) : []
}

function shapes(dict: Record<string, Tensor>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(dict).map(([key, { dtype, shape }]) => [key, `${dtype} (${shape.join(', ')})`]),
  )
}

const expected: Record<string, Record<string, string>> = {
  'burn_batch_norm2d.safetensors': {
    'norm1.num_batches_tracked': 'int64 ()',
    'norm1.bias': 'float32 (5)',
    'norm1.running_mean': 'float32 (5)',
    'norm1.running_var': 'float32 (5)',
    'norm1.weight': 'float32 (5)',
  },
  'burn_conv2d.safetensors': {
    'conv1.bias': 'float32 (2)',
    'conv1.weight': 'float32 (2, 2, 2, 2)',
    'conv2.weight': 'float32 (2, 2, 2, 2)',
  },
  'burn_legacy_shared_storage.pt': {
    view1: 'float32 (10)',
    view2: 'float32 (20)',
    view3: 'float32 (10)',
  },
  'burn_mixed_types.pt': {
    float32: 'float32 (2)',
    int64: 'int64 (2)',
    bool: 'bool (2)',
    float64: 'float64 (2)',
  },
  'burn_nested_dict.pt': {
    'layer1.weight': 'float32 (2, 3)',
    'layer1.bias': 'float32 (2)',
    'layer2.weight': 'float32 (4, 2)',
    'layer2.bias': 'float32 (4)',
  },
  'burn_non_contiguous.pt': { permuted: 'float32 (2, 4, 3)', expanded: 'float32 (2, 3)' },
  'burn_state_dict.pt': {
    weight: 'float32 (3, 4)',
    bias: 'float32 (3)',
    running_mean: 'float32 (3)',
    running_var: 'float32 (3)',
  },
  'hf_sample_b.safetensors': { b: 'int8 (6)' },
}

describe.skipIf(because)(`real state dicts${because}`, () => {
  it.each(filesIn('state-dicts'))('loads and inspects %s', async file => {
    const path = join(folder, 'state-dicts', file)
    const dict = await loadStateDict(path)
    expect(shapes(dict)).toEqual(expected[file])
    const { tensors } = await inspectWeights(path)
    expect(tensors.map(({ key }) => key)).toEqual(Object.keys(dict))
  })

  it('keeps strides', async () => {
    const strided = await loadStateDict(join(folder, 'state-dicts', 'burn_non_contiguous.pt'))
    expect(strided['permuted']!.strides).toEqual([12, 1, 4])
    expect(strided['expanded']!.strides).toEqual([0, 1])
  })
})

const reasons: Record<string, string> = {
  'hf_test_header_too_large_1.safetensors':
    'at byte 0: expected the length of a safetensors header, at most 76',
  'hf_test_invalid_header_non_utf8_1.safetensors': 'found bytes that are not UTF-8',
  'hf_test_invalid_info_1.safetensors': 'expected 4 bytes of data, as the header says, found 0',
  'hf_test_metadata_incomplete_buffer_1.safetensors':
    'expected 16 bytes of data, as the header says, found 50',
}

describe.skipIf(because)(`malformed files${because}`, () => {
  it.each(filesIn('malformed'))('refuses %s, and says why', async file => {
    for (const read of [loadStateDict, inspectWeights]) {
      const error = await failure(() => read(join(folder, 'malformed', file)))
      expect(error.code).toBe('ERR_FILE_FORMAT')
      expect(error.message).toContain(reasons[file])
    }
  })

  it('refuses TorchScript as weights, and points to the loader for it', async () => {
    const error = await failure(() => loadStateDict(join(folder, 'torchscript', 'foo.pt')))
    expect(error.message).toContain('a TorchScript model; load it with loadTorchScript')
    const other = await failure(() => loadStateDict(join(folder, 'torchscript', 'bug510.dat')))
    expect(other.message).toContain('expected a file of safetensors or torch.save')
  })
})

const teacher = join(folder, 'teachers', 'resnet20-12fca82f.th')

describe.skipIf(!existsSync(teacher))(`the published ResNet-20 for CIFAR-10${because}`, () => {
  it('gives the logits that it gives in Python', async () => {
    const model = models.resnet20().eval()
    const result = model.loadStateDict(await loadStateDict(teacher), { prefix: 'module.' })
    expect(result).toEqual({ missing: [], unexpected: [] })
    const x = arange(4 * 3 * 32 * 32)
      .remainder(251)
      .to('float32')
      .reshape([4, 3, 32, 32])
      .div(64)
      .sub(2)
    const logits = noGrad(() => model.forward(x)).tolist() as number[][]
    const difference = Math.max(
      ...logits.flatMap((row, i) => row.map((value, j) => Math.abs(value - reference.logits[i]![j]!))),
    )
    expect(difference).toBeLessThan(1e-5)
    // All ten classes differ: the comparison is of something.
    expect(Math.max(...reference.logits.flat())).toBeGreaterThan(5)
  })
})
