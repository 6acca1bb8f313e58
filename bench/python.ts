/** The other side: Python on the very libtorch that this process uses, as a child that answers line by line. */
import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { loadAddon } from '../lib/native/loader.js'

export interface Python {
  executable: string
  version: string
  torch: string
}

/** The Python whose torch is the libtorch of this process, or why there is none. */
export function findPython(): Python | string {
  const { addon, files } = loadAddon()
  const { root } = files.libtorch
  const library = realpathSync(addon.systemInfo().libtorchPath)
  const reasons: string[] = []
  for (const executable of interpretersOf(root)) {
    const found = inspect(executable)
    if (typeof found === 'string') reasons.push(`${executable}: ${found}`)
    else if (found.library !== library) reasons.push(`${executable}: its torch uses ${found.library}`)
    else return { executable, version: found.version, torch: found.torch }
  }
  return reasons.join('; ') || `no Python beside ${root}`
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
  if (status !== 0) return stderr.trim().split('\n').at(-1) ?? 'it did not run'
  return JSON.parse(stdout.slice(stdout.lastIndexOf('{'))) as {
    version: string
    torch: string
    library: string
  }
}

/** A running script of this folder: answers each line of JSON with one. */
export class PythonPeer {
  private readonly child: ChildProcessByStdio<Writable, Readable, null>
  private readonly lines: AsyncIterator<string>
  private readonly reader: Interface

  constructor(python: Python, script: string, args: readonly string[] = []) {
    const path = fileURLToPath(new URL(script, import.meta.url))
    this.child = spawn(python.executable, ['-W', 'ignore', path, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.reader = createInterface({ input: this.child.stdout })
    this.lines = this.reader[Symbol.asyncIterator]()
  }

  async ask<Answer>(question: object): Promise<Answer> {
    this.child.stdin.write(`${JSON.stringify(question)}\n`)
    const line = await this.lines.next()
    if (line.done) throw new Error('the Python process ended: see its message above')
    return JSON.parse(line.value) as Answer
  }

  close(): void {
    this.child.stdin.end()
    this.reader.close()
  }
}
