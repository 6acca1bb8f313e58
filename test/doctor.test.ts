import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { beforeEach, expect, it, vi } from 'vitest'
import { examine, formatReport, type DoctorReport } from '../lib/cli/doctor.js'
import { packageRoot } from '../lib/native/loader.js'
import {
  crashingCore,
  fakeLibtorch,
  installedPackage,
  libtorchOfThisRun,
  temporaryFolder,
  writeFile,
} from './setup.fixtures.js'

beforeEach(() => {
  vi.stubEnv('ALAMBIC_CACHE', temporaryFolder())
  return () => vi.unstubAllEnvs()
})

function doctor(args: string[], env: NodeJS.ProcessEnv = {}) {
  const program = join(packageRoot, 'lib', 'cli', 'main.ts')
  return spawnSync(process.execPath, ['--import', 'tsx', program, 'doctor', ...args], {
    cwd: packageRoot,
    env: { ...process.env, ...env },
    encoding: 'utf8',
  })
}

it('describes a working installation as JSON', () => {
  const { status, stdout } = doctor(['--json'])
  const report = JSON.parse(stdout) as DoctorReport
  const { version, root } = libtorchOfThisRun()
  expect(status).toBe(0)
  expect(report).toMatchObject({
    ok: true,
    problems: [],
    node: { version: process.versions.node },
    libtorch: { version, root },
  })
  expect(report.operators!.reachable).toBeGreaterThan(0.99 * report.operators!.overloads)
  expect(report.operators!.reachable).toBeGreaterThan(version.startsWith('1.13') ? 2900 : 3000)
  expect(report.threads).toBeGreaterThan(0)
  expect(report.devices[0]!.name).toBe('cpu')
  expect(report.openMpRuntimes.length).toBeLessThanOrEqual(1)
})

it('describes it for people', () => {
  const { status, stdout } = doctor([])
  expect(status).toBe(0)
  for (const label of [
    'Alambic',
    'Node',
    'Addon',
    'libtorch',
    'Features',
    'Threads',
    'Devices',
    'Operators',
  ]) {
    expect(stdout).toMatch(new RegExp(`^${label} `, 'm'))
  }
  expect(stdout).toContain('Everything works.')
})

it('fails with the reason and a remedy when the libtorch is missing', () => {
  const { status, stdout } = doctor(['--json'], { LIBTORCH: join(temporaryFolder(), 'nothing') })
  const report = JSON.parse(stdout) as DoctorReport
  expect(status).toBe(1)
  expect(report.ok).toBe(false)
  expect(report.problems).toHaveLength(1)
  expect(report.problems[0]!.code).toBe('ERR_LIBTORCH_NOT_FOUND')
  expect(report.problems[0]!.message).toContain('npm run setup')
  expect(report.addon!.builtFor.length).toBeGreaterThan(0)
})

it('says what was found when no binary fits', () => {
  vi.stubEnv('LIBTORCH', fakeLibtorch(temporaryFolder(), { version: '9.9.0', cuda: true }))
  const report = examine()
  expect(report.problems[0]!.code).toBe('ERR_LIBTORCH_LOAD')
  expect(report.libtorch).toMatchObject({ version: '9.9.0', cuda: true })
  expect(formatReport(report)).toMatch(/libtorch +9\.9\.0 named by LIBTORCH, CUDA build[^]*ERR_LIBTORCH_LOAD/)
})

it('says how to build when nothing is built', () => {
  const root = temporaryFolder()
  writeFile(join(root, 'package.json'), '{ "name": "alambic", "version": "1.2.3" }')
  const report = examine(root)
  expect(report.problems[0]!.code).toBe('ERR_ADDON_NOT_FOUND')
  expect(formatReport(report)).toMatch(/Alambic +1\.2\.3[^]*Addon +not built[^]*alambic setup/)
})

it('survives an addon that kills its process', () => {
  vi.stubEnv('LIBTORCH', libtorchOfThisRun().root)
  const report = examine(installedPackage({ core: crashingCore() }))
  expect(report.ok).toBe(false)
  expect(report.problems[0]!.message).toContain('SIGABRT')
})
