import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { exportCommand } from '../lib/cli/export.js'
import { loadTorchScript, models, noGrad, randn, saveStateDict, torch, type Tensor } from '../lib/index.js'
import { codeOfAsync } from './codes.js'

const directory = mkdtempSync(join(tmpdir(), 'alambic-cli-export-'))
afterAll(() => rmSync(directory, { recursive: true }))
const file = (name: string) => join(directory, name)

/** What `alambic export` prints. */
async function run(...args: string[]): Promise<string> {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {})
  try {
    const command = exportCommand()
      .exitOverride()
      .configureOutput({ writeErr: () => {} })
    await command.parseAsync(args, { from: 'user' })
    return log.mock.calls.flat().join('\n')
  } finally {
    log.mockRestore()
  }
}

describe('alambic export', () => {
  it.each([
    ['whole', []],
    ['frozen', ['--freeze']],
  ])('writes a network with the weights of a file (%s)', async (name, flags) => {
    const net = models.wrn_16_1({ classes: 7 }).eval()
    const weights = Object.entries(net.stateDict()).map(([key, value]) => [`module.${key}`, value] as const)
    await saveStateDict(Object.fromEntries(weights), file('w.safetensors'))
    const out = file(`${name}.pt`)
    const args = ['--model', 'wrn_16_1', '--classes', '7', '--input', '2,3,16,16', '--prefix', 'module.']
    expect(await run(out, ...args, '--weights', file('w.safetensors'), ...flags)).toMatch(
      /pt: wrn_16_1, [\d,]+ parameters, weights of .*; loaded again and compared$/,
    )
    const x = randn([3, 3, 16, 16])
    const script = await loadTorchScript(out)
    const output = noGrad(() => script.forward(x) as Tensor)
    expect(
      torch.allclose(
        output,
        noGrad(() => net.forward(x)),
        { rtol: 1e-3, atol: 1e-4 },
      ),
    ).toBe(true)
    expect(Object.keys(script.stateDict()).length > 0).toBe(flags.length === 0)
  })

  it('names near networks, refuses shapes and counts, and leaves no file', async () => {
    const out = file('no.pt')
    expect(await codeOfAsync(() => run(out, '-m', 'resnet21', '-i', '1,3,8,8'))).toBe('ERR_ARGUMENT')
    await expect(run(out, '-m', 'resnet21', '-i', '1,3,8,8')).rejects.toThrow(/near names: .*resnet20/)
    await expect(run(out, '-m', 'resnet20', '-i', '1,3,8')).rejects.toThrow(/four sizes/)
    await expect(run(out, '-m', 'resnet20', '-i', '1,3,8,8', '--classes', '0')).rejects.toThrow(
      /of at least 1/,
    )
    expect(existsSync(out)).toBe(false)
  })
})
