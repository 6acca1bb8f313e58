/**
 * The processes that `threads.ending.test.ts` watches: `node threads.ending.child.js <case> …`. They run the compiled
 * package.
 */
import { constants } from 'node:os'
import { Worker } from 'node:worker_threads'
import * as alambic from '../dist/index.js'
import { native, loadAddon } from '../dist/native/loader.js'

const [name = '', ...args] = process.argv.slice(2)
/** @param {string | undefined} workload @param {string | undefined} folder */
const worker = (workload, folder) =>
  new Worker(new URL('../scripts/stress-workers.worker.js', import.meta.url), {
    workerData: { workload, folder, number: 0 },
  })
/** @param {Worker} each @returns {Promise<any>} */
const ready = each => new Promise(resolve => each.once('message', resolve))

/** A step that takes a while, in its thread. */
function startStep() {
  const { nn, optim, randn, keep } = alambic
  // No matrix product: the reference BLAS takes minutes for what others do in a second.
  const weight = new nn.Parameter(randn([1000, 1000]))
  const input = randn([1000, 1000])
  const batch = [input.handle]
  const loss = () => {
    let x = input
    for (let i = 0; i < 40; i++) x = x.mul(weight).tanh()
    return [keep(x.sum()).handle]
  }
  const weights = [weight.handle]
  const optimizer = new optim.SGD([weight], { lr: 0 })
  const recording = new native.Recording(weights, batch, loss, () => {})
  const step = new native.CompiledStep(optimizer.prepareStep(), weights, weights, undefined, 'auto')
  return step.run(recording, batch)
}

/** @type {Record<string, (args: string[]) => unknown>} */
const cases = {
  /** (workload, folder): the main thread exits while a worker computes. */
  async exits([workload, folder]) {
    await ready(worker(workload, folder))
    setTimeout(() => process.exit(7), 20)
  },
  async throws([workload, folder]) {
    await ready(worker(workload, folder))
    setTimeout(() => {
      throw new Error('meant')
    }, 20)
  },
  /** (folder): with work of its own beside the event loop, some of it not yet begun. */
  async exitsItself([folder]) {
    const all = await Promise.all([1, 2, 3, 4, 5, 6].map(() => alambic.loadTorchScript(`${folder}/slow.pt`)))
    for (const each of all) void each.forwardAsync(alambic.ones([2, 3]), 30)
    void startStep()
    void alambic.loadTorchScript(`${folder}/slow.pt`)
    setImmediate(() => process.exit(7))
  },
  /** (folder): without Node's event. */
  async exitsUnheard([folder]) {
    const script = await alambic.loadTorchScript(`${folder}/slow.pt`)
    void script.forwardAsync(alambic.ones([2, 3]), 30)
    void startStep()
    setImmediate(() => /** @type {any} */ (process).reallyExit(7))
  },
  async throwsItself([folder]) {
    const script = await alambic.loadTorchScript(`${folder}/slow.pt`)
    void script.forwardAsync(alambic.ones([2, 3]), 30)
    void startStep()
    setImmediate(() => {
      throw new Error('meant')
    })
  },
  /** (folder): nothing but the call keeps the process alive. */
  async waits([folder]) {
    const script = await alambic.loadTorchScript(`${folder}/slow.pt`)
    void script.forwardAsync(alambic.ones([2, 3]), 10).then(() => console.log('done'))
  },
  /** Where a worker ends by itself, its code is that which it asked for. */
  async workerExits([folder]) {
    const code = `
      import * as alambic from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}
      const script = await alambic.loadTorchScript(${JSON.stringify(`${folder}/slow.pt`)})
      void script.forwardAsync(alambic.ones([2, 3]), 30)
      setImmediate(() => process.exit(3))`
    const each = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`))
    console.log(await new Promise(resolve => each.once('exit', resolve)))
  },
  /** Environments until there are too many, all in this thread. */
  tooMany() {
    alambic.ones([1]).dispose() // takes an environment for the package itself
    const { files } = loadAddon()
    let code
    for (let made = 1; made <= 256 && !code; made++)
      try {
        process.dlopen({ exports: {} }, files.core, constants.dlopen.RTLD_NOW)
      } catch (error) {
        code = `${made > 250 ? 'after enough' : made}: ${/** @type {NodeJS.ErrnoException} */ (error).code}`
      }
    console.log(code)
    try {
      loadAddon()
    } catch (error) {
      if (!(error instanceof alambic.AlambicError)) throw error
      console.log(error.code)
      console.log(error.message)
    }
    console.log(alambic.ones([2]).sum().item())
  },
  /** (workers): each takes the handles that the one before had, and tries to use them. */
  async stale([count]) {
    const { files } = loadAddon()
    const code = `
      const { parentPort, workerData: { core, stale } } = require('node:worker_threads')
      const module = { exports: {} }
      process.dlopen(module, core, 2)
      const addon = module.exports
      const own = Array.from({ length: 4 }, () => addon.tensorFromData(new Float32Array([7]), 'float32', [1], 'float32', 'cpu'))
      addon.release(own[3])
      own.push(addon.alias(own[0]))
      let used = 0
      for (const handle of stale) try { addon.alias(handle); used++ } catch {}
      parentPort.postMessage({ own, used })`
    /** @type {number[]} */
    let stale = []
    const seen = new Set()
    let used = 0
    for (let i = 0; i < Number(count); i++) {
      const each = new Worker(code, { eval: true, workerData: { core: files.core, stale } })
      const message = await ready(each)
      await each.terminate()
      used += message.used
      for (const handle of message.own) seen.add(handle)
      stale = [...stale, ...message.own].slice(-200)
    }
    console.log(used, seen.size === 5 * Number(count))
  },
  /** A worker that wears out the slot it uses leaves its number to the next one all the same. */
  async wornOut() {
    const { files } = loadAddon()
    const code = `
      const { parentPort, workerData: { core, uses } } = require('node:worker_threads')
      const module = { exports: {} }
      process.dlopen(module, core, 2)
      const addon = module.exports
      const first = addon.tensorFromData(new Float32Array([7]), 'float32', [1], 'float32', 'cpu')
      const slots = new Set()
      let last
      for (let i = 0; i < uses; i++) addon.release(last = addon.alias(first))
      parentPort.postMessage([first, last].map(handle => [Math.floor(handle / 2 ** 21) % 256, handle % 2 ** 21]))`
    for (const uses of [2 ** 24 + 5, 3]) {
      const each = new Worker(code, { eval: true, workerData: { core: files.core, uses } })
      console.log(JSON.stringify(await ready(each)))
      await each.terminate()
    }
  },
  /** (folder): run with a `pthread_create` that fails while NO_THREADS is set. */
  async noThreads([folder]) {
    const script = await alambic.loadTorchScript(`${folder}/slow.pt`)
    /** @param {() => unknown} body */
    const code = async body => {
      try {
        await body()
        return 'no error'
      } catch (error) {
        return /** @type {NodeJS.ErrnoException} */ (error).code
      }
    }
    process.env['NO_THREADS'] = '1'
    console.log(await code(startStep))
    // A thread of the pool is there since the file was loaded.
    console.log(await code(() => script.forwardAsync(alambic.ones([2, 3]), 1)))
    delete process.env['NO_THREADS']
    console.log(await code(startStep))
  },
}

await cases[name]?.(args)
