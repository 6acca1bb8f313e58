/** What the check found, whether that is good enough, and how it is told. */

/** @typedef {import('./stage.js').Stage} Stage */
/** @typedef {{ what: string, target: string, measured: string, met: boolean }} Target */
/** @typedef {{ test: string, message: string }} FailedTest */

/**
 * @typedef {object} Tests
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 * @property {FailedTest[]} failures
 */

/**
 * @typedef {object} Benchmark
 * @property {string} name
 * @property {string} table as it was printed
 * @property {{ machine: { device: string }, targets: Target[] } | null} results what the benchmark wrote for programs
 */

/**
 * What was found, before it is judged.
 *
 * @typedef {object} Findings
 * @property {'cuda' | 'cpu'} device where everything was to run
 * @property {boolean} quick
 * @property {string} started
 * @property {number} seconds
 * @property {import('./machine.js').Machine} machine
 * @property {Record<string, string>} versions
 * @property {boolean} finished false while it goes on, and for ever where somebody ended it
 * @property {string | null} obstacle why the check ended early
 * @property {Stage[]} stages
 * @property {Tests | null} tests null when they did not come to their end
 * @property {Benchmark[]} benchmarks
 */

/** @typedef {Findings & { ok: boolean, verdict: string, targets: Target[], problems: string[] }} Report */

/**
 * @param {Findings} findings
 * @returns {Report}
 */
export function judge(findings) {
  const targets = findings.benchmarks.flatMap(({ results }) => results?.targets ?? [])
  const problems = [...new Set(problemsOf(findings, targets))]
  const ok = problems.length === 0
  return { ok, verdict: verdictOf(findings, ok), ...findings, targets, problems }
}

/**
 * @param {Findings} findings
 * @param {Target[]} targets
 * @returns {string[]}
 */
function problemsOf({ device, finished, obstacle, stages, tests, benchmarks }, targets) {
  if (obstacle !== null) return [obstacle]
  return [
    ...(finished ? [] : ['the check was ended before it was done']),
    ...stages
      // Tests that failed speak for themselves.
      .filter(
        ({ name, state }) => state !== 'done' && !(name === 'tests' && tests !== null && tests.failed > 0),
      )
      .map(({ name, state, message }) => `${name}: ${state}${message === '' ? '' : `: ${message}`}`),
    ...(tests === null ? ['the tests came to no result'] : problemsOfTests(tests)),
    ...benchmarks.flatMap(({ name, results }) => problemsOfBenchmark(name, results, device)),
    ...targets
      .filter(({ met }) => !met)
      .map(({ what, target, measured }) => `target missed: ${what}: ${measured}, promised ${target}`),
  ]
}

/**
 * @param {Tests} tests
 * @returns {string[]}
 */
function problemsOfTests({ passed, failures }) {
  return [
    ...(passed === 0 ? ['no test passed'] : []),
    ...failures.map(({ test, message }) => `test failed: ${test}: ${message}`),
  ]
}

/**
 * @param {string} name
 * @param {Benchmark['results']} results
 * @param {Findings['device']} device
 * @returns {string[]}
 */
function problemsOfBenchmark(name, results, device) {
  if (results === null) return [`benchmark ${name}: it came to no result`]
  const { device: measured } = results.machine
  return measured === device ? [] : [`benchmark ${name}: it ran on ${measured} instead of ${device}`]
}

/**
 * @param {Findings} findings
 * @param {boolean} ok
 * @returns {string}
 */
function verdictOf({ device, quick }, ok) {
  const how = quick ? ', a part of the check (--quick)' : ''
  if (device === 'cpu')
    return `${ok ? 'passed' : 'FAILED'} ON THE CPU${how}: nothing in here says anything about a GPU`
  return ok ? `qualified on CUDA${how}` : `NOT qualified on CUDA${how}`
}

/**
 * What vitest wrote.
 *
 * @param {any} report of its JSON reporter
 * @returns {Tests}
 */
export function summarizeTests(report) {
  /** @type {{ name: string, status: string, message: string, assertionResults: any[] }[]} */
  const files = report.testResults
  const assertions = files.flatMap(({ name, assertionResults }) =>
    assertionResults.map(each => ({ ...each, file: nameOf(name) })),
  )
  const count = (/** @type {string[]} */ ...states) =>
    assertions.filter(({ status }) => states.includes(status)).length
  const failures = [
    ...assertions
      .filter(({ status }) => status === 'failed')
      .map(({ file, fullName, failureMessages }) => ({
        test: `${file}: ${fullName}`,
        message: firstLine(failureMessages?.[0]),
      })),
    // A file that could not be read has no tests to count.
    ...files
      .filter(
        ({ status, assertionResults }) =>
          status === 'failed' && !assertionResults.some(result => result.status === 'failed'),
      )
      .map(({ name, message }) => ({ test: nameOf(name), message: firstLine(message) })),
  ]
  return {
    passed: count('passed'),
    failed: failures.length,
    skipped: count('skipped', 'pending', 'todo', 'disabled'),
    failures,
  }
}

/** @param {string} path */
function nameOf(path) {
  return path.slice(path.lastIndexOf('/test/') + 1)
}

/** @param {string | undefined} text */
function firstLine(text) {
  return text?.split('\n')[0] ?? ''
}

/**
 * @param {Report} report
 * @returns {string}
 */
export function render(report) {
  const { verdict, device, quick, started, seconds, machine, versions, stages, tests, benchmarks } = report
  const gpus = machine.gpus.map(
    ({ name, driver, memory, computeCapability }) =>
      `${name}, ${memory}, compute capability ${computeCapability}, driver ${driver}`,
  )
  const used = device === 'cuda' ? 'cuda' : 'cpu (no GPU was used)'
  const facts = {
    device: used,
    ...(quick ? { extent: 'a part: --quick' } : {}),
    started,
    took: `${seconds.toFixed(0)} s`,
    system: machine.system,
    cpu: `${machine.cpu}, ${machine.cores} cores, ${machine.memory}`,
    [device === 'cuda' ? 'GPU' : 'GPU, unused']: gpus.join('; ') || 'none',
    ...versions,
  }
  return [
    `Alambic, check of a machine: ${verdict}`,
    section('machine', rows(Object.entries(facts))),
    section(
      'stages',
      rows(stages.map(({ name, state, seconds }) => [name, `${state}, ${seconds.toFixed(1)} s`])),
    ),
    section('tests', [
      tests === null
        ? 'no result'
        : `${tests.passed} passed, ${tests.failed} failed, ${tests.skipped} skipped`,
    ]),
    ...benchmarks.map(({ name, table }) => section(`benchmark: ${name}`, [table.trim() || 'no result'])),
    section('targets', rowsOfTargets(report.targets)),
    section('problems', report.problems.length === 0 ? ['none'] : report.problems.map(each => `- ${each}`)),
    verdict,
    '',
  ].join('\n\n')
}

/**
 * @param {Target[]} targets
 * @returns {string[]}
 */
function rowsOfTargets(targets) {
  if (targets.length === 0) return ['none was measured']
  return rows(
    targets.map(({ what, target, measured, met }) => [
      met ? 'met' : 'MISSED',
      `${what}: ${measured}, promised ${target}`,
    ]),
  )
}

/**
 * @param {string} title
 * @param {string[]} lines
 * @returns {string}
 */
function section(title, lines) {
  return `== ${title}\n${lines.join('\n')}`
}

/**
 * @param {[string, string][]} pairs
 * @returns {string[]}
 */
function rows(pairs) {
  const width = Math.max(0, ...pairs.map(([name]) => name.length))
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}`)
}
