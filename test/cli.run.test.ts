/** The commands around runs: init, train, resume, evaluate, compare, export, models, completion. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadTorchScript, randn, type RunResult } from '../lib/index.js'

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'alambic-cli-run-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

function alambic(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    cwd: folder,
    timeout: 240_000,
  })
  return { status, stdout, stderr }
}

const recipe = `
name: tiny
data: { name: procedural, count: 300, testCount: 100, size: 16, validation: 60, batchSize: 20 }
teacher: { model: convNet, options: { widths: [8, 8] } }
student: { model: convNet, options: { widths: [4, 4] } }
objective:
  - { method: crossEntropy }
  - { method: kd, weight: 0.5 }
optimizer: { name: sgd, lr: 0.05, momentum: 0.9 }
epochs: 2
`

const file = (name: string) => join(folder, name)
const studentOf = (run: string) => readFileSync(file(`${run}/student.safetensors`)).toString('base64')

beforeAll(() => {
  writeFileSync(file('tiny.yaml'), recipe)
  writeFileSync(
    file('alone.yaml'),
    'extends: tiny.yaml\nname: alone\nobjective: [{ method: crossEntropy }]\n',
  )
})

describe('train, evaluate and export', () => {
  it('keep the run, and tell its numbers', { timeout: 300_000 }, async () => {
    const { status, stdout, stderr } = alambic('train', 'tiny.yaml')
    expect(status, stderr).toBe(0)
    expect(stdout).toMatch(
      /tiny epoch 2\/2: loss .* \(crossEntropy .*, kd .*\), accuracy .*%, \d+ images\/s, .* GB, ETA 0:00/,
    )
    for (const part of [
      'last epoch, on the validation data',
      'best epoch',
      'mean of the last ten',
      'test data, once',
    ])
      expect(stdout).toContain(part)
    expect(stdout).toContain(join('runs', 'tiny'))

    const again = alambic('train', 'tiny.yaml', '--json')
    expect(again.status, again.stderr).toBe(0)
    const [result] = JSON.parse(again.stdout) as RunResult[]
    expect(result!.epochs).toHaveLength(2)

    const measured = alambic('evaluate', 'runs/tiny', '--json')
    expect(measured.status, measured.stderr).toBe(0)
    const figures = JSON.parse(measured.stdout) as Record<string, number | string>
    expect(figures).toMatchObject({ on: 'test', samples: 100, top1: result!.testAccuracy })
    for (const name of ['top5', 'loss', 'calibrationError', 'agreement', 'divergence'])
      expect(figures[name]).toBeTypeOf('number')

    const exported = alambic('export', 'runs/tiny')
    expect(exported.status, exported.stderr).toBe(0)
    const script = await loadTorchScript(file('runs/tiny/student.pt'))
    expect(script.forward(randn([2, 3, 16, 16]))).toHaveProperty('shape', [2, 10])
  })

  it(
    'refuse to train another recipe into the folder, and say what is changed by hand',
    { timeout: 300_000 },
    () => {
      const other = alambic('train', 'tiny.yaml', '--set', 'epochs=3')
      expect(other.status).toBe(1)
      expect(other.stderr).toMatch(/has a run of another recipe \(epochs: 2 → 3\)/)
      const resumed = alambic('resume', 'runs/tiny', '--set', 'epochs=3', '--json')
      expect(resumed.status, resumed.stderr).toBe(0)
      const [result] = JSON.parse(resumed.stdout) as RunResult[]
      expect(result!.epochs).toHaveLength(3)
      expect(result!.changes[0]).toMatch(/^epochs: 2 → 3 \(from step \d+ on\)$/)
    },
  )

  it('say where a recipe is wrong, and train nothing', () => {
    writeFileSync(file('bad.yaml'), `${recipe.trimStart()}epoch: 3\n`)
    const { status, stdout, stderr } = alambic('train', 'bad.yaml')
    expect(status).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/bad\.yaml:10:1: .*"epoch".*"epochs".*\(ERR_RECIPE\)/)
    expect(existsSync(file('runs/bad'))).toBe(false)
  })
})

it(
  'Ctrl-C saves, says how to go on, and the run ends as one that was not stopped',
  { timeout: 300_000 },
  async () => {
    const args = ['train', 'tiny.yaml', '--set', 'name=stopped', '--set', 'epochs=400']
    const { code, output } = await new Promise<{ code: number | null; output: string }>((resolve, reject) => {
      const process_ = spawn(process.execPath, [main, ...args], {
        cwd: folder,
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let output = ''
      process_.stdout.on('data', (text: Buffer) => {
        if (!output.includes('epoch 2/') && String(text).includes('epoch 2/')) process_.kill('SIGINT')
        output += String(text)
      })
      process_.on('error', reject)
      process_.on('exit', code => {
        resolve({ code, output })
      })
    })
    expect(code).toBe(130)
    expect(output).toContain('`alambic resume runs/stopped` goes on')
    const done = readFileSync(file('runs/stopped/metrics.jsonl'), 'utf8').split('"type":"epoch"').length - 1
    expect(done).toBeLessThan(400)
    // To the end of a few epochs more, beside a run that was not stopped.
    const epochs = `epochs=${done + 2}`
    expect(alambic('resume', 'runs/stopped', '--set', epochs).status).toBe(0)
    expect(alambic('train', 'tiny.yaml', '--set', 'name=whole', '--set', epochs).status).toBe(0)
    expect(studentOf('runs/stopped')).toBe(studentOf('runs/whole'))
  },
)

describe('compare', () => {
  it('trains each recipe from the same seeds, and goes on where it was', { timeout: 300_000 }, () => {
    const args = ['compare', 'alone.yaml', 'tiny.yaml', '--seeds', '1,2', '--folder', 'compared']
    const { status, stdout, stderr } = alambic(...args)
    expect(status, stderr).toBe(0)
    expect(stdout).toMatch(/│ alone +│ .* ± /)
    expect(stdout).toContain('mean ± standard deviation over 2 seeds')
    expect(stdout).toMatch(/best \(validation\)/)
    const again = alambic(...args, '--json')
    const rows = JSON.parse(again.stdout) as { name: string; results: RunResult[] }[]
    expect(rows.map(({ name, results }) => [name, results.length])).toEqual([['alone', 2], ['tiny', 2]]) // prettier-ignore
    expect(again.stderr).toContain('alone, seed 1: done before')
    const measured = JSON.parse(alambic('evaluate', 'compared/alone', '--json').stdout) as { top1: number }[]
    expect(measured.map(({ top1 }) => top1)).toEqual(rows[0]!.results.map(result => result.testAccuracy))
  })

  it('refuses two recipes of one name', () => {
    const { status, stderr } = alambic('compare', 'tiny.yaml', 'tiny.yaml')
    expect(status).toBe(1)
    expect(stderr).toMatch(/different names, got tiny twice/)
  })
})

describe('init', () => {
  it('writes a recipe without mistakes, and not over another', () => {
    expect(alambic('init', 'new.yaml').status).toBe(0)
    const checked = alambic('train', 'new.yaml', '--check')
    expect(checked.stderr).toMatch(/^new\.yaml:\d+:1: teacher: has no weights.*\n$/)
    expect(checked.status).toBe(0)
    expect(alambic('init', 'new.yaml').stderr).toMatch(/--force writes over it/)
    const alone = alambic('init', 'new.yaml', '--force', '--teacher', 'none', '--student', 'resnet20')
    expect(alone.status, alone.stderr).toBe(0)
    expect(alambic('train', 'new.yaml', '--check')).toMatchObject({ status: 0, stderr: '' })
  })

  it.each(['features', 'attention'])('knows where %s are', method => {
    const { status, stderr } = alambic('init', `${method}.yaml`, '--method', method)
    expect(status, stderr).toBe(0)
    expect(alambic('train', `${method}.yaml`, '--check').status).toBe(0)
  })

  it('says what is wrong with a place', () => {
    expect(alambic('init', 'nowhere/new.yaml').stderr).toMatch(
      /nowhere\/new\.yaml: expected a place .*ERR_FILE_NOT_FOUND/,
    )
    expect(alambic('init', 'new.json').stderr).toMatch(/ends with \.yaml/)
    expect(alambic('resume', 'tiny.yaml').stderr).toMatch(/expected the folder of a run/)
    expect(alambic('train', 'tiny.yaml', '--folder', 'tiny.yaml').stderr).toMatch(/ERR_FILE_NOT_FOUND/)
  })

  it('names the nearest where it is given what there is not', () => {
    expect(alambic('init', 'other.yaml', '--student', 'resnet2').stderr).toMatch(/did you mean resnet20/)
    expect(existsSync(file('other.yaml'))).toBe(false)
  })
})

it('models lists the networks, and the layers of one', () => {
  expect(alambic('models').stdout).toMatch(/│ resnet20 +│ +269,722 │/)
  expect(alambic('models', 'resnet20').stdout).toMatch(/^layer1\.0\.conv1$/m)
  expect(alambic('models', 'resnet2').stderr).toMatch(/"resnet20"/)
})

it('completion knows the commands', () => {
  const script = alambic('completion', 'bash').stdout
  const complete = (line: string) =>
    spawnSync(
      'bash',
      ['-c', `${script}\nCOMP_WORDS=(${line} "")\nCOMP_CWORD=1\n_alambic\necho "\${COMPREPLY[@]}"`],
      {
        encoding: 'utf8',
      },
    ).stdout
  expect(complete('alambic')).toMatch(/train .*resume .*compare/)
  for (const shell of ['zsh', 'fish']) expect(alambic('completion', shell).stdout).toContain('train')
})
