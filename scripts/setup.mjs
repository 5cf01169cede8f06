// Brings a fresh clone to where anything can run: dependencies installed, addon built. Does nothing when all is there.

import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
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

/** Builds the addon for this machine, and with it index.js and index.d.ts: as published, or quickly. */
export function build({ release = false } = {}) {
  const profile = release ? ['--release'] : ['--profile', 'quick']
  return tool('@napi-rs/cli/dist/cli.js', ['build', '--platform', ...profile, '--', '--locked'])
}

/** Builds the addon when a source is newer than it, or when there is none. */
export async function ensureAddon() {
  if (process.env.NAPI_RS_NATIVE_LIBRARY_PATH) return
  const addons = readdirSync(ROOT).filter((name) => name.endsWith('.node'))
  const built = Math.min(...addons.map((name) => statSync(ROOT + name).mtimeMs))
  if (addons.length === 0 || !existsSync(`${ROOT}index.js`) || newestSource() > built) await build()
}

function newestSource() {
  const sources = readdirSync(`${ROOT}src`, { recursive: true }).map((name) => `src/${name}`)
  return Math.max(...[...sources, 'Cargo.toml', 'Cargo.lock', 'build.rs'].map((name) => statSync(ROOT + name).mtimeMs))
}
