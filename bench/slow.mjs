// `npm run bench:slow -- [seconds] [stuck]`: clients that never read, beside some that do, under a steady stream of publishes.
// Prints how the server's memory and the healthy clients' latency change once the stuck clients have come, and whether
// every message is accounted for. Bounded in time and count.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const [seconds = 60, stuck = 1000] = process.argv.slice(2).map(Number)
const HEALTHY = 20
const BOUND = 262_144
let missed = 0
const env = { ...process.env, BENCH_SECRET: 'a secret for this run only', BENCH_BOUND: String(BOUND) }
const here = (path) => fileURLToPath(new URL(path, import.meta.url))

async function ask(child, question) {
  const answer = once(child, 'message')
  child.send(question)
  return (await answer)[0]
}

const server = fork(here('servers/slow.mjs'), { env, execArgv: ['--expose-gc'] })
const [{ port }] = await once(server, 'message')
const healthy = fork(here('readers.mjs'), [port, HEALTHY, 'read'], { env })
await once(healthy, 'message')

async function stream(duration) {
  await ask(healthy, { ask: 'begin' })
  const { published } = await ask(server, { ask: 'stream', milliseconds: duration * 1000 })
  const deadline = Date.now() + 10_000
  let latencies
  do {
    await delay(50)
    latencies = await ask(healthy, { ask: 'latencies' })
  } while (latencies.received < published * HEALTHY && Date.now() < deadline)
  missed += published * HEALTHY - latencies.received
  return { published, ...latencies }
}

await stream(2)
const alone = await stream(Math.min(seconds, 10))
const before = await ask(server, { ask: 'usage' })
const readers = fork(here('readers.mjs'), [port, stuck, 'never'], { env })
await once(readers, 'message')
// Until the system's own buffers of the stuck clients are full, they cost what readers cost.
const filling = await stream(Math.min(seconds, 20))
const crowded = await stream(seconds)
const after = await ask(server, { ask: 'usage' })

const mebibytes = (bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`
const limit = stuck * BOUND * 1.05
console.log(`${stuck} clients that never read, ${HEALTHY} that do, ${crowded.published} publishes in ${seconds} s\n`)
console.log(`memory grew by      ${mebibytes(after.rss - before.rss)} (bound: ${mebibytes(limit)})`)
console.log(`healthy p50, p99    alone ${alone.p50.toFixed(2)} and ${alone.p99.toFixed(2)} ms, beside them ${crowded.p50.toFixed(2)} and ${crowded.p99.toFixed(2)} ms`)
console.log(`                    (while the system's buffers fill: ${filling.p50.toFixed(2)} and ${filling.p99.toFixed(2)} ms)`)
console.log(`dropped             ${after.dropped} messages, ${mebibytes(after.pending)} still waiting`)
const handed = (crowded.published + filling.published) * stuck
console.log(`accounted for       ${handed} handed to stuck clients: ${after.dropped} dropped, the rest written or waiting`)
const failures = []
if (after.rss - before.rss > limit) failures.push('memory is not bounded')
if (missed > 0) failures.push(`healthy clients missed ${missed} messages`)
if (after.dropped > handed) failures.push('more was dropped than published')
if (after.connections !== stuck + HEALTHY) failures.push(`${after.connections} connections are left`)
for (const child of [server, healthy, readers]) child.disconnect()
if (failures.length > 0) {
  console.error(failures.join('; '))
  process.exitCode = 1
}
