// A service in a process whose JavaScript heap is small, and an application that fills it and lets go of it on demand.

import { createServer } from 'node:http'
import { getHeapStatistics } from 'node:v8'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { application, listen, options } from '../support/server.mjs'

const server = createServer(application)
const service = new WebSocketService(options(JSON.parse(process.argv[2] ?? '{}') as WebSocketServiceOptions))
service.on('degradation', ({ level, pressure }) => process.send?.({ type: 'degradation', level, pressure }))
service.initialize(server)
process.send?.({ type: 'listening', port: await listen(server) })

let hoard: number[][] = []

process.on('message', async (order: { type: string; ratio: number; from: number; to: number }) => {
  if (order.type === 'fill') {
    const { heap_size_limit: limit } = getHeapStatistics()
    // A hundred kilobytes at a time, all of them kept.
    while (getHeapStatistics().used_heap_size < order.ratio * limit) hoard.push(new Array<number>(12_800).fill(0.5))
    process.send?.({ type: 'filled' })
  } else if (order.type === 'drain') {
    hoard = []
    globalThis.gc?.()
  } else if (order.type === 'publish') {
    for (let number = order.from; number < order.to; number++) {
      service.broadcastBillUpdate(1, { type: 'amendment', data: { number }, timestamp: new Date() })
    }
    process.send?.({ type: 'published', level: service.getHealthStatus().degradationLevel })
  } else if (order.type === 'stop') {
    await service.shutdown()
    server.close()
    server.closeAllConnections()
    process.disconnect?.()
  }
})
