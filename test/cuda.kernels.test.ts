/** The CUDA kernels of the losses, run on the CPU: `cuda/emulated.cc` compares them with their definitions. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { findLibtorch } from '../lib/native/libtorch.js'

const here = dirname(fileURLToPath(import.meta.url))
const compiler = ['c++', 'g++', 'clang++'].find(
  name => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0,
)
const { libtorch } = findLibtorch()
const reason =
  compiler === undefined
    ? 'there is no C++ compiler'
    : !libtorch?.headers
      ? 'this libtorch has no headers'
      : process.platform !== 'linux'
        ? 'the emulation takes ucontext.h'
        : undefined

it.skipIf(reason !== undefined)(
  `the CUDA kernels compute the losses and their gradients in every type, layout and alignment${reason ? ` (skipped: ${reason})` : ''}`,
  { timeout: 400_000 },
  () => {
    const directory = mkdtempSync(join(tmpdir(), 'alambic-kernels-'))
    try {
      const program = join(directory, 'emulated')
      const include = join(libtorch!.root, 'include')
      const build = spawnSync(
        compiler!,
        [
          '-std=c++20',
          '-O1',
          `-I${join(here, 'cuda', 'emulation')}`,
          `-I${join(here, '..', 'native')}`,
          ...(include === '/usr/include' ? [] : ['-isystem', include]),
          join(here, 'cuda', 'emulated.cc'),
          '-o',
          program,
        ],
        { encoding: 'utf8' },
      )
      expect(build.status, build.stderr).toBe(0)
      const run = spawnSync(program, { encoding: 'utf8' })
      expect(run.stdout, run.stderr).toMatch(/^(\d+) cases, 0 wrong\n$/)
      expect(run.status).toBe(0)
    } finally {
      rmSync(directory, { recursive: true })
    }
  },
)
