/**
 * Gives everything that the package exports, and the members of what it makes, values that they do not take:
 * `exports.junk.child.ts <seed> <calls per function>`. Prints what was strange, a line each, and at the end the number
 * of calls. Run in a folder of its own: some functions write files.
 */
import { readdirSync, readFileSync, writeSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as alambic from '../lib/index.js'
import { AlambicError, models, nn, optim, scope, tensor, zeros, type Tensor } from '../lib/index.js'
import { operatorNames } from '../lib/calls/call.js'

const [seed = '1', perFunction = '150'] = process.argv.slice(2)

/** The same calls for the same seed. */
const source = new alambic.data.Random(Number(seed))
const random = (below: number) => source.below(below)

class Own extends Error {}

const revoked = (target: object): unknown => {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}
const throwing = () =>
  new Proxy(
    {},
    {
      get() {
        throw new Own('a getter of the caller')
      },
      ownKeys() {
        throw new Own('a trap of the caller')
      },
    },
  )
const released = () => {
  const gone = zeros([2])
  gone.dispose()
  return gone
}

const junk: readonly (() => unknown)[] = [
  () => undefined,
  () => null,
  () => true,
  () => -1,
  () => 0,
  () => 1,
  () => 2,
  () => 1.5,
  () => NaN,
  () => Infinity,
  () => -0,
  () => 2 ** 53,
  () => 5n,
  () => 2n ** 70n,
  () => '',
  () => 'abc',
  () => 'a\0b',
  () => 'float32',
  () => '\ud800',
  () => Symbol('junk'),
  () => [],
  () => [1, 2],
  () => [null],
  () => [[]],
  // eslint-disable-next-line no-sparse-arrays
  () => [, 1],
  () => [1n, 'a', {}],
  () => new Array<number>(1e6),
  () => ({}),
  () => ({ a: 1 }),
  () => ({ length: 3 }),
  () => Object.create(null) as unknown,
  () => ({ toString: null, valueOf: null }),
  () => () => 1,
  () => () => Promise.resolve(1),
  () => class {},
  () => new Map([[1, 2]]),
  () => new Set([1]),
  () => new Date(0),
  () => /x/,
  () => Buffer.from('abc'),
  () => new Float32Array(4),
  () => new BigInt64Array(2),
  () => new DataView(new ArrayBuffer(8)),
  () => new ArrayBuffer(8),
  () => Promise.resolve(1),
  () => revoked({}),
  () => revoked([]),
  () => revoked(() => 1),
  throwing,
  () => tensor([1.5, 2, 3]),
  () => tensor([1n, 0n]),
  () => tensor(true),
  () => zeros([2, 3]),
  () => zeros([2, 3, 4, 4], { requiresGrad: true }),
  () => zeros([2], { device: 'meta' }),
  released,
  () => new nn.Linear(3, 2),
  () => nn,
  () => globalThis,
]

let calls = 0
let strange = 0
const seen = new Set<string>()

function report(where: string, args: readonly unknown[], error: unknown): void {
  if (error instanceof AlambicError) {
    if (!/^ERR_[A-Z0-9_]+$/.test(error.code)) print(`${where}: the code ${String(error.code)}`)
    else if (error.code === 'ERR_NATIVE' && /\.(cpp|cc|h):\d/.test(error.message))
      print(`${where}: ${error.message.slice(0, 200)}`)
    return
  }
  if (error instanceof Own || isTheCallersOwn(error)) return
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  const key = `${where} ${text.replaceAll(/\d+/g, '0')}`
  if (seen.has(key)) return
  seen.add(key)
  const place =
    error instanceof Error ? (/\((\S+:\d+:\d+)\)|at (\S+:\d+:\d+)/.exec(error.stack ?? '')?.[0] ?? '') : ''
  print(`${where}(${args.map(describe).join(', ')}): ${text.slice(0, 200)} ${place}`)
}

/** What a value of the caller's throws by itself: a proxy that was revoked, a class that is called. */
function isTheCallersOwn(error: unknown): boolean {
  return (
    error instanceof TypeError && /on a proxy that has been revoked|Class constructor/.test(error.message)
  )
}

function print(line: string): void {
  strange++
  writeSync(1, `${line}\n`)
}

function describe(value: unknown): string {
  try {
    if (typeof value === 'object' && value !== null) return Object.prototype.toString.call(value)
    return typeof value === 'symbol' ? 'a symbol' : (JSON.stringify(value) ?? String(value))
  } catch {
    return 'a value that cannot be read'
  }
}

/** Of every number of arguments, each value in each place in turn, and beyond that at random. */
async function attack(
  where: string,
  run: (args: unknown[]) => unknown,
  count = Number(perFunction),
): Promise<void> {
  for (let call = 0; call < count; call++) {
    const places = call < junk.length ? 1 : 1 + random(4)
    const start = performance.now()
    let args: unknown[] = []
    let result: unknown
    try {
      scope(() => {
        args = Array.from({ length: places }, (_, i) =>
          junk[i === 0 && call < 2 * junk.length ? call % junk.length : random(junk.length)]!(),
        )
        calls++
        result = run(args)
      })
      if (result instanceof Promise) await Promise.race([result, new Promise(done => setTimeout(done, 2000))])
    } catch (error) {
      report(where, args, error)
    }
    const seconds = Math.round((performance.now() - start) / 1000)
    if (seconds > 20) print(`${where}(${args.map(describe).join(', ')}): ${seconds} s`)
  }
}

const isClass = (value: unknown): boolean =>
  typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value))

/** Ends the process or the test by design, or is tried apart. */
const skipped = new Set(['torch'])

async function walk(object: Record<string, unknown>, path: string, depth = 0): Promise<void> {
  for (const name of Object.keys(object).sort()) {
    if (skipped.has(name) || depth > 3) continue
    const value = object[name]
    const where = path === '' ? name : `${path}.${name}`
    if (typeof value === 'function') {
      const make = value as new (...args: unknown[]) => unknown
      if (isClass(value) || /^[A-Z]/.test(name)) await attack(`new ${where}`, args => new make(...args))
      else await attack(where, args => (value as (...args: unknown[]) => unknown)(...args))
      for (const member of Object.getOwnPropertyNames(value))
        if (!['length', 'name', 'prototype'].includes(member) && typeof make[member as 'name'] === 'function')
          await attack(`${where}.${member}`, args =>
            (make as unknown as Record<string, (...args: unknown[]) => unknown>)[member]!(...args),
          )
    } else if (typeof value === 'object' && value !== null)
      await walk(value as Record<string, unknown>, where, depth + 1)
  }
}

class Net extends nn.Module<[Tensor], Tensor> {
  fc = new nn.Linear(3, 2)
  forward(x: Tensor): Tensor {
    return this.fc.forward(x)
  }
}

const instances: Record<string, () => object> = {
  tensor: () => tensor([1, 2, 3]),
  net: () => new Net(),
  conv: () => new nn.Conv2d(3, 4, 3),
  batchNorm: () => new nn.BatchNorm2d(3),
  sequential: () => new nn.Sequential(new nn.Linear(3, 2), new nn.ReLU()),
  moduleList: () => new nn.ModuleList([new nn.Linear(3, 2)]),
  resnet: () => models.resnet20({ classes: 2 }),
  sgd: () => new optim.SGD([zeros([2], { requiresGrad: true })], { lr: 0.1 }),
  adam: () => new optim.Adam([zeros([2], { requiresGrad: true })], { lr: 0.1 }),
  step: () =>
    new optim.lrScheduler.StepLR(new optim.SGD([zeros([2], { requiresGrad: true })], { lr: 0.1 }), 1),
  plateau: () =>
    new optim.lrScheduler.ReduceLROnPlateau(new optim.SGD([zeros([2], { requiresGrad: true })], { lr: 0.1 })),
  generator: () => new alambic.Generator(1),
  features: () => new alambic.FeatureDistillationLoss(),
  attention: () => new alambic.AttentionTransfer(),
  logits: () => new alambic.LogitsDistillationLoss(),
  probe: () => alambic.attachFeatures(new Net(), ['fc']),
  procedural: () => alambic.data.proceduralImages({ count: 8, size: 8 }),
  loader: () =>
    new alambic.data.DataLoader(alambic.data.proceduralImages({ count: 8, size: 8 }), { batchSize: 2 }),
}

/** Members that are not for users, and operators, which `operators.fuzz.ts` calls. */
const others = new Set(operatorNames('aten').map(({ jsName }) => jsName))
const lib = fileURLToPath(new URL('../lib/', import.meta.url))
for (const name of readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter(each =>
  each.endsWith('.ts'),
)) {
  const text = readFileSync(`${lib}${name}`, 'utf8')
  const notPublic =
    /(?:\b(?:private|protected)\s+|@internal\s*\*\/\s+)(?:(?:abstract|override|readonly|static|get|set)\s+|\*)*(\w+)/g
  for (const match of text.matchAll(notPublic)) others.add(match[1]!)
}

/** What may be called or set: other members are only read. */
function isUsable(object: object, member: string): boolean {
  for (let at: object | null = object; at; at = Object.getPrototypeOf(at) as object | null) {
    const found = Object.getOwnPropertyDescriptor(at, member)
    if (found !== undefined) return typeof found.value === 'function' || found.set !== undefined
  }
  return false
}

function membersOf(object: object): string[] {
  const names = new Set<string>()
  for (
    let at: object | null = object;
    at && at !== Object.prototype;
    at = Object.getPrototypeOf(at) as object | null
  )
    for (const name of Object.getOwnPropertyNames(at)) if (name !== 'constructor') names.add(name)
  return [...names].sort()
}

await walk(alambic, '')
for (const [kind, make] of Object.entries(instances)) {
  let members: string[]
  try {
    members = membersOf(make())
  } catch (error) {
    print(`${kind} cannot be made: ${String(error)}`)
    continue
  }
  for (const member of members) {
    if (member.startsWith('_') || others.has(member) || !isUsable(make(), member)) continue
    await attack(
      `${kind}.${member}`,
      args => {
        const object = make() as Record<string, unknown>
        const value = object[member]
        if (typeof value === 'function') return (value as (...args: unknown[]) => unknown).apply(object, args)
        object[member] = args[0]
        return object[member]
      },
      kind === 'tensor' ? junk.length : undefined,
    )
  }
}
writeSync(1, `${calls} calls, ${strange} strange\n`)
