/** Python on the very libtorch that this process uses: for benchmarks, and for tests that compare with it. */
import { spawnSync } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { loadAddon } from '../lib/native/loader.js'

export interface Python {
  executable: string
  version: string
  torch: string
}

/**
 * The Python whose torch is the libtorch of this process, or why there is none. That of the managed copy of libtorch
 * needs packages that `scripts/setup/python-peer.js` installs.
 */
export function findPython(): Python | string {
  const { addon, files } = loadAddon()
  const { root } = files.libtorch
  const { libtorchPath } = addon.systemInfo()
  const reasons: string[] = []
  for (const executable of interpretersOf(root)) {
    const found = accept(executable, libtorchPath)
    if (typeof found !== 'string') return found
    reasons.push(found)
  }
  return reasons.join('; ') || `no Python beside ${root}`
}

function accept(executable: string, libtorchPath: string): Python | string {
  const found = inspect(executable)
  if (typeof found === 'string') return `${executable}: ${found}`
  if (found.library !== realpathSync(libtorchPath)) return `${executable}: its torch uses ${found.library}`
  return { executable, version: found.version, torch: found.torch }
}

/** A wheel lies in `<prefix>/lib/python3.x/site-packages/torch`, the system's libtorch in `/usr`. */
function interpretersOf(root: string): string[] {
  const inPrefix = join(root, '..', '..', '..', '..', 'bin')
  return [join(inPrefix, 'python3'), join(inPrefix, 'python'), join(root, 'bin', 'python3')].filter(
    existsSync,
  )
}

function inspect(executable: string): { version: string; torch: string; library: string } | string {
  const program = [
    'import json, os, platform, torch',
    "paths = {line.split()[-1] for line in open('/proc/self/maps') if 'libtorch_cpu' in line}",
    "print(json.dumps({'version': platform.python_version(), 'torch': torch.__version__,",
    "  'library': os.path.realpath(paths.pop())}))",
  ].join('\n')
  const { status, stdout, stderr } = spawnSync(executable, ['-W', 'ignore', '-c', program], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  if (status !== 0) return stderr.trim().split('\n').at(-1) || 'it did not run'
  return JSON.parse(stdout.slice(stdout.lastIndexOf('{'))) as {
    version: string
    torch: string
    library: string
  }
}
