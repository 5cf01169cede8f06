// A client in a thread of its own, which measures how long the service's thread works before it is answered.

import { connect } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import { Opcode, frame, upgradeRequest } from '../support/raw.mjs'
import { threadTime } from '../support/thread-time.mjs'

const { port, target, shard } = workerData as { port: number; target: string; shard: string | undefined }
const socket = connect({ port, host: '127.0.0.1', noDelay: true })
const ping = frame(Opcode.ping, 'bystander')
const pong = Buffer.concat([Buffer.from([0x8a, 9]), Buffer.from('bystander')])
let sent = 0
let longest = 0
let count = 0
let received: Buffer = Buffer.alloc(0)

function again(): void {
  sent = threadTime(shard)
  socket.write(ping)
}

socket.on('data', (chunk: Buffer) => {
  received = Buffer.concat([received, chunk])
  if (!received.includes(pong)) return
  received = Buffer.alloc(0)
  longest = Math.max(longest, threadTime(shard) - sent)
  count += 1
  if (count === 1) parentPort?.postMessage({ type: 'open' })
  setImmediate(again)
})
socket.write(upgradeRequest({ target }))
again()

parentPort?.on('message', (order: string) => {
  if (order === 'begin') {
    longest = 0
    count = 0
  } else if (order === 'report') {
    // What is waited for now counts, too.
    const waiting = threadTime(shard) - sent
    parentPort?.postMessage({ type: 'report', longest: Math.max(longest, waiting), count })
  } else {
    socket.destroy()
    parentPort?.close()
  }
})
