/**
 * Loads the native addon with the right libtorch. {@link native} does so on first use, once per thread.
 */
import nodeGypBuild from 'node-gyp-build'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { existsSync } from 'node:fs'
import { AlambicError, argumentError } from '../errors.js'
import {
  coresIn,
  cudaLibraryOf,
  messageOf,
  openAddon,
  tryInChild,
  type SkippedLibrary,
  type TrialReport,
} from './addon.js'
import type { NativeAddon } from './contract.js'
import { describeSearch, findLibtorch, findPackageRoot, minorVersion, type Libtorch } from './libtorch.js'
import { passWarningsOn } from './warnings.js'
import { isValidated, readChoice, recordValidation, writeChoice, type AddonFiles } from './state.js'

/** The addon, and what it was made of. */
export interface LoadedAddon {
  addon: NativeAddon
  files: AddonFiles
  /** Libraries of a CUDA libtorch that could not be opened; the CPU works without them. */
  skipped: SkippedLibrary[]
}

/** The binaries of this package, without a libtorch. */
export interface Binaries {
  loader: string
  /** Paths by the minor version of libtorch that they are for. */
  cores: Record<string, string>
}

/** The folder of this package's `package.json`. */
export const packageRoot = findPackageRoot(dirname(fileURLToPath(import.meta.url)))

/**
 * The addon, loaded when one of its members is first used.
 *
 * @throws AlambicError on that first use, as {@link loadAddon}
 */
export const native: NativeAddon = onFirstUse(() => loadAddon().addon)

/**
 * @throws AlambicError `ERR_ADDON_NOT_FOUND` when nothing was built, `ERR_LIBTORCH_NOT_FOUND` when there is no libtorch
 *   on this machine, `ERR_LIBTORCH_LOAD` when the two do not fit or cannot be opened, `ERR_ARGUMENT` for an
 *   `ALAMBIC_IDLE_MEMORY` that is no number, `ERR_THREAD` when as many threads use Alambic as can at once; the next use
 *   tries again
 */
export function loadAddon(root: string = packageRoot): LoadedAddon {
  const { loader, cores } = locateBinaries(root)
  const libtorch = chooseLibtorch(root, cores)
  const files = { loader, core: cores[minorVersion(libtorch.version)]!, libtorch }
  tryOnce(root, files)
  const idleMemory = idleMemoryLimit(process.env['ALAMBIC_IDLE_MEMORY'])
  try {
    const opened = openAddon(files)
    const addon = opened.addon as NativeAddon
    addon.setErrorClass(AlambicError)
    passWarningsOn(addon)
    addon.recycleCpuMemory(idleMemory)
    addon.setCudaLibrary(cudaLibraryOf(files.core))
    return { addon, files, skipped: opened.skipped }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ERR_THREAD') throw new AlambicError(code, messageOf(error), { cause: error })
    throw loadError(root, files, messageOf(error), error)
  }
}

/** @throws AlambicError `ERR_ADDON_NOT_FOUND` */
export function locateBinaries(root: string = packageRoot): Binaries {
  let loader: string
  try {
    loader = nodeGypBuild.resolve(root)
  } catch (error) {
    throw new AlambicError(
      'ERR_ADDON_NOT_FOUND',
      `The addon is not built.\nTo build it: ${setupCommand(root)}`,
      {
        cause: error,
      },
    )
  }
  const prebuilt = coresIn(join(root, 'prebuilds', `${process.platform}-${process.arch}`))
  return { loader, cores: { ...prebuilt, ...coresIn(dirname(loader)) } }
}

/**
 * The first libtorch of the search that one of the binaries is for.
 *
 * @throws AlambicError `ERR_LIBTORCH_NOT_FOUND` or, when none fits, `ERR_LIBTORCH_LOAD`
 */
export function chooseLibtorch(root: string, cores: Record<string, string>): Libtorch {
  const available = Object.keys(cores).sort()
  const accept = (libtorch: Libtorch) =>
    minorVersion(libtorch.version) in cores
      ? null
      : `there is no binary for ${minorVersion(libtorch.version)}, only for ${available.join(', ') || 'none'}`

  const remembered = process.env['LIBTORCH'] ? null : readChoice(root)
  if (remembered && accept(remembered) === null) return remembered

  const { libtorch, refused, lookedAt } = findLibtorch({ accept })
  if (libtorch) {
    if (libtorch.source !== 'LIBTORCH') remember(() => writeChoice(root, libtorch, { onlyForThisPath: true }))
    return libtorch
  }
  const remedies = [
    `  - ${setupCommand(root)}: finds or installs libtorch and builds what is missing`,
    '  - LIBTORCH=/path/to/libtorch: names the folder that holds its lib/ and include/',
  ].join('\n')
  throw refused.length > 0
    ? new AlambicError(
        'ERR_LIBTORCH_LOAD',
        `No libtorch fits the binaries of this package, which are for libtorch ${available.join(', ') || '(none)'}.\n` +
          `Looked at:\n${describeSearch(lookedAt)}\nWhat helps:\n${remedies}`,
      )
    : new AlambicError(
        'ERR_LIBTORCH_NOT_FOUND',
        `No libtorch was found.\nLooked at:\n${describeSearch(lookedAt)}\nWhat helps:\n${remedies}`,
      )
}

/** From the value of `ALAMBIC_IDLE_MEMORY`, in MiB: bytes; undefined where it says nothing. */
function idleMemoryLimit(mebibytes: string | undefined): number | undefined {
  if (!mebibytes) return undefined
  const bytes = Math.floor(Number(mebibytes) * 2 ** 20)
  if (Number.isSafeInteger(bytes) && bytes >= 0) return bytes
  throw argumentError('ALAMBIC_IDLE_MEMORY', 'a number of MiB of at least 0', mebibytes)
}

/** A pair of binary and libtorch that was never loaded is tried in a child process first: it may crash. */
function tryOnce(root: string, files: AddonFiles): void {
  if (isValidated(root, files)) return
  tryAddon(root, files)
  remember(() => recordValidation(root, files))
}

/**
 * Loads the addon in a child process.
 *
 * @throws AlambicError `ERR_LIBTORCH_LOAD`
 */
export function tryAddon(root: string, files: AddonFiles): TrialReport {
  const report = tryInChild(files)
  if (typeof report === 'string') throw loadError(root, files, report)
  return report
}

function loadError(
  root: string,
  { core, libtorch }: AddonFiles,
  reason: string,
  cause?: unknown,
): AlambicError {
  return new AlambicError(
    'ERR_LIBTORCH_LOAD',
    `${core} could not be loaded with libtorch ${libtorch.version} in ${libtorch.root}: ${reason}\nWhat helps:\n` +
      `  - ${setupCommand(root)}: builds for the libtorch of this machine\n` +
      '  - LIBTORCH=/path/to/libtorch: takes another libtorch',
    { cause },
  )
}

/** Where nothing may be written, the next start searches and tries again: slower, not wrong. */
function remember(write: () => void): void {
  try {
    write()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT'].includes(code ?? '')) throw error
  }
}

/** What a user types to set up: a clone has the npm script, an installed package the command. */
export function setupCommand(root: string = packageRoot): string {
  return existsSync(join(root, 'tsconfig.build.json')) ? 'npm run setup' : 'npx alambic setup'
}

/** An object that becomes `load()` when a member is first read. Afterwards reads cost what they cost on any object. */
function onFirstUse<T extends object>(load: () => T): T {
  const lazy = Object.create(
    new Proxy(
      {},
      {
        get(_, member) {
          const loaded = load()
          Object.setPrototypeOf(lazy, loaded)
          return Reflect.get(loaded, member) as unknown
        },
      },
    ),
  ) as T
  return lazy
}
