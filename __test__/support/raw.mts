// A peer that speaks bytes: requests that no library would send, frames of any shape, ends of any kind.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { within } from './waiting.mjs'

export const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
/** RFC 6455 §1.3: the answer to the key above. */
export const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

export interface RequestOptions {
  method?: string
  target?: string
  /** `undefined` leaves a header out that would be sent otherwise; a list sends it several times. */
  headers?: Record<string, string | string[] | undefined>
  version?: string
}

/** An upgrade request, byte for byte. */
export function upgradeRequest({ method = 'GET', target = '/ws', headers = {}, version = '1.1' }: RequestOptions = {}): string {
  const all = {
    Host: 'localhost',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': KEY,
    ...headers,
  }
  const lines = Object.entries(all).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((single) => `${name}: ${single}\r\n`),
  )
  return `${method} ${target} HTTP/${version}\r\n${lines.join('')}\r\n`
}

export interface FrameOptions {
  fin?: boolean
  /** The three reserved bits. */
  rsv?: number
  masked?: boolean
  /** What the header claims, when it is not the truth. */
  length?: number | bigint
}

export function frame(opcode: number, payload: string | Uint8Array = '', options: FrameOptions = {}): Buffer {
  const { fin = true, rsv = 0, masked = true } = options
  const body = Buffer.from(payload as string)
  const length = BigInt(options.length ?? body.length)
  const bytes = [(fin ? 0x80 : 0) | (rsv << 4) | opcode]
  const maskBit = masked ? 0x80 : 0
  if (length < 126n) bytes.push(maskBit | Number(length))
  else if (length < 65_536n) bytes.push(maskBit | 126, ...bigEndian(length, 2))
  else bytes.push(maskBit | 127, ...bigEndian(length, 8))
  if (!masked) return Buffer.concat([Buffer.from(bytes), body])
  const mask = randomBytes(4)
  return Buffer.concat([Buffer.from(bytes), mask, body.map((byte, index) => byte ^ (mask[index % 4] ?? 0))])
}

export function text(message: unknown): Buffer {
  return frame(Opcode.text, typeof message === 'string' ? message : JSON.stringify(message))
}

export function closeFrame(code?: number, reason = ''): Buffer {
  if (code === undefined) return frame(Opcode.close)
  return frame(Opcode.close, Buffer.concat([Buffer.from(bigEndian(BigInt(code), 2)), Buffer.from(reason)]))
}

function bigEndian(value: bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => Number((value >> BigInt(8 * (bytes - 1 - index))) & 0xffn))
}

export interface Response {
  statusLine: string
  status: number
  /** In lower case; values of repeated ones joined. */
  headers: Record<string, string>
  head: string
}

export interface Frame {
  fin: boolean
  rsv: number
  opcode: number
  payload: Buffer
}

export class RawPeer {
  readonly socket: Socket
  /** When nothing more will come; never rejects. */
  readonly ended: Promise<void>
  /** Whether the end was a reset rather than an orderly one. */
  wasReset = false
  #received: Buffer = Buffer.alloc(0)

  private constructor(socket: Socket) {
    this.socket = socket
    this.socket.on('data', (chunk: Buffer) => {
      this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
      this.socket.emit('arrival')
    })
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      this.wasReset ||= error.code === 'ECONNRESET'
    })
    this.ended = new Promise((resolve) => {
      const end = (): void => {
        this.socket.emit('arrival')
        resolve()
      }
      this.socket.once('end', end)
      this.socket.once('close', end)
    })
  }

  static async connect(to: number | NetConnectOpts): Promise<RawPeer> {
    return RawPeer.over(connect(typeof to === 'number' ? { port: to, host: '127.0.0.1' } : to))
  }

  /** On a socket that is about to emit `ready`. */
  static async over(socket: Socket, ready = 'connect'): Promise<RawPeer> {
    const peer = new RawPeer(socket)
    await within(once(peer.socket, ready), 'a connection')
    return peer
  }

  /** Resolves when the bytes have left this process, or can no longer. */
  write(bytes: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => void this.socket.write(bytes, () => resolve()))
  }

  /** The head of the answer; what follows it stays. */
  async response(): Promise<Response> {
    const marker = '\r\n\r\n'
    await this.#until(() => this.#received.includes(marker), 'a response')
    const end = this.#received.indexOf(marker) + marker.length
    const head = this.#take(end).toString('latin1')
    const [statusLine = '', ...lines] = head.trimEnd().split('\r\n')
    const headers: Record<string, string> = {}
    for (const line of lines) {
      const [, name = '', value = ''] = /^([^:]+): ?(.*)$/.exec(line) ?? []
      const known = headers[name.toLowerCase()]
      headers[name.toLowerCase()] = known === undefined ? value : `${known}, ${value}`
    }
    return { statusLine, status: Number(statusLine.split(' ')[1]), headers, head }
  }

  async bytes(count: number): Promise<Buffer> {
    await this.#until(() => this.#received.length >= count, `${count} bytes`)
    return this.#take(count)
  }

  async frame(): Promise<Frame> {
    const [first = 0, second = 0] = await this.bytes(2)
    let length = second & 0x7f
    if (length === 126) length = (await this.bytes(2)).readUInt16BE()
    else if (length === 127) length = Number((await this.bytes(8)).readBigUInt64BE())
    const payload = await this.bytes(length)
    return { fin: (first & 0x80) !== 0, rsv: (first >> 4) & 7, opcode: first & 15, payload }
  }

  /** The next frame with this opcode; others before it are passed over. */
  async frameOf(opcode: number): Promise<Frame> {
    for (;;) {
      const found = await this.frame()
      if (found.opcode === opcode) return found
    }
  }

  /** The code and reason of the next close frame. */
  async close(): Promise<{ code: number | undefined; reason: string }> {
    const { payload } = await this.frameOf(Opcode.close)
    return { code: payload.length < 2 ? undefined : payload.readUInt16BE(), reason: payload.subarray(2).toString() }
  }

  /** Everything that is still to come, until the other side ends. */
  async rest(limit?: number): Promise<string> {
    await within(this.ended, 'the end of the stream', limit)
    return this.#take(this.#received.length).toString('latin1')
  }

  destroy(): void {
    this.socket.destroy()
  }

  reset(): void {
    this.socket.resetAndDestroy()
  }

  #take(count: number): Buffer {
    const taken = this.#received.subarray(0, count)
    this.#received = this.#received.subarray(count)
    return taken
  }

  async #until(condition: () => boolean, what: string): Promise<void> {
    while (!condition()) {
      if (this.socket.readableEnded || this.socket.destroyed) throw new Error(`the stream ended before ${what}`)
      await within(once(this.socket, 'arrival'), what)
    }
  }
}
