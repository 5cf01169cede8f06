// The example makes a service, or sets up `service`; then a server starts, and the check connects as any user.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { WebSocketService, webSocketService, type WebSocketServiceOptions } from 'carillon'
import { Client } from '../support/client.mjs'
import { RawPeer, upgradeRequest } from '../support/raw.mjs'
import { SECRET, tokenOf } from '../support/token.mjs'
import { closeServer, listen } from '../support/server.mjs'

/** What an application may have. */
const users = { findById: async (id: string) => (id.startsWith('no') ? null : { id, isActive: true }) }

// example

const attached = createServer()
service.initialize(attached)
const port = await listen(attached)
const connect = (user: string, path = '/ws'): Promise<Client> => Client.open(`ws://127.0.0.1:${port}${path}?token=${tokenOf(user)}`)
const status = async (target: string, headers: Record<string, string> = {}): Promise<number> => {
  const peer = await RawPeer.connect(port)
  void peer.write(upgradeRequest({ target, headers }))
  const { status } = await peer.response()
  peer.destroy()
  return status
}

// check

await service.shutdown()
await closeServer(attached)
