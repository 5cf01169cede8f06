// A server and a load generator as two processes, each on a core of its own, and what the system says about the server.

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import os from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const LOAD = fileURLToPath(new URL('load/target/release/load', import.meta.url))
const SECRET = 'a secret for this run only'
const STOP_MS = 5000
const WORDS = 'the bill of this house was read and amended by its committee before members voted on every clause'.split(' ')

// Not availableParallelism(), which is 1 once this process itself is pinned.
const CORES = os.cpus().length

/** Without a second core, or without taskset, ratios are less steady: the results say which it was. */
export const PINNED = CORES > 1 && spawnSync('taskset', ['--version']).status === 0
const pin = (cores, command) => (PINNED ? ['taskset', '-c', cores, ...command] : command)

const threadCpuMicros = (pid, thread) => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1000

/** User and system time of all threads of a process that live. */
export function cpuMicrosOf(pid) {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => sum + threadCpuMicros(pid, thread), 0)
}

/** Text that compresses like text. */
export function filler(bytes) {
  let text = ''
  for (let index = 0; text.length < bytes; index += 1) text += `${WORDS[(index * 7 + (index >> 3)) % WORDS.length]} ${index % 97} `
  return text.slice(0, bytes)
}

/** One server under load. `allowed` names what a scenario expects to go wrong. */
export class Bench {
  #server
  #load
  runtime

  /** `spread`: the server may use every core, not one. */
  static async start(spec, { compression = false, spread = false, env = {} } = {}) {
    const bench = new Bench()
    const all = { ...process.env, BENCH_SECRET: SECRET, BENCH_COMPRESSION: compression ? 'on' : 'off', ...spec.env, ...env }
    bench.#server = new Child(pin(spread ? `0-${CORES - 1}` : '0', spec.command), all, ['pipe', 'pipe', 'inherit'])
    const { port, runtime } = await bench.#server.answer()
    bench.runtime = runtime
    const target = { port, secret: SECRET, dialect: spec.dialect ?? 'plain', tls: spec.env?.BENCH_TLS === 'on' }
    const descriptors = ['pipe', 'pipe', 'inherit', bench.#server.process.stdin]
    bench.#load = new Child(pin('1', [LOAD, JSON.stringify(target)]), process.env, descriptors)
    await bench.fill(400)
    return bench
  }

  /** Waits until nothing moves in the server any more. */
  settle(milliseconds, allowed) {
    return this.run({ command: 'settle', milliseconds }, allowed)
  }

  /** Ends a good run: nothing may come after the last message. */
  async finish() {
    if (this.#load.hasEnded) return
    await this.settle(50)
    await this.stop()
  }

  async stop() {
    await this.#load?.stop()
    await this.#server?.stop()
  }

  /** The bytes of data in every message from now on. */
  async fill(bytes) {
    this.#server.tell({ do: 'filler', text: filler(bytes) })
    await this.usage()
  }

  usage() {
    return this.#server.ask({ do: 'usage' })
  }

  cost(order) {
    return this.#server.ask({ do: 'cost', ...order })
  }

  open(count, { topics = 1, of = 1, inFlight = 128, receiveBuffer = 0, ...more } = {}) {
    const opening = { count, topics_each: topics, topics_of: of, in_flight: inFlight, receive_buffer: receiveBuffer, ...more }
    return this.run({ command: 'open', ...opening })
  }

  /** Lets the generator do something; throws if a message was lost, came twice, or a connection was closed. */
  async run(command, allowed = []) {
    const outcome = await this.#load.ask(command)
    const wrong = ['error', 'lost', 'doubled', 'stray', 'refused', 'closed'].filter((name) => {
      const value = outcome[name]
      const happened = typeof value === 'object' ? Object.keys(value).length > 0 : Boolean(value)
      return happened && !allowed.includes(name)
    })
    if (wrong.length > 0) {
      throw new Error(`${command.command}: ${wrong.map((name) => `${name} ${JSON.stringify(outcome[name])}`).join(', ')}`)
    }
    return outcome
  }

  /** Like `run`, with what it has cost the server. `per` names the count the cost is divided by. */
  async measure(command, { per = 'deliveries', allowed } = {}) {
    await this.usage()
    const before = this.cpuMicros()
    const mainBefore = this.mainCpuMicros()
    const outcome = await this.run(command, allowed)
    const cpu = this.cpuMicros() - before
    const mainCpu = this.mainCpuMicros() - mainBefore
    const rss = this.rss()
    const { loop } = await this.usage()
    return {
      outcome,
      cpu: cpu / outcome[per],
      mainCpu: mainCpu / outcome[per],
      rate: outcome[per] / outcome.seconds,
      busy: cpu / 1e6 / outcome.seconds,
      ...latencies(outcome.latency),
      loopP99: loop?.p99,
      loopMax: loop?.max,
      rss: rss / 2 ** 20,
      idle: outcome.idle,
    }
  }

  /** User and system time of all threads that live. */
  cpuMicros() {
    return cpuMicrosOf(this.#server.process.pid)
  }

  /** The same of the thread the process began with: JavaScript's, where there is any. */
  mainCpuMicros() {
    const { pid } = this.#server.process
    return threadCpuMicros(pid, pid)
  }

  rss() {
    return Number(readFileSync(`/proc/${this.#server.process.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]) * 1024
  }
}

export const latencies = ({ p50, p99, max }) => ({ p50, p99, max })

/** A process that reads and writes JSON lines. */
class Child {
  process
  #lines
  #ended

  constructor([command, ...args], env, stdio) {
    this.process = spawn(command, args, { env, stdio })
    this.#ended = once(this.process, 'exit')
    this.#ended.catch(() => {})
    this.#lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]()
  }

  tell(value) {
    this.process.stdin.write(`${JSON.stringify(value)}\n`)
  }

  async answer() {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`${this.process.spawnfile} ${this.process.spawnargs.join(' ')} has ended`)
    return JSON.parse(value)
  }

  ask(value) {
    this.tell(value)
    return this.answer()
  }

  get hasEnded() {
    return this.process.exitCode !== null || this.process.signalCode !== null
  }

  async stop() {
    this.process.stdin.end()
    const timer = setTimeout(() => this.process.kill('SIGKILL'), STOP_MS)
    if (!this.hasEnded) await this.#ended
    clearTimeout(timer)
  }
}
