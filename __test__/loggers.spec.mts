// Log lines reach real loggers whole, cannot be multiplied by peers, and block nothing when they are not read.

import assert from 'node:assert/strict'
import { Console } from 'node:console'
import { describe, it } from 'node:test'
import { Writable } from 'node:stream'
import type { Logger, WebSocketServiceOptions } from 'carillon'
import pino from 'pino'
import winston from 'winston'
import { Child } from './support/child.mjs'
import { Log } from './support/log.mjs'
import { TestServer } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { eventually } from './support/waiting.mjs'

/** Gathers what is written to it. */
class Sink extends Writable {
  text = ''

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += String(chunk)
    done()
  }
}

/** Has a handshake refused, which is logged with a reason. */
async function refusedHandshake(test: import('./support/server.mjs').Scope, given: WebSocketServiceOptions): Promise<void> {
  const site = await TestServer.open(test, { ...given, lookupUser: () => false })
  assert.equal(await site.status(tokenOf('ann')), 401)
}

describe('the message and the context of a log line', () => {
  it('reach pino', async (test) => {
    const sink = new Sink()
    await refusedHandshake(test, { logger: pino({ level: 'debug' }, sink) })
    const line = await found(sink, /not authorised/)
    const { msg, why, level } = JSON.parse(line) as Record<string, unknown>
    assert.deepEqual([msg, why, level], ['a handshake was not authorised', 'unknown user', 30])
  })

  it('reach a child of pino', async (test) => {
    const sink = new Sink()
    await refusedHandshake(test, { logger: pino({}, sink).child({ module: 'websocket' }) })
    const { msg, why, module } = JSON.parse(await found(sink, /not authorised/)) as Record<string, unknown>
    assert.deepEqual([msg, why, module], ['a handshake was not authorised', 'unknown user', 'websocket'])
  })

  it('reach winston', async (test) => {
    const sink = new Sink()
    const logger = winston.createLogger({ level: 'debug', format: winston.format.json(), transports: [new winston.transports.Stream({ stream: sink })] })
    await refusedHandshake(test, { logger })
    const { message, why, level } = JSON.parse(await found(sink, /not authorised/)) as Record<string, unknown>
    assert.deepEqual([message, why, level], ['a handshake was not authorised', 'unknown user', 'info'])
  })

  it('reach the console', async (test) => {
    const sink = new Sink()
    await refusedHandshake(test, { logger: new Console(sink) })
    assert.match(await found(sink, /not authorised/), /a handshake was not authorised \{ why: 'unknown user' \}/)
  })

  it('change places where the option says so', async (test) => {
    const lines: unknown[][] = []
    const logger: Logger = { info: (...given: unknown[]) => void lines.push(given) }
    await refusedHandshake(test, { logger, loggerStyle: 'context-first' })
    await eventually(() => lines.some((line) => line[1] === 'a handshake was not authorised'), 'a line')
    assert.deepEqual(lines.find((line) => line[1] === 'a handshake was not authorised')?.[0], { why: 'unknown user' })
  })

  it('stay in place for a pino that the option says is none', async (test) => {
    const lines: unknown[][] = []
    const logger = { child: () => logger, bindings: () => ({}), info: (...given: unknown[]) => void lines.push(given) }
    await refusedHandshake(test, { logger, loggerStyle: 'message-first' })
    await eventually(() => lines.some((line) => line[0] === 'a handshake was not authorised'), 'a line')
  })
})

describe('refused handshakes', () => {
  it('write a few lines a second, and their count', async (test) => {
    const log = new Log()
    const site = await TestServer.open(test, { logger: log.logger, lookupUser: () => { throw new Error('gone') }, lookupTimeout: 20, circuitBreaker: false })
    const handshakes = 120
    const began = performance.now()
    for (let done = 0; done < handshakes; done += 20) {
      await Promise.all(Array.from({ length: 20 }, (_, index) => site.status(tokenOf(`user-${done + index}`))))
    }
    const held = await log.take('warn', /held back.*handshakes/)
    const seconds = Math.ceil((performance.now() - began) / 1000) + 1
    for (const pattern of [/not authorised/, /was refused/, /lookupUser/]) {
      const written = log.lines.filter(({ message }) => pattern.test(message)).length
      assert.ok(written > 0 && written <= 10 * seconds, `${written} lines like ${pattern} in ${seconds} s`)
    }
    assert.ok((held.context?.['count'] as number) > 0)
  })
})

describe('CARILLON_LOG', () => {
  it('does not stop the service when the pipe is full that it writes to', async (test) => {
    const { exit, tell } = await flooded(test)
    tell('read')
    const { stderr, code } = await exit
    assert.equal(code, 0)
    assert.match(stderr, /\d+ log lines were lost/)
  })
})

/** Has a child log more than its pipe holds while it is not read, until it has served a client all the same. */
async function flooded(test: import('./support/server.mjs').Scope): Promise<{ exit: Promise<{ stderr: string; code: number | null }>; tell: (what: 'read') => void }> {
  const child = new Child(test, 'flooding', [], [], { CARILLON_LOG: 'trace' })
  child.pauseStderr()
  const { served } = await child.hear('served', 120_000)
  assert.equal(served, true)
  return {
    exit: child.exit(60_000),
    tell: () => {
      child.resumeStderr()
      child.tell('end')
    },
  }
}

async function found(sink: Sink, pattern: RegExp): Promise<string> {
  await eventually(() => pattern.test(sink.text), `a line like ${pattern}`)
  return sink.text.split('\n').find((line) => pattern.test(line)) ?? assert.fail()
}
