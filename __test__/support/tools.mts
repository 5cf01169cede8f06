// What tests of the whole package need from the machine: npm, a browser, a process that says where it listens.

import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** The project's root; compiled tests lie in target/js-test/support. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url)).replace(/[\\/]$/, '')

/** The name of this platform, and its addon. Those of others may lie beside it. */
export const TRIPLE = (createRequire(import.meta.url)(`${ROOT}/platform.js`) as { triple(): string }).triple()
export const ADDON = process.env['NAPI_RS_NATIVE_LIBRARY_PATH'] ?? `${ROOT}/carillon.${TRIPLE}.node`

/** In CI nothing is skipped because something is missing. */
export const MANDATORY = process.env['CI'] === 'true'

const execute = promisify(execFile)

/** The program, and its first arguments. */
export function npmCommand(): [string, string[]] {
  const path = process.env['npm_execpath']
  return path?.endsWith('.js') ? [process.execPath, [path]] : ['npm', []]
}

export async function npm(args: string[], cwd = ROOT, timeout = 150_000): Promise<string> {
  const [command, first] = npmCommand()
  const options = { cwd, timeout, maxBuffer: 16 * 1024 * 1024 }
  return (await execute(command, [...first, '--no-audit', '--no-fund', '--loglevel=error', ...args], options)).stdout
}

/** Without a display, without a sandbox (CI runs as root), and without a word to the outside. */
export const BROWSER_ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
]

export function findChromium(): string | undefined {
  const candidates = [process.env['CHROMIUM'], '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
  return candidates.find((path) => path !== undefined && existsSync(path))
}

/** A started program which prints the address it listens on. */
export class Program {
  readonly #process: ChildProcess
  readonly port: number

  private constructor(process: ChildProcess, port: number) {
    this.#process = process
    this.port = port
  }

  static async start(script: string, { cwd = ROOT, env = {} }: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<Program> {
    const child = spawn(process.execPath, [script], { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface(child.stdout)
    const port = await new Promise<number>((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL')
        reject(new Error(`${script} did not say where it listens`))
      }, 60_000)
      lines.on('line', (line) => {
        const found = /(?:localhost|127\.0\.0\.1|\bport\b)\D{0,3}(\d{2,5})/.exec(line)
        if (found) {
          clearTimeout(timer)
          resolve(Number(found[1]))
        }
      })
      child.on('close', (code) => {
        clearTimeout(timer)
        reject(new Error(`${script} ended with ${code}`))
      })
    })
    return new Program(child, port)
  }

  /** Asks the program to end as an operator would, and resolves with its exit code. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const { exitCode, signalCode } = this.#process
    if (exitCode !== null || signalCode !== null) return exitCode
    const closed = once(this.#process, 'close', { signal: AbortSignal.timeout(20_000) })
    this.#process.kill(signal)
    try {
      const [code] = (await closed) as [number | null]
      return code
    } catch (error) {
      this.#process.kill('SIGKILL')
      throw error
    }
  }
}
