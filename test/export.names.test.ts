/** Names in an exported file: those that TorchScript's grammar takes go in as they are, others are refused by name. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { exportTorchScript, loadTorchScript, nn, ones, type Tensor } from '../lib/index.js'
import { failure } from './data.fixtures.js'

const directory = mkdtempSync(join(tmpdir(), 'alambic-names-'))
const path = join(directory, 'm.pt')
beforeEach(() => rmSync(path, { force: true }))
afterAll(() => rmSync(directory, { recursive: true }))

type Fields = Record<string, unknown>

/** A module with one field of that name, which its forward uses. */
class Named extends nn.Module<[Tensor], Tensor> {
  readonly #name: string
  constructor(name: string, kind: string) {
    super()
    this.#name = name
    if (kind === 'layer') (this as unknown as Fields)[name] = new nn.Linear(2, 2)
    else if (kind === 'parameter') (this as unknown as Fields)[name] = new nn.Parameter(ones([2]))
    else this.registerBuffer(name, ones([2]))
  }
  override forward(x: Tensor): Tensor {
    const field = (this as unknown as Fields)[this.#name]
    return field instanceof nn.Module ? (field.forward(x) as Tensor) : x.mul(field as Tensor)
  }
}

const kinds = ['layer', 'parameter', 'buffer']
const save = (module: nn.Module, freeze = false) =>
  exportTorchScript(module, [ones([1, 2])], path, { warn: null, freeze })

/* prettier-ignore */
const refused = [
  'False', 'None', 'True', 'and', 'as', 'assert', 'break', 'class', 'continue', 'def', 'del', 'elif', 'else', 'for',
  'global', 'if', 'import', 'in', 'is', 'not', 'or', 'pass', 'raise', 'return', 'while', 'with',
  'größe', 'naïve', '变量', '🙂', '\u2028', 'a"b', 'a\\b', 'a\nb', 'a\rb', 'a.b', '',
  '__annotations__', '__parameters__', '__buffers__',
]

describe.each(kinds)('A %s', kind => {
  const possible = kind === 'buffer' ? refused.filter(name => name !== '' && !name.includes('.')) : refused
  it.each(possible)('called %j is refused by its name', async name => {
    const error = await failure(() => save(new Named(name, kind)))
    expect(error.code).toBe('ERR_EXPORT')
    expect(error.message).toContain(`the ${kind} ${JSON.stringify(name)} of Named: expected a name`)
    expect(existsSync(path)).toBe(false)
  })

  /* prettier-ignore */
  it.each([
    '0', '12', '1a', 'a-b', 'a b', "a'b", '$x', 'x$', 'a:b', 'a[b]', '#a', '_', 'self', 'float', 'int', 'ops', 'getattr',
    'async', 'lambda', 'from', 'try', 'print', 'x', 'Tensor',
  ])('called %j goes into the file', async name => {
    const module = new Named(name, kind)
    await save(module)
    const loaded = await loadTorchScript(path)
    expect(Object.keys(loaded.stateDict())).toEqual(Object.keys(module.stateDict()))
    expect((loaded.forward(ones([1, 2])) as Tensor).tolist()).toEqual(module.forward(ones([1, 2])).tolist())
  })
})

it('A tensor called torch would hide the namespace of the operators; a layer does not', async () => {
  for (const kind of ['parameter', 'buffer'])
    expect((await failure(() => save(new Named('torch', kind)))).code).toBe('ERR_EXPORT')
  await save(new Named('torch', 'layer'))
})

it('Buffers that are not persistent, and fields deep inside, are looked at too, with their place', async () => {
  class Quiet extends nn.Module<[Tensor], Tensor> {
    constructor() {
      super()
      this.registerBuffer('in', ones([2]), { persistent: false })
    }
    override forward(x: Tensor): Tensor {
      return x.mul((this as unknown as Fields)['in'] as Tensor)
    }
  }
  const error = await failure(() => save(new nn.Sequential({ body: new nn.Sequential(new Quiet()) })))
  expect(error.message).toContain('the buffer "in" of Quiet at "body.0"')
})

it('Names of layers in a Sequential and a ModuleDict are names as well', async () => {
  const sequential = new nn.Sequential({ in: new nn.ReLU(), out: new nn.ReLU() })
  expect((await failure(() => save(sequential))).message).toContain('the layer "in" of Sequential')
  class Choice extends nn.Module<[Tensor], Tensor> {
    readonly parts = new nn.ModuleDict({ müde: new nn.ReLU() })
    override forward(x: Tensor): Tensor {
      return this.parts.get('müde')!.forward(x) as Tensor
    }
  }
  expect((await failure(() => save(new Choice()))).message).toContain(
    'the layer "müde" of ModuleDict at "parts"',
  )
})

it('A frozen file has no names: words and other letters do not matter there', async () => {
  for (const name of ['in', 'größe', 'a"b']) await save(new Named(name, 'parameter'), true)
  expect((await failure(() => save(new Named('a.b', 'parameter'), true))).code).toBe('ERR_EXPORT')
})

it.each(['is', 'or', 'def', 'None', '变量', ''])(
  'A class called %j, as minifiers give names, is exported',
  async name => {
    const classes = { [name]: class extends Named {} }
    await save(new classes[name]!('weight', 'parameter'))
    await expect(loadTorchScript(path)).resolves.toBeDefined()
  },
)

it('Keys of an output are text, whatever they are', async () => {
  class Output extends nn.Module<[Tensor], Record<string, Tensor>> {
    override forward(x: Tensor): Record<string, Tensor> {
      return { in: x.add(1), größe: x.mul(2), 'a"b': x.neg() }
    }
  }
  await save(new Output())
  const output = (await loadTorchScript(path)).forward(ones([1])) as Record<string, Tensor>
  expect(Object.keys(output)).toEqual(['in', 'größe', 'a"b'])
})
