/** The other side: Python as a child that answers line by line. */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { createInterface, type Interface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Python } from '../scripts/find-python.js'

export { findPython, type Python } from '../scripts/find-python.js'

/** A running script of this folder: answers each line of JSON with one. */
export class PythonPeer {
  private readonly child: ChildProcessByStdio<Writable, Readable, null>
  private readonly lines: AsyncIterator<string>
  private readonly reader: Interface

  constructor(python: Python, script: string, args: readonly string[] = []) {
    const path = fileURLToPath(new URL(script, import.meta.url))
    this.child = spawn(python.executable, ['-W', 'ignore', path, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.reader = createInterface({ input: this.child.stdout })
    this.lines = this.reader[Symbol.asyncIterator]()
  }

  async ask<Answer>(question: object): Promise<Answer> {
    this.child.stdin.write(`${JSON.stringify(question)}\n`)
    const line = await this.lines.next()
    if (line.done) throw new Error('the Python process ended: see its message above')
    return JSON.parse(line.value) as Answer
  }

  /** Null when there is no answer in time, or the process ends instead; then it is of no more use. */
  async askWithin<Answer>(question: object, seconds: number): Promise<Answer | null> {
    const timer = setTimeout(() => this.child.kill('SIGKILL'), seconds * 1000)
    try {
      return await this.ask<Answer>(question)
    } catch {
      return null
    } finally {
      clearTimeout(timer)
    }
  }

  close(): void {
    this.child.stdin.end()
    this.reader.close()
  }
}

/**
 * Several processes of one script, which take turns. How fast Python is depends on where its memory happens to lie, by a
 * tenth in training steps and threefold in small losses, for as long as a process lives.
 */
export class PythonPeers {
  private readonly peers: PythonPeer[]
  private turn = 0

  constructor(count: number, python: Python, script: string) {
    this.peers = Array.from({ length: count }, () => new PythonPeer(python, script))
  }

  async askAll(question: object): Promise<void> {
    for (const peer of this.peers) await peer.ask(question)
  }

  /** False as soon as one has no answer in time, or ends instead. */
  async askAllWithin(question: object, seconds: number): Promise<boolean> {
    for (const peer of this.peers) if ((await peer.askWithin(question, seconds)) === null) return false
    return true
  }

  /** Asks the one whose turn it is. */
  async askNext<Answer>(question: object): Promise<Answer> {
    return this.peers[this.turn++ % this.peers.length]!.ask<Answer>(question)
  }

  close(): void {
    for (const peer of this.peers) peer.close()
  }
}
