/** The pages for readers say what is so: examples that run, errors that exist, links that lead somewhere. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import {
  AlambicError,
  captureFeatures,
  data,
  exportTorchScript,
  FeatureDistillationLoss,
  loadRecipe,
  loadTorchScript,
  loadStateDict,
  keep,
  models,
  nn,
  ones,
  optim,
  scope,
  tensor,
  torch,
  trainClassifier,
  zeros,
  type ErrorCode,
  type Tensor,
} from '../lib/index.js'
import { handmadeScript } from './script.handmade.js'
import { chooseLibtorch, locateBinaries, native, packageRoot } from '../lib/native/loader.js'

function read(path: string): string {
  return readFileSync(join(packageRoot, path), 'utf8')
}

function filesIn(folder: string, pattern: RegExp): string[] {
  return readdirSync(join(packageRoot, folder), { recursive: true })
    .map(name => join(folder, String(name)))
    .filter(path => pattern.test(path))
    .sort()
}

const docs = filesIn('docs', /\.md$/)
const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...docs]

// ---- Errors ------------------------------------------------------------------------------------------------------------

const errorPage = read('docs/errors.md')
const declared = codesIn(/export type ErrorCode =[^]*?\n\n/.exec(read('lib/errors.ts'))![0])
const sources = [
  ...filesIn('native', /\.(c|cc|h)$/),
  ...filesIn('lib', /\.(ts|js)$/),
  ...filesIn('scripts', /\.(ts|js)$/),
].filter(path => path !== join('lib', 'errors.ts'))

function codesIn(text: string): string[] {
  return [...new Set(text.match(/\bERR_[A-Z_]+\b/g))].sort()
}

/** The first code block under the heading of a code. */
function documentedMessage(code: ErrorCode): string {
  const [, section = ''] = errorPage.split(`### \`${code}\`\n`)
  return /```\n([^]*?)\n```/.exec(section.split('\n### ')[0]!)?.[1] ?? ''
}

/** `…` stands for anything. */
function toPattern(message: string): RegExp {
  const parts = message.split('…').map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('[^]*')}$`)
}

async function errorOf(action: () => unknown): Promise<AlambicError> {
  try {
    await action()
  } catch (error) {
    if (error instanceof AlambicError) return error
    throw error
  }
  throw new Error('no error')
}

/** What no input is known to lead to has no example; that of ERR_THREAD is made in threads.ending.test.ts. */
type Reproducible = Exclude<ErrorCode, 'ERR_NATIVE' | 'ERR_THREAD'>

const labels = tensor([0n, 1n])
const logits = zeros([2, 10])
const features = (channels: number) => [zeros([2, channels, 8, 8])]

/** A file of torch.save's old format whose value is this pickle. */
function pickleOf(pickle: string): Buffer {
  const magic = 'L119547037146038801333356L\n.'
  const system = "(S'little_endian'\nI01\nd."
  return Buffer.from(`${magic}I1001\n.${system}${pickle}]`)
}

class Counting extends nn.Module<[Tensor], Tensor> {
  private calls = 0
  override forward(x: Tensor): Tensor {
    return x.add(this.calls++)
  }
}

/** A page's message for each code: what the action is refused with. */
const reproductions: Record<Reproducible, () => unknown> = {
  ERR_ARGUMENT: () => new FeatureDistillationLoss({ alpha: 2 }),
  ERR_ASYNC_CALLBACK: () => scope(() => Promise.resolve()),
  ERR_INDEX: () => ones([2, 3]).at(2),
  ERR_RECIPE: () =>
    loadRecipe({ data: { name: 'procedural', count: 100 }, student: { model: 'resnet21' }, epochs: -3 }),
  ERR_PRECISION: () => tensor([2n ** 53n + 1n]).item(),
  ERR_SHAPE_MISMATCH: () => tensor([[1, 2], [3]]),
  ERR_CHANNEL_MISMATCH: () =>
    new FeatureDistillationLoss().forward(features(16), features(32), logits, labels),
  ERR_LENGTH_MISMATCH: () => new FeatureDistillationLoss().forward(features(16), [], logits, labels),
  ERR_DTYPE: () => nn.functional.crossEntropy(logits, zeros([2])),
  ERR_DEVICE: () => zeros([2], { device: 'gpu' }),
  ERR_LABEL_RANGE: () => nn.functional.crossEntropy(logits, tensor([3n, 10n])),
  ERR_TENSOR_RELEASED: () => {
    const x = ones([2])
    x.dispose()
    x.add(1)
  },
  ERR_BUSY: async () => {
    const model = new nn.Linear(2, 2)
    const batch = [zeros([1, 2]).handle]
    const loss = () => [keep(model.forward(zeros([1, 2])).sum()).handle]
    const weights = model.parameters().map(({ handle }) => handle)
    const recording = new native.Recording(weights, batch, loss, () => {})
    const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 })
    const step = new native.CompiledStep(optimizer.prepareStep(), weights, weights, undefined, 'auto')
    const done = step.run(recording, batch)
    try {
      model.forward(zeros([1, 2]))
    } finally {
      await done
    }
  },
  ERR_OTHER_THREAD: () => {
    const x = ones([2])
    x.handle += 2 ** 21 // the next thread's
    x.add(1)
  },
  ERR_OUT_OF_MEMORY: () => zeros([1e15]),
  ERR_UNKNOWN_OPERATOR: () => (torch as unknown as Record<string, (x: Tensor) => void>)['conv2']!(ones([1])),
  ERR_UNSAFE_PICKLE: () => loadStateDict(pickleOf("cposix\nsystem\n(S'true'\ntR.")),
  ERR_NO_OVERLOAD: () => torch.add(ones([2]), 'a' as never),
  ERR_OPERATOR: () => torch.matmul(ones([2, 3]), ones([2, 3])),
  ERR_SCRIPT: async () => {
    const body = `  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    return torch.mm(x, x)
`
    const net = await loadTorchScript(handmadeScript({ body }))
    net.forward(ones([2, 3]))
  },
  ERR_NOT_IMPLEMENTED: () => new nn.ModuleList([]).forward(),
  ERR_AUTOGRAD: () => ones([2], { requiresGrad: true }).mul(2).backward(),
  ERR_UNKNOWN_LAYER: () => captureFeatures(models.resnet20(), ['layer2.0.con1'], zeros([1, 3, 32, 32])),
  ERR_STATE_DICT: () => new nn.Linear(2, 3).loadStateDict({ weight: zeros([3, 4]), scale: zeros([1]) }),
  ERR_NAN_LOSS: () =>
    trainClassifier(new nn.Linear(2, 2), [{ data: tensor([[NaN, 1]]), labels: tensor([0n]) }], null),
  ERR_FILE_NOT_FOUND: () => data.loadMnist('nowhere'),
  ERR_EXPORT: () => exportTorchScript(new Counting(), [zeros([2])], join(tmpdir(), 'counting.pt')),
  ERR_FILE_FORMAT: () => data.readIdx(Buffer.from('hello')),
  ERR_ADDON_NOT_FOUND: () => locateBinaries(join(packageRoot, 'docs')),
  ERR_LIBTORCH_NOT_FOUND: () => {
    vi.stubEnv('LIBTORCH', join(packageRoot, 'nowhere'))
    chooseLibtorch(packageRoot, {})
  },
  ERR_LIBTORCH_LOAD: () => chooseLibtorch(packageRoot, { '0.0': 'none' }),
}

describe('docs/errors.md', () => {
  it('lists exactly the codes of ErrorCode, each in the table and with a section', () => {
    const rows = [...errorPage.matchAll(/^\| `(ERR_[A-Z_]+)`/gm)].map(match => match[1]!)
    const sections = [...errorPage.matchAll(/^### `(ERR_[A-Z_]+)`$/gm)].map(match => match[1]!)
    expect(rows.sort()).toEqual(declared)
    expect(sections.sort()).toEqual(declared)
  })

  it('knows every code that a source file mentions', () => {
    const unknown = sources.flatMap(path =>
      codesIn(read(path))
        .filter(code => !declared.includes(code))
        .map(code => `${path}: ${code}`),
    )
    expect(unknown).toEqual([])
  })

  it('lists no code that nothing raises', () => {
    const raised = sources.flatMap(path => read(path).match(/(?<=['"])ERR_[A-Z_]+(?=['"])/g) ?? [])
    expect([...new Set(raised)].sort()).toEqual(declared)
  })

  it.each(Object.entries(reproductions) as [Reproducible, () => unknown][])(
    'shows the message of %s as it is',
    async (code, action) => {
      const error = await errorOf(action)
      vi.unstubAllEnvs()
      expect(error.code).toBe(code)
      expect(error.message).toMatch(toPattern(documentedMessage(code)))
    },
  )
})

// ---- README ------------------------------------------------------------------------------------------------------------

describe('README.md', () => {
  it('shows examples/distill.ts as it is, without the comment on top', () => {
    const example = read('examples/distill.ts').replace(/^\/\*\*[^]*?\*\/\n/, '')
    expect(read('README.md')).toContain('```ts\n' + example + '```')
  })

  it.each(['keep-best', 'resume', 'log-elsewhere', 'serve-while-training'])(
    'has docs/how-to.md show examples/%s.ts as it is',
    name => {
      const example = read(`examples/${name}.ts`).replace(/^\/\*\*[^]*?\*\/\n/, '')
      expect(read('docs/how-to.md')).toContain('```ts\n' + example + '```')
    },
  )

  it('names scripts of package.json that exist, as do the other pages', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    const named = pages.flatMap(page =>
      [...read(page).matchAll(/\bnpm run ([\w:]+)/g)].map(match => match[1]!),
    )
    expect(named).toContain('demo')
    expect(named.filter(name => !(name in scripts))).toEqual([])
  })
})

// ---- Exports -----------------------------------------------------------------------------------------------------------

/** All names that a module exports, types too, with those of the namespaces that it passes on. */
function exportsOf(path: string): string[] {
  const source = read(path)
  const passedOn = [...source.matchAll(/^export \* (?:as (\w+) )?from '(.*?)\.js'/gm)].flatMap(
    ([, namespace, from]) => [
      ...(namespace === undefined ? [] : [namespace]),
      ...exportsOf(join(dirname(path), `${from!}.ts`)),
    ],
  )
  const listed = [...source.matchAll(/^export (?:type )?\{([^}]*)\}/gm)]
    .flatMap(([, list]) => list!.split(','))
    .map(name => name.replace(/\b(?:type|\w+ as)\s/g, '').trim())
  const declaration = /^export (?:declare |abstract |async )*(?:function|class|const|interface|type) (\w+)/gm
  const declared = [...source.matchAll(declaration)].map(([, name]) => name!)
  return [...passedOn, ...listed, ...declared].filter(name => name !== '')
}

describe('The pages', () => {
  it('name everything that is exported, types too', () => {
    const names = [...new Set(exportsOf('lib/index.ts'))]
    expect(names).toEqual(
      expect.arrayContaining(['Tensor', 'zeros', 'nn', 'Conv2d', 'gelu', 'ImageDatasetInit']),
    )
    const words = new Set(docs.flatMap(page => read(page).match(/\w+/g) ?? []))
    expect(names.filter(name => !words.has(name))).toEqual([])
  })

  it('name PyTorch and papers as their sources, as do the declarations', () => {
    const published = [...pages, ...filesIn('lib', /\.ts$/), ...filesIn('native', /\.(cc|h)$/)]
    const found = published.filter(path =>
      /\bseed['’]s\b|\bof the seed\b|\bthe seed (?:does|has|writes|trains)\b/i.test(read(path)),
    )
    expect(found).toEqual([])
  })
})

// ---- Links -------------------------------------------------------------------------------------------------------------

/** Without code blocks, where brackets and parentheses are code. */
function prose(page: string): string {
  return read(page).replace(/^```[^]*?^```$/gm, '')
}

/** GitHub's anchor of a heading. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-')
}

function anchorsOf(page: string): string[] {
  return [...prose(page).matchAll(/^#+ (.*)$/gm)].map(match => anchor(match[1]!))
}

describe.each(pages)('%s', page => {
  it('has links that lead somewhere', () => {
    const targets = [...prose(page).matchAll(/\]\(([^)\s]+)\)/g)].map(match => match[1]!)
    const dead = targets
      .filter(target => !/^(https?|mailto):/.test(target))
      .filter(target => {
        const [path = '', fragment] = target.split('#')
        const file = path === '' ? page : join(dirname(page), path)
        if (!existsSync(join(packageRoot, file))) return true
        return fragment !== undefined && !anchorsOf(file).includes(fragment)
      })
    expect(dead).toEqual([])
  })

  it('names files of this repository that are there', () => {
    const named =
      read(page).match(/(?<=[\s`(])(?:native|lib|scripts|test|examples|docs)\/[\w./-]+\.\w+/g) ?? []
    expect(named.filter(path => !existsSync(join(packageRoot, path)))).toEqual([])
  })
})

describe('docs/README.md', () => {
  it('leads to every page and every example', () => {
    const index = read('docs/README.md')
    const all = [...docs, ...filesIn('examples', /\.ts$/)].filter(path => path !== join('docs', 'README.md'))
    const missing = all.filter(path => {
      const target = dirname(path) === 'docs' ? path.slice('docs/'.length) : `../${path}`
      return !index.includes(`](${target})`)
    })
    expect(missing).toEqual([])
  })
})
