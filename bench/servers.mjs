// The servers under test: how each is started, and what it can do.

import { fileURLToPath } from 'node:url'

const here = (path) => fileURLToPath(new URL(path, import.meta.url))
const node = (file) => [process.execPath, '--expose-gc', here(`servers/${file}`)]
const built = (name) => [here(`load/target/release/${name}`)]

export const SERVERS = {
  carillon: { label: 'Carillon', command: node('carillon.mjs'), deflate: true },
  'carillon-port': { label: 'Carillon, own port', command: node('carillon.mjs'), env: { BENCH_MODE: 'port' }, deflate: true },
  'carillon-bridge': { label: 'Carillon, bridge', command: node('carillon.mjs'), env: { BENCH_MODE: 'bridge' }, deflate: true },
  // Bill updates wait for no others: for latencies beside servers that have no batches.
  'carillon-unbatched': { label: 'Carillon, batch size 1', command: node('carillon.mjs'), env: { BENCH_OPTIONS: '{"runtime":{"MESSAGE_BATCH_SIZE":1}}' } },
  'carillon-port-unbatched': {
    label: 'Carillon, own port, batch size 1',
    command: node('carillon.mjs'),
    env: { BENCH_MODE: 'port', BENCH_OPTIONS: '{"runtime":{"MESSAGE_BATCH_SIZE":1}}' },
  },
  ws: { label: 'ws, tuned', command: node('ws.mjs'), deflate: true },
  'ws-naive': { label: 'ws, naive', command: node('ws.mjs'), env: { BENCH_MODE: 'naive' }, deflate: true },
  'socket.io': { label: 'Socket.IO', command: node('socket.io.mjs'), dialect: 'socketio', deflate: true },
  bun: { label: 'Bun', command: [here('node_modules/bun/bin/bun.exe'), here('servers/bun.mjs')], deflate: true },
  uwebsockets: { label: 'uWebSockets, C++', command: [here('load/target/uwebsockets/server')], deflate: true },
  // TLS 1.3 on both sides, with the same certificate.
  'carillon-https': { label: 'Carillon on https', command: node('carillon.mjs'), env: { BENCH_TLS: 'on' } },
  'carillon-port-tls': { label: 'Carillon, own port, TLS', command: node('carillon.mjs'), env: { BENCH_MODE: 'port', BENCH_TLS: 'on' } },
  'ws-https': { label: 'ws on https', command: node('ws.mjs'), env: { BENCH_TLS: 'on' } },
  'bun-tls': { label: 'Bun, TLS', command: [here('node_modules/bun/bin/bun.exe'), here('servers/bun.mjs')], env: { BENCH_TLS: 'on' } },
  tungstenite: { label: 'tokio-tungstenite', command: built('tungstenite') },
  floor: { label: 'floor: send(2)', command: built('floor') },
  'floor-uring': { label: 'floor: io_uring', command: [...built('floor'), 'uring'] },
}

/** An earlier version in a checkout of its own, built for release, beside this one: for changes that must make nothing slower. */
const { BENCH_BEFORE } = process.env
if (BENCH_BEFORE) {
  const env = { BENCH_CHECKOUT: BENCH_BEFORE }
  SERVERS.before = { label: 'before', command: node('carillon.mjs'), env, deflate: true }
  SERVERS['before-port'] = { label: 'before, own port', command: node('carillon.mjs'), env: { ...env, BENCH_MODE: 'port' }, deflate: true }
}

/** What the others are compared with. */
export const REFERENCES = { ws: 'ws', 'ws-https': 'ws-https', floor: 'floor', before: 'before' }
