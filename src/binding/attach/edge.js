// The edge of one Node server: which of its upgrade requests are ours, before any other listener sees them.
//
// JavaScript, because it sits in the path of every event of the application's server, where a call into Rust would cost more
// than the event. `claim.rs` compiles it and is the only caller. Evaluates to the function `attach`.
//
// One edge per server, kept by the server itself under `EDGE`, so that several services, and several copies of this addon in one process,
// share it. It holds its services; a service holds only a weak reference to its `Claim`.

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:net').Socket & { _httpMessage?: import('node:http').ServerResponse | null, _peername?: object | null, encrypted?: boolean }} Socket
 * @typedef {import('node:http').Server & { shouldUpgradeCallback?: (request: Request) => boolean, [key: symbol]: unknown }} Server
 * @typedef {(request: Request, socket: Socket, head: Buffer, address: string | undefined) => void} Handle
 * @typedef {{ listeners: number[], written: number }} Snapshot
 * @typedef {{ own: Function, before: PropertyDescriptor | undefined }} Wrapped What a method was wrapped with, and what the server had of its own
 */

(function () {
  'use strict'

  const EDGE = Symbol.for('carillon.edge.1')

  /** How long a request of another path may stay untouched by all listeners. */
  const UNANSWERED_AFTER = 1000

  /** What a listener that wants a socket listens to. */
  const INTERESTS = ['close', 'data', 'drain', 'end', 'error', 'finish', 'readable', 'timeout']
  const ERROR = INTERESTS.indexOf('error')

  /** Node parses no more header fields than this by default. */
  const MAX_HEADER_FIELDS = 2000

  const ignore = () => {}

  /**
   * RFC 9110 §7.8: a list of protocols in any case. Node has seen to it that `Connection` names `Upgrade`.
   *
   * @param {Request} request
   */
  function asksForWebSocket(request) {
    const protocols = request.headers.upgrade
    if (protocols === 'websocket') return true
    return typeof protocols === 'string' && protocols.split(',').some((name) => name.trim().toLowerCase() === 'websocket')
  }

  /**
   * What carries the bytes: with an unread request body Node (26) hands out a stream in front of it.
   *
   * @param {Request} request
   * @param {Socket} socket
   * @returns {Socket}
   */
  const carrierOf = (request, socket) => request.socket ?? socket

  /** @param {Socket} carrier */
  const isGone = (carrier) => carrier.destroyed || carrier.writableEnded

  /**
   * A response is under way, or waits for one that is, or has not left Node: nothing may be written to the socket.
   *
   * @param {Socket} carrier
   */
  const isBusy = (carrier) => Boolean(carrier._httpMessage) || carrier.writableLength > 0

  /**
   * Calls `then` when every earlier response has been written. Not at all if the socket ends with them (`Connection: close`) or is
   * gone. Meanwhile Node reads until its buffer is full.
   *
   * @param {Socket} carrier
   * @param {() => void} then
   */
  function whenIdle(carrier, then) {
    carrier.on('error', ignore)
    const look = () => {
      if (!isGone(carrier)) {
        const response = carrier._httpMessage
        if (response) return response.once('close', look)
        // The callback of an empty write comes after everything before it has left.
        if (carrier.writableLength > 0) return carrier.write('', look)
      }
      carrier.removeListener('error', ignore)
      if (!isGone(carrier)) then()
    }
    look()
  }

  /**
   * `head` and what Node has read from the socket since.
   *
   * @param {Socket} socket
   * @param {Buffer} head
   * @returns {Buffer}
   */
  function withBuffered(socket, head) {
    const chunk = socket.readableLength > 0 ? socket.read() : null
    if (chunk === null || typeof chunk === 'string') return head
    return head.length === 0 ? chunk : Buffer.concat([head, chunk])
  }

  /**
   * Calls `unanswered` if no listener has used the socket within a second: written to it, ended it, listened to it, read it or taken its
   * handle. The second begins when earlier responses have been written.
   *
   * @param {Socket} carrier
   * @param {Socket} socket
   * @param {Snapshot} before
   * @param {() => void} unanswered
   */
  function watch(carrier, socket, before, unanswered) {
    /** @param {number} written */
    const isTaken = (written) =>
      isGone(carrier) ||
      socket.destroyed ||
      socket.readableFlowing !== null ||
      carrier.bytesWritten > written ||
      INTERESTS.some((event, index) => socket.listenerCount(event) > (before.listeners[index] ?? 0))
    /** @param {number} written */
    const wait = (written) => {
      if (isTaken(written)) return
      // An error without a listener would end the process.
      carrier.on('error', ignore)
      const own = carrier === socket ? 1 : 0
      const heard = before.listeners[ERROR] ?? 0
      before.listeners[ERROR] = heard + own
      const timer = setTimeout(() => {
        carrier.removeListener('error', ignore)
        before.listeners[ERROR] = heard
        if (!isTaken(written)) unanswered()
      }, UNANSWERED_AFTER)
      timer.unref()
    }
    // Until then bytes are those of the response.
    if (carrier._httpMessage) whenIdle(carrier, () => wait(carrier.bytesWritten))
    else wait(before.written)
  }

  /**
   * @param {Socket} carrier
   * @param {Socket} socket
   * @returns {Snapshot}
   */
  const snapshot = (carrier, socket) => ({
    listeners: INTERESTS.map((event) => socket.listenerCount(event)),
    written: carrier.bytesWritten,
  })

  /**
   * For Node without `shouldUpgradeCallback`: gives a request that asks for a protocol that no listener speaks back to the server as the plain
   * request it is (RFC 9110 §7.8), body and keep-alive included. Node has detached its parser from the socket, so the
   * request is written out again, without the `upgrade` option that made Node stop. `false` if it cannot be told exactly.
   *
   * @param {Server} server
   * @param {Request} request
   * @param {Socket} socket
   * @param {Buffer} head
   */
  function serveAsRequest(server, request, socket, head) {
    const { rawHeaders } = request
    const limit = typeof server.maxHeadersCount === 'number' ? server.maxHeadersCount * 2 : MAX_HEADER_FIELDS
    // A parser that left out fields may have left out the length of the body.
    if (limit > 0 && rawHeaders.length >= limit) return false
    const lines = [`${request.method} ${request.url} HTTP/${request.httpVersion}`]
    for (let index = 0; index < rawHeaders.length; index += 2) {
      const name = rawHeaders[index] ?? ''
      let value = rawHeaders[index + 1] ?? ''
      if (name.toLowerCase() === 'connection') {
        value = value.split(',').filter((option) => option.trim().toLowerCase() !== 'upgrade').join(',').trim()
        if (value === '') continue
      }
      lines.push(`${name}: ${value}`)
    }
    // A lenient parser lets through what would be read differently the second time.
    if (lines.some((line) => /[\r\n\0]/.test(line))) return false
    const text = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
    whenIdle(carrierOf(request, socket), () => {
      const rest = withBuffered(socket, head)
      socket.unshift(rest.length === 0 ? text : Buffer.concat([text, rest]))
      const event = socket.encrypted ? 'secureConnection' : 'connection'
      // Only Node's own listener: the application's have seen this socket.
      const listener = server.listeners(event).find((listener) => listener.name === 'connectionListener')
      if (listener) listener.call(server, socket)
      else server.emit(event, socket)
    })
    return true
  }

  /** @type {object | undefined} */
  let plainPrototype

  /**
   * Where Node says the peer is, if that may differ from what the system says: a wrapper that reads the PROXY protocol redefines it, on the
   * socket or on its class. Node's own answer is a system call, which a shard makes as well.
   *
   * @param {Socket} carrier
   */
  function addressOf(carrier) {
    const prototype = Object.getPrototypeOf(carrier)
    if (prototype !== plainPrototype) {
      if (!hasPlainAddress(prototype)) return carrier.remoteAddress
      plainPrototype = prototype
    }
    // Node keeps an answer it has given.
    return Object.hasOwn(carrier, 'remoteAddress') || carrier._peername != null ? carrier.remoteAddress : undefined
  }

  /** @param {object} prototype */
  function hasPlainAddress(prototype) {
    /** @type {object | null} */
    let holder = prototype
    while (holder !== null && !Object.hasOwn(holder, 'remoteAddress')) holder = Object.getPrototypeOf(holder)
    const getter = holder && Object.getOwnPropertyDescriptor(holder, 'remoteAddress')?.get
    return typeof getter === 'function' && /return this\._getpeername\(\)\.address/.test(String(getter))
  }

  /** One service's share of a server. */
  class Claim {
    /**
     * @param {Edge} edge
     * @param {string} path
     * @param {Handle} handle
     */
    constructor(edge, path, handle) {
      this.edge = edge
      this.path = path
      this.handle = handle
    }

    /**
     * Byte by byte up to the `?`.
     *
     * @param {Request} request
     */
    covers(request) {
      const { url = '' } = request
      return url.startsWith(this.path) && (url.length === this.path.length || url[this.path.length] === '?')
    }

    /**
     * @param {Request} request
     * @param {Socket} socket
     * @param {Buffer} head
     */
    take(request, socket, head) {
      const carrier = carrierOf(request, socket)
      if (!isBusy(carrier)) return this.handOver(request, socket, head)
      whenIdle(carrier, () => this.handOver(request, socket, withBuffered(socket, head)))
    }

    /**
     * @param {Request} request
     * @param {Socket} socket
     * @param {Buffer} head
     */
    handOver(request, socket, head) {
      this.handle(request, socket, head, addressOf(carrierOf(request, socket)))
    }

    /** Called from Rust. */
    release() {
      const { edge } = this
      edge.claims = edge.claims.filter((claim) => claim !== this)
      if (edge.claims.length === 0) edge.uninstall()
    }
  }

  class Edge {
    /** @param {Server} server */
    constructor(server) {
      const edge = this
      this.server = server
      /** @type {Claim[]} */
      this.claims = []
      /**
       * The request that the listeners of the application are being told of.
       *
       * @type {Request | undefined}
       */
      this.passing = undefined
      /**
       * Makes Node hand out upgrade requests at all; acts on those that reach it without passing `emit`.
       *
       * @param {Request} request
       * @param {Socket} socket
       * @param {Buffer} head
       */
      this.listener = function carillonUpgrade(request, socket, head) {
        if (request !== edge.passing && !socket.destroyed) edge.dispatch(request, socket, head, false)
      }
      /**
       * `removeAllListeners('upgrade')` is about the listeners of the application: without ours Node hands out no upgrade requests.
       *
       * @param {string | symbol} event
       * @param {Function} listener
       */
      this.onRemoval = function carillonRemoval(event, listener) {
        if (event === 'upgrade' && listener === edge.listener && edge.claims.length > 0) edge.install()
      }
      /** @type {Wrapped | undefined} */
      this.emit = undefined
      /** @type {Wrapped | undefined} */
      this.shouldUpgrade = undefined
    }

    /** Adds what is not there yet. */
    install() {
      const { server, onRemoval } = this
      /** @type {any} Node declares a stream where it gives a socket */
      const listener = this.listener
      if (!server.listeners('upgrade').includes(listener)) server.on('upgrade', listener)
      if (!server.listeners('removeListener').includes(onRemoval)) server.on('removeListener', onRemoval)
      if (this.emit === undefined) this.wrapEmit()
      if (this.shouldUpgrade === undefined) this.wrapShouldUpgrade()
    }

    /** Removes every listener and property that was not wrapped meanwhile; a wrapped one passes everything on. */
    uninstall() {
      const { server } = this
      server.removeListener('removeListener', this.onRemoval)
      server.removeListener('upgrade', this.listener)
      if (this.emit !== undefined && server.emit === this.emit.own) {
        restore(server, 'emit', this.emit.before)
        this.emit = undefined
      }
      if (this.shouldUpgrade !== undefined && server.shouldUpgradeCallback === this.shouldUpgrade.own) {
        restore(server, 'shouldUpgradeCallback', this.shouldUpgrade.before)
        this.shouldUpgrade = undefined
      }
      if (this.emit === undefined && this.shouldUpgrade === undefined) delete server[EDGE]
    }

    /** No listener, whenever and wherever it was added, sees a request before this. */
    wrapEmit() {
      const edge = this
      const { server } = this
      const before = Object.getOwnPropertyDescriptor(server, 'emit')
      const inherited = Object.getPrototypeOf(server)
      /**
       * @this {Server}
       * @param {string} event
       * @param {any} request
       * @param {any} socket
       * @param {any} head
       */
      const own = function emit(event, request, socket, head) {
        if (event === 'upgrade' && edge.claims.length > 0 && edge.dispatch(request, socket, head, true)) return true
        return (before === undefined ? inherited.emit : before.value).apply(this, arguments)
      }
      Object.defineProperty(server, 'emit', { value: own, configurable: true, enumerable: false, writable: true })
      this.emit = { own, before }
    }

    /**
     * Node (24.9, 22.21) asks this whether a request is an upgrade or a plain request. For every protocol but WebSocket the
     * answer is what it would be without us.
     */
    wrapShouldUpgrade() {
      const edge = this
      const { server } = this
      const before = Object.getOwnPropertyDescriptor(server, 'shouldUpgradeCallback')
      /** @type {(this: Server, request: Request) => boolean} */
      const original = server.shouldUpgradeCallback ?? function () { return this.listenerCount('upgrade') > 0 }
      const withoutUs = Object.create(server, {
        listenerCount: { value: (/** @type {string} */ event, /** @type {any[]} */ ...rest) => (event === 'upgrade' ? edge.others().length : server.listenerCount(event, ...rest)) },
      })
      /**
       * @this {Server}
       * @param {Request} request
       */
      const own = function shouldUpgradeCallback(request) {
        if (edge.claims.length === 0) return original.call(this, request)
        if (asksForWebSocket(request)) return edge.claimOf(request) !== undefined || original.call(this, request)
        return original.call(withoutUs, request)
      }
      Object.defineProperty(server, 'shouldUpgradeCallback', { value: own, configurable: true, enumerable: false, writable: true })
      this.shouldUpgrade = { own, before }
    }

    /** @param {Request} request */
    claimOf(request) {
      return this.claims.find((claim) => claim.covers(request))
    }

    /** Upgrade listeners that are not ours. */
    others() {
      return this.server.listeners('upgrade').filter((listener) => listener !== this.listener)
    }

    /**
     * `true` if the request needs no other listener. `first`: the others have not been called yet.
     *
     * @param {Request} request
     * @param {Socket} socket
     * @param {Buffer} head
     * @param {boolean} first
     */
    dispatch(request, socket, head, first) {
      const isWebSocket = asksForWebSocket(request)
      const claim = isWebSocket ? this.claimOf(request) : undefined
      if (claim !== undefined) {
        claim.take(request, socket, head)
        return true
      }
      const [service] = this.claims
      if (service === undefined) return false
      if (this.others().length > 0) {
        const carrier = carrierOf(request, socket)
        const before = snapshot(carrier, socket)
        if (first) this.tellOthers(request, socket, head)
        watch(carrier, socket, before, () => service.take(request, socket, withBuffered(socket, head)))
      } else if (isWebSocket || !serveAsRequest(this.server, request, socket, head)) {
        service.take(request, socket, head)
      }
      return true
    }

    /**
     * The event as it would be without us.
     *
     * @param {Request} request
     * @param {Socket} socket
     * @param {Buffer} head
     */
    tellOthers(request, socket, head) {
      const before = this.emit?.before
      const outer = this.passing
      this.passing = request
      try {
        const emit = before === undefined ? Object.getPrototypeOf(this.server).emit : before.value
        emit.call(this.server, 'upgrade', request, socket, head)
      } finally {
        this.passing = outer
      }
    }
  }

  /**
   * @param {Server} server
   * @param {'emit' | 'shouldUpgradeCallback'} name
   * @param {PropertyDescriptor | undefined} before
   */
  function restore(server, name, before) {
    if (before === undefined) delete server[name]
    else Object.defineProperty(server, name, before)
  }

  /**
   * @param {Server} server
   * @param {string} path
   * @param {Handle} handle
   */
  return function attach(server, path, handle) {
    const edge = /** @type {Edge | undefined} */ (server[EDGE]) ?? new Edge(server)
    const claim = new Claim(edge, path, handle)
    edge.claims = [...edge.claims, claim]
    Object.defineProperty(server, EDGE, { value: edge, configurable: true, enumerable: false, writable: true })
    edge.install()
    return claim
  }
})()
