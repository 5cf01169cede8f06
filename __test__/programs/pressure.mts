// A service in a process with little memory, and an application that fills it and lets go of it on demand: the JavaScript heap, or
// the container.

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname, join } from 'node:path'
import { getHeapSpaceStatistics } from 'node:v8'
import { WebSocketService, type DegradationLevel, type WebSocketServiceOptions } from 'carillon'
import { application, listen, options } from '../support/server.mjs'

const MEBIBYTE = 1024 * 1024
/** Between two portions of what fills the heap, in milliseconds. */
const PORTION = 20
const LEVELS: DegradationLevel[] = ['normal', 'light', 'moderate', 'severe', 'critical']

const server = createServer(application)
const service = new WebSocketService(options(JSON.parse(process.argv[2] ?? '{}') as WebSocketServiceOptions))
service.on('degradation', ({ level, pressure }) => {
  if (stopAt !== undefined && LEVELS.indexOf(level) >= LEVELS.indexOf(stopAt)) clearInterval(filling)
  process.send?.({ type: 'degradation', level, pressure, oldGeneration: oldGeneration() })
})
service.initialize(server)
process.send?.({ type: 'listening', port: await listen(server) })

let hoard: Array<number[] | Buffer> = []
let filling: NodeJS.Timeout | undefined
let stopAt: DegradationLevel | undefined

interface Order {
  type: string
  /** For a heap: how fast it grows, and the level at which it stops. */
  mebibytesPerSecond: number
  stopAt: DegradationLevel
  /** For a container: what is to be in use, the file that tells it, and the limit. */
  ratio: number
  used: string
  bytes: number
  from: number
  to: number
}

process.on('message', async (order: Order) => {
  if (order.type === 'fill-heap') {
    stopAt = order.stopAt
    const started = performance.now()
    let kept = 0
    filling = setInterval(() => {
      // By the clock, so that a slow machine does not make the heap grow slowly. Arrays of 8 KB fill V8's pages without a gap.
      const due = ((performance.now() - started) / 1000) * order.mebibytesPerSecond * MEBIBYTE
      for (; kept < due; kept += 8000) hoard.push(new Array<number>(1000).fill(0.5))
    }, PORTION)
  } else if (order.type === 'fill-container') {
    // A hundred kilobytes at a time, all of them kept.
    while (containerUse(order.used) < order.ratio * order.bytes) hoard.push(Buffer.alloc(102_400, 1))
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

/** Bytes in use without the inactive page cache, which the service does not count either. */
function containerUse(file: string): number {
  const stat = readFileSync(join(dirname(file), 'memory.stat'), 'utf8')
  // Version 1 of control groups counts a group alone and with those below it; version 2 has the one number.
  const cache = /^total_inactive_file (\d+)$/m.exec(stat) ?? /^inactive_file (\d+)$/m.exec(stat)
  return Number(readFileSync(file, 'utf8')) - Number(cache?.[1] ?? 0)
}

/** Bytes in use that V8 counts towards --max-old-space-size. */
function oldGeneration(): number {
  const old = getHeapSpaceStatistics().filter(({ space_name: name }) => !name.startsWith('new_') && name !== 'read_only_space')
  return old.reduce((sum, { space_used_size: used }) => sum + used, 0)
}
