// `taskset -c 1 node bench/upgrade.mjs`: what Node's HTTP parser and its `upgrade` event cost, at most what could be saved by taking
// connections before they are parsed. Both servers close every connection: one when it comes, one when its upgrade does.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { fileURLToPath } from 'node:url'
import { cpuMicrosOf } from './harness.mjs'

const WARM_UP = 2000
const MEASURED = 6000
const AT_ONCE = 64

const REQUEST = [
  `GET /ws?token=${'x'.repeat(160)} HTTP/1.1`,
  'Host: localhost',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits',
  '\r\n',
].join('\r\n')

const SERVERS = {
  connection: () => net.createServer({ pauseOnConnect: true }, (socket) => socket.destroy()),
  upgrade: () => http.createServer().on('upgrade', (_request, socket) => socket.destroy()),
}

async function serve(kind) {
  const server = SERVERS[kind]().listen(0, '127.0.0.1', 4096)
  await once(server, 'listening')
  process.send(server.address().port)
}

async function knock(port, count) {
  let left = count
  const knockers = Array.from({ length: AT_ONCE }, async () => {
    while (left > 0) {
      left -= 1
      const socket = net.connect(port, '127.0.0.1', () => socket.write(REQUEST)).on('error', () => {}).resume()
      await new Promise((resolve) => socket.once('close', resolve))
    }
  })
  await Promise.all(knockers)
}

async function measure(kind) {
  const server = fork(fileURLToPath(import.meta.url), [kind], { execPath: 'taskset', execArgv: ['-c', '0', process.execPath] })
  try {
    const [port] = await once(server, 'message')
    await knock(port, WARM_UP)
    const before = cpuMicrosOf(server.pid)
    await knock(port, MEASURED)
    return (cpuMicrosOf(server.pid) - before) / MEASURED
  } finally {
    server.kill()
  }
}

if (process.argv[2]) {
  await serve(process.argv[2])
} else {
  for (const kind of ['connection', 'upgrade', 'connection', 'upgrade', 'connection', 'upgrade']) {
    console.log(`closed at its ${kind}: ${(await measure(kind)).toFixed(1)} µs of CPU each`)
  }
}
