/** Work beside the event loop has threads of its own. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadTorchScript, nn, ones, optim, randn, tensor, type Tensor } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { codeOf, codeOfAsync } from './codes.js'
import { handmadeScript, slow } from './script.handmade.js'

/** So much code that reading it takes a while. */
const long = `  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
${'    x = torch.add(torch.mul(x, 2), 1)\n'.repeat(3000)}    return x
`

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'alambic-jobs-'))
  writeFileSync(join(folder, 'slow.pt'), handmadeScript({ body: slow }))
  writeFileSync(join(folder, 'long.pt'), handmadeScript({ body: long }))
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('files, DNS and crypto do not wait', () => {
  const child = fileURLToPath(new URL('threads.jobs.child.js', import.meta.url))

  it.each(['forwardAsync', 'loadTorchScript', 'compiledStep'])(
    'for pending calls: %s',
    { timeout: 120_000 },
    name => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [child, folder, name], {
        encoding: 'utf8',
        env: { ...process.env, UV_THREADPOOL_SIZE: '1' },
      })
      expect(status, stderr).toBe(0)
      const ended = stdout.trim().split(' ')
      expect(ended.slice(0, 3).sort()).toEqual(['crypto', 'dns', 'fs'])
      expect(new Set(ended.slice(3))).toEqual(new Set([name]))
    },
  )
})

describe('calls beside the event loop', () => {
  it('of several files run at once, and each gives its own result', async () => {
    const several = await Promise.all(
      Array.from({ length: 8 }, () => loadTorchScript(join(folder, 'slow.pt'))),
    )
    const results = await Promise.all(
      several.map((each, i) => each.forwardAsync(tensor([i]), 1) as Promise<Tensor>),
    )
    const [first] = results[0]!.tolist() as [number]
    expect(results.map(each => each.tolist())).toEqual(results.map((_, i) => [first + i]))
  })

  it('reject with what failed', async () => {
    const script = await loadTorchScript(handmadeScript({ body: slow }))
    expect(await codeOfAsync(() => script.forwardAsync(ones([2]), 'many'))).toBe('ERR_ARGUMENT')
    const broken = await loadTorchScript(
      handmadeScript({
        body: `  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    return torch.mm(x, x)
`,
      }),
    )
    expect(await codeOfAsync(() => broken.forwardAsync(ones([2, 3])))).toBe('ERR_SCRIPT')
    expect(await codeOfAsync(() => loadTorchScript(Buffer.from('nothing')))).toBe('ERR_FILE_FORMAT')
  })
})

describe('while a compiled step runs', () => {
  function makeStep(locked: (weights: number[]) => number[] = weights => weights) {
    const model = new nn.Linear(200, 200)
    const input = randn([200, 200])
    const optimizer = new optim.Adam(model.parameters(), { lr: 0.1 })
    model.forward(input).sum().backward()
    optimizer.step()
    const loss = () => {
      let x = input
      for (let i = 0; i < 40; i++) x = model.forward(x)
      return [x.sum().handle]
    }
    const weights = model.parameters().map(({ handle }) => handle)
    const recording = new native.Recording(weights, [input.handle], loss, () => {})
    const make = () =>
      new native.CompiledStep(optimizer.prepareStep(), weights, locked(weights), undefined, 'auto')
    const step = make()
    return { model, optimizer, recording, step, make, run: () => step.run(recording, [input.handle]), input }
  }

  it.each<[string, (optimizer: optim.Adam) => unknown]>([
    ['zeroGrad', optimizer => optimizer.zeroGrad()],
    ['step', optimizer => optimizer.step()],
    ['stateDict', optimizer => optimizer.stateDict()],
    [
      'loadStateDict',
      optimizer => optimizer.loadStateDict({ state: {}, param_groups: [{ lr: 0.1, params: [0, 1] }] }),
    ],
    ['addParamGroup', optimizer => optimizer.addParamGroup({ params: [ones([2], { requiresGrad: true })] })],
  ])('its optimizer is refused, and free again afterwards: %s', async (_, use) => {
    const { optimizer, run } = makeStep()
    const done = run()
    const code = codeOf(() => use(optimizer))
    const groups = optimizer.paramGroups.length
    await done
    expect(code).toBe('ERR_BUSY')
    expect(groups).toBe(1)
    expect(codeOf(() => use(optimizer))).toBe('no error')
  })

  it('another step with its optimizer is refused', async () => {
    const { make, recording, input, run } = makeStep()
    const second = make()
    const done = run()
    const code = codeOf(() => second.run(recording, [input.handle]))
    await done
    expect(code).toBe('ERR_BUSY')
    await second.run(recording, [input.handle])
  })

  it('a step that cannot begin leaves nothing locked', async () => {
    const released = ones([2])
    released.dispose()
    const { model, optimizer, run } = makeStep(weights => [...weights, released.handle])
    expect(codeOf(run)).toBe('ERR_TENSOR_RELEASED')
    expect(model.weight.shape).toEqual([200, 200])
    expect(codeOf(() => optimizer.zeroGrad())).toBe('no error')
    expect(await codeOfAsync(async () => run())).toBe('ERR_TENSOR_RELEASED')
  })

  it('a step that fails leaves nothing locked either', async () => {
    const { model, optimizer, recording, step } = makeStep()
    expect(await codeOfAsync(() => step.run(recording, [ones([3, 3]).handle]))).toBe('ERR_OPERATOR')
    expect(model.weight.shape).toEqual([200, 200])
    expect(codeOf(() => optimizer.zeroGrad())).toBe('no error')
  })
})
