/** Python on the very libtorch that this process uses: for benchmarks, and for tests that compare with it. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { cacheFolder } from '../lib/native/libtorch.js'
import { loadAddon } from '../lib/native/loader.js'

export interface Python {
  executable: string
  version: string
  torch: string
}

/**
 * The Python whose torch is the libtorch of this process, or why there is none. The managed copy of libtorch comes
 * without the packages that `import torch` wants: an environment in the cache has them, which `install` makes.
 */
export function findPython({ install = false } = {}): Python | string {
  const { addon, files } = loadAddon()
  const { root } = files.libtorch
  const { libtorchPath, torchVersion } = addon.systemInfo()
  const environment = join(cacheFolder(), `python-for-${torchVersion.replace('+', '-')}`)
  const prepared = join(environment, 'bin', 'python3')
  const interpreters = interpretersOf(root)
  const reasons: string[] = []
  for (const executable of [prepared, ...interpreters].filter(existsSync)) {
    const found = accept(executable, libtorchPath)
    if (typeof found !== 'string') return found
    reasons.push(found)
  }
  const bare = interpreters.find((_, i) =>
    reasons.at(i - interpreters.length)?.includes('ModuleNotFoundError'),
  )
  if (install && bare !== undefined && !existsSync(prepared)) {
    makeEnvironment(environment, bare, dirname(root))
    return accept(prepared, libtorchPath)
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

/** What torch imports, and what `torch.compile` does. */
const packages = [
  'typing_extensions',
  'sympy',
  'networkx',
  'jinja2',
  'filelock',
  'fsspec',
  'numpy',
  'setuptools',
]

/** An environment that sees the torch in `sitePackages` beside these packages. */
function makeEnvironment(folder: string, executable: string, sitePackages: string): void {
  const unfinished = `${folder}.${process.pid}`
  mkdirSync(dirname(folder), { recursive: true })
  try {
    execute(executable, ['-m', 'venv', unfinished])
    const python = join(unfinished, 'bin', 'python3')
    execute(python, ['-m', 'pip', 'install', '--quiet', ...packages])
    const site = execute(python, ['-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']).trim()
    writeFileSync(join(site, 'torch.pth'), `${sitePackages}\n`)
    renameSync(unfinished, folder)
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true })
    throw new Error(
      `an environment for Python with ${packages.join(', ')} could not be made; install them for ${executable}, or ` +
        'give LIBTORCH a torch that Python can import',
      { cause: error },
    )
  }
}

function execute(command: string, args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', timeout: 600_000 })
  if (status !== 0) throw error ?? new Error(`${command} ${args.join(' ')}: ${stderr}`)
  return stdout
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
