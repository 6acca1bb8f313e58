/** Worker threads: each has tensors, grad mode and scopes of its own. Workers run the compiled package. */
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { ones } from '../lib/index.js'

function inWorker(code: string, workerData: unknown): Promise<unknown> {
  const script = `
    import { parentPort, workerData } from 'node:worker_threads'
    import * as alambic from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}
    ${code}
  `
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`), { workerData })
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}

describe('worker threads', () => {
  it('compute side by side and end cleanly', async () => {
    const sums = await Promise.all(
      [1, 2, 3].map(value =>
        inWorker(
          `const x = alambic.full([100], workerData, { requiresGrad: true })
           const y = x.mul(x).sum(); y.backward()
           parentPort.postMessage([y.item(), x.grad.sum().item()])`,
          value,
        ),
      ),
    )
    expect(sums).toEqual([
      [100, 200],
      [400, 400],
      [900, 600],
    ])
  })

  it('refuse the handle of a tensor of another thread', async () => {
    const x = ones([2])
    const code = await inWorker(
      `const own = alambic.ones([2]); own.handle = workerData
       try { own.add(1); parentPort.postMessage('no error') } catch (error) { parentPort.postMessage(error.code) }`,
      x.handle,
    )
    expect(code).toBe('ERR_OTHER_THREAD')
    expect(x.tolist()).toEqual([1, 1])
  })

  it('keep their grad mode to themselves', async () => {
    const enabled = await inWorker(
      `alambic.noGrad(() => parentPort.postMessage(alambic.isGradEnabled()))`,
      null,
    )
    expect(enabled).toBe(false)
    expect(ones([1], { requiresGrad: true }).mul(2).requiresGrad).toBe(true)
  })
})
