// A logger that keeps what it is told.

import type { Logger } from 'carillon'
import { Mailbox } from './waiting.mjs'

export interface Line {
  level: 'debug' | 'info' | 'warn' | 'error'
  message: string
  context: Record<string, unknown> | undefined
}

export class Log {
  readonly lines: Line[] = []
  readonly logger: Logger
  readonly #mailbox = new Mailbox<Line>()

  constructor() {
    const keep = (level: Line['level']) => (message: string, context?: Record<string, unknown>) => {
      const line = { level, message, context }
      this.lines.push(line)
      this.#mailbox.put(line)
    }
    this.logger = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') }
  }

  /** The oldest line of this level, not taken before, that matches. */
  take(level: Line['level'], pattern = /./): Promise<Line> {
    const matches = (line: Line): boolean => line.level === level && pattern.test(`${line.message} ${JSON.stringify(line.context)}`)
    return this.#mailbox.take(matches, `a line (${level}) like ${pattern}`)
  }
}
