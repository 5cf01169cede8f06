// The service under bench/slow.mjs: publishes a steady stream, drops the oldest for whoever does not read.

import http from 'node:http'
import { WebSocketService } from 'carillon'

// A rate that one core can serve to everybody while nobody is stuck.
const PUBLISHES_PER_SECOND = 100
const service = new WebSocketService({
  jwtSecret: process.env.BENCH_SECRET,
  maxBackpressure: Number(process.env.BENCH_BOUND),
  slowConsumer: 'drop-oldest',
  compression: false,
  // The clients of this bench answer no pings.
  base: { HEARTBEAT_INTERVAL: 3_600_000, STALE_CONNECTION_THRESHOLD: 3_600_000 },
})
const server = http.createServer()
service.initialize(server)
const filler = 'x'.repeat(4000)

function stream(milliseconds) {
  return new Promise((resolve) => {
    let published = 0
    const end = performance.now() + milliseconds
    const timer = setInterval(() => {
      service.broadcastToAll({ type: 'bench', data: { at: performance.timeOrigin + performance.now(), filler } })
      published += 1
      if (performance.now() >= end) {
        clearInterval(timer)
        resolve(published)
      }
    }, 1000 / PUBLISHES_PER_SECOND)
  })
}

server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
process.on('message', async ({ ask, milliseconds }) => {
  if (ask === 'stream') process.send({ published: await stream(milliseconds) })
  if (ask === 'usage') {
    globalThis.gc?.()
    const { activeConnections, droppedMessages } = service.getStats()
    const pending = Number.parseFloat(service.forceMemoryAnalysis().performance.bufferMemory) * 1024
    process.send({ rss: process.memoryUsage.rss(), connections: activeConnections, dropped: droppedMessages, pending })
  }
})
process.on('disconnect', () => process.exit())
