// A control group of a test's own: a container as far as memory is concerned.

import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import type { Scope } from './server.mjs'
import { eventually } from './waiting.mjs'

/** What the two versions of control groups call the same. */
const LAYOUTS = [
  { controller: 'memory', mount: '/sys/fs/cgroup/memory', limit: 'memory.limit_in_bytes', used: 'memory.usage_in_bytes' },
  { controller: '', mount: '/sys/fs/cgroup', limit: 'memory.max', used: 'memory.current' },
]

export class Container {
  readonly #path: string
  /** The file that tells the bytes in use. */
  readonly used: string

  private constructor(path: string, used: string) {
    this.#path = path
    this.used = `${path}/${used}`
  }

  /** Inside of the group this process is in; `undefined` where the system or its owner permits none. */
  static create(test: Scope, bytes: number): Container | undefined {
    for (const { controller, mount, limit, used } of LAYOUTS) {
      try {
        const groups = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n').map((line) => line.split(':'))
        const own = groups.find(([, controllers]) => controllers?.split(',').includes(controller))?.slice(2).join(':')
        if (own === undefined) continue
        const path = `${mount}${own === '/' ? '' : own}/carillon-test-${process.pid}`
        mkdirSync(path)
        const container = new Container(path, used)
        test.after(() => container.#remove())
        writeFileSync(`${path}/${limit}`, String(bytes))
        return container
      } catch {
        // Not mounted, not ours, or without the controller.
      }
    }
    return undefined
  }

  /** How to have a program run inside, for the test that starts it: its shell enters and becomes the program. */
  get entrance(): { execPath: string; execArgv: string[] } {
    const enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    return { execPath: '/bin/sh', execArgv: ['-c', enter, this.#path, process.execPath] }
  }

  /** Resolves once no process is inside. */
  async #remove(): Promise<void> {
    const inside = (): string => readFileSync(`${this.#path}/cgroup.procs`, 'utf8').trim()
    for (const pid of inside().split('\n').filter(Boolean)) process.kill(Number(pid), 'SIGKILL')
    await eventually(() => inside() === '', 'the end of all processes in a container')
    rmdirSync(this.#path)
  }
}
