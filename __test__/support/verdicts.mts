// What is done with a compiled example: it runs and exits, or it is a program that serves a client until it is told to end.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { promisify } from 'node:util'
import WebSocket from 'ws'
import type { Example, Workshop } from './examples.mjs'
import { SECRET, tokenOf } from './token.mjs'
import { Program } from './tools.mjs'

const execute = promisify(execFile)
const ENVIRONMENT = { JWT_SECRET: SECRET, PORT: '0', NEXT_TELEMETRY_DISABLED: '1', FORCE_COLOR: '0' }
const SIGNALS: NodeJS.Signals[] = process.platform === 'win32' ? [] : ['SIGTERM', 'SIGINT']

/** Fails unless the example compiles and does what its page says. */
export async function verify(example: Example, workshop: Workshop): Promise<void> {
  assert.deepEqual(workshop.errorsOf(example), [])
  if (example.setup !== 'program') return exitsWell(workshop.path(example), workshop)
  for (const signal of example.text.includes('SIGINT') ? SIGNALS : SIGNALS.slice(0, 1)) await serves(example, workshop, signal)
}

async function exitsWell(path: string, { folder }: Workshop, args: string[] = []): Promise<void> {
  const options = { cwd: folder, env: { ...process.env, ...ENVIRONMENT }, timeout: 120_000 }
  const { stderr } = await execute(process.execPath, ['--no-warnings', path, ...args], options)
    .catch(({ message, stdout, stderr }: { message: string; stdout: string; stderr: string }) => assert.fail(`${message}\n${stdout}\n${stderr}`))
  assert.equal(stderr, '')
}

/** A client is served, the page's check passes, and the client is told before the program ends. */
async function serves(example: Example, workshop: Workshop, signal: NodeJS.Signals): Promise<void> {
  const program = await Program.start(workshop.path(example), { cwd: join(workshop.folder, example.cwd), env: ENVIRONMENT })
  let exit: number | null | undefined
  try {
    const isSecure = /\btls\b/.test(example.text)
    const client = new WebSocket(`${isSecure ? 'wss' : 'ws'}://127.0.0.1:${program.port}/ws?token=${tokenOf('ann')}`, { rejectUnauthorized: false })
    const received: string[] = []
    client.on('message', (data) => received.push(String(data)))
    const closed = once(client, 'close', { signal: AbortSignal.timeout(120_000) }) as Promise<[number, Buffer]>
    closed.catch(() => {})
    while (!received.some((text) => text.includes('"type":"connected"'))) await once(client, 'message', { signal: AbortSignal.timeout(60_000) })
    await exitsWell(workshop.path(example, '.check'), workshop, [String(program.port), ...(isSecure ? ['tls'] : [])])
    exit = await program.stop(signal)
    const [code, reason] = await closed
    assert.deepEqual([code, String(reason)], [1001, 'Server shutdown'])
    assert.ok(received.some((text) => text.includes('"type":"server_shutdown"')), received.join('\n'))
  } finally {
    exit ??= await program.stop('SIGKILL')
  }
  assert.equal(exit, 0)
}
