// A service on a server of its own, and peers of it: what a test opens is closed when the test ends.

import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import type { ClientOptions } from 'ws'
import { Client } from './client.mjs'
import { RawPeer, upgradeRequest, type RequestOptions, type Response } from './raw.mjs'
import { SECRET, tokenOf } from './token.mjs'
import { within } from './waiting.mjs'

/** CARILLON_TEST_TRANSPORT=bridge runs the whole suite with Node pumping the bytes. */
export const TRANSPORT = process.env['CARILLON_TEST_TRANSPORT'] === 'bridge' ? 'bridge' : 'auto'

export function options(given: WebSocketServiceOptions = {}): WebSocketServiceOptions {
  const key = 'jwtSecret' in given || 'jwtPublicKey' in given ? {} : { jwtSecret: SECRET }
  return { ...key, ...(TRANSPORT === 'bridge' ? { transport: TRANSPORT } : {}), ...given }
}

export const application: RequestListener = (_request, response) => response.end('the application')

/** Whose end closes what was opened: a test, or a suite that keeps its own list. */
export interface Scope {
  after(action: () => unknown): void
}

export class Cleanup implements Scope {
  readonly #actions: Array<() => unknown> = []

  after(action: () => unknown): void {
    this.#actions.push(action)
  }

  async run(): Promise<void> {
    for (const action of this.#actions.splice(0)) await action()
  }
}

export interface ConnectOptions extends ClientOptions {
  token?: string
  protocols?: string[]
}

export class TestServer {
  readonly service: WebSocketService
  readonly http: Server | HttpsServer
  readonly #peers: Array<{ end: () => void }> = []
  #notices = 0

  private constructor(service: WebSocketService, http: Server | HttpsServer) {
    this.service = service
    this.http = http
  }

  /** A service attached to a listening server. */
  static async open(test: Scope, given?: WebSocketServiceOptions, http: Server | HttpsServer = createServer(application)): Promise<TestServer> {
    const site = new TestServer(new WebSocketService(options(given)), http)
    test.after(() => site.#close())
    site.service.initialize(http)
    await listen(http)
    return site
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port
  }

  url(token: string, path = '/ws'): string {
    return `ws://127.0.0.1:${this.port}${path}?token=${encodeURIComponent(token)}`
  }

  async connect(user: string, { token = tokenOf(user), protocols, ...rest }: ConnectOptions = {}): Promise<Client> {
    const client = await Client.open(this.url(token), protocols, rest)
    this.#peers.push({ end: () => client.socket.terminate() })
    return client
  }

  /** A client that follows these bills. */
  async follower(user: string, ...bills: number[]): Promise<Client> {
    const client = await this.connect(user)
    await client.subscribe(...bills)
    return client
  }

  async raw(): Promise<RawPeer> {
    const peer = await RawPeer.connect(this.port)
    this.#peers.push({ end: () => peer.destroy() })
    return peer
  }

  /** Sends a request and hands back the peer with the head of the answer. */
  async requestUpgrade(request: RequestOptions = {}): Promise<{ peer: RawPeer; response: Response }> {
    const peer = await this.raw()
    void peer.write(upgradeRequest(request))
    return { peer, response: await peer.response() }
  }

  /** The status with which a token is answered. An accepted connection stays open. */
  async status(token: string | undefined): Promise<number> {
    return (await this.requestUpgrade(token === undefined ? {} : withToken(token))).response.status
  }

  /** An open connection whose frames are the test's own. */
  async rawConnection(user: string, headers: Record<string, string> = {}): Promise<RawPeer> {
    const { peer, response } = await this.requestUpgrade({ ...withToken(tokenOf(user)), headers })
    if (response.status !== 101) throw new Error(`not let in: ${response.statusLine}`)
    return peer
  }

  /** Resolves when everything published before has reached the client: a notification and a request follow it. */
  async settled(user: string, client: Client): Promise<void> {
    const title = `notice ${this.#notices++}`
    this.service.sendUserNotification(user, { type: 'notice', title, message: '' })
    while ((await client.take('notification'))['notification'].title !== title);
    await client.probe()
  }

  /** Resolves with the payload of the service's next event of this name. */
  event<E extends 'connection' | 'degradation' | 'disconnection' | 'memoryLeak' | 'subscription' | 'stateChange'>(name: E, user?: string): Promise<Payload<E>> {
    const payload = new Promise<Payload<E>>((resolve) => {
      const listener = (info: Payload<E>): void => {
        if (user !== undefined && (info as { userId?: string }).userId !== user) return
        this.service.off(name, listener as never)
        resolve(info)
      }
      this.service.on(name, listener as never)
    })
    return within(payload, `the event "${name}"`)
  }

  async #close(): Promise<void> {
    for (const peer of this.#peers) peer.end()
    await within(this.service.shutdown(), 'the end of shutdown()')
    await closeServer(this.http)
  }
}

type Payload<E extends keyof import('carillon').ServiceEvents> = Parameters<import('carillon').ServiceEvents[E]>[0]

export function withToken(token: string): RequestOptions {
  return { target: `/ws?token=${encodeURIComponent(token)}` }
}

export async function listen(http: Server | HttpsServer): Promise<number> {
  if (!http.listening) {
    http.listen(0, '127.0.0.1')
    await once(http, 'listening')
  }
  return (http.address() as AddressInfo).port
}

export async function closeServer(http: Server | HttpsServer): Promise<void> {
  if (!http.listening) return
  const closed = once(http, 'close')
  http.close()
  http.closeAllConnections()
  await within(closed, 'the end of the HTTP server')
}
