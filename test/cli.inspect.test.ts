import { describe, expect, it } from 'vitest'
import { join } from 'node:path'
import { formatWeights } from '../lib/cli/inspect.js'
import { ones, rand, saveCheckpoint, saveStateDict } from '../lib/index.js'
import { inspectWeights } from '../lib/io/inspect.js'
import { folderWith } from './data.fixtures.js'

describe('alambic inspect', () => {
  it('shows keys, shapes, dtypes, bytes, shared memory and totals', async () => {
    const path = join(await folderWith(), 'w.pt')
    const weight = rand([3, 2])
    await saveCheckpoint(
      { epoch: 7, state_dict: { weight, tied: weight.t(), n: ones([1000], { dtype: 'int64' }) } },
      path,
    )
    const text = formatWeights(await inspectWeights(path))
    const rows = text
      .split('\n')
      .filter(line => line.startsWith('│'))
      .map(line =>
        line
          .split('│')
          .map(cell => cell.trim())
          .slice(1, -1),
      )
    expect(rows).toEqual([
      ['key', 'shape', 'dtype', 'bytes', 'memory'],
      ['state_dict.weight', '(3, 2)', 'float32', '24', ''],
      ['state_dict.tied', '(2, 3)', 'float32', '24', 'strides (1, 2), shared with state_dict.weight'],
      ['state_dict.n', '(1000)', 'int64', '8,000', ''],
    ])
    expect(text.split('\n')[0]).toBe(`${path}: torch.save`)
    expect(text).toContain('epoch: 7')
    expect(text).toContain('3 tensors, 1,012 elements, 8,024 bytes in a file of ')
  })

  it('does not hand control characters in names to the terminal', async () => {
    const path = join(await folderWith(), 'w.safetensors')
    await saveStateDict({ 'a\u001b[2J\u202eb': ones([1]) }, path)
    const text = formatWeights(await inspectWeights(path))
    expect(text).toContain('a\\u{1b}[2J\\u{202e}b')
    expect(text).not.toContain('\u001b')
  })
})
