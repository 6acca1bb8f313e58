#!/usr/bin/env node
/**
 * Builds the addon with clang beside the one of set-up, in folders of its own, with warnings as errors, and runs with
 * it the tests of what is native. With `--sanitizers`, AddressSanitizer and UndefinedBehaviorSanitizer watch over them.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findLibtorch, findOnPath } from '../lib/native/libtorch.js'
import { SetupError } from './setup/errors.js'
import { compile, configure } from './setup/native.js'
import { Progress } from './setup/progress.js'
import { run } from './setup/run.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

const USAGE = `Usage: node scripts/check-native.js [--sanitizers] [--build] [TEST FILES]

Builds the addon with clang (warnings are errors) and runs the tests of what is native with it, or those that are named.

  --sanitizers  with AddressSanitizer and UndefinedBehaviorSanitizer
  --build       builds only
  --help        prints this`

/** Names of test files, as vitest takes them: what is in them spends its time in native code of ours. */
const NATIVE_TESTS = [
  'autocast',
  'autograd',
  'distill.compiled',
  'distill.objective',
  'export',
  'io.load',
  'io.save',
  'losses.',
  'memory.scope',
  'native.',
  'nn.batch-norm',
  'nn.errors',
  'nn.layers',
  'operators.',
  'optim',
  'random',
  'script.',
  'tensor.',
  'trace.',
]

/**
 * The newest of the clang compilers on PATH.
 *
 * @returns {{ cxx: string, cc: string }}
 */
function findClang() {
  for (const suffix of ['-19', '', '-18', '-17', '-16', '-15', '-14']) {
    const [cxx, cc] = [findOnPath(`clang++${suffix}`), findOnPath(`clang${suffix}`)]
    if (cxx !== null && cc !== null) return { cxx, cc }
  }
  throw new SetupError('clang++ is missing: install the packages clang-19 and libclang-rt-19-dev')
}

/**
 * @param {string} name of the build
 * @param {boolean} sanitizers
 * @returns {Promise<{ cxx: string, home: string }>} the compiler, and the folder that `ALAMBIC_PREBUILD` has to name
 */
async function build(name, sanitizers) {
  const { cxx, cc } = findClang()
  const { libtorch } = findLibtorch({ accept: ({ headers }) => (headers ? null : 'no headers') })
  if (libtorch === null) throw new SetupError('there is no libtorch with headers: run npm run setup')
  const home = join(root, 'build', name)
  const binaryDir = join(home, 'cmake')
  const outputs = join(home, 'build', 'Release')
  mkdirSync(outputs, { recursive: true })
  const progress = new Progress({ verbose: false })
  await progress.step(`addon by ${cxx}${sanitizers ? ' with sanitizers' : ''}`, async detail => {
    await configure(root, libtorch, binaryDir, {
      CMAKE_CXX_COMPILER: cxx,
      CMAKE_C_COMPILER: cc,
      ALAMBIC_OUTPUT: outputs,
      ALAMBIC_WERROR: 'ON',
      ALAMBIC_SANITIZE: sanitizers ? 'ON' : 'OFF',
    })
    await compile(root, binaryDir, { verbose: false, detail })
  })
  return { cxx, home }
}

/**
 * The sanitizers' run-time has to be in the process before anything else: Node itself is not linked to it.
 *
 * @param {string} cxx
 * @returns {Promise<NodeJS.ProcessEnv>}
 */
async function sanitizerEnvironment(cxx) {
  const path = await run(cxx, ['-print-file-name=libclang_rt.asan-x86_64.so'], {})
  return {
    LD_PRELOAD: path.trim(),
    ASAN_OPTIONS: [
      'abort_on_error=1',
      'detect_leaks=0', // V8 and libtorch keep much until the end
      'detect_container_overflow=0', // libtorch is not instrumented, and shares its containers with us
      'detect_odr_violation=0',
      'allocator_may_return_null=1:max_allocation_size_mb=8192', // no memory is an error of ours, not the end
    ].join(':'),
    UBSAN_OPTIONS: 'print_stacktrace=1',
    // Memory that is used again is memory whose end no sanitizer sees.
    ALAMBIC_IDLE_MEMORY: '0',
    // Calls take ten times as long.
    ALAMBIC_FUZZ_THINNING: '1201',
    ALAMBIC_FUZZ_PATIENCE: '600',
  }
}

async function main() {
  const args = process.argv.slice(2)
  if (args.includes('--help')) {
    console.log(USAGE)
    return
  }
  const sanitizers = args.includes('--sanitizers')
  const unknown = args.find(each => each.startsWith('--') && !['--sanitizers', '--build'].includes(each))
  if (unknown !== undefined) throw new SetupError(`unknown option ${unknown}\n${USAGE}`)
  const { cxx, home } = await build(sanitizers ? 'sanitizers' : 'clang', sanitizers)
  if (args.includes('--build')) return
  const named = args.filter(each => !each.startsWith('--'))
  const files = named.length > 0 ? named : NATIVE_TESTS.map(name => `test/${name}`)
  const env = {
    ...process.env,
    CI: '', // the counts that CI reads are those of the other build
    ALAMBIC_PREBUILD: home,
    OMP_NUM_THREADS: String(Math.min(2, availableParallelism())),
    ...(sanitizers ? await sanitizerEnvironment(cxx) : {}),
  }
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const slow = sanitizers ? ['--testTimeout=600000', '--hookTimeout=600000'] : []
  const { status } = spawnSync(process.execPath, [vitest, 'run', ...slow, ...files], {
    cwd: root,
    env,
    stdio: 'inherit',
  })
  process.exitCode = status ?? 1
}

try {
  await main()
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  console.error(error.message)
  process.exitCode = 1
}
