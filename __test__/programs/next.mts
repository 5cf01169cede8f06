// A custom server of Next with a service attached `before` or `after` Next is prepared: it can be loaded once per process.

import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { WebSocketService } from 'carillon'
import { neighbour, NEIGHBOURS } from '../support/neighbours.mjs'
import { listen, options } from '../support/server.mjs'

const order = process.argv[2]
const dir = `${NEIGHBOURS}/next-${order}`
mkdirSync(`${dir}/pages`, { recursive: true })
writeFileSync(`${dir}/pages/index.js`, "import { createElement } from 'react'\nexport default () => createElement('p', null, 'rendered by next')\n")
writeFileSync(`${dir}/package.json`, '{ "private": true }')
writeFileSync(`${dir}/next.config.js`, `module.exports = { turbopack: { root: ${JSON.stringify(NEIGHBOURS)} } }\n`)

const { default: next } = await neighbour('next')
let handle: (request: unknown, response: unknown) => void = (_request, response) => void (response as { end(): void }).end()
const http = createServer((request, response) => handle(request, response))
const service = new WebSocketService(options())
if (order === 'before') service.initialize(http)
const app = next({ dev: true, dir, httpServer: http })
await app.prepare()
handle = app.getRequestHandler()
if (order === 'after') service.initialize(http)
process.send?.({ type: 'listening', port: await listen(http) })
process.on('message', () => process.send?.({ type: 'users', users: service.getAllConnectedUsers(), listeners: http.listenerCount('upgrade') }))
