/**
 * The operator table: every operator that libtorch's dispatcher knows, under its camelCase name.
 */
import { AlambicError, show } from '../errors.js'
import { native } from '../native/loader.js'
import { camelCase, Operator, operatorNames, toFunction } from './call.js'
import type { Operators } from './operators.generated.js'
import { packageExports } from './package-exports.js'
import { unique } from './unique.js'

/** An operator outside of the typed table. Its overloads are properties: `torch.ops.aten.add.Tensor(x, y)`. */
export interface OperatorPacket {
  (...args: unknown[]): unknown
  readonly [overload: string]: (...args: unknown[]) => unknown
}

export interface Torch extends Operators {
  /** The values that occur, each once; with `returnInverse` and `returnCounts` an array. As in Python. */
  readonly unique: typeof unique
  /**
   * Every operator by its schema's name, in every namespace: `torch.ops.quantized.linear(…)`. The overload without a
   * name is `default`.
   */
  readonly ops: Record<string, Record<string, OperatorPacket>>
}

/** Properties that JavaScript itself looks for on any object: their absence is no mistake of the user. */
const probed = new Set([
  'then',
  'toJSON',
  'constructor',
  'prototype',
  'nodeType',
  'asymmetricMatch',
  '$$typeof',
])

function refuseUnknown(path: string, qualifiedName: (name: string) => string): object {
  return new Proxy(Object.create(null) as object, {
    get(_, name) {
      if (typeof name === 'symbol' || probed.has(name) || name in Object.prototype) return undefined
      const own = camelCase(name)
      if (packageExports.has(own))
        throw new AlambicError(
          'ERR_UNKNOWN_OPERATOR',
          `${path}.${name}: no such operator; ${own} is exported by the package itself: import { ${own} } from 'alambic'`,
        )
      native.overloadNames(qualifiedName(name)) // throws ERR_UNKNOWN_OPERATOR with near names
      throw new AlambicError(
        'ERR_UNKNOWN_OPERATOR',
        `${path}.${name}: no such operator; names are in camelCase here: ${path}.${jsNameOf(name)}`,
      )
    },
  })
}

/** Of an operator, by its name in Python. */
function jsNameOf(name: string): string {
  return operatorNames('aten').find(each => each.name === name)?.jsName ?? camelCase(name)
}

/** Throws for overloads that the operator has not; what every function has is found as before. */
function refuseUnknownOverload(qualifiedName: string): object {
  return new Proxy(Function.prototype, {
    get(_, name, receiver) {
      if (typeof name === 'symbol' || probed.has(name) || name in Function.prototype)
        return Reflect.get(Function.prototype, name, receiver) as unknown
      const there = native.overloadNames(qualifiedName).map(overload => overload || 'default')
      throw new AlambicError(
        'ERR_UNKNOWN_OPERATOR',
        `torch.ops.${qualifiedName.replace('::', '.')}: no overload named ${show(name)}; there are ${there.join(', ')}`,
      )
    },
  })
}

function makePacket(qualifiedName: string): OperatorPacket {
  const packet = toFunction(new Operator(qualifiedName, null)) as OperatorPacket
  for (const overload of native.overloadNames(qualifiedName))
    Object.defineProperty(packet, overload || 'default', {
      value: toFunction(new Operator(qualifiedName, overload)),
      configurable: true,
    })
  Object.setPrototypeOf(packet, refuseUnknownOverload(qualifiedName))
  return packet
}

function makeNamespace(namespace: string): Record<string, OperatorPacket> {
  const packets = new Map<string, OperatorPacket>()
  return new Proxy<Record<string, OperatorPacket>>(
    {},
    {
      get(_, name) {
        if (typeof name === 'symbol' || probed.has(name)) return undefined
        let packet = packets.get(name)
        if (packet === undefined) {
          packet = makePacket(`${namespace}::${name}`)
          packets.set(name, packet)
        }
        return packet
      },
      ownKeys: () => operatorNames(namespace).map(entry => entry.name),
      getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
    },
  )
}

function makeNamespaces(): Torch['ops'] {
  const namespaces = new Map<string, Record<string, OperatorPacket>>()
  return new Proxy<Torch['ops']>(
    {},
    {
      get(_, name) {
        if (typeof name === 'symbol' || probed.has(name)) return undefined
        let table = namespaces.get(name)
        if (table === undefined) {
          table = makeNamespace(name)
          namespaces.set(name, table)
        }
        return table
      },
      ownKeys: () => native.operatorNamespaces(),
      getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
    },
  )
}

function makeTable(): Torch {
  const table = Object.create(refuseUnknown('torch', name => `aten::${name}`)) as Record<string, unknown>
  for (const { jsName, name } of operatorNames('aten'))
    table[jsName] = toFunction(new Operator(`aten::${name}`, null))
  table['unique'] = unique
  Object.defineProperty(table, 'ops', { value: makeNamespaces(), configurable: true })
  return table as unknown as Torch
}

let table: Torch | undefined

/** The names are libtorch's, and importing this package loads nothing: the table is made when it is first looked at. */
function madeTable(): Torch {
  torch = table ??= makeTable()
  return table
}

/**
 * Every ATen operator: `torch.conv2d(x, w, { bias, padding: [1, 1] })`. See `docs/operators.md` for the rules.
 *
 * @throws AlambicError on first use, if the addon or libtorch is missing; the message says what to do
 */
export let torch: Torch = new Proxy({} as Torch, {
  get(_, name) {
    if (table === undefined && (typeof name === 'symbol' || probed.has(name))) return undefined
    return Reflect.get(madeTable(), name) as unknown
  },
  has: (_, name) => Reflect.has(madeTable(), name),
  set: (_, name, value) => Reflect.set(madeTable(), name, value),
  deleteProperty: (_, name) => Reflect.deleteProperty(madeTable(), name),
  ownKeys: () => Reflect.ownKeys(madeTable()),
  getOwnPropertyDescriptor: (_, name) => Reflect.getOwnPropertyDescriptor(madeTable(), name),
  defineProperty: (_, name, descriptor) => Reflect.defineProperty(madeTable(), name, descriptor),
})
