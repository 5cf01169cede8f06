// `npm run soak -- [minutes] [connections]`: mixed load with churn against the attached server, for long. Fails if a message is
// lost or comes twice, or if memory grows by more than it fluctuates.

import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { CommandFailed, main } from '../scripts/run.mjs'
import { timeline } from './chart.mjs'
import { Bench } from './harness.mjs'
import { SERVERS } from './servers.mjs'
import { machine, prepare, versions } from './setup.mjs'

const [minutes = 30, connections = 5000] = process.argv.slice(2).map(Number)
const SAMPLE_MS = 5000
const CHUNK_SECONDS = 10
const BILLS = 1000
const PUBLISHES_PER_SECOND = 100
/** Of a thousand connections, so many are replaced each second: everybody once in about three minutes. */
const CHURN = 5
/** Growth below this is no growth, however steady the rest: the allocators' granularity. */
const LEAST_NOISE = 2 ** 20
const here = (name) => fileURLToPath(new URL(name, import.meta.url))

await main(async () => {
  await prepare()
  const bench = await Bench.start(SERVERS.carillon)
  const totals = { deliveries: 0, lost: 0, doubled: 0, opened: 0, pongs: 0 }
  const samples = []
  let failure
  try {
    await load(bench, totals, samples)
  } catch (error) {
    failure = error.message
  } finally {
    await bench.stop()
  }
  const judged = judge(samples)
  if (!failure && judged.growth > judged.noise) failure = 'memory grows by more than it fluctuates'
  const result = { date: new Date().toISOString().slice(0, 10), minutes, connections, machine: machine(), versions: versions({}), totals, ...judged, failure }
  writeFileSync(here('soak.json'), `${JSON.stringify({ ...result, samples }, null, 1)}\n`)
  const points = samples.map(({ seconds, rss }) => [seconds / 60, rss / 2 ** 20])
  writeFileSync(here('soak.svg'), timeline(`Resident memory, MiB, ${connections} connections, by minutes`, points))
  console.log(JSON.stringify(result, null, 1))
  if (failure) throw new CommandFailed(failure)
})

async function load(bench, totals, samples) {
  await bench.open(connections, { topics: 4, of: BILLS })
  const begun = Date.now()
  const elapsed = () => (Date.now() - begun) / 1000
  let sampling = Promise.resolve()
  const timer = setInterval(() => {
    sampling = sample(bench).then((values) => samples.push({ seconds: elapsed(), ...values }))
  }, SAMPLE_MS)
  const stream = {
    command: 'stream', first: 1, topics: BILLS, per_second: PUBLISHES_PER_SECOND, seconds: CHUNK_SECONDS, churn_per_second: (CHURN * connections) / 1000,
  }
  const chunk = [stream, { command: 'lockstep', topic: 0, rounds: 3, burst: 1 }, { command: 'ping', rounds: 1 }]
  try {
    while (elapsed() < minutes * 60) {
      for (const command of chunk) {
        const outcome = await bench.run(command)
        for (const name of Object.keys(totals)) totals[name] += outcome[name]
      }
    }
  } finally {
    clearInterval(timer)
    await sampling
  }
}

/** After a full collection, so that JavaScript's garbage does not look like growth. */
async function sample(bench) {
  const { heap } = await bench.usage()
  return { rss: bench.rss(), heap }
}

/** The slope after warm-up as the median of the slopes between all pairs of samples: a few outliers do not move it. */
function judge(samples) {
  const last = samples.at(-1)?.seconds ?? 0
  const warm = Math.min(Math.max(120, last * 0.2), last / 2)
  const steady = samples.filter(({ seconds }) => seconds >= warm)
  const slopes = steady.flatMap((a, index) => steady.slice(index + 1).map((b) => (b.rss - a.rss) / (b.seconds - a.seconds)))
  const slope = quantile(slopes, 0.5)
  const residuals = steady.map(({ seconds, rss }) => rss - slope * seconds)
  const duration = last - warm
  return {
    warmUpSeconds: warm,
    slopeBytesPerMinute: slope * 60,
    growth: slope * duration,
    noise: Math.max(LEAST_NOISE, quantile(residuals, 0.95) - quantile(residuals, 0.05)),
  }
}

function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor((sorted.length - 1) * share)] ?? 0
}
