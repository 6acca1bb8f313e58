/**
 * Prints `N passed, N failed` for a report of vitest and fails when a test did, when there is no report, or when a
 * further check, named after the report's path, failed.
 */
import { readJson } from '../lib/native/state.js'

const [path = '', ...failedChecks] = process.argv.slice(2)
const report = readJson(path)
const passed = report?.numPassedTests ?? 0
const failed = report === null ? 1 : failedTests(report)
console.log(`${passed} passed, ${failed} failed`)
if (failed > 0 || passed === 0 || failedChecks.length > 0) process.exitCode = 1

/**
 * A file that could not even be read has no tests to count: it counts as one.
 *
 * @param {{ numFailedTests: number, testResults: { status: string, assertionResults: { status: string }[] }[] }} report
 * @returns {number}
 */
function failedTests({ numFailedTests, testResults }) {
  const unreadable = testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && !assertionResults.some(result => result.status === 'failed'),
  )
  return numFailedTests + unreadable.length
}
