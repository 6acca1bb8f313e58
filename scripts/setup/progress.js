/** Short progress lines: a step when it begins, its seconds when it ends, its last line of output on a terminal. */
export class Progress {
  #stream
  #live

  /** @param {{ verbose: boolean, stream?: NodeJS.WriteStream }} options */
  constructor({ verbose, stream = process.stdout }) {
    this.#stream = stream
    this.#live = stream.isTTY && !verbose
  }

  /**
   * @template T
   * @param {string} title
   * @param {(detail: (text: string) => void) => Promise<T>} work
   * @returns {Promise<T>}
   */
  async step(title, work) {
    const started = performance.now()
    const line = `[setup] ${title}`
    this.#stream.write(this.#live ? `${line} …` : `${line} …\n`)
    try {
      const result = await work(detail => this.#show(`${line} … ${detail}`))
      const seconds = ((performance.now() - started) / 1000).toFixed(1)
      this.#end(`${line}: ${seconds} s`)
      return result
    } catch (error) {
      this.#end(`${line}: failed`)
      throw error
    }
  }

  /** @param {string} text */
  note(text) {
    this.#stream.write(`[setup] ${text}\n`)
  }

  /** @param {string} text */
  #show(text) {
    if (this.#live) this.#stream.write(`\r\x1b[K${text.slice(0, (this.#stream.columns ?? 80) - 1)}`)
  }

  /** @param {string} text */
  #end(text) {
    this.#stream.write(this.#live ? `\r\x1b[K${text}\n` : `${text}\n`)
  }
}
