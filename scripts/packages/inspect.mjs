// What every binary that is published must fulfil, read from the file alone.

import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { CommandFailed, ROOT, run } from '../run.mjs'
import { CACHE } from './places.mjs'
import { GLIBC } from './targets.mjs'

/** A home directory on any system, or a drive of Windows. */
const HOME = /(?:\/home\/|\/root\/|\/Users\/|[A-Za-z]:\\Users\\)[\w.-]+/g

/** Of a binary that can be made to panic (`src/application/fault_injection.rs`). */
const FAULT_INJECTION = 'CARILLON_TEST_PANIC'

/** Throws unless the binary runs on every system of its target and tells nothing of the machine that built it. */
export async function inspect(path, target) {
  const found = await faults(path, target)
  if (found.length > 0) throw new CommandFailed(`${target.name}:\n  ${found.join('\n  ')}`)
}

/** What is wrong with a binary; nothing if all is well. */
export async function faults(path, target) {
  const contents = readFileSync(path)
  const found = [...leaks(contents)]
  if (contents.includes(FAULT_INJECTION)) found.push('it can be made to panic: it was built with debug assertions')
  if (target.os === 'linux') found.push(...(await elfFaults(path, contents, target)))
  return found
}

/** Paths of the machine that built it. */
function leaks(contents) {
  const text = contents.toString('latin1')
  const own = [ROOT.replace(/[\\/]$/, ''), homedir(), CACHE].filter((path) => path.length > 1 && text.includes(path))
  return [...new Set([...own, ...(text.match(HOME) ?? [])])].map((path) => `it holds the path ${path}`)
}

async function elfFaults(path, contents, target) {
  if (contents.readUInt32BE(0) !== 0x7f454c46) return ['it is no ELF file']
  const found = []
  const machine = contents.readUInt16LE(18)
  if (machine !== target.elfMachine) found.push(`its machine is ${machine}, not ${target.elfMachine}`)
  const symbols = await run('objdump', ['-T', path], { quiet: true })
  if (!/\bnapi_register_module_v1\b/.test(symbols)) found.push('it does not register as an addon')
  const needed = neededGlibc(symbols)
  if (target.libc === 'musl' && needed !== undefined) found.push(`it needs glibc ${needed}`)
  if (target.libc === 'glibc' && needed === undefined) found.push('it names no version of glibc')
  if (target.libc === 'glibc' && needed !== undefined && compare(needed, GLIBC) > 0) found.push(`it needs glibc ${needed}, newer than ${GLIBC}`)
  return found
}

/** The newest version of glibc among the dynamic symbols, as objdump -T prints them. */
function neededGlibc(symbols) {
  return [...symbols.matchAll(/\bGLIBC_(\d+(?:\.\d+)+)/g)].map(([, version]) => version).sort(compare).at(-1)
}

function compare(one, other) {
  const [a, b] = [one, other].map((version) => version.split('.').map(Number))
  const at = a.findIndex((number, index) => number !== (b[index] ?? 0))
  if (at >= 0) return a[at] - (b[at] ?? 0)
  return a.length - b.length
}
