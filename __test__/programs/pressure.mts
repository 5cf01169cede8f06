// A service in a process with little memory, and an application that fills it and lets go of it on demand: the JavaScript heap, or
// the container.

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { getHeapStatistics } from 'node:v8'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { application, listen, options } from '../support/server.mjs'

const server = createServer(application)
const service = new WebSocketService(options(JSON.parse(process.argv[2] ?? '{}') as WebSocketServiceOptions))
service.on('degradation', ({ level, pressure }) => process.send?.({ type: 'degradation', level, pressure }))
service.initialize(server)
process.send?.({ type: 'listening', port: await listen(server) })

let hoard: Array<number[] | Buffer> = []

interface Order {
  type: string
  /** What is to be in use. */
  ratio: number
  /** The file that tells what a container uses, and its limit. */
  container?: { used: string; bytes: number }
  from: number
  to: number
}

process.on('message', async (order: Order) => {
  if (order.type === 'fill') {
    const { container } = order
    const limit = container?.bytes ?? getHeapStatistics().heap_size_limit
    const used = (): number => (container ? Number(readFileSync(container.used, 'utf8')) : getHeapStatistics().used_heap_size)
    // A hundred kilobytes at a time, all of them kept.
    while (used() < order.ratio * limit) hoard.push(container ? Buffer.alloc(102_400, 1) : new Array<number>(12_800).fill(0.5))
    process.send?.({ type: 'filled' })
  } else if (order.type === 'drain') {
    hoard = []
    globalThis.gc?.()
  } else if (order.type === 'publish') {
    for (let number = order.from; number < order.to; number++) {
      service.broadcastBillUpdate(1, { type: 'amendment', data: { number }, timestamp: new Date() })
    }
    const { degradationLevel: level, memoryPressure } = service.getHealthStatus()
    process.send?.({ type: 'published', level, source: memoryPressure?.source })
  } else if (order.type === 'stop') {
    await service.shutdown()
    server.close()
    server.closeAllConnections()
    process.disconnect?.()
  }
})
