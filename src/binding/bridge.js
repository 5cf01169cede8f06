// The sockets of bridges: forwards their events to Rust, and carries out the work of all of them in one call per turn.
//
// Compiled once per service by `bridge/script.rs`. Here in JavaScript, because a call of a method from Rust costs several times what the
// method of a socket itself costs. A socket's place is an index shared with `bridge.rs`.
(function (receive, drained, ended, failed, closed, work) {
  'use strict'

  const PLACE = Symbol('carillon.place')

  /** Milliseconds without progress that a peer may take to read the remaining bytes before an orderly end. */
  const CLOSE_TIMEOUT = 5000

  // As in `bridge/script.rs` and `bridge/batch.rs`: what `receive` returns, what is to be done with a socket, whether it took all bytes.
  const DESTROYED = 0
  const PAUSE = 2
  const RESUME = 1
  const END = 2
  const CLOSE = 4
  const DESTROY = 8
  const FLUSHED = 1
  const FIELDS = 3

  const sockets = []

  function onData(bytes) {
    const answer = receive(this[PLACE], bytes)
    if (answer === PAUSE) this.pause()
    else if (answer === DESTROYED) this.destroy()
  }

  function onDrain() {
    drained(this[PLACE])
  }

  function onEnd() {
    ended(this[PLACE])
  }

  // A failure is followed by `close`.
  function onError() {}

  function onClose() {
    const place = this[PLACE]
    sockets[place] = undefined
    closed(place)
  }

  function onTimeout() {
    this.destroy()
  }

  function open(socket, place) {
    socket[PLACE] = place
    sockets[place] = socket
    socket.on('data', onData)
    socket.on('drain', onDrain)
    socket.on('end', onEnd)
    socket.on('error', onError)
    socket.on('close', onClose)
    // The server's settings for requests do not apply to the connection. A stream that is no socket has none of these methods.
    socket.setTimeout?.(0)
    socket.setNoDelay?.(true)
    // Neither an idle connection nor a handshake keeps the process alive.
    socket.unref?.()
    socket.resume()
  }

  function close(socket) {
    socket.setTimeout?.(CLOSE_TIMEOUT, onTimeout)
    socket.end()
    socket.destroySoon?.()
  }

  // `work` has three numbers per socket: its place, the end of its bytes in `bytes`, and its actions, which are replaced by FLUSHED or 0.
  // The bytes of a socket begin where those of the socket before end. An end below 0 means: the same bytes as the last socket that had any.
  function serve(count, bytes) {
    let begin = 0
    let chunk
    for (let index = 0; index < count * FIELDS; index += FIELDS) {
      const socket = sockets[work[index]]
      const end = work[index + 1]
      const actions = work[index + 2]
      let written
      if (end < 0) written = chunk
      else if (end > begin) {
        written = chunk = bytes.subarray(begin, end)
        begin = end
      }
      let outcome = 0
      try {
        if ((actions & DESTROY) !== 0) socket.destroy()
        else {
          if (written !== undefined && socket.write(written)) outcome = FLUSHED
          if ((actions & RESUME) !== 0) socket.resume()
          if ((actions & CLOSE) !== 0) close(socket)
          else if ((actions & END) !== 0) socket.end()
        }
      } catch (error) {
        failed(work[index], error)
        socket.destroy()
      }
      work[index + 2] = outcome
    }
  }

  return { open, serve }
})
