// Another Node process that runs one of `programs/`, told what to do and telling what it did.

import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Scope } from './server.mjs'
import { Mailbox, within } from './waiting.mjs'

export interface Exit {
  code: number | null
  signal: string | null
  stderr: string
}

export interface Told {
  type: string
  [member: string]: unknown
}

export class Child {
  readonly exited: Promise<Exit>
  readonly #process: ChildProcess
  readonly #mailbox = new Mailbox<Told>()

  constructor(test: Scope, program: string, args: string[] = [], execArgv: string[] = [], env: NodeJS.ProcessEnv = {}, execPath = process.execPath) {
    const path = fileURLToPath(new URL(`../programs/${program}.mjs`, import.meta.url))
    this.#process = fork(path, args, { execPath, execArgv, env: { ...process.env, ...env }, stdio: ['ignore', 'inherit', 'pipe', 'ipc'] })
    test.after(() => this.#process.kill('SIGKILL'))
    const stderr: Buffer[] = []
    this.#process.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk))
    this.#process.on('message', (told) => this.#mailbox.put(told as Told))
    this.exited = once(this.#process, 'close').then(([code, signal]) => {
      const exit = { code, signal, stderr: Buffer.concat(stderr).toString() } as Exit
      this.#mailbox.end(`${program} has exited with ${exit.signal ?? exit.code}\n${exit.stderr}`)
      return exit
    })
  }

  tell(type: string, rest: Record<string, unknown> = {}): void {
    this.#process.send({ type, ...rest })
  }

  hear(type: string, limit?: number): Promise<Told> {
    return this.#mailbox.take((told) => told.type === type, `"${type}"`, limit)
  }

  /** Leaves unread what the process writes to stderr. */
  pauseStderr(): void {
    this.#process.stderr?.pause()
  }

  resumeStderr(): void {
    this.#process.stderr?.resume()
  }

  exit(limit?: number): Promise<Exit> {
    return within(this.exited, 'the exit of a process', limit)
  }
}
