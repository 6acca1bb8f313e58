/** The check of a GPU machine: how it judges, and that it never takes a CPU for a GPU. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { native, packageRoot } from '../lib/native/loader.js'
import { judge, render, summarizeTests, type Findings } from '../scripts/gpu-check/report.js'
import { Budget, runStage } from '../scripts/gpu-check/stage.js'
import { closure } from '../scripts/gpu-bundle/packages.js'

const folder = mkdtempSync(join(tmpdir(), 'alambic-gpu-check-'))
afterAll(() => rmSync(folder, { recursive: true }))

// ---- Judging -----------------------------------------------------------------------------------------------------------

const met = { what: 'mse', target: '≥ 70 %', measured: '81 %', met: true }

function findings(changes: Partial<Findings> = {}): Findings {
  return {
    device: 'cuda',
    quick: false,
    started: '2026-01-01T00:00:00.000Z',
    seconds: 300,
    machine: {
      system: 'Linux',
      cpu: 'a processor',
      cores: 16,
      memory: '128 GiB',
      gpus: [{ name: 'a GPU', driver: '580.1', memory: '80 GiB', computeCapability: '9.0' }],
    },
    versions: { node: '22.0.0' },
    finished: true,
    obstacle: null,
    stages: [{ name: 'set-up', state: 'done', seconds: 60, message: '' }],
    tests: { passed: 10, failed: 0, skipped: 1, failures: [] },
    benchmarks: [
      { name: 'losses', table: 'a table', results: { machine: { device: 'cuda' }, targets: [met] } },
    ],
    ...changes,
  }
}

describe('a machine is qualified', () => {
  test('when every part is done, every test passed and every target is met', () => {
    const report = judge(findings())
    expect([report.ok, report.verdict, report.problems]).toEqual([true, 'qualified on CUDA', []])
    expect(render(report)).toMatch(
      /qualified on CUDA[^]*a GPU, 80 GiB[^]*10 passed, 0 failed, 1 skipped[^]*met +mse: 81 %/,
    )
  })

  test.each<[string, Partial<Findings>, RegExp]>([
    [
      'a target is missed',
      {
        benchmarks: [
          {
            name: 'losses',
            table: '',
            results: {
              machine: { device: 'cuda' },
              targets: [met, { ...met, measured: '55 %', met: false }],
            },
          },
        ],
      },
      /target missed: mse: 55 %, promised ≥ 70 %/,
    ],
    [
      'a test failed',
      {
        tests: {
          passed: 9,
          failed: 1,
          skipped: 0,
          failures: [{ test: 'a.test.ts: adds', message: 'got 3' }],
        },
      },
      /test failed: a\.test\.ts: adds: got 3/,
    ],
    ['no test passed', { tests: { passed: 0, failed: 0, skipped: 9, failures: [] } }, /no test passed/],
    ['the tests came to no result', { tests: null }, /the tests came to no result/],
    [
      'a part was not finished in time',
      {
        stages: [{ name: 'tests', state: 'not finished in time', seconds: 9, message: 'ended with SIGKILL' }],
      },
      /tests: not finished in time: ended with SIGKILL/,
    ],
    [
      'a benchmark came to no result',
      { benchmarks: [{ name: 'steps', table: '', results: null }] },
      /steps: it came to no/,
    ],
    [
      'a benchmark ran on the CPU after all',
      { benchmarks: [{ name: 'steps', table: '', results: { machine: { device: 'cpu' }, targets: [met] } }] },
      /benchmark steps: it ran on cpu instead of cuda/,
    ],
    ['somebody ended the check', { finished: false }, /ended before it was done/],
    ['something stood in the way', { obstacle: 'there is no usable GPU' }, /^there is no usable GPU$/],
  ])('not when %s', (_, changes, problem) => {
    const report = judge(findings(changes))
    expect([report.ok, report.verdict]).toEqual([false, 'NOT qualified on CUDA'])
    expect(report.problems).toContainEqual(expect.stringMatching(problem))
    expect(render(report)).toContain(report.problems[0])
  })

  test('never by a run on the CPU, whatever GPU is there', () => {
    const benchmarks = [
      { name: 'losses', table: '', results: { machine: { device: 'cpu' }, targets: [met] } },
    ]
    const report = judge(findings({ device: 'cpu', benchmarks }))
    expect(report.ok).toBe(true)
    expect(report.verdict).toBe('passed ON THE CPU: nothing in here says anything about a GPU')
    const text = render(report)
    expect(text).toMatch(/device +cpu \(no GPU was used\)/)
    expect(text).toMatch(/GPU, unused +a GPU/)
    expect(text).not.toContain('qualified')
  })
})

test('a file of tests that cannot be read counts as a failed test', () => {
  const tests = summarizeTests({
    testResults: [
      {
        name: '/somewhere/test/a.test.ts',
        status: 'failed',
        message: '',
        assertionResults: [
          { status: 'passed', fullName: 'adds' },
          { status: 'skipped', fullName: 'rests' },
          { status: 'failed', fullName: 'divides', failureMessages: ['expected 2\n    at …'] },
        ],
      },
      {
        name: '/somewhere/test/b.test.ts',
        status: 'failed',
        message: 'no such module\nat …',
        assertionResults: [],
      },
    ],
  })
  expect(tests).toEqual({
    passed: 1,
    failed: 2,
    skipped: 1,
    failures: [
      { test: 'test/a.test.ts: divides', message: 'expected 2' },
      { test: 'test/b.test.ts', message: 'no such module' },
    ],
  })
})

// ---- Running -------------------------------------------------------------------------------------------------------------

describe('a part of the check', () => {
  const run = (program: string, seconds: number) =>
    runStage('part', ['-e', program], {
      cwd: folder,
      log: join(folder, 'part.log'),
      budget: new Budget(seconds),
      say: () => undefined,
    })

  test('is done when it ends with 0, and its output is kept', async () => {
    const stage = await run('console.log("fine")', 60)
    expect([stage.state, stage.output]).toEqual(['done', 'fine\n'])
    expect(readFileSync(join(folder, 'part.log'), 'utf8')).toBe('fine\n')
  })

  test('says its last words when it fails', async () => {
    const stage = await run('console.error("this is why"); process.exit(3)', 60)
    expect([stage.state, stage.message]).toEqual(['failed', 'ended with 3: this is why'])
  })

  test('is ended with all its children when its time is over', async () => {
    const program = `
      const { pid } = require('node:child_process').spawn('sleep', ['600'])
      console.log(pid)
      setInterval(() => {}, 1000)`
    const stage = await run(program, 3)
    expect(stage.state).toBe('not finished in time')
    expect(Number(stage.output)).toBeGreaterThan(0)
    // A process that was ended may still be listed until whoever inherits it looks.
    const isAlive = () => {
      try {
        return !/^State:\s+Z/m.test(readFileSync(`/proc/${stage.output.trim()}/status`, 'utf8'))
      } catch {
        return false
      }
    }
    for (let i = 0; i < 50 && isAlive(); i++) await new Promise(resolve => setTimeout(resolve, 20))
    expect(isAlive()).toBe(false)
  })

  test('is not begun when no time is left', async () => {
    expect((await run('0', 0)).state).toBe('not run')
  })
})

describe('scripts/gpu-check.sh', () => {
  const script = join(packageRoot, 'scripts', 'gpu-check.sh')
  const run = (...args: string[]) => spawnSync(script, args, { encoding: 'utf8', timeout: 60_000 })

  test.skipIf(native.systemInfo().cudaDevices > 0)(
    'fails where there is no GPU, in both files, and tests nothing',
    () => {
      const { status, stdout, stderr } = run('--out', folder)
      expect(status, stderr).toBe(1)
      expect(stdout).toContain('NOT qualified on CUDA')
      const report = JSON.parse(readFileSync(join(folder, 'gpu-check.json'), 'utf8')) as ReturnType<
        typeof judge
      >
      expect(report).toMatchObject({ ok: false, device: 'cuda', tests: null, benchmarks: [] })
      expect(report.problems[0]).toMatch(/built for the CPU only|there is no usable GPU/)
      expect(readFileSync(join(folder, 'gpu-check.txt'), 'utf8')).toContain(report.problems[0])
    },
  )

  test('explains its options, and refuses others', () => {
    expect(run('--help').stdout).toContain('--device NAME')
    for (const args of [['--device', 'tpu'], ['--seconds', 'many'], ['--frobnicate']]) {
      const { status, stderr } = run(...args)
      expect(status).toBe(2)
      expect(stderr).toContain(args[0])
    }
  })
})

// ---- The bundle ------------------------------------------------------------------------------------------------------------

describe('the packages of a bundle', () => {
  const packages = {
    'node_modules/a': { dependencies: { b: '1' }, optionalDependencies: { native: '1', elsewhere: '1' } },
    'node_modules/b': {
      version: '2',
      peerDependencies: { c: '1', plugin: '1' },
      peerDependenciesMeta: { plugin: { optional: true } },
    },
    'node_modules/a/node_modules/b': { version: '1', dependencies: { c: '1' } },
    'node_modules/c': {},
    'node_modules/native': {},
    'node_modules/elsewhere': {},
    'node_modules/plugin': {},
    'node_modules/unused': {},
  }
  const isInstalled = (path: string) => path !== 'node_modules/elsewhere'

  test('are those that were named and all that they need, each as Node resolves it', () => {
    expect(closure(packages, ['a'], isInstalled)).toEqual([
      'node_modules/a',
      'node_modules/a/node_modules/b',
      'node_modules/c',
      'node_modules/native',
    ])
    expect(closure(packages, ['b'], isInstalled)).toEqual(['node_modules/b', 'node_modules/c'])
  })

  test('must be known and installed', () => {
    expect(() => closure(packages, ['nothing'], isInstalled)).toThrow('has no nothing')
    expect(() => closure(packages, ['elsewhere'], isInstalled)).toThrow('elsewhere is not installed')
  })
})
