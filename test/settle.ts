import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { memory } from 'alambic'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/**
 * The number of tensors alive once the garbage of earlier tests is gone. A test that awaits something and compares
 * counts starts from this one: the engine may collect at any turn, and what other tests left then goes in its midst.
 */
export async function settledTensors(): Promise<number> {
  for (let last = NaN, unchanged = 0; ;) {
    collect()
    await new Promise(resolve => setImmediate(resolve))
    const { tensors } = memory()
    unchanged = tensors === last ? unchanged + 1 : 0
    if (unchanged === 2) return tensors
    last = tensors
  }
}
