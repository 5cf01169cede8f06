// Carillon. BENCH_MODE: attached to an http.Server, on its own port, or attached with Node pumping the bytes.
// BENCH_CHECKOUT: the checkout whose addon is loaded, this one by default.

import { pathToFileURL } from 'node:url'
import { serve } from './serve.mjs'
import { createServer, tls } from './tls.mjs'

const { BENCH_SECRET, BENCH_MODE = 'attached', BENCH_COMPRESSION, BENCH_OPTIONS = '{}', BENCH_CHECKOUT } = process.env

const entry = BENCH_CHECKOUT ? pathToFileURL(`${BENCH_CHECKOUT}/index.js`) : new URL('../../index.js', import.meta.url)
const { default: carillon } = await import(entry)

const service = new carillon.WebSocketService({
  jwtSecret: BENCH_SECRET,
  threads: 1,
  compression: BENCH_COMPRESSION === 'on',
  transport: BENCH_MODE === 'bridge' ? 'bridge' : 'auto',
  ...JSON.parse(BENCH_OPTIONS),
})

async function listen() {
  if (BENCH_MODE === 'port') return (await service.listen({ port: 0, host: '127.0.0.1', tls })).port
  const server = createServer()
  service.initialize(server)
  await new Promise((resolve) => server.listen(0, '127.0.0.1', 4096, resolve))
  return server.address().port
}

serve(await listen(), {
  publish: (topic, contents) => (topic === 0 ? service.broadcastToAll(contents) : service.broadcastBillUpdate(topic, contents)),
  usage() {
    const { activeConnections, droppedMessages } = service.getStats()
    // In KB, as the original reported it.
    const pending = Number.parseFloat(service.forceMemoryAnalysis().performance.bufferMemory) * 1024
    const before = performance.now()
    service.metricsText()
    const scrape = performance.now() - before
    return { scrape, connections: activeConnections, dropped: droppedMessages, pending }
  },
})
