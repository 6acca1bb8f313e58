/**
 * The process that `threads.waiting.test.ts` watches. Prints how many threads it has: `teams`: before and after work on
 * the JavaScript thread, and after work off it; `small`: and around a
 * small loss; `competition`: again and again while it computes. `environment` and
 * `worker`: what is in the environment afterwards, here and in a child. Plain JavaScript on the compiled package: what
 * compiles TypeScript has threads too.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { Worker } from 'node:worker_threads'
import { data, FeatureDistillationLoss, nn, ones, randn, scope, trainClassifier } from '../dist/index.js'

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

/** A loss so small that another thread is not worth waking. */
function small() {
  const loss = new FeatureDistillationLoss()
  const logits = randn([16, 10], { requiresGrad: true })
  const [s, t] = [randn([16, 16, 8, 8], { requiresGrad: true }), randn([16, 16, 8, 8])]
  const labels = ones([16]).to('int64')
  const before = threads()
  scope(() => loss.forward([s], [t], logits, labels).total.backward())
  const after = threads()
  compute()
  return { before, after, computed: threads() }
}

function environment() {
  const child = execFileSync(process.execPath, ['-p', 'process.env.GOMP_SPINCOUNT ?? ""'], {
    encoding: 'utf8',
  })
  console.log(JSON.stringify({ own: process.env['GOMP_SPINCOUNT'] ?? null, child: child.trim() }))
}

const mode = process.argv[2]
if (mode === 'environment') {
  ones([1]).item()
  environment()
} else if (mode === 'worker') {
  const program = `import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)})
    .then(({ ones }) => ones([1]).item())`
  new Worker(program, { eval: true }).on('exit', environment)
} else if (mode === 'small') console.log(JSON.stringify(small()))
else if (mode === 'teams') console.log(JSON.stringify(await teams()))
else {
  await readFile(new URL(import.meta.url)) // starts Node's own threads
  console.log(threads()) // before libtorch is loaded
  for (;;) {
    compute()
    console.log(threads())
  }
}
