// The demonstration without a browser: its clients are told before it ends.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Client } from './support/client.mjs'
import { Program } from './support/tools.mjs'

const SIGNALS = ['SIGTERM', 'SIGINT'] as const

describe('the demonstration', { skip: process.platform === 'win32' && 'no signals' }, () => {
  for (const signal of SIGNALS) {
    it(`closes its connections with 1001 on ${signal}`, { timeout: 60_000 }, async () => {
      const program = await Program.start('examples/demo/server.mjs', { env: { PORT: '0', VISITORS: '0' } })
      const login = await fetch(`http://localhost:${program.port}/api/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', connection: 'close' },
        body: JSON.stringify({ userId: 'amina' }),
      })
      const { token } = (await login.json()) as { token: string }
      const client = await Client.open(`ws://localhost:${program.port}/ws?token=${token}`)
      await client.take('connected')
      const exit = program.stop(signal)
      assert.deepEqual(await client.whenClosed(), { code: 1001, reason: 'Server shutdown' })
      assert.equal(client.received('server_shutdown').length, 1)
      assert.equal(await exit, 0)
    })
  }
})
