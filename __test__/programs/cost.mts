// A service whose cost is measured: in a process of its own, over the transport that the argument names. Tells how long its
// JavaScript thread stood still, how much memory it took, and how many calls of its hooks were under way at once.

import { createServer } from 'node:http'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { application, listen, options } from '../support/server.mjs'
import { threadTime, threadTimePath } from '../support/thread-time.mjs'

const mode = process.argv[2]
const given: WebSocketServiceOptions = { threads: 1, transport: mode === 'bridge' ? 'bridge' : 'auto', runtime: { MAX_CONNECTIONS_PER_USER: 10_000 }, base: { HEARTBEAT_INTERVAL: 86_400_000 } }

let underWay = 0
let mostUnderWay = 0
let held: Array<() => void> = []

/** Answers when it is told to. */
function hook(): Promise<unknown> {
  underWay += 1
  mostUnderWay = Math.max(mostUnderWay, underWay)
  return new Promise((resolve) => {
    held.push(() => {
      underWay -= 1
      resolve({})
    })
  })
}

const service = new WebSocketService(options({ ...given, preferences: { load: hook, save: hook } }))
let port: number
if (mode === 'own') {
  port = (await service.listen({ port: 0, host: '127.0.0.1' })).port
} else {
  const server = createServer(application)
  service.initialize(server)
  port = await listen(server)
}
const own = threadTimePath()
let last = threadTime(own)
let stoodStill = 0
const releasing = setInterval(() => {
  const now = threadTime(own)
  stoodStill = Math.max(stoodStill, now - last)
  last = now
  for (const release of held.splice(0)) release()
}, 1)

let before = 0
process.on('message', ({ type }: { type: string }) => {
  if (type === 'begin') {
    globalThis.gc?.()
    before = process.memoryUsage.rss()
    mostUnderWay = 0
    last = threadTime(own)
    stoodStill = 0
    process.send?.({ type: 'begun' })
  } else if (type === 'report') {
    stoodStill = Math.max(stoodStill, threadTime(own) - last)
    const grown = process.resourceUsage().maxRSS * 1024 - before
    process.send?.({ type: 'report', stoodStill, grown, mostUnderWay, connections: service.getStats().activeConnections })
  } else if (type === 'stop') {
    clearInterval(releasing)
    process.exit(0)
  }
})
process.send?.({ type: 'listening', port, shard: threadTimePath('carillon-0') })
