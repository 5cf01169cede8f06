// One live connection that heals itself: it reconnects with jitter, follows again what was followed, unpacks batches,
// and notices a dead line although browsers do not show ping frames.

const FIRST_DELAY = 500
const LONGEST_DELAY = 10_000
const PING_EVERY = 5_000
const PONG_WITHIN = 8_000

/** Closed with these, a connection is not tried again by itself: another tab has taken its place, or this page may not connect. */
const FINAL = new Map([
  [4009, 'This tab was disconnected: you have opened it too often elsewhere.'],
  [4403, 'This page may not connect.'],
])

/** Why the service closed or refused a connection, as people understand it. Other codes say no more than that it is lost. */
const REASONS = new Map([
  [1013, 'This page could not keep up.'],
  [4401, 'You are not logged in any more.'],
  [4409, 'You have too many connections.'],
  [4503, 'The service takes no connections now.'],
])

/** Events: `state` (detail {state, delay?, reason?}), `message` (detail: one message), `roundtrip` (detail: milliseconds). */
export class LiveConnection extends EventTarget {
  #getToken
  #socket
  #follows = new Set()
  #state = 'idle'
  #attempt = 0
  #serverDelay = 0
  #retryTimer
  #pingTimer
  #pongTimer
  #pingSent = 0

  constructor(getToken) {
    super()
    this.#getToken = getToken
    // A laptop that wakes up or a network that returns should not wait for the timer.
    addEventListener('online', () => this.retryNow())
    document.addEventListener('visibilitychange', () => document.hidden || this.retryNow())
  }

  start() {
    if (this.#state === 'idle') this.#connect()
  }

  stop() {
    clearTimeout(this.#retryTimer)
    this.#become('idle')
    this.#forget(this.#socket)?.close(1000, 'Client disconnect')
    this.#follows.clear()
    this.#attempt = 0
  }

  /** `also` names a further state to leave: a person may end what is final. */
  retryNow(also) {
    if (this.#state !== 'waiting' && this.#state !== also) return
    clearTimeout(this.#retryTimer)
    this.#connect()
  }

  follow(billId) {
    if (this.#follows.has(billId)) return
    this.#follows.add(billId)
    this.#send({ type: 'subscribe', data: { bill_id: billId } })
  }

  unfollow(billId) {
    if (this.#follows.delete(billId)) this.#send({ type: 'unsubscribe', data: { bill_id: billId } })
  }

  async #connect() {
    this.#become('connecting')
    let token
    try {
      token = await this.#getToken()
    } catch {
      if (this.#state === 'connecting') this.#retryLater()
      return
    }
    if (this.#state !== 'connecting') return
    const url = new URL('ws', location.href)
    url.protocol = url.protocol.replace('http', 'ws')
    url.searchParams.set('token', token)
    const socket = new WebSocket(url)
    this.#socket = socket
    socket.onmessage = ({ data }) => this.#received(JSON.parse(data))
    socket.onclose = ({ code }) => this.#lost(code)
  }

  /** Greeted. A connection that was opened only to say why it is refused is not. */
  #opened() {
    this.#attempt = 0
    this.#serverDelay = 0
    this.#become('live')
    if (this.#follows.size > 0) this.#send({ type: 'batch_subscribe', data: { bill_ids: [...this.#follows] } })
    this.#ping()
    this.#pingTimer = setInterval(() => this.#ping(), PING_EVERY)
  }

  #received(message) {
    // What waits together arrives together.
    if (message.type === 'batch') return message.messages.forEach((one) => this.#received(one))
    if (message.type === 'connected') this.#opened()
    if (message.type === 'pong') {
      clearTimeout(this.#pongTimer)
      this.dispatchEvent(new CustomEvent('roundtrip', { detail: performance.now() - this.#pingSent }))
    }
    if (message.type === 'server_shutdown') this.#serverDelay = message.data.reconnectDelay
    this.dispatchEvent(new CustomEvent('message', { detail: message }))
  }

  #ping() {
    this.#pingSent = performance.now()
    this.#send({ type: 'ping' })
    clearTimeout(this.#pongTimer)
    this.#pongTimer = setTimeout(() => {
      this.#forget(this.#socket)?.close(4000, 'Heartbeat timeout')
      this.#retryLater()
    }, PONG_WITHIN)
  }

  #lost(code) {
    this.#forget(this.#socket)
    if (FINAL.has(code)) return this.#become('ended', { reason: FINAL.get(code) })
    this.#retryLater(REASONS.get(code))
  }

  /** Full jitter: everybody lost the server at the same moment, nobody should come back at the same moment. */
  #retryLater(reason = 'The connection is lost.') {
    const ceiling = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#attempt++)
    const delay = Math.max(100, this.#serverDelay + Math.random() * ceiling)
    this.#retryTimer = setTimeout(() => this.#connect(), delay)
    this.#become('waiting', { delay, reason })
  }

  #forget(socket) {
    clearInterval(this.#pingTimer)
    clearTimeout(this.#pongTimer)
    if (socket) socket.onmessage = socket.onclose = null
    this.#socket = undefined
    return socket
  }

  #send(message) {
    if (this.#state === 'live') this.#socket.send(JSON.stringify({ ...message, timestamp: Date.now() }))
  }

  #become(state, more) {
    this.#state = state
    this.dispatchEvent(new CustomEvent('state', { detail: { state, ...more } }))
  }
}
