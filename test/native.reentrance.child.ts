/**
 * The process that `native.reentrance.test.ts` watches: calls whose arguments run JavaScript while they are read, which
 * releases tensors, makes other calls and fills tables. Prints a line of JSON for each case: what came of it.
 */
import {
  AlambicError,
  full,
  memory,
  nn,
  ones,
  optim,
  scope,
  Tensor,
  tensor,
  torch,
  zeros,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'

export interface Outcome {
  name: string
  /** The value, or the code of the error. */
  outcome: unknown
}

/** Releases a tensor, and has other ones take its place in the table and its memory. */
function replace(x: Tensor): void {
  x.dispose()
  for (let i = 0; i < 50; i++) full([2], 7)
}

/** Everything that calls leave behind in the buffer, the words and the table of handles. */
function disturb(): void {
  for (let i = 0; i < 300; i++) ones([2]).add(1)
  for (let i = 0; i < 300; i++)
    try {
      torch.gelu(ones([1]), { approximate: `word ${i} ${counter++}` })
    } catch {
      // no such approximation
    }
  torch.cat(Array.from({ length: 2000 }, () => ones([1])))
  scope(() => ones([3]).mul(2).sum())
}
let counter = 0

/** An array whose last element is read by running `body`. */
function lazyList<T>(elements: readonly T[], body: () => void): T[] {
  const list = [...elements]
  const last = list.length - 1
  Object.defineProperty(list, last, {
    get: () => {
      body()
      return elements[last]
    },
    enumerable: true,
  })
  return list
}

function proxied<T extends object>(target: T, body: () => void): T {
  return new Proxy(target, {
    get: (object, key, receiver) => {
      body()
      const value: unknown = Reflect.get(object, key, receiver)
      return value
    },
    getPrototypeOf: object => {
      body()
      return Reflect.getPrototypeOf(object)
    },
  })
}

const any = (value: unknown): never => value as never

const cases: Record<string, () => unknown> = {
  'a complex number whose getter releases the tensor beside it': () => {
    const x = ones([2])
    return x.add(
      any({
        re: 1,
        get im() {
          replace(x)
          return 0
        },
      }),
    ).shape
  },
  'a complex number whose getter makes calls': () => {
    const x = tensor([1, 2])
    return x
      .mul(
        any({
          re: 3,
          get im() {
            disturb()
            return 0
          },
        }),
      )
      .real()
      .tolist()
  },
  'a complex number beside words': () =>
    torch
      .full(
        [2],
        any({
          re: 3,
          get im() {
            disturb()
            return 0
          },
        }),
        { dtype: 'complex64', device: 'cpu' },
      )
      .real()
      .tolist(),
  'a list of scalars that releases a tensor of another list': () => {
    const x = ones([2])
    return torch._foreachAdd(
      [x, ones([2])],
      any([
        {
          re: 1,
          get im() {
            replace(x)
            return 0
          },
        },
        1,
      ]),
    ).length
  },
  'a list of booleans that releases a tensor': () => {
    const [x, weight] = [ones([1, 1, 3, 3]), ones([1, 1, 1, 1])]
    const mask = lazyList([true, true, true], () => replace(weight))
    return torch.convolutionBackward(
      ones([1, 1, 3, 3]),
      x,
      weight,
      [1],
      [1, 1],
      [0, 0],
      [1, 1],
      false,
      [0, 0],
      1,
      mask,
    ).length
  },
  'an object whose text releases the tensor beside it': () => {
    const x = ones([2])
    return x.add(
      any({
        toString: () => {
          replace(x)
          return 'a'
        },
      }),
    )
  },
  'an object that cannot become a text': () =>
    ones([2]).add(
      any(
        Object.create(null, {
          [Symbol.toPrimitive]: {
            get: () => {
              throw new RangeError('no')
            },
          },
        }),
      ),
    ),
  'a symbol': () => ones([2]).add(any(Symbol('s'))),
  'a function': () => ones([2]).add(any(() => 1)),
  'a list of lists': () => ones([2]).view(any([[2], [1]])),
  'a getter that throws': () =>
    ones([2]).add(
      any({
        get re() {
          throw new RangeError('mine')
        },
        im: 0,
      }),
    ),
  'a list of sizes whose getter makes calls': () =>
    ones([6])
      .mul(5)
      .view(lazyList([2, 3], disturb))
      .tolist(),
  'a list of sizes that is a proxy which makes calls': () =>
    full([6], 5)
      .view(proxied([3, 2], disturb))
      .tolist(),
  'a list of tensors whose getter makes calls': () =>
    torch.cat(lazyList([full([1], 1), full([1], 2)], disturb), { dim: 0 }).tolist(),
  'a list of tensors that is a proxy which makes calls': () =>
    torch.stack(proxied([full([1], 1), full([1], 2)], disturb)).tolist(),
  'a list of tensors that releases one of them': () => {
    const [x, y] = [ones([2]), ones([2])]
    return torch.cat(lazyList([x, y], () => replace(x))).tolist()
  },
  'a list of tensors whose getter releases the tensor beside it': () => {
    const x = tensor([1, 2])
    return x.index(any(lazyList([tensor([0n])], () => replace(x)))).tolist()
  },
  'a tensor that is a proxy which makes calls': () =>
    full([2], 3)
      .add(proxied(full([2], 4), disturb))
      .tolist(),
  'a tensor that is a proxy as the option out': () =>
    torch.add(full([2], 3), full([2], 4), { out: proxied(zeros([2]), disturb) }).tolist(),
  'a typed array whose iterator makes calls': () => {
    const sizes = new Int32Array([3, 2])
    Object.defineProperty(sizes, Symbol.iterator, {
      value: function* () {
        disturb()
        yield 2
        disturb()
        yield 3
      },
    })
    return full([6], 5).view(any(sizes)).shape
  },
  'options whose getter makes calls': () =>
    torch
      .sum(
        tensor([
          [1, 2],
          [3, 4],
        ]),
        any([0]),
        any({
          get keepdim() {
            disturb()
            return true
          },
        }),
      )
      .tolist(),
  'an index whose getter releases the tensor': () => {
    const x = tensor([
      [1, 2],
      [3, 4],
    ])
    return x.at(any(lazyList([0, 1], () => replace(x)))).tolist()
  },
  'a shape that releases the storage beside it': () => {
    const x = ones([6])
    return native.viewStorage(
      x.handle,
      'float32',
      lazyList([2, 3], () => replace(x)),
      [3, 1],
      0,
    )
  },
  'a shape that takes the data away': () => {
    const data = new Float32Array(6)
    const shape = lazyList([2, 3], () => structuredClone(data, { transfer: [data.buffer] }))
    return native.tensorFromData(data, 'float32', shape, 'float32', 'cpu')
  },
  'gradients of outputs that release the output': () => {
    const x = ones([2], { requiresGrad: true })
    const y = x.mul(2)
    const gradients = lazyList([ones([2]).handle], () => replace(y))
    native.backward([y.handle], gradients, false, false)
    return x.grad!.tolist()
  },
  'options of an optimizer that release its parameter': () => {
    const p = ones([2], { requiresGrad: true })
    const sgd = new optim.SGD([p], { lr: 0.1 })
    p.sum().backward()
    Object.defineProperty(sgd.paramGroups[0], 'lr', {
      get: () => {
        replace(p)
        return 0.1
      },
      enumerable: true,
    })
    return sgd.step()
  },
  'options of a layer that make calls': () =>
    new nn.Conv2d(
      any({
        valueOf: () => {
          disturb()
          return 3
        },
      }),
      8,
      3,
    ).weight.shape,
  'a handle that is no number': () => {
    const x = ones([2])
    const codes = [NaN, -1, 0.5, Infinity, 2 ** 60].map(handle => {
      x.handle = handle
      return codeOf(() => x.add(1))
    })
    x.handle = 0
    return codes
  },
}

function codeOf(body: () => unknown): unknown {
  try {
    return body()
  } catch (error) {
    if (error instanceof AlambicError) return error.code
    return String(error)
  }
}

for (const [name, body] of Object.entries(cases)) {
  console.log(JSON.stringify({ name }))
  const outcome = codeOf(body) ?? 'undefined'
  console.log(JSON.stringify({ name, outcome } satisfies Outcome))
}
console.log(
  JSON.stringify({ name: 'afterwards', outcome: [ones([2]).add(1).tolist(), memory().tensors > 0] }),
)
