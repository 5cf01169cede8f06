// A WebSocket whose other end is the test. Time stands still in these tests unless it is moved on.

import assert from 'node:assert/strict'
import { type TestContext } from 'node:test'
import { CarillonClient, type ClientOptions, type ServerMessage, type StateInfo, type WebSocketLike } from 'carillon-client'

export class FakeSocket implements WebSocketLike {
  static all: FakeSocket[] = []

  onopen: ((event: never) => void) | null = null
  onmessage: ((event: never) => void) | null = null
  onclose: ((event: never) => void) | null = null
  onerror: ((event: never) => void) | null = null
  readonly url: URL
  readonly sent: { type: string; data?: any; messageId?: string }[] = []
  closedWith: { code: number | undefined; reason: string | undefined } | undefined

  constructor(url: string) {
    this.url = new URL(url)
    FakeSocket.all.push(this)
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text))
  }

  close(code?: number, reason?: string): void {
    this.closedWith = { code, reason }
  }

  /** The connection opens, and the service greets. */
  open(): this {
    this.accept()
    return this.greet()
  }

  accept(): this {
    this.onopen?.({} as never)
    return this
  }

  greet(): this {
    const config = { heartbeatInterval: 30_000, maxMessageSize: 102_400, supportsBatching: true, compressionEnabled: true }
    const data = { user_id: 'u', connectionId: 'u-0', timestamp: '2026-01-01T00:00:00.000Z', config }
    return this.receive({ type: 'connected', message: 'WebSocket connection established', data })
  }

  receive(message: ServerMessage | { type: string; [member: string]: unknown }): this {
    this.onmessage?.({ data: JSON.stringify(message) } as never)
    return this
  }

  /** The connection ends. */
  end(code = 1006, reason = ''): void {
    this.onclose?.({ code, reason } as never)
  }

  of(type: string): { type: string; data?: any; messageId?: string }[] {
    return this.sent.filter((message) => message.type === type)
  }

  /** The server's answer to the oldest `batch_subscribe` that was not answered yet. */
  confirm(extra: Record<string, unknown> = {}): this {
    const request = this.of('batch_subscribe')[this.#confirmed++]
    assert.ok(request, 'a subscription was asked for')
    const subscribed = [...request.data.bill_ids, ...(request.data.channels ?? [])]
    return this.receive({ type: 'batch_subscribed', data: { subscribed, failed: [], message: '', ...extra } })
  }
  #confirmed = 0
}

/** A client whose time and sockets belong to the test. Randomness is at its maximum: delays are their upper bound. */
export function makeClient(t: TestContext, options: ClientOptions = {}) {
  FakeSocket.all = []
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 })
  t.mock.method(Math, 'random', () => 1)
  const states: StateInfo[] = []
  const client = new CarillonClient('wss://example.org/ws', { WebSocket: FakeSocket, connect: false, ...options })
  client.on('state', (info) => states.push(info))
  t.after(() => client.close())
  client.connect()
  return { client, states, tick: (ms: number) => t.mock.timers.tick(ms) }
}

/** Lets promises that are settled already go on. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve()
}

/** The newest socket, once the client has made it. */
export async function socket(): Promise<FakeSocket> {
  await settle()
  const newest = FakeSocket.all.at(-1)
  assert.ok(newest, 'the client connects')
  return newest
}

/** Sets a property of the global object for the time of one test. */
export function replaceGlobal(t: TestContext, name: string, value: unknown): void {
  const before = Object.getOwnPropertyDescriptor(globalThis, name)
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
  t.after(() => {
    if (before) Object.defineProperty(globalThis, name, before)
    else delete (globalThis as Record<string, unknown>)[name]
  })
}
