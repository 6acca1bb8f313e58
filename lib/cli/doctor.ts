/** `alambic doctor`: what was found, and when something is broken, what to do. */
import { Command } from 'commander'
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { AlambicError } from '../errors.js'
import { cudaLibraryOf, messageOf, nvidiaGpus, type SkippedLibrary } from '../native/addon.js'
import type { NativeAddon, SystemInfo } from '../native/contract.js'
import { findLibtorch, minorVersion, usesCxx11Abi, type Libtorch } from '../native/libtorch.js'
import {
  chooseLibtorch,
  loadAddon,
  locateBinaries,
  packageRoot,
  tryAddon,
  type Binaries,
} from '../native/loader.js'

/** What `alambic doctor --json` prints. Parts that could not be examined are null. */
export interface DoctorReport {
  /** False when Alambic does not work; the reasons are in `problems`. */
  ok: boolean
  node: { version: string; platform: string; arch: string; path: string }
  package: { version: string; root: string }
  addon: {
    loader: string
    /** The addon for the libtorch that was found. */
    core: string | null
    /** The minor versions of libtorch that there are binaries for. */
    builtFor: string[]
  } | null
  libtorch: (Libtorch & { cxx11Abi: boolean; loadedFrom: string | null }) | null
  features: Pick<SystemInfo, 'openmp' | 'mkl' | 'onednn' | 'lapack' | 'cpuCapability' | 'config'> | null
  threads: number | null
  /** The OpenMP run-times in the process; more than one compete for the cores. */
  openMpRuntimes: string[]
  devices: { name: string; description: string }[]
  /**
   * What takes CUDA's headers to build: CUDA graphs, and kernels for losses. `problem` says why it is missing or does not
   * open; null where libtorch is for the CPU.
   */
  cudaLibrary: { path: string | null; kernels: boolean | null; problem: string | null } | null
  /** Operators of the namespace `aten`, and how many of their overloads can be called from JavaScript. */
  operators: { names: number; overloads: number; reachable: number } | null
  /** What keeps Alambic from working. */
  problems: { code: string; message: string }[]
  /** What works but could be better. */
  hints: string[]
}

export function doctorCommand(): Command {
  return new Command('doctor')
    .description(
      'print what was found (Node, addon, libtorch, devices) and what to do when something is broken',
    )
    .option('--json', 'print the report as JSON')
    .action(({ json }: { json?: boolean }) => {
      const report = examine()
      console.log(json ? JSON.stringify(report, null, 2) : formatReport(report))
      if (!report.ok) process.exitCode = 1
    })
}

/** Examines one thing after the other and stops where nothing further can be examined. Never throws. */
export function examine(root: string = packageRoot): DoctorReport {
  const report = emptyReport(root)
  try {
    const binaries = locateBinaries(root)
    report.addon = { loader: binaries.loader, core: null, builtFor: Object.keys(binaries.cores).sort() }
    const libtorch = chooseLibtorch(root, binaries.cores)
    report.libtorch = { ...libtorch, cxx11Abi: usesCxx11Abi(libtorch), loadedFrom: null }
    examineAddon(report, root, binaries, libtorch)
    report.ok = true
  } catch (error) {
    report.problems.push(problemOf(error))
    report.libtorch ??= anyLibtorch()
  }
  return report
}

function emptyReport(root: string): DoctorReport {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const { platform, arch, execPath } = process
  return {
    ok: false,
    node: { version: process.versions.node, platform, arch, path: execPath },
    package: { version: manifest.version, root },
    addon: null,
    libtorch: null,
    features: null,
    threads: null,
    openMpRuntimes: [],
    devices: [],
    cudaLibrary: null,
    operators: null,
    problems: [],
    hints: [],
  }
}

/** Loads the addon, in a child process first: a doctor must survive what it finds. */
function examineAddon(report: DoctorReport, root: string, binaries: Binaries, libtorch: Libtorch): void {
  const core = binaries.cores[minorVersion(libtorch.version)]!
  report.addon = { ...report.addon!, core }
  const trial = tryAddon(root, { loader: binaries.loader, core, libtorch })
  const { addon, skipped } = loadAddon(root)
  const info = addon.systemInfo()
  const { openmp, mkl, onednn, lapack, cpuCapability, config } = info
  report.libtorch = { ...report.libtorch!, loadedFrom: info.libtorchPath }
  report.features = { openmp, mkl, onednn, lapack, cpuCapability, config }
  report.threads = addon.numThreads()
  report.openMpRuntimes = trial.openMp
  report.operators = addon.operatorCounts('aten')
  const gpus = nvidiaGpus(binaries.loader)
  report.devices = devicesOf(info, gpus)
  report.cudaLibrary = examineCudaLibrary(core, libtorch, addon, info)
  report.hints = hintsFor(libtorch, info, skipped, gpus, trial.openMp)
}

/** It can be opened only where there is a GPU. */
function examineCudaLibrary(
  core: string,
  libtorch: Libtorch,
  addon: NativeAddon,
  info: SystemInfo,
): DoctorReport['cudaLibrary'] {
  if (!libtorch.cuda) return null
  const path = cudaLibraryOf(core) ?? null
  if (path === null || info.cudaDevices === 0) {
    const problem = path === null ? 'not built: set-up said why' : null
    return { path, kernels: null, problem }
  }
  const { problem = null, kernels } = addon.cudaLibrary()
  return { path, kernels, problem }
}

/** The GPUs that libtorch uses carry the names that the driver gives them, in the same order. */
function devicesOf(info: SystemInfo, gpus: string[]): DoctorReport['devices'] {
  const cuda = Array.from({ length: info.cudaDevices }, (_, i) => ({
    name: `cuda:${i}`,
    description: gpus[i] ?? 'GPU',
  }))
  return [{ name: 'cpu', description: `kernels for ${info.cpuCapability}` }, ...cuda]
}

function hintsFor(
  libtorch: Libtorch,
  info: SystemInfo,
  skipped: SkippedLibrary[],
  gpus: string[],
  openMpRuntimes: string[],
): string[] {
  const hints = skipped.map(
    ({ library, reason }) => `Only the CPU can be used: ${library} did not open (${reason}).`,
  )
  if (gpus.length > 0 && !libtorch.cuda) {
    hints.push(`There is a GPU (${gpus.join(', ')}), but this libtorch is built for the CPU only.`)
  }
  if (gpus.length > 0 && libtorch.cuda && info.cudaDevices === 0 && skipped.length === 0) {
    hints.push(`libtorch does not see the GPU (${gpus.join(', ')}): its CUDA may need a newer NVIDIA driver.`)
  }
  if (openMpRuntimes.length > 1) {
    hints.push(`Several OpenMP run-times compete for the cores: ${openMpRuntimes.join(', ')}.`)
  }
  return hints
}

/** What is there even though the addon cannot use it. */
function anyLibtorch(): DoctorReport['libtorch'] {
  const { libtorch } = findLibtorch()
  return libtorch && { ...libtorch, cxx11Abi: usesCxx11Abi(libtorch), loadedFrom: null }
}

function problemOf(error: unknown): { code: string; message: string } {
  return { code: error instanceof AlambicError ? error.code : 'ERR_NATIVE', message: messageOf(error) }
}

const LABEL_WIDTH = 11

export function formatReport(report: DoctorReport): string {
  const { node, addon, libtorch, features, operators } = report
  const lines: [string, string][] = [
    ['Alambic', `${report.package.version} in ${report.package.root}`],
    ['Node', `${node.version} (${node.platform} ${node.arch})`],
    ['Addon', addon ? formatAddon(addon, report.package.root) : 'not built'],
    ['libtorch', libtorch ? formatLibtorch(libtorch) : 'not found'],
  ]
  if (libtorch) lines.push(['', libtorch.root])
  if (features) lines.push(['Features', formatFeatures(features)])
  if (report.threads !== null) lines.push(['Threads', String(report.threads)])
  report.devices.forEach(({ name, description }, i) => {
    lines.push([i === 0 ? 'Devices' : '', `${name} (${description})`])
  })
  if (report.cudaLibrary) lines.push(['CUDA', formatCudaLibrary(report.cudaLibrary, report.package.root)])
  if (operators) {
    const { names, overloads, reachable } = operators
    lines.push(['Operators', `${reachable} of ${overloads} overloads of aten, under ${names} names`])
  }
  const table = lines.map(([label, text]) => `${label.padEnd(LABEL_WIDTH)}${text}`)
  const hints = report.hints.map(hint => `Hint: ${hint}`)
  const problems = report.problems.map(({ code, message }) => `${code}: ${message}`)
  const verdict = report.ok ? ['Everything works.'] : problems
  return [...table, '', ...hints, ...verdict].join('\n')
}

function formatAddon({ core, builtFor }: NonNullable<DoctorReport['addon']>, root: string): string {
  return core ? relative(root, core) : `built for libtorch ${builtFor.join(', ') || '(none)'}`
}

function formatCudaLibrary(
  { path, kernels, problem }: NonNullable<DoctorReport['cudaLibrary']>,
  root: string,
): string {
  if (problem !== null) return `no CUDA graphs: ${path === null ? '' : `${relative(root, path)}: `}${problem}`
  const state = kernels === null ? 'not opened without a GPU' : kernels ? 'graphs, losses' : 'graphs'
  return `${relative(root, path!)} (${state})`
}

const SOURCES = {
  LIBTORCH: 'named by LIBTORCH',
  python: 'of the Python on PATH',
  system: 'of the system',
  managed: "in the user's cache",
}

function formatLibtorch({ version, source, cuda, cxx11Abi }: NonNullable<DoctorReport['libtorch']>): string {
  return `${version} ${SOURCES[source]}, ${cuda ? 'CUDA' : 'CPU'} build, ${cxx11Abi ? 'C++11' : 'old'} ABI`
}

function formatFeatures(features: NonNullable<DoctorReport['features']>): string {
  const { openmp, mkl, onednn, lapack } = features
  const named = { OpenMP: openmp, MKL: mkl, oneDNN: onednn, LAPACK: lapack }
  return Object.entries(named)
    .map(([name, present]) => (present ? name : `no ${name}`))
    .join(', ')
}
