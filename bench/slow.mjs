// `npm run bench:slow -- [seconds] [stuck]`: connections that never read, beside twenty that do, under a steady stream of
// publishes. Prints how the server's memory and the healthy connections' latency change once the stuck ones have come.

import { main } from '../scripts/run.mjs'
import { Bench } from './harness.mjs'
import { SERVERS } from './servers.mjs'
import { prepare } from './setup.mjs'

const [seconds = 60, stuck = 1000] = process.argv.slice(2).map(Number)
const HEALTHY = 20
const BOUND = 262_144
/** A rate that one core can serve to everybody while nobody is stuck. */
const PER_SECOND = 100
const options = {
  maxBackpressure: BOUND,
  slowConsumer: 'drop-oldest',
  // Who never reads answers no pings.
  base: { HEARTBEAT_INTERVAL: 3_600_000, STALE_CONNECTION_THRESHOLD: 3_600_000 },
}

await main(async () => {
  await prepare()
  const bench = await Bench.start(SERVERS.carillon, { env: { BENCH_OPTIONS: JSON.stringify(options) } })
  try {
    await measure(bench)
  } finally {
    await bench.stop()
  }
})

async function measure(bench) {
  // Throws if a healthy connection misses a message.
  const stream = (duration) => bench.run({ command: 'stream', first: 0, topics: 1, per_second: PER_SECOND, seconds: duration })
  await bench.open(HEALTHY)
  await bench.fill(4000)
  await stream(2)
  const alone = await stream(Math.min(seconds, 10))
  await bench.usage()
  const before = bench.rss()
  await bench.open(stuck, { paused: true })
  // Until the system's own buffers of the stuck connections are full, they cost what readers cost.
  const filling = await stream(Math.min(seconds, 20))
  const crowded = await stream(seconds)
  const { connections, dropped, pending } = await bench.usage()
  const growth = bench.rss() - before
  const handed = (crowded.publishes + filling.publishes) * stuck

  const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`
  const latency = ({ latency: { p50, p99 } }) => `${p50.toFixed(2)} and ${p99.toFixed(2)} ms`
  const limit = stuck * BOUND * 1.05
  console.log(`${stuck} connections that never read, ${HEALTHY} that do, ${crowded.publishes} publishes in ${seconds} s\n`)
  console.log(`memory grew by      ${mebibytes(growth)} (bound: ${mebibytes(limit)})`)
  console.log(`healthy p50, p99    alone ${latency(alone)}, beside them ${latency(crowded)}`)
  console.log(`                    (while the system's buffers fill: ${latency(filling)})`)
  console.log(`dropped             ${dropped} messages, ${mebibytes(pending)} still waiting`)
  console.log(`accounted for       ${handed} handed to stuck connections: ${dropped} dropped, the rest written or waiting`)
  const failures = []
  if (growth > limit) failures.push('memory is not bounded')
  if (dropped > handed) failures.push('more was dropped than published')
  if (connections !== stuck + HEALTHY) failures.push(`${connections} connections are left`)
  if (failures.length > 0) throw new Error(failures.join('; '))
}
