/**
 * The process that `threads.waiting.test.ts` watches. Prints how many threads it has: `teams`: before and after work on
 * the JavaScript thread, and after work off it; `competition`: again and again while it computes. Plain JavaScript on the
 * compiled package: what compiles TypeScript has threads too.
 */
import { readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { data, nn, ones, randn, scope, trainClassifier } from '../dist/index.js'

const threads = () => readdirSync('/proc/self/task').length

/** In parallel. */
function compute() {
  scope(() => {
    const x = randn([512, 512])
    x.matmul(x).relu().sum().item()
  })
}

async function teams() {
  ones([1]).item()
  const before = threads()
  compute()
  const computed = threads()
  const images = new data.TensorDataset(randn([64, 256]), ones([64]).to('int64'))
  await trainClassifier(new nn.Linear(256, 512), new data.DataLoader(images, { batchSize: 64 }), null, {
    epochs: 6, // a thread takes a moment to end
    compile: true,
    log: null,
  })
  return { before, computed, trained: threads() }
}

if (process.argv[2] === 'teams') console.log(JSON.stringify(await teams()))
else {
  await readFile(new URL(import.meta.url)) // starts Node's own threads
  console.log(threads()) // before libtorch is loaded
  for (;;) {
    compute()
    console.log(threads())
  }
}
