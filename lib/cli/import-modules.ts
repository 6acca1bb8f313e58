import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

/** Runs modules that register networks and the like. */
export async function importModules(files: readonly string[]): Promise<void> {
  for (const file of files) await import(pathToFileURL(resolve(file)).href)
}
