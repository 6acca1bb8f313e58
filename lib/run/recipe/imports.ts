/** Modules of a user's own: what they register is known from then on. */
import { access } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { isError } from '../../checks/realms.js'
import { show } from '../../errors.js'
import type { Path, Place, Problems } from './problems.js'
import { shownFile } from './read.js'

/** A module, and where a recipe asks for it. */
export interface WantedModule {
  /** Absolute. */
  file: string
  path: Path
  place: Place
}

/** One after the other, as they may need each other. What has been imported before is not run again. */
export async function importModules(wanted: readonly WantedModule[], problems: Problems): Promise<void> {
  for (const { file, path, place } of wanted) {
    try {
      await access(file)
      await import(/* @vite-ignore */ pathToFileURL(file).href)
    } catch (error) {
      problems.add(place, path, reason(file, error), { value: file })
    }
  }
}

function reason(file: string, error: unknown): string {
  const { code } = (error ?? {}) as NodeJS.ErrnoException
  const name = shownFile(file)
  if (code === 'ENOENT' || code === 'ENOTDIR') return `expected a module, got no such file: ${name}`
  if (code?.endsWith('UNKNOWN_FILE_EXTENSION') === true)
    return (
      `${name}: Node.js ${process.versions.node} does not run TypeScript by itself; use Node.js 22.18 or newer, load tsx ` +
      '(node --import tsx), or give a .js file'
    )
  return `${name} could not be imported: ${isError(error) ? error.message : show(error)}`
}
