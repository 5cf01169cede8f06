// The program forks itself. In the primary, the check follows it: clients of both workers receive what one of them publishes.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Client } from '../support/client.mjs'
import { tokenOf } from '../support/token.mjs'

// example

if (cluster.isPrimary) {
  const ports = new Set<number>()
  const workers = Object.values(cluster.workers ?? {})
  const address = (await once(cluster, 'listening')) as [unknown, { port: number }]
  await once(cluster, 'listening')
  ports.add(address[1].port)
  assert.equal(workers.length, 2)
  const url = `ws://127.0.0.1:${address[1].port}/ws?token=${tokenOf('ann')}`
  // The primary deals connections out in turn.
  const clients = await Promise.all([Client.open(url), Client.open(url)])
  for (const client of clients) await client.subscribe(42)
  await (await fetch(`http://127.0.0.1:${address[1].port}/`, { headers: { connection: 'close' } })).text()
  for (const client of clients) assert.equal((await client.take('bill_update')).update.data.status, 'passed')
  for (const worker of workers) worker?.process.kill('SIGTERM')
  for (const client of clients) assert.equal((await client.whenClosed()).code, 1001)
}

// check
