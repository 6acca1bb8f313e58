import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { AlambicError } from '../lib/errors.js'
import { tryInChild } from '../lib/native/addon.js'
import { minorVersion } from '../lib/native/libtorch.js'
import { loadAddon, locateBinaries, native, packageRoot } from '../lib/native/loader.js'
import {
  crashingCore,
  fakeLibtorch,
  installedPackage,
  libtorchOfThisRun,
  temporaryFolder,
  writeFile,
} from './setup.fixtures.js'

/** Runs a module in a process of its own, with the addon of this run and not yet loaded. */
function runInChild(code: string, env: NodeJS.ProcessEnv = {}) {
  const file = writeFile(join(temporaryFolder(), 'child.mts'), code)
  return spawnSync(process.execPath, ['--import', 'tsx', file], {
    cwd: packageRoot,
    env: { ...process.env, ...env },
    encoding: 'utf8',
  })
}

const loaderModule = JSON.stringify(join(packageRoot, 'lib', 'native', 'loader.js'))

function failureOf(action: () => unknown): AlambicError {
  try {
    action()
  } catch (error) {
    expect(error).toBeInstanceOf(AlambicError)
    return error as AlambicError
  }
  throw new Error('it did not fail')
}

beforeEach(() => {
  vi.stubEnv('ALAMBIC_CACHE', temporaryFolder())
  return () => vi.unstubAllEnvs()
})

describe('the addon', () => {
  it('is bound to the chosen libtorch and to no other', () => {
    const { libDir, version } = libtorchOfThisRun()
    const info = native.systemInfo()
    expect(info.libtorchPath.startsWith(libDir)).toBe(true)
    expect(info.c10Path.startsWith(libDir)).toBe(true)
    expect(minorVersion(info.torchVersion)).toBe(minorVersion(version))
  })

  it('is loaded by each worker thread for itself, and survives the end of all of them', async () => {
    const code = `import('tsx/esm/api')
      .then(({ tsImport }) => tsImport(${loaderModule}, ${JSON.stringify(import.meta.url)}))
      .then(({ native }) => {
        require('node:worker_threads').parentPort.postMessage(native.numThreads())
      })`
    const threads = async () => {
      const worker = new Worker(code, { eval: true })
      const message = await new Promise((resolve, reject) => {
        worker.on('message', resolve)
        worker.on('error', reject)
      })
      await worker.terminate()
      return message
    }
    expect(await Promise.all([threads(), threads()])).toEqual([native.numThreads(), native.numThreads()])
    expect(await threads()).toBe(native.numThreads())
    expect(native.numThreads()).toBeGreaterThan(0)
  })

  it('accepts libraries that are links to another place, as package managers make them', () => {
    const { libDir, version, root: _root, ...rest } = libtorchOfThisRun()
    const root = temporaryFolder()
    mkdirSync(join(root, 'lib'))
    for (const name of readdirSync(libDir).filter(file => /^lib(c10|torch|gomp)/.test(file))) {
      symlinkSync(join(libDir, name), join(root, 'lib', name))
    }
    const { loader, cores } = locateBinaries()
    const libtorch = { ...rest, version, root, libDir: join(root, 'lib') }
    const report = tryInChild({ loader, core: cores[minorVersion(version)]!, libtorch })
    expect(report).toMatchObject({ skipped: [] })
  })

  it('is loaded on first use, not on import', () => {
    const child = runInChild(
      `const { native } = await import(${loaderModule})
       console.log('imported')
       try { native.numThreads() } catch (error) { console.log(error.name, error.code) }`,
      { LIBTORCH: join(temporaryFolder(), 'nothing') },
    )
    expect(child.stdout).toBe('imported\nAlambicError ERR_LIBTORCH_NOT_FOUND\n')
  })

  it('loads from prebuilds/ where nothing was built, and remembers that in the user cache', () => {
    const root = installedPackage()
    const cache = temporaryFolder()
    const child = runInChild(
      `const { loadAddon } = await import(${loaderModule})
       const { addon, files } = loadAddon(${JSON.stringify(root)})
       console.log(JSON.stringify({ threads: addon.numThreads(), core: files.core }))`,
      { ALAMBIC_CACHE: cache, LIBTORCH: libtorchOfThisRun().root },
    )
    expect(child.stderr).toBe('')
    const { threads, core } = JSON.parse(child.stdout) as { threads: number; core: string }
    expect(threads).toBeGreaterThan(0)
    expect(core.startsWith(join(root, 'prebuilds'))).toBe(true)
    expect(existsSync(join(root, 'build'))).toBe(false)
    expect(existsSync(join(cache, 'state'))).toBe(true)
  })
})

describe('a load that cannot work', () => {
  it('names every place that was looked at when there is no libtorch', () => {
    const folder = temporaryFolder()
    vi.stubEnv('LIBTORCH', folder)
    const error = failureOf(() => loadAddon())
    expect(error.code).toBe('ERR_LIBTORCH_NOT_FOUND')
    expect(error.message).toContain(`LIBTORCH (${folder}): no lib/libtorch_cpu`)
    expect(error.message).toContain('npm run setup')
  })

  it('compares versions before it opens anything, and lists what was found and what there is', () => {
    vi.stubEnv('LIBTORCH', fakeLibtorch(temporaryFolder(), { version: '9.9.0' }))
    const error = failureOf(() => loadAddon())
    const built = Object.keys(locateBinaries().cores).join(', ')
    expect(error.code).toBe('ERR_LIBTORCH_LOAD')
    expect(error.message).toContain(`which are for libtorch ${built}`)
    expect(error.message).toContain(`libtorch 9.9.0: there is no binary for 9.9, only for ${built}`)
    expect(error.message).toMatch(/npm run setup[^]*LIBTORCH=/)
  })

  it('says what the linker says when a library is broken', () => {
    const { version } = libtorchOfThisRun()
    vi.stubEnv('LIBTORCH', fakeLibtorch(temporaryFolder(), { version }))
    const error = failureOf(() => loadAddon())
    expect(error.code).toBe('ERR_LIBTORCH_LOAD')
    expect(error.message).toMatch(/could not be loaded[^]*libc10/)
  })

  it('says how to build when there are no binaries', () => {
    const root = temporaryFolder()
    writeFile(join(root, 'package.json'), '{ "name": "alambic" }')
    const error = failureOf(() => loadAddon(root))
    expect(error.code).toBe('ERR_ADDON_NOT_FOUND')
    expect(error.message).toContain('npx alambic setup')
  })

  it('survives an addon that kills its process', () => {
    vi.stubEnv('LIBTORCH', libtorchOfThisRun().root)
    const error = failureOf(() => loadAddon(installedPackage({ core: crashingCore() })))
    expect(error.code).toBe('ERR_LIBTORCH_LOAD')
    expect(error.message).toContain('the process died with SIGABRT while opening it')
  })
})

it('carries no path of a libtorch in its binaries', () => {
  const { loader, cores } = locateBinaries()
  const { libDir } = libtorchOfThisRun()
  for (const file of [loader, ...Object.values(cores)])
    expect(readFileSync(file).includes(libDir)).toBe(false)
})
