import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import {
  MANAGED_MARKER,
  REFERENCE_VERSION,
  cacheFolder,
  compareVersions,
  describeSearch,
  findLibtorch,
  inspectLibtorch,
} from '../lib/native/libtorch.js'
import { fakeLibtorch, fakePython, temporaryFolder, writeFile } from './setup.fixtures.js'

/** A machine with a libtorch at every place of the search, and the folders of each. */
function machine() {
  const root = temporaryFolder()
  const named = fakeLibtorch(join(root, 'named'), { version: '2.1.0' })
  const ofPython = fakeLibtorch(join(root, 'site-packages', 'torch'), { version: '2.2.0' })
  const ofSystem = fakeLibtorch(join(root, 'usr'), { version: '2.3.0' })
  const cache = join(root, 'cache')
  const managed = managedCopy(cache, '2.4.0')
  const env: NodeJS.ProcessEnv = { PATH: fakePython(join(root, 'bin'), ofPython), ALAMBIC_CACHE: cache }
  return { root, named, ofPython, ofSystem, managed, env, systemRoots: [ofSystem] }
}

function managedCopy(cache: string, version: string, { complete = true } = {}): string {
  const folder = join(cache, `libtorch-${version}-cpu`)
  if (complete) writeFile(join(folder, MANAGED_MARKER), JSON.stringify({ root: 'torch' }))
  return fakeLibtorch(join(folder, 'torch'), { version })
}

describe('the search for libtorch', () => {
  it('takes LIBTORCH first, then the torch of Python, then the system, then the managed copy', () => {
    const { named, ofPython, ofSystem, managed, env, systemRoots } = machine()
    const withoutPython = { ...env, PATH: '' }
    expect(findLibtorch({ env: { ...env, LIBTORCH: named }, systemRoots }).libtorch).toMatchObject({
      root: named,
      source: 'LIBTORCH',
      version: '2.1.0',
    })
    expect(findLibtorch({ env, systemRoots }).libtorch).toMatchObject({ root: ofPython, source: 'python' })
    expect(findLibtorch({ env: withoutPython, systemRoots }).libtorch).toMatchObject({
      root: ofSystem,
      source: 'system',
    })
    expect(findLibtorch({ env: withoutPython, systemRoots: [] }).libtorch).toMatchObject({
      root: managed,
      source: 'managed',
    })
  })

  it('reports every place when there is none', () => {
    const root = temporaryFolder()
    const env = { PATH: fakePython(join(root, 'bin'), null), ALAMBIC_CACHE: join(root, 'cache') }
    const { libtorch, lookedAt } = findLibtorch({ env, systemRoots: [join(root, 'usr')] })
    expect(libtorch).toBeNull()
    const report = describeSearch(lookedAt)
    expect(report).toContain('LIBTORCH: the variable is not set')
    expect(report).toContain(`Python on PATH: ${join(root, 'bin', 'python3')}: no package torch`)
    expect(report).toContain(`${join(root, 'usr')}: the folder does not exist`)
    expect(report).toContain(`managed copy: nothing in ${join(root, 'cache')}`)
  })

  it('does not go on to other places when LIBTORCH names a folder without a libtorch', () => {
    const { root, env, systemRoots } = machine()
    const { libtorch, lookedAt } = findLibtorch({ env: { ...env, LIBTORCH: join(root, 'bin') }, systemRoots })
    expect(libtorch).toBeNull()
    expect(describeSearch(lookedAt)).toMatch(/LIBTORCH \(.*bin\): no lib\/libtorch_cpu/)
  })

  it('passes over a version that is too old and says so', () => {
    const { ofPython, ofSystem, env, systemRoots } = machine()
    fakeLibtorch(ofPython, { version: '1.12.1' })
    const { libtorch, lookedAt } = findLibtorch({ env, systemRoots })
    expect(libtorch?.root).toBe(ofSystem)
    expect(describeSearch(lookedAt)).toContain('libtorch 1.12.1 is too old, 1.13 or newer is needed')
  })

  it('passes over one that the caller has no use for, and lists it', () => {
    const { ofPython, ofSystem, env, systemRoots } = machine()
    const { libtorch, refused, lookedAt } = findLibtorch({
      env,
      systemRoots,
      accept: ({ version }) => (version === '2.3.0' ? null : 'no binary for it'),
    })
    expect(libtorch?.root).toBe(ofSystem)
    expect(refused.map(({ root }) => root)).toEqual([ofPython])
    expect(describeSearch(lookedAt)).toContain('libtorch 2.2.0: no binary for it')
  })

  it('finds the package torch of a real Python without importing it', () => {
    const root = temporaryFolder()
    const torch = fakeLibtorch(join(root, 'packages', 'torch'))
    writeFile(join(torch, '__init__.py'), 'raise RuntimeError("it must not be imported")\n')
    const env = { ...process.env, LIBTORCH: '', PYTHONPATH: join(root, 'packages') }
    expect(findLibtorch({ env, systemRoots: [] }).libtorch).toMatchObject({ root: torch, source: 'python' })
  })

  it('does not take a folder named torch in the current folder for the package', () => {
    const root = temporaryFolder()
    writeFile(join(fakeLibtorch(join(root, 'torch')), '__init__.py'))
    const before = process.cwd()
    onTestFinished(() => process.chdir(before))
    process.chdir(root)
    const env = { ...process.env, LIBTORCH: '', ALAMBIC_CACHE: join(root, 'cache') }
    expect(findLibtorch({ env, systemRoots: [] }).libtorch?.root).not.toBe(join(root, 'torch'))
  })

  it('prefers the managed copy of the reference version to newer ones and ignores incomplete ones', () => {
    const cache = temporaryFolder()
    const env = { PATH: '', ALAMBIC_CACHE: cache }
    managedCopy(cache, '99.0.0', { complete: false })
    expect(findLibtorch({ env, systemRoots: [] }).libtorch).toBeNull()
    managedCopy(cache, '98.0.0')
    managedCopy(cache, '97.0.0')
    expect(findLibtorch({ env, systemRoots: [] }).libtorch?.version).toBe('98.0.0')
    managedCopy(cache, REFERENCE_VERSION)
    expect(findLibtorch({ env, systemRoots: [] }).libtorch?.version).toBe(REFERENCE_VERSION)
  })

  it('keeps the managed copies where XDG_CACHE_HOME or ALAMBIC_CACHE says', () => {
    expect(cacheFolder({ HOME: '/home/ada' })).toBe('/home/ada/.cache/alambic')
    expect(cacheFolder({ HOME: '/home/ada', XDG_CACHE_HOME: '/var/ada' })).toBe('/var/ada/alambic')
    expect(cacheFolder({ XDG_CACHE_HOME: '/var/ada', ALAMBIC_CACHE: '/big/disk' })).toBe('/big/disk')
  })
})

describe('what a folder holds', () => {
  it('knows the layouts of a wheel, an archive and a Debian package', () => {
    const root = temporaryFolder()
    const triplet = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`
    const debian = fakeLibtorch(join(root, 'usr'), { version: '1.13.0', libraries: `lib/${triplet}` })
    expect(inspectLibtorch(debian, 'system')).toMatchObject({
      version: '1.13.0',
      libDir: join(debian, 'lib', triplet),
      headers: true,
      cuda: false,
    })
    const archive = fakeLibtorch(join(root, 'unzipped', 'libtorch'), { cuda: true })
    expect(inspectLibtorch(join(root, 'unzipped'), 'LIBTORCH')).toMatchObject({ root: archive, cuda: true })
  })

  it('reads the version without headers, from version.py or from the name of a library', () => {
    const root = temporaryFolder()
    const wheel = fakeLibtorch(join(root, 'wheel'), { version: '2.9.1', headers: false })
    expect(inspectLibtorch(wheel, 'python')).toMatchObject({ version: '2.9.1', headers: false })
    const runtimeOnly = join(root, 'runtime')
    writeFile(join(runtimeOnly, 'lib', 'libtorch_cpu.so.1.13.0'))
    if (process.platform === 'linux') {
      expect(inspectLibtorch(runtimeOnly, 'system')).toMatchObject({ version: '1.13.0', headers: false })
    }
  })

  it('says why a folder is no libtorch', () => {
    const root = temporaryFolder()
    mkdirSync(join(root, 'empty'))
    expect(inspectLibtorch(join(root, 'missing'), 'system')).toBe('the folder does not exist')
    expect(inspectLibtorch(join(root, 'empty'), 'system')).toMatch(/no lib\/libtorch_cpu/)
  })
})

it('compares versions by number, not by letter', () => {
  expect(compareVersions('2.9.0', '2.13.0')).toBeLessThan(0)
  expect(compareVersions('1.13', '1.13.0')).toBe(0)
  expect(['2.2.0', '1.13.1', '2.13.0', '2.9.1'].sort(compareVersions)).toEqual([
    '1.13.1',
    '2.2.0',
    '2.9.1',
    '2.13.0',
  ])
})
