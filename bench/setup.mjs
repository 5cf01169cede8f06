// Brings a fresh clone to where the bench can run, and says what it ran on.

import { existsSync, readFileSync } from 'node:fs'
import os from 'node:os'
import { fileURLToPath } from 'node:url'
import { spawnSync } from 'node:child_process'
import { ROOT, npm, run } from '../scripts/run.mjs'
import { build, ensureDependencies } from '../scripts/setup.mjs'
import { PINNED } from './harness.mjs'
import { SERVERS } from './servers.mjs'
import { buildUwebsockets } from './uwebsockets/build.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const read = (path) => JSON.parse(readFileSync(path, 'utf8'))

/** Dependencies, the addon as published (BENCH_ADDON=as-is: the one that is there), the other servers, the generator. */
export async function prepare() {
  await ensureDependencies()
  if (!existsSync(`${HERE}node_modules`)) await npm(['ci', '--prefix', HERE, '--loglevel=error'])
  if (process.env.BENCH_ADDON !== 'as-is') await build({ release: true })
  await run('cargo', ['build', '--release', '--locked', '--quiet', '--manifest-path', `${HERE}load/Cargo.toml`])
  const missing = buildUwebsockets()
  if (missing) {
    console.error(`uWebSockets is left out: ${missing}`)
    delete SERVERS.uwebsockets
  }
  // This process shares a core with the generator; the servers have the other.
  if (PINNED) spawnSync('taskset', ['-cp', '1', String(process.pid)])
}

export function machine() {
  const [{ model }] = os.cpus()
  return {
    cpu: model.trim(),
    cores: os.cpus().length,
    memory: `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
    kernel: `${os.type()} ${os.release()}`,
    pinned: PINNED ? 'server on core 0, generator on core 1' : 'nothing pinned',
    loadBefore: os.loadavg()[0],
  }
}

export function versions(runtimes) {
  const installed = (folder, name) => read(`${folder}node_modules/${name}/package.json`).version
  const lock = readFileSync(`${HERE}load/Cargo.lock`, 'utf8')
  return {
    carillon: read(`${ROOT}package.json`).version,
    node: process.version,
    ws: installed(ROOT, 'ws'),
    'socket.io': installed(HERE, 'socket.io'),
    bun: runtimes.bun?.replace('Bun ', '') ?? installed(HERE, 'bun'),
    ...(SERVERS.uwebsockets && { uWebSockets: 'of libuwebsockets-sys 0.0.10' }),
    'tokio-tungstenite': lock.match(/name = "tokio-tungstenite"\nversion = "([^"]+)"/)?.[1],
  }
}
