/** What libtorch warns of, and which of its libraries it may use: in child processes, as both belong to a process. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import {
  backends,
  getFloat32MatmulPrecision,
  randn,
  setFloat32MatmulPrecision,
  torch,
  type AlambicError,
} from '../lib/index.js'

const library = fileURLToPath(new URL('../lib/index.ts', import.meta.url))

function run(body: string, { options = [] as string[], env = {} } = {}) {
  const code = `
    import * as alambic from ${JSON.stringify(library)}
    const { ones, models, noGrad, randn, setWarnAlways, torch } = alambic
    const warned = () => torch.add(ones([2]), ones([2]), { out: ones([3]) }) // of every version of libtorch
    const warnings = []
    process.on('warning', each => warnings.push([each.name, each.message]))
    process.on('exit', () => console.log(JSON.stringify(warnings)))
    ${body}
  `
  const child = spawnSync(
    process.execPath,
    [...options, '--import', 'tsx', '--input-type=module', '--eval', code],
    { encoding: 'utf8', cwd: fileURLToPath(new URL('..', import.meta.url)), env: { ...process.env, ...env } },
  )
  expect(child.status, child.stderr).toBe(0)
  const seen = JSON.parse(child.stdout.trim().split('\n').at(-1)!) as [string, string][]
  return { stderr: child.stderr, warnings: seen.filter(([name]) => name === 'LibtorchWarning') }
}

const wasResized = /An output with one or more elements was resized/

describe('warnings of libtorch', () => {
  it('come once, as warnings of the process', () => {
    const { stderr, warnings } = run('for (let i = 0; i < 5; i++) warned()')
    expect(warnings).toEqual([['LibtorchWarning', expect.stringMatching(wasResized)]])
    expect(stderr.match(new RegExp(wasResized, 'g'))).toHaveLength(1)
    expect(stderr).toMatch(/\(node:\d+\) LibtorchWarning: /)
  })

  it('come also where the process is ended before its event loop turns', () => {
    const { stderr } = run('warned(); process.exit(0)')
    expect(stderr.match(new RegExp(wasResized, 'g'))).toHaveLength(1)
  })

  it('come each time where that is asked for', () => {
    const { warnings } = run('setWarnAlways(true); for (let i = 0; i < 3; i++) warned()')
    expect(warnings).toHaveLength(3)
  })

  it('are silenced as all warnings of Node are', () => {
    const { stderr } = run('warned()', { env: { NODE_NO_WARNINGS: '1' } })
    expect(stderr).not.toMatch(wasResized)
  })

  it('reach the worker that computes', () => {
    const { warnings } = run(`
      const { Worker } = await import('node:worker_threads')
      const code = \`
        import { parentPort } from 'node:worker_threads'
        import { ones, torch } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}
        process.on('warning', each => parentPort.postMessage(each.name + ': ' + each.message))
        torch.add(ones([2]), ones([2]), { out: ones([3]) })
      \`
      ones([1]) // the main thread has an environment as well
      const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)))
      const message = await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject) })
      warnings.push(['LibtorchWarning', 'worker: ' + message])
    `)
    expect(warnings).toEqual([
      [
        'LibtorchWarning',
        expect.stringMatching(/^worker: LibtorchWarning: An output with one or more elements was resized/),
      ],
    ])
  })

  it('do not keep a process alive, nor end it', () => {
    run('warned(); await new Promise(resolve => setTimeout(resolve, 20)); ones([2]).sum()')
  })

  it('do not come of NNPACK, picture by picture', () => {
    const { stderr } = run(
      'const model = models.resnet20(); model.eval(); noGrad(() => model.forward(randn([1, 3, 32, 32])))',
    )
    expect(stderr).not.toMatch(/NNPACK/)
  })
})

describe('backends', () => {
  afterEach(() => {
    backends.mkldnn.enabled = true
    backends.cudnn.benchmark = false
    setFloat32MatmulPrecision('highest')
  })

  it('are switched, and say whether they are there', () => {
    expect(backends.mkldnn.enabled).toBe(true)
    expect(typeof backends.mkldnn.isAvailable()).toBe('boolean')
    expect(typeof backends.nnpack.isAvailable()).toBe('boolean')
    backends.mkldnn.enabled = false
    backends.cudnn.benchmark = true
    expect([backends.mkldnn.enabled, backends.cudnn.benchmark]).toEqual([false, true])
    expect(backends.nnpack.enabled).toBe(backends.nnpack.isAvailable())
  })

  it('change how a convolution is computed, not what it is', () => {
    const x = randn([2, 3, 8, 8])
    const weight = randn([4, 3, 3, 3])
    const fast = torch.conv2d(x, weight)
    backends.mkldnn.enabled = false
    expect(torch.allclose(torch.conv2d(x, weight), fast, { atol: 1e-5 })).toBe(true)
  })

  it('take the precision of matrix products by its name', () => {
    setFloat32MatmulPrecision('high')
    expect(getFloat32MatmulPrecision()).toBe('high')
    expect(() => setFloat32MatmulPrecision('low' as 'high')).toThrow(
      /"highest", "high" or "medium", got "low"/,
    )
  })

  const refused: [string, () => void, RegExp][] = [
    [
      'a flag that does not exist',
      () => ((backends.mkldnn as never as { enable: boolean }).enable = false),
      /backends\.mkldnn\.enable.*enabled/,
    ],
    ['a value that is no boolean', () => (backends.cudnn.enabled = 1 as never), /cudnn\.enabled/],
    ['the backend itself', () => ((backends as { mkldnn: unknown }).mkldnn = false), /backends\.mkldnn/],
    [
      'a flag of a backend without any',
      () => ((backends.mkl as never as { enabled: boolean }).enabled = false),
      /no flags/,
    ],
  ]
  it.each(refused)('refuse %s', (_, set, message) => {
    expect(set).toThrow(message)
    try {
      set()
    } catch (error) {
      expect((error as AlambicError).code).toBe('ERR_ARGUMENT')
    }
  })
})
