import { mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { inspectLibtorch, type Libtorch } from '../lib/native/libtorch.js'
import { isValidated, readChoice, recordValidation, writeChoice } from '../lib/native/state.js'
import { fakeLibtorch, temporaryFolder, writeFile } from './setup.fixtures.js'

let root: string
let libtorch: Libtorch

beforeEach(() => {
  root = temporaryFolder()
  mkdirSync(join(root, 'build'))
  libtorch = inspectLibtorch(fakeLibtorch(join(root, 'libtorch')), 'system') as Libtorch
})

afterEach(() => vi.unstubAllEnvs())

it('remembers the libtorch that set-up chose', () => {
  expect(readChoice(root)).toBeNull()
  writeChoice(root, libtorch, { onlyForThisPath: false })
  vi.stubEnv('PATH', '/elsewhere')
  expect(readChoice(root)).toEqual(libtorch)
})

it('forgets it when another version took its place', () => {
  writeChoice(root, libtorch, { onlyForThisPath: false })
  fakeLibtorch(libtorch.root, { version: '2.14.0' })
  expect(readChoice(root)).toBeNull()
})

it('forgets what a search at run time found when PATH changes', () => {
  writeChoice(root, libtorch, { onlyForThisPath: true })
  expect(readChoice(root)).toEqual(libtorch)
  vi.stubEnv('PATH', '/another/environment/bin')
  expect(readChoice(root)).toBeNull()
})

it('survives a file that was cut short', () => {
  writeFileSync(join(root, 'build', 'libtorch.json'), '{ "libtorch": {')
  expect(readChoice(root)).toBeNull()
})

it('keeps its files in the user cache for a package without a build folder', () => {
  const installed = temporaryFolder()
  vi.stubEnv('ALAMBIC_CACHE', join(installed, 'cache'))
  writeChoice(installed, libtorch, { onlyForThisPath: false })
  expect(readChoice(installed)).toEqual(libtorch)
  vi.stubEnv('ALAMBIC_CACHE', join(installed, 'another'))
  expect(readChoice(installed)).toBeNull()
})

it('counts a pair as tried until one of its files changes', () => {
  const files = { loader: writeFile(join(root, 'a.node')), core: writeFile(join(root, 'core.so')), libtorch }
  expect(isValidated(root, files)).toBe(false)
  recordValidation(root, files)
  expect(isValidated(root, files)).toBe(true)
  utimesSync(files.core, 1, 1)
  expect(isValidated(root, files)).toBe(false)
})
