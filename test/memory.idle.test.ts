/** CPU memory that is kept for later tensors. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { limitIdleMemory, memory, nn, randn, releaseIdleMemory, scope, zeros } from '../lib/index.js'
import { loadAddon } from '../lib/native/loader.js'
import { codeOf } from './codes.js'

const MiB = 1 << 20
const floats = MiB / 4

beforeEach(() => {
  limitIdleMemory(64 * MiB)
  releaseIdleMemory()
})
afterEach(() => {
  limitIdleMemory(256 * MiB)
})

describe('idle memory', () => {
  test('is what a large tensor leaves, and what the next of its size takes', () => {
    expect(memory().idle).toBe(0)
    zeros([8 * floats]).dispose()
    expect(memory().idle).toBe(8 * MiB)
    const next = zeros([2, 4 * floats])
    expect(memory().idle).toBe(0)
    next.dispose()
    expect(memory().idle).toBe(8 * MiB)
  })

  test('serves a tensor that is a little smaller, and not one that is much smaller', () => {
    zeros([8 * floats]).dispose()
    const smaller = zeros([8 * floats - 1000])
    expect(memory().idle).toBe(0)
    const much = zeros([4 * floats])
    smaller.dispose()
    expect(memory().idle).toBe(8 * MiB)
    much.dispose()
    expect(memory().idle).toBe(12 * MiB)
  })

  test('of small tensors is not counted', () => {
    zeros([1000]).dispose()
    expect(memory().idle).toBe(0)
  })

  test('holds new zeros, whatever was there before', () => {
    const first = zeros([floats]).fill_(7)
    first.dispose()
    const second = zeros([floats])
    expect(second.abs().sum().item()).toBe(0)
  })

  test('stays below its limit, and loses first what has been idle longest', () => {
    const sizes = [1, 2, 3, 4]
    const tensors = sizes.map(size => zeros([size * floats]))
    limitIdleMemory(9 * MiB)
    for (const each of tensors) each.dispose() // 1, 2 and 3 MiB fit; the fourth drives out the first
    expect(memory().idle).toBe(9 * MiB)
    limitIdleMemory(7 * MiB) // now the second goes
    expect(memory().idle).toBe(7 * MiB)
    zeros([4 * floats]).dispose()
    limitIdleMemory(4 * MiB)
    expect(memory().idle).toBe(4 * MiB)
  })

  test('is not driven out by a tensor that is larger than the limit', () => {
    zeros([4 * floats]).dispose()
    zeros([65 * floats]).dispose()
    expect(memory().idle).toBe(4 * MiB)
  })

  test('is nothing with a limit of 0, for tensors made before as well', () => {
    const before = zeros([floats])
    zeros([floats]).dispose()
    limitIdleMemory(0)
    expect(memory().idle).toBe(0)
    before.dispose()
    zeros([floats]).dispose()
    expect(memory().idle).toBe(0)
  })

  test('is not drained by the scratch memory of convolutions', () => {
    limitIdleMemory(1024 * MiB)
    const images = randn([16, 16, 32, 32])
    const convolution = new nn.Conv2d(16, 16, 3, { padding: 1, bias: false })
    const step = () => {
      const loss = scope(() => convolution.forward(images).relu().sum())
      loss.backward()
      loss.dispose()
      convolution.zeroGrad()
      return memory().idle
    }
    step()
    const idle = step()
    for (let i = 0; i < 3; i++) expect(step()).toBe(idle)
    expect(idle).toBeGreaterThanOrEqual(3 * images.numel() * 4)
  })

  test('is given back by releaseIdleMemory, and its limit stays', () => {
    zeros([floats]).dispose()
    releaseIdleMemory()
    expect(memory().idle).toBe(0)
    zeros([floats]).dispose()
    expect(memory().idle).toBe(MiB)
  })

  test.each([-1, 1.5, NaN, Infinity, '1' as unknown as number])('refuses the limit %s', limit => {
    expect(codeOf(() => limitIdleMemory(limit))).toBe('ERR_ARGUMENT')
  })
})

/** Runs a program on the library in a process of its own, and gives what it prints as JSON. */
function run(program: string, environment: NodeJS.ProcessEnv = {}) {
  const index = fileURLToPath(new URL('../dist/index.js', import.meta.url))
  const loader = fileURLToPath(new URL('../dist/native/loader.js', import.meta.url))
  const text = `
    import { limitIdleMemory, memory, zeros } from ${JSON.stringify(index)}
    import { native } from ${JSON.stringify(loader)}
    const idleAfter = mebibytes => {
      for (const each of mebibytes.map(size => zeros([size * ${floats}]))) each.dispose()
      return memory().idle
    }
    ${program}`
  return spawnSync(process.execPath, ['--input-type=module', '-e', text], {
    encoding: 'utf8',
    env: { ...process.env, ALAMBIC_IDLE_MEMORY: undefined, ...environment },
  })
}

function resultOf(program: string, environment: NodeJS.ProcessEnv = {}): unknown {
  const { stdout, stderr, status } = run(program, environment)
  expect(status, stderr).toBe(0)
  return JSON.parse(stdout)
}

/** Whose allocator is in force, and what is idle after tensors of 1 and 2 MiB. */
const report = 'console.log(JSON.stringify([native.cpuAllocator(), idleAfter([1, 2])]))'

describe('ALAMBIC_IDLE_MEMORY', () => {
  test.each([
    ['', ['alambic', 3 * MiB]],
    ['1.5', ['alambic', MiB]],
    ['0', ['libtorch', 0]],
  ])("sets the limit at the start, in MiB; 0 leaves libtorch its own allocator: '%s'", (given, expected) => {
    expect(resultOf(report, { ALAMBIC_IDLE_MEMORY: given })).toEqual(expected)
  })

  test.each(['not a number', '-1', '64MiB', 'Infinity'])("is refused when it is '%s'", given => {
    const { stdout, stderr, status } = run(report, { ALAMBIC_IDLE_MEMORY: given })
    expect(stderr).toContain(`ALAMBIC_IDLE_MEMORY: expected a number of MiB of at least 0, got "${given}"`)
    expect(stderr).toContain("code: 'ERR_ARGUMENT'")
    expect([stdout, status]).toEqual(['', 1])
  })

  test('may be 0 until limitIdleMemory() says otherwise, with tensors of both kinds of memory', () => {
    const program = `
      const before = zeros([${floats}])
      limitIdleMemory(${8 * MiB})
      before.dispose() // libtorch's
      const kept = [memory().idle, idleAfter([1, 2]), native.cpuAllocator()]
      const last = zeros([${floats}])
      limitIdleMemory(0)
      last.dispose()
      console.log(JSON.stringify([...kept, idleAfter([1, 2])]))`
    expect(resultOf(program, { ALAMBIC_IDLE_MEMORY: '0' })).toEqual([0, 3 * MiB, 'alambic', 0])
  })
})

describe.skipIf(process.platform !== 'linux')('memory is not kept', () => {
  const asan = libraryOfCompiler('libasan.so')
  const libtorch = loadAddon().files.libtorch

  test.skipIf(asan === null)('under AddressSanitizer, unless a limit is given', () => {
    const watched = { LD_PRELOAD: asan!, ASAN_OPTIONS: 'detect_leaks=0' }
    expect(resultOf(report, watched)).toEqual(['libtorch', 0])
    expect(resultOf(report, { ...watched, ALAMBIC_IDLE_MEMORY: '64' })).toEqual(['alambic', 3 * MiB])
  })

  test.skipIf(asan === null).each(['__tsan_init', '_vgnU_freeres'])(
    'where there is %s in the process, by which ThreadSanitizer and valgrind are known',
    symbol => {
      const folder = mkdtempSync(join(tmpdir(), 'alambic-watched-'))
      try {
        const library = compile(folder, `extern "C" void ${symbol}() {}`)
        expect(resultOf(report, { LD_PRELOAD: library })).toEqual(['libtorch', 0])
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
  )

  const headers = join(libtorch.root, 'include', 'c10', 'core', 'CPUAllocator.h')
  test.skipIf(asan === null || !existsSync(headers)).each([0, 7])(
    'where the application has set an allocator of its own, at priority %d: it stays',
    priority => {
      const folder = mkdtempSync(join(tmpdir(), 'alambic-host-'))
      try {
        // A host's, known by what it counts.
        const library = compile(
          folder,
          `#include <c10/core/CPUAllocator.h>
          struct Host : c10::Allocator {
            c10::DataPtr take(size_t n) const { return c10::GetDefaultCPUAllocator()->allocate(n); }
            c10::DataPtr allocate(size_t n) { return take(n); }
            c10::DataPtr allocate(size_t n) const { return take(n); }
            void copy_data(void* to, const void* from, std::size_t count) const { memcpy(to, from, count); }
          };
          static bool was_set = (c10::SetCPUAllocator(new Host(), ${priority}), true);`,
          ['-std=c++20', `-I${join(libtorch.root, 'include')}`, `-L${libtorch.libDir}`, '-lc10'],
          [`-Wl,-rpath,${libtorch.libDir}`],
        )
        const limited = `limitIdleMemory(${8 * MiB}); ${report}`
        expect(resultOf(report, { LD_PRELOAD: library })).toEqual(['other', 0])
        expect(resultOf(limited, { LD_PRELOAD: library })).toEqual(['other', 0])
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
    120_000,
  )
})

/** A shared library made of C++. */
function compile(folder: string, code: string, ...flags: string[][]): string {
  const [source, library] = [join(folder, 'preloaded.cc'), join(folder, 'preloaded.so')]
  writeFileSync(source, code)
  const { status, stderr } = spawnSync(
    'c++',
    ['-shared', '-fPIC', '-O0', '-w', source, '-o', library, ...flags.flat()],
    { encoding: 'utf8' },
  )
  expect(status, stderr).toBe(0)
  return library
}

/** Where the C++ compiler has a library; null without one of either. */
function libraryOfCompiler(name: string): string | null {
  const { stdout, status } = spawnSync('c++', [`-print-file-name=${name}`], { encoding: 'utf8' })
  const path = status === 0 ? stdout.trim() : ''
  return isAbsolute(path) && existsSync(path) ? path : null
}
