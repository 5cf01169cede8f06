// A service in a process of its own, and what it holds.

import type { MemoryAnalysis, ServiceStats, WebSocketServiceOptions } from 'carillon'
import { Child } from './child.mjs'
import type { Scope } from './server.mjs'
import { within } from './waiting.mjs'

export interface Report {
  /** Bytes, after a collection. */
  rss: number
  descriptors: number
  stats: ServiceStats
  users: number
  subscribers: number
  analysis: MemoryAnalysis
}

export class Host {
  readonly #child: Child
  readonly port: number

  private constructor(child: Child, port: number) {
    this.#child = child
    this.port = port
  }

  static async start(test: Scope, options: WebSocketServiceOptions = {}): Promise<Host> {
    // V8's nursery grows in steps with any traffic. Held small, it does not hide what the service keeps.
    const child = new Child(test, 'host', [JSON.stringify(options)], ['--expose-gc', '--max-semi-space-size=1'])
    return new Host(child, (await child.hear('listening'))['port'] as number)
  }

  async report(bill = 1): Promise<Report> {
    this.#child.tell('report', { bill })
    return (await this.#child.hear('report')) as unknown as Report
  }

  /** The first report that fits: for what takes its time, such as the ends of many connections. */
  async reportWhen(condition: (report: Report) => boolean, what: string, limit = 20_000): Promise<Report> {
    let last: Report | undefined
    const found = (async () => {
      do last = await this.report()
      while (!condition(last))
      return last
    })()
    return within(found, what, limit).catch((error: Error) => {
      throw new Error(`${error.message}; the last report: ${JSON.stringify({ ...last, analysis: undefined })}`)
    })
  }

  publish(bill: number): void {
    this.#child.tell('publish', { bill })
  }

  async stop(): Promise<void> {
    this.#child.tell('stop')
    const { code, signal, stderr } = await this.#child.exit()
    if (code !== 0 || stderr !== '') throw new Error(`the service ended with ${signal ?? code}: ${stderr}`)
  }
}
