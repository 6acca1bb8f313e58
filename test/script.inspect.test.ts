/** `alambic inspect` for TorchScript. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { formatScript } from '../lib/cli/inspect-script.js'
import { inspectCommand } from '../lib/cli/inspect.js'
import { inspectScript, loadTorchScript, type ScriptSummary } from '../lib/index.js'
import { codeOf } from './codes.js'
import { findModels } from './script.fixtures.js'
import { handmadeScript } from './script.handmade.js'

const models = findModels()
const folder = 'folder' in models ? models.folder : ''
const reason = 'reason' in models ? ` (no Python with this libtorch: ${models.reason})` : ''

describe('alambic inspect FILE', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'alambic-inspect-'))
  const file = join(scratch, 'net.pt')
  beforeAll(() => writeFileSync(file, handmadeScript()))
  afterAll(() => rmSync(scratch, { recursive: true }))

  const run = async (...args: string[]): Promise<string> => {
    const lines: unknown[] = []
    const { log } = console
    console.log = (line: unknown) => lines.push(line)
    try {
      await inspectCommand().parseAsync(['node', 'alambic', file, ...args])
    } finally {
      console.log = log
    }
    return lines.join('\n')
  }

  test('prints a table', async () => {
    const text = await run()
    expect(text).toContain('TorchScript, Net in evaluation mode, 6 parameters')
    expect(text).toContain('forward(x: Tensor) -> Tensor')
    expect(text).toMatch(/inner\s+│?\s*Inner\s+│?\s*0\s+│?\s*1\s+│?\s*Tensor/)
  })

  test('prints JSON, with an input the shape at every tap', async () => {
    const summary = JSON.parse(await run('--json', '--input', '2,3')) as ScriptSummary
    expect(summary.modules).toEqual([
      { path: '', type: 'Net', parameters: 6, calls: 0 },
      {
        path: 'inner',
        type: 'Inner',
        parameters: 0,
        calls: 1,
        gives: 'Tensor',
        taps: [[{ path: 'inner', dtype: 'float32', shape: [2, 3] }]],
      },
    ])
    expect(summary.output).toEqual([{ path: '', dtype: 'float32', shape: [2, 3] }])
  })

  test('a module that did not run says so', async () => {
    expect(await run('--input', '0,3')).toMatch(/inner.*did not run/)
  })
})

describe.skipIf(reason)(`inspectScript${reason}`, () => {
  const load = (name: string) => loadTorchScript(join(folder, `${name}.pt`))

  test('tuples, dicts and several calls', async () => {
    const model = await load('structured.scripted')
    const summary = inspectScript(model, ['2,5,6'])
    const taps = Object.fromEntries(summary.modules.map(({ path, taps }) => [path, taps]))
    expect(taps['lstm']![0]!.map(({ path, shape }) => [path, shape])).toEqual([
      ['lstm[0]', [2, 5, 6]],
      ['lstm[1][0]', [1, 2, 6]],
      ['lstm[1][1]', [1, 2, 6]],
    ])
    expect(taps['scores']![0]!.map(({ path }) => path)).toEqual(['scores[logits]', 'scores[norm]'])
    expect(summary.output!.map(({ path }) => path)).toEqual(['[logits]', '[norm]'])
    expect(formatScript('x.pt', summary)).toContain('[1][0] float32 (1, 2, 6)')

    const shared = inspectScript(await load('shared.scripted'), ['4,5'])
    expect(shared.modules.find(({ path }) => path === 'inner')!.taps).toHaveLength(3)
    expect(formatScript('x.pt', shared)).toContain('3 × float32 (4, 5)')
  })

  test('leaves the mode as it was', async () => {
    const student = await load('student')
    inspectScript(student, ['2,3,8,8'])
    expect(student.training).toBe(true)
    expect(student.getSubmodule('drop').training).toBe(true)
  })

  test('inputs that forward does not take are refused', async () => {
    const branches = await load('branches.scripted')
    expect(inspectScript(branches, ['2,6', '1']).output![0]!.shape).toEqual([2, 6])
    for (const inputs of [['2,6', 'one'], ['2;6'], ['2,6:float99'], ['2,6', '1', '1']])
      expect(codeOf(() => inspectScript(branches, inputs))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => inspectScript(branches, ['2,7']))).toBe('ERR_SCRIPT')
  })
})
