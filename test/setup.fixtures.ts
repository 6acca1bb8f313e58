/** Folders that look like a libtorch, a Python or an installed alambic to the code that searches for them. */
import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'
import { chooseLibtorch, locateBinaries, packageRoot } from '../lib/native/loader.js'
import { minorVersion, type Libtorch } from '../lib/native/libtorch.js'

const SUFFIX = process.platform === 'darwin' ? '.dylib' : '.so'

/** A folder that is removed when the test ends. */
export function temporaryFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'alambic-test-')))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export function writeFile(path: string, text = ''): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  return path
}

export interface FakeLibtorch {
  version?: string
  /** Default true. */
  headers?: boolean
  cuda?: boolean
  /** Below the folder; default `lib`. */
  libraries?: string
}

/** The files by which the search knows a libtorch, without content. */
export function fakeLibtorch(folder: string, options: FakeLibtorch = {}): string {
  const { version = '2.13.0', headers = true, cuda = false, libraries = 'lib' } = options
  for (const name of ['c10', 'torch_cpu', 'torch', ...(cuda ? ['c10_cuda', 'torch_cuda'] : [])]) {
    writeFile(join(folder, libraries, `lib${name}${SUFFIX}`))
  }
  if (headers) {
    const [major, minor, patch] = version.split('.')
    const lines = Object.entries({ MAJOR: major, MINOR: minor, PATCH: patch }).map(
      ([part, value]) => `#define TORCH_VERSION_${part} ${value}`,
    )
    writeFile(join(folder, 'include', 'torch', 'script.h'))
    writeFile(join(folder, 'include', 'torch', 'headeronly', 'version.h'), lines.join('\n'))
  } else {
    writeFile(join(folder, 'version.py'), `__version__ = '${version}+cpu'\n`)
  }
  return folder
}

/** A folder for PATH whose `python3` finds the package torch where it is told, or does not find it. */
export function fakePython(folder: string, torch: string | null): string {
  const python = writeFile(
    join(folder, 'python3'),
    `#!/bin/sh\n${torch === null ? 'echo' : `echo '${torch}/__init__.py'`}\n`,
  )
  chmodSync(python, 0o755)
  return folder
}

/** The libtorch that this run of the tests uses. */
export function libtorchOfThisRun(): Libtorch {
  return chooseLibtorch(packageRoot, locateBinaries().cores)
}

/** A package without `build/`, as npm would install it: its binaries are under `prebuilds/`. */
export function installedPackage(options: { core?: string } = {}): string {
  const root = temporaryFolder()
  const { loader, cores } = locateBinaries()
  const minor = minorVersion(libtorchOfThisRun().version)
  const core = options.core ?? cores[minor]!
  const binaries = join(root, 'prebuilds', `${process.platform}-${process.arch}`)
  writeFile(join(root, 'package.json'), JSON.stringify({ name: 'alambic', version: '0.0.0-test' }))
  cpSync(loader, join(binaries, basename(loader)), { recursive: true })
  cpSync(core, join(binaries, `alambic-torch-${minor}.so`))
  return root
}

/** An addon that kills its process when it is loaded. */
export function crashingCore(): string {
  const folder = temporaryFolder()
  const source = writeFile(
    join(folder, 'crash.c'),
    '#include <node_api.h>\n#include <stdlib.h>\nNAPI_MODULE_INIT() {\n  (void)env;\n  abort();\n  return exports;\n}\n',
  )
  const headers = join(packageRoot, 'node_modules', 'node-api-headers', 'include')
  const core = join(folder, 'crash.so')
  const flags = process.platform === 'darwin' ? ['-bundle', '-undefined', 'dynamic_lookup'] : ['-shared']
  execFileSync('cc', [...flags, '-fPIC', '-I', headers, source, '-o', core])
  return core
}
