/**
 * A tour of tensors: making, computing, indexing, gradients, memory.
 *
 *     npx tsx examples/tensors.ts
 */
import { arange, grad, manualSeed, memory, noGrad, ones, randn, scope, slice, tensor, torch } from 'alambic'

function show(title: string, value: unknown): void {
  console.log(`${title}\n  ${String(value).replaceAll('\n', '\n  ')}`)
}

// ---- Making ----------------------------------------------------------------------------------------------------------

manualSeed(0)
show('numbers are float32', tensor([1, 2, 3.5]))
show('bigints are int64', tensor([1n, 2n, 3n]))
show('a dtype of choice', tensor([0.1, 0.2], { dtype: 'float64' }))
show('random, repeatable', randn([2, 3]))
show('shape, dtype, device', [ones([2, 3]).shape, ones([1]).dtype, ones([1]).device].join(' | '))

// ---- Computing: every ATen operator is a function, and a method if its first argument is a tensor -------------------

const x = arange(6).reshape([2, 3]).to('float32')
show('methods', x.mul(2).add(1).softmax(1))
show('options: those with a default go into one object', torch.sum(x, [1], { keepdim: true }))
show('several results', x.max(1))
const image = randn([1, 3, 8, 8])
const kernel = randn([4, 3, 3, 3])
show('a convolution', torch.conv2d(image, kernel, { stride: [2, 2], padding: [1, 1] }).shape)

// ---- Indexing: as Python's x[...], by at() and slice() -----------------------------------------------------------------

show('row 0', x.at(0))
show('last column', x.at('...', -1))
show('columns 0 and 1', x.at(':', slice(2)))
show('where above 2', x.at(x.gt(2)))
show('assigned', x.clone().setAt([0, slice(1, 3)], 9))

// ---- Gradients -----------------------------------------------------------------------------------------------------------

const w = tensor([1, 2, 3], { requiresGrad: true })
w.pow(2).sum().backward()
show('d(w²)/dw', w.grad)
const [first] = grad(w.pow(3).sum(), w, { createGraph: true })
const [second] = grad(first.sum(), w)
show('the second derivative of w³', second)
show('nothing is recorded in noGrad', noGrad(() => w.mul(2)).requiresGrad)

// ---- Memory: tensors are outside JavaScript's heap -----------------------------------------------------------------------

const before = memory().tensors
const total = scope(() => {
  const noise = randn([1000, 1000]) // released at the end of the scope, like all that is not returned
  return noise.abs().mean()
})
show('a scope leaves its result only', `${memory().tensors - before} tensor more: ${total.item().toFixed(3)}`)
{
  using _temporary = ones([1000, 1000]) // released at the closing brace
  show('inside the block', `${(memory().bytes / 1e6).toFixed(0)} MB`)
}
show('after it', `${(memory().bytes / 1e6).toFixed(0)} MB`)
