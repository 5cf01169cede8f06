// Running other programs, for the scripts beside this one. No dependencies: it must work before `npm ci`.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))

export class CommandFailed extends Error {}

/** Runs a program, in the project's root unless said, and shows what it prints. Resolves with its standard output. */
export function run(command, args, { cwd = ROOT, env, quiet = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
    const chunks = []
    child.stdout.on('data', (chunk) => {
      chunks.push(chunk)
      if (!quiet) process.stdout.write(chunk)
    })
    child.on('error', (error) => reject(error.code === 'ENOENT' ? new CommandFailed(`${command} is not installed`) : error))
    child.on('close', (code, signal) => {
      const output = Buffer.concat(chunks).toString()
      if (code === 0) return resolve(output)
      if (quiet) process.stdout.write(output)
      reject(new CommandFailed(`${[command, ...args].join(' ')} ended with ${signal ?? code}`))
    })
  })
}

/** A tool of node_modules, by the path of its script, run by this very Node. */
export function tool(script, args, options) {
  return run(process.execPath, [`${ROOT}node_modules/${script}`, ...args], options)
}

export function npm(args, options) {
  const { npm_execpath: path } = process.env
  return path?.endsWith('.js') ? run(process.execPath, [path, ...args], options) : run('npm', args, options)
}

/** Ends the process with a readable line instead of a stack when a command has failed. */
export async function main(action) {
  try {
    await action()
  } catch (error) {
    console.error(error instanceof CommandFailed ? `\n✖ ${error.message}` : error)
    process.exitCode = 1
  }
}
