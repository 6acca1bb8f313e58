/**
 * The process that `threads.jobs.test.ts` watches, where Node's pool has one thread: `node threads.jobs.child.js FOLDER
 * CASE`. Prints what ended, in order.
 */
import { pbkdf2 } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { keep, loadTorchScript, nn, ones, optim, randn } from '../dist/index.js'
import { native } from '../dist/native/loader.js'

const [folder, name = ''] = process.argv.slice(2)
const file = `${folder}/slow.pt`

/** @type {Record<string, () => (() => Promise<unknown>[]) | Promise<() => Promise<unknown>[]>>} */
const cases = {
  async forwardAsync() {
    const all = await Promise.all([1, 2, 3, 4, 5, 6].map(() => loadTorchScript(file)))
    return () => all.map(each => each.forwardAsync(ones([2, 3]), 300))
  },
  async loadTorchScript() {
    const bytes = await readFile(`${folder}/long.pt`)
    return () => Array.from({ length: 6 }, () => native.loadScript(bytes, 'long.pt', undefined, undefined))
  },
  compiledStep() {
    // No matrix product: the reference BLAS takes minutes for what others do in a second.
    const weight = new nn.Parameter(randn([1000, 1000]))
    const input = randn([1000, 1000])
    const batch = [input.handle]
    const loss = () => {
      let x = input
      for (let i = 0; i < 150; i++) x = x.mul(weight).tanh()
      return [keep(x.sum()).handle]
    }
    const weights = [weight.handle]
    const optimizer = new optim.SGD([weight], { lr: 0 })
    const recording = new native.Recording(weights, batch, loss, () => {})
    const step = new native.CompiledStep(optimizer.prepareStep(), weights, weights, undefined, 'auto')
    return () => [step.run(recording, batch)]
  },
}

const start = await cases[name]?.()
if (start === undefined) throw new Error(name)
/** @type {string[]} */
const ended = []
/** @param {string} what */
const note = what => () => ended.push(what)
await Promise.all([
  ...start().map(each => each.then(note(name))),
  readFile(file).then(note('fs')),
  lookup('localhost').then(note('dns')),
  promisify(pbkdf2)('a', 'b', 1, 16, 'sha256').then(note('crypto')),
])
console.log(ended.join(' '))
