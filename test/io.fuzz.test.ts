/** A few damaged files of each format; `npm run fuzz` tries thousands. */
import { describe, expect, it } from 'vitest'
import { fuzz, kinds } from './io.fuzz.js'

const count = Number(process.env['ALAMBIC_FUZZ_FILES'] ?? 60)

describe('Damaged and hostile files', () => {
  it.each(kinds)(
    'are refused with a code or loaded, without a crash, a hang or a full memory: %s',
    async kind => {
      const { loaded, refused } = await fuzz(kind, 0, count)
      const total = loaded + Object.values(refused).reduce((sum, each) => sum + each, 0)
      expect(total).toBeGreaterThan(count)
      expect(refused['ERR_FILE_FORMAT']).toBeGreaterThan(0)
      const known = ['ERR_FILE_FORMAT', 'ERR_UNSAFE_PICKLE', 'ERR_STATE_DICT', 'ERR_DTYPE']
      expect(Object.keys(refused).filter(code => !known.includes(code))).toEqual([])
    },
    600_000,
  )
})
