/** Saves a file and stops in the middle: by itself, by being killed, or by waiting. Started by io.temporaries.test.ts. */
import { isMainThread, parentPort } from 'node:worker_threads'
import { nn, exportTorchScript, Tensor, zeros } from '../lib/index.js'
import { writeAtomically } from '../lib/io/atomic-file.js'

const [how, path] = process.argv.slice(2) as [string, string]
const say = (word: string) => {
  if (isMainThread) console.log(word)
  else parentPort!.postMessage(word)
}

class Stops extends nn.Module<[Tensor], Tensor> {
  calls = 0
  override forward(x: Tensor): Tensor {
    // The second call compares the file that was written.
    if (++this.calls === 2) process.exit(3)
    return x.relu()
  }
}

if (how === 'export') await exportTorchScript(new Stops(), [zeros([1])], path)
else
  await writeAtomically(path, async file => {
    await file.writeFile(Buffer.alloc(1 << 20, 1))
    if (how === 'exit') process.exit(3)
    say('writing')
    await new Promise(resolve => {
      if (isMainThread) process.stdin.once('data', resolve)
      else parentPort!.once('message', resolve)
    })
  })
say('written')
process.exit()
