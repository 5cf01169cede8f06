// A TCP proxy between a client and a server, which can cut the network in ways that an orderly close never shows.

import { once } from 'node:events'
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net'
import type { Scope } from './server.mjs'

export class Proxy {
  readonly port: number
  /** Connections that were accepted since the start. */
  accepted = 0
  readonly #server: Server
  readonly #pairs = new Set<[Socket, Socket]>()
  #isCut = false

  private constructor(server: Server) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
  }

  static async open(test: Scope, target: () => number): Promise<Proxy> {
    const server = createServer((client) => proxy.#accept(client, connect(target(), '127.0.0.1')))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new Proxy(server)
    test.after(() => proxy.#close())
    return proxy
  }

  /** From now on nothing passes, and neither side is told: existing connections are dead, new ones are never answered. */
  swallow(): void {
    this.#isCut = true
    for (const pair of this.#pairs) for (const socket of pair) socket.pause().unpipe()
  }

  /** New connections pass again; dead ones stay dead. */
  restore(): void {
    this.#isCut = false
  }

  /** Ends every connection with a reset. */
  reset(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.resetAndDestroy()
  }

  #accept(client: Socket, server: Socket): void {
    this.accepted++
    const pair: [Socket, Socket] = [client, server]
    this.#pairs.add(pair)
    for (const [from, to] of [pair, [server, client]] as const) {
      from.on('error', () => {})
      from.on('close', () => {
        this.#pairs.delete(pair)
        if (!this.#isCut) to.destroy()
      })
      if (!this.#isCut) from.pipe(to)
    }
  }

  #close(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy()
    this.#server.close()
  }
}
