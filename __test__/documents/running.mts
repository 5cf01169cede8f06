// A running service on a listening server, with the connection `ann` that follows bill 42.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Client } from '../support/client.mjs'
import { tokenOf } from '../support/token.mjs'
import { Cleanup, TestServer } from '../support/server.mjs'
import { eventually } from '../support/waiting.mjs'

const cleanup = new Cleanup()
const site = await TestServer.open(cleanup, { lookupUser: async () => true, base: { SHUTDOWN_GRACE_PERIOD: 1000 } })
const { service, http: server } = site
const webSocketService = service
const ann = await site.follower('ann', 42)
const printed: unknown[][] = []
const print = console.log
for (const level of ['log', 'warn', 'error', 'info'] as const) console[level] = (...line: unknown[]) => void printed.push(line)

// example

// check

console.log = print
await cleanup.run()
