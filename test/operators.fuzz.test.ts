/** Some of the calls with hostile values; `npm run fuzz operators` and `npm run fuzz operators joint` make more. */
import { describe, expect, it } from 'vitest'
import { isOldest } from './nn.fixtures.js'
import { fuzzOperators } from './operators.fuzz.js'

/** One call of so many: a prime, so that all kinds of values and places come in turn. */
const thinning = Number(process.env['ALAMBIC_FUZZ_THINNING'] ?? 397)
/** Seconds for one call. */
const patience = Number(process.env['ALAMBIC_FUZZ_PATIENCE'] ?? 60)

/** Of each operator, with all values random. */
const joint = { calls: 4, seed: 1 }

// Kernels of 1.13 end the process in more calls, which later versions refuse: docs/operators.md.
describe.skipIf(isOldest)(
  'operators with null, empty, huge, sparse, meta, complex and other tensors give a result or an AlambicError, and never end the process',
  () => {
    it.each([
      ['in every place', { thinning }],
      ['in all places together', { thinning: 1, joint }],
    ])('%s', { timeout: 1_200_000 }, async (_, calls) => {
      const report = await fuzzOperators({ ...calls, patience })
      expect(report.crashes).toEqual([])
      expect(report.strange).toEqual([])
      expect(report.slow).toEqual([])
      expect(report.results).toBeGreaterThan(100)
      expect(report.cases).toBeGreaterThan(1000)
    })
  },
)
