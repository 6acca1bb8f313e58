import { argumentError } from '../errors.js'
import { integer, requireKind, type Kind } from '../checks/options.js'
import { isList } from '../checks/realms.js'

/** A word of 32 bits, with or without sign. */
const word32 = integer(-(2 ** 31), 2 ** 32 - 1)

const shufflable: Kind = {
  expected: 'an array',
  fits: isList,
}

/**
 * A seeded source of random numbers for everything on the data side: shuffling, splits, augmentation, procedural
 * images. It shares nothing with libtorch's generator, so drawing weights or dropout masks never changes the order
 * of the data, and the same seed gives the same numbers on every machine and Node version.
 *
 * The generator is xoshiro128** (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", ACM TOMS
 * 47(4), 2021): 128 bits of state, period 2^128 − 1. Not for cryptography.
 */
export class Random {
  #s0 = 0
  #s1 = 0
  #s2 = 0
  #s3 = 0

  /**
   * @param seed An integer from 0 to 2^53 − 1.
   * @param stream Further such integers that select an independent stream of the same seed, for example an epoch.
   * @throws AlambicError `ERR_ARGUMENT` when one of them is no such integer.
   */
  constructor(seed: number, ...stream: number[]) {
    const words = [...wordsOf('seed', seed), ...stream.flatMap(part => wordsOf('stream', part))]
    this.#s0 = digest(0x243f6a88, words)
    this.#s1 = digest(0x85a308d3, words)
    this.#s2 = digest(0x13198a2e, words)
    this.#s3 = digest(0x03707344, words)
    // The all-zero state is the one that xoshiro never leaves.
    if ((this.#s0 | this.#s1 | this.#s2 | this.#s3) === 0) this.#s0 = 1
  }

  /** A generator in this state, whose words must not all be 0. For tests against reference values. */
  static fromState(s0: number, s1: number, s2: number, s3: number): Random {
    for (const word of [s0, s1, s2, s3]) requireKind('Random.fromState: word of the state', word32, word)
    const random = new Random(0)
    random.#s0 = s0 | 0
    random.#s1 = s1 | 0
    random.#s2 = s2 | 0
    random.#s3 = s3 | 0
    return random
  }

  /** A whole number from 0 to 2^32 − 1. */
  uint32(): number {
    const scrambled = Math.imul(rotateLeft(Math.imul(this.#s1, 5), 7), 9)
    const shifted = this.#s1 << 9
    this.#s2 ^= this.#s0
    this.#s3 ^= this.#s1
    this.#s1 ^= this.#s2
    this.#s0 ^= this.#s3
    this.#s2 ^= shifted
    this.#s3 = rotateLeft(this.#s3, 11)
    return scrambled >>> 0
  }

  /** A number in `[low, high)`, in steps of 2^-32 of the interval; `[0, 1)` by default. */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.uint32() * 2 ** -32)
  }

  /** A whole number from 0 to `limit − 1`, without bias; `limit` goes from 1 to 2^32. */
  below(limit: number): number {
    const whole = 2 ** 32 - (2 ** 32 % limit)
    let draw = this.uint32()
    while (draw >= whole) draw = this.uint32()
    return draw % limit
  }

  /** Shuffles in place (Fisher–Yates) and returns its argument. */
  shuffle<T extends Int32Array | unknown[]>(items: T): T {
    requireKind('shuffle: items', shufflable, items)
    for (let last = items.length - 1; last > 0; last--) {
      const other = this.below(last + 1)
      const swapped = items[last]!
      items[last] = items[other]!
      items[other] = swapped
    }
    return items
  }
}

/** The numbers 0 to `length − 1` in an order that depends on the length, the seed and the stream only. */
export function permutation(length: number, seed: number, ...stream: number[]): Int32Array {
  return new Random(seed, ...stream).shuffle(Int32Array.from({ length }, (_, index) => index))
}

function wordsOf(name: string, value: number): [number, number] {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw argumentError(name, 'an integer from 0 to 2^53 − 1', value)
  }
  return [value >>> 0, Math.floor(value / 2 ** 32)]
}

/** One 32-bit digest of a few words; four of them with different starts make the 128 bits of state. */
function digest(start: number, words: readonly number[]): number {
  let hash = start
  for (const word of words) hash = mix((hash ^ word) + 0x9e3779b9)
  return hash
}

/** The finalizer of MurmurHash3 (Appleby, public domain): every input bit reaches every output bit. */
function mix(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}

function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits))
}
