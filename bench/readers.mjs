// Clients for bench/slow.mjs: they read and measure, or open a connection and never read from it.

import { randomBytes } from 'node:crypto'
import net from 'node:net'
import jwt from 'jsonwebtoken'

const [port, count] = process.argv.slice(2).map(Number)
const reads = process.argv[4] === 'read'
const SENT_AT = /"at":([\d.]+)/g
let latencies = []

function open(number) {
  return new Promise((resolve, reject) => {
    const token = jwt.sign({ user_id: `${process.pid}-${number}` }, process.env.BENCH_SECRET)
    const socket = net.connect(port, '127.0.0.1')
    socket.on('error', reject)
    socket.once('connect', () =>
      socket.write(
        `GET /ws?token=${token} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
          `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
      ),
    )
    socket.once('data', () => {
      if (!reads) {
        socket.pause()
        return resolve()
      }
      let rest = ''
      socket.on('data', (chunk) => {
        const now = performance.timeOrigin + performance.now()
        rest += chunk.toString('latin1')
        let from = 0
        for (const match of rest.matchAll(SENT_AT)) {
          latencies.push(now - Number(match[1]))
          from = match.index + match[0].length
        }
        rest = rest.slice(Math.max(from, rest.length - 64))
      })
      resolve()
    })
  })
}

for (let first = 0; first < count; first += 100) {
  await Promise.all(Array.from({ length: Math.min(100, count - first) }, (_, index) => open(first + index)))
}
process.send({ open: count })

process.on('message', ({ ask }) => {
  if (ask === 'begin') {
    latencies = []
    process.send({})
  }
  if (ask === 'latencies') {
    const sorted = latencies.toSorted((a, b) => a - b)
    const at = (rank) => sorted[Math.floor((sorted.length - 1) * rank)] ?? 0
    process.send({ received: sorted.length, p50: at(0.5), p99: at(0.99) })
  }
})
process.on('disconnect', () => process.exit())
