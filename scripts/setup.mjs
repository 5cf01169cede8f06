// Brings a fresh clone to where anything can run: dependencies installed, addon built. Does nothing when all is there.

import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import platform from '../platform.js'
import { CommandFailed, ROOT, npm, tool } from './run.mjs'

const OLDEST_NODE = 20
const STAMP = `${ROOT}node_modules/.installed-from`

/** `npm ci`, unless node_modules already stems from this very lock file. */
export async function ensureDependencies() {
  if (Number(process.versions.node.split('.')[0]) < OLDEST_NODE) {
    throw new CommandFailed(`Node ${OLDEST_NODE} or newer is needed, this is ${process.version}`)
  }
  const lock = createHash('sha256').update(readFileSync(`${ROOT}package-lock.json`)).digest('hex')
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === lock) return
  await npm(['ci', '--loglevel=error', '--no-audit', '--no-fund'])
  writeFileSync(STAMP, lock)
}

/** The addon for this machine. Those of others may lie beside it. */
export const ADDON = `${ROOT}carillon.${platform.triple() ?? 'unsupported'}.node`

/** Builds the addon for this machine, and with it index.d.ts: as published, or quickly. */
export async function build({ release = false } = {}) {
  const profile = release ? ['--release'] : ['--profile', 'quick']
  const output = await tool('@napi-rs/cli/dist/cli.js', ['build', '--platform', ...profile, '--no-js', '--dts', DECLARATIONS, '--', '--locked'])
  writeFileSync(`${ROOT}index.d.ts`, declarations(readFileSync(ROOT + DECLARATIONS, 'utf8')))
  if (release) refusePanicsOnPurpose()
  return output
}

/** What the tests of a quick build can ask for (`src/application/fault_injection.rs`) is not to be had in an addon that is published. */
function refusePanicsOnPurpose() {
  for (const name of readdirSync(ROOT).filter((file) => file.endsWith('.node'))) {
    if (readFileSync(ROOT + name).includes('CARILLON_TEST_PANIC')) throw new CommandFailed(`${name} can be made to panic: it was built with debug assertions`)
  }
}

const DECLARATIONS = 'target/index.d.ts'

/** The generator declares every Rust class as one that can be constructed. An application gets this one from its service. */
function declarations(generated) {
  const declared = 'export declare class RuntimeConfig {'
  if (!generated.includes(declared)) throw new CommandFailed(`there is no "${declared}" among what the build has generated`)
  return generated.replace(declared, 'export interface RuntimeConfig {')
}

/** Builds the addon when a source is newer than it, or when there is none. */
export async function ensureAddon() {
  if (process.env.NAPI_RS_NATIVE_LIBRARY_PATH) return
  if (!existsSync(ADDON) || newestSource() > statSync(ADDON).mtimeMs) await build()
}

function newestSource() {
  const sources = readdirSync(`${ROOT}src`, { recursive: true }).map((name) => `src/${name}`)
  return Math.max(...[...sources, 'Cargo.toml', 'Cargo.lock', 'build.rs'].map((name) => statSync(ROOT + name).mtimeMs))
}
