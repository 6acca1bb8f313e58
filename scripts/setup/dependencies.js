import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { readJson } from '../../lib/native/state.js'
import { run } from './run.js'

/** @typedef {{ version?: string, optional?: boolean, devOptional?: boolean, peer?: boolean }} LockedPackage */

/**
 * Whether node_modules holds what package-lock.json says. npm leaves its own copy of that list in there; packages for
 * other platforms are in the lock file only.
 *
 * @param {string} root
 * @returns {boolean}
 */
export function dependenciesInstalled(root) {
  const installed = readJson(join(root, 'node_modules', '.package-lock.json'))?.packages
  if (!installed) return false
  /** @type {Record<string, LockedPackage>} */
  const locked = readJson(join(root, 'package-lock.json'))?.packages ?? {}
  return Object.entries(locked)
    .filter(([path]) => path !== '')
    .every(([path, { version, optional, devOptional }]) =>
      path in installed ? installed[path].version === version : optional === true || devOptional === true,
    )
}

/**
 * No package of ours needs an install script to run.
 *
 * @param {string} root
 * @param {{ verbose: boolean }} options
 */
export async function installDependencies(root, { verbose }) {
  // Interrupted, npm leaves its list behind beside folders that are gone.
  rmSync(join(root, 'node_modules', '.package-lock.json'), { force: true })
  await run('npm', ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: root,
    verbose,
  })
}

/**
 * Whether this is a clone, with sources to compile, and not an installed package.
 *
 * @param {string} root
 * @returns {boolean}
 */
export function isSourceTree(root) {
  return existsSync(join(root, 'tsconfig.build.json'))
}
