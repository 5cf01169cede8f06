// Every kind of server a service can be attached to, and peers that speak bytes to it.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, request, type IncomingMessage, type RequestListener, type Server, type ServerOptions } from 'node:http'
import { createSecureServer } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { RawPeer, upgradeRequest, type RequestOptions, type Response } from './raw.mjs'
import { application, options, withToken, type Scope } from './server.mjs'
import { CERTIFICATE, TRUSTING } from './tls.mjs'
import { tokenOf } from './token.mjs'
import { within } from './waiting.mjs'

/** `bridge`: plain, but the socket stays with Node. */
export const KINDS = ['plain', 'bridge', 'tls', 'h2', ...(process.platform === 'win32' ? [] : (['unix'] as const))] as const
export type Kind = (typeof KINDS)[number]

export const isEncrypted = (kind: Kind): boolean => kind === 'tls' || kind === 'h2'

export type UpgradeListener = (request: IncomingMessage, socket: Duplex, head: Buffer) => void

export interface SiteOptions {
  service?: WebSocketServiceOptions
  handler?: RequestListener
  /** Called with the server before the service is attached. */
  before?: (http: Server) => void
  /** Called with the server after the service was attached. */
  after?: (http: Server) => void
  http?: ServerOptions
  /** A server of this kind that is there already. */
  given?: Server
}

export class EdgeSite {
  readonly kind: Kind
  readonly http: Server
  readonly service: WebSocketService
  #to: { port: number } | { path: string } = { port: 0 }
  readonly #services: WebSocketService[] = []
  readonly #peers: RawPeer[] = []

  private constructor(kind: Kind, http: Server, given: WebSocketServiceOptions) {
    this.kind = kind
    this.http = http
    this.service = this.#create(given)
  }

  static async open(test: Scope, kind: Kind, { service: given = {}, handler = application, before, after, http: httpOptions = {}, given: http = create(kind, handler, httpOptions) }: SiteOptions = {}): Promise<EdgeSite> {
    const site = new EdgeSite(kind, http, given)
    test.after(() => site.#close())
    before?.(http)
    site.service.initialize(http)
    after?.(http)
    site.#to = await listening(test, kind, http)
    return site
  }

  get port(): number {
    return (this.#to as { port: number }).port
  }

  /** Another service on the same server. */
  another(given: WebSocketServiceOptions): WebSocketService {
    const service = this.#create(given)
    service.initialize(this.http)
    return service
  }

  async raw(): Promise<RawPeer> {
    const peer = isEncrypted(this.kind)
      ? await RawPeer.over(connectTls({ port: this.port, host: '127.0.0.1', ALPNProtocols: ['http/1.1'], ...TRUSTING }), 'secureConnect')
      : await RawPeer.connect('path' in this.#to ? this.#to : this.#to.port)
    this.#peers.push(peer)
    return peer
  }

  /** Sends bytes on a new connection. */
  async send(bytes: string | Uint8Array): Promise<RawPeer> {
    const peer = await this.raw()
    void peer.write(bytes)
    return peer
  }

  async requestUpgrade(given: RequestOptions = {}): Promise<{ peer: RawPeer; response: Response }> {
    const peer = await this.send(upgradeRequest(given))
    return { peer, response: await peer.response() }
  }

  /** A connection of a user whose frames are the test's own. */
  async connection(user: string, path = '/ws'): Promise<RawPeer> {
    const { peer, response } = await this.requestUpgrade(ours(user, path))
    if (response.status !== 101) throw new Error(`not let in: ${response.statusLine}`)
    return peer
  }

  /** The application's answer to a plain request. */
  async get(path = '/'): Promise<string> {
    if (isEncrypted(this.kind)) {
      const peer = await this.send(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
      return (await peer.rest()).split('\r\n\r\n').slice(1).join('\r\n\r\n')
    }
    const to = 'path' in this.#to ? { socketPath: this.#to.path } : { host: '127.0.0.1', port: this.#to.port }
    const sent = request({ ...to, path, agent: false }).end()
    const [answer] = (await within(once(sent, 'response'), 'a response')) as [IncomingMessage]
    let body = ''
    for await (const chunk of answer.setEncoding('utf8')) body += String(chunk)
    return body
  }

  #create(given: WebSocketServiceOptions): WebSocketService {
    const service = new WebSocketService(options({ ...(this.kind === 'bridge' ? { transport: 'bridge' } : {}), ...given }))
    this.#services.push(service)
    return service
  }

  async #close(): Promise<void> {
    for (const peer of this.#peers) peer.destroy()
    await within(Promise.all(this.#services.map((service) => service.shutdown())), 'the end of shutdown()')
    if (this.http.listening) await within(promisify(this.http.close.bind(this.http))(), 'the end of the server')
  }
}

/** A request that one of our services accepts. */
export const ours = (user: string, path = '/ws'): RequestOptions => ({ target: withToken(tokenOf(user)).target?.replace('/ws', path) ?? path })

/** Sockets as the server gets them, decrypted. */
export function socketsOf(kind: Kind, http: Server): Socket[] {
  const found: Socket[] = []
  http.on(isEncrypted(kind) ? 'secureConnection' : 'connection', (socket: Socket) => found.push(socket))
  return found
}

export function create(kind: Kind, handler: RequestListener, options: ServerOptions = {}): Server {
  if (kind === 'tls') return createHttpsServer({ ...CERTIFICATE, ...options }, handler) as unknown as Server
  if (kind === 'h2') return createSecureServer({ ...CERTIFICATE, ...(options as object), allowHTTP1: true }, handler as never) as unknown as Server
  return createServer(options, handler)
}

async function listening(test: Scope, kind: Kind, http: Server): Promise<{ port: number } | { path: string }> {
  if (kind !== 'unix') {
    http.listen(0, '127.0.0.1')
    await once(http, 'listening')
    return { port: (http.address() as AddressInfo).port }
  }
  const folder = mkdtempSync(join(tmpdir(), 'carillon-'))
  test.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'http.sock')
  http.listen(path)
  await once(http, 'listening')
  return { path }
}
