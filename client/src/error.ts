// The one error class of the client. Compare `code`; texts may change.

export type ClientErrorCode =
  /** The client was closed by the application or for good by the server. */
  | 'closed'
  /** The connection was lost after the request was sent: the server may or may not have carried it out. */
  | 'disconnected'
  /** The server did not answer in time. */
  | 'timeout'
  /** Too many requests wait for a connection. */
  | 'queue_full'
  /** The server answered with an error that carries no code. */
  | 'rejected'
  /** Codes of the server. */
  | 'failed'
  | 'forbidden'
  | 'too_large'
  | 'unavailable'

export class CarillonError extends Error {
  readonly code: ClientErrorCode

  constructor(code: ClientErrorCode, message: string) {
    super(message)
    this.name = 'CarillonError'
    this.code = code
  }
}
