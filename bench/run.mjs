// `npm run bench -- [--scenario a,b] [--server x,y] [--reps n] [--quick] [--out folder]`: see README.md in this folder.

import { parseArgs } from 'node:util'
import { main } from '../scripts/run.mjs'
import { Bench } from './harness.mjs'
import { ratios, summarise } from './figures.mjs'
import { SCENARIOS } from './scenarios.mjs'
import { SERVERS } from './servers.mjs'
import { machine, prepare, versions } from './setup.mjs'
import { showScenario, writeResults } from './report.mjs'

const QUICK_SERVERS = ['carillon', 'ws', 'bun', 'floor']
const { values: options } = parseArgs({
  options: {
    scenario: { type: 'string' },
    server: { type: 'string' },
    reps: { type: 'string' },
    quick: { type: 'boolean', default: false },
    out: { type: 'string' },
  },
})

/** Runs one scenario on one server and stops whatever it has started. */
async function once(scenario, name, runtimes) {
  const benches = []
  const start = async (settings) => {
    const bench = await Bench.start(SERVERS[name], settings)
    benches.push(bench)
    runtimes[name] = bench.runtime
    return bench
  }
  try {
    const lines = await scenario.run({ start, quick: options.quick, spec: SERVERS[name] })
    for (const bench of benches) await bench.finish()
    return Object.fromEntries(Object.entries(lines).map(([line, { outcome, idle, ...figures }]) => [line, { ...figures, idle: idle * 100 }]))
  } finally {
    for (const bench of benches) await bench.stop()
  }
}

async function measure(name, scenario, runtimes) {
  const asked = options.server?.split(',') ?? (options.quick ? QUICK_SERVERS : scenario.servers)
  const servers = scenario.servers.filter((server) => asked.includes(server) && SERVERS[server])
  const repetitions = Number(options.reps ?? (options.quick ? 1 : (scenario.repetitions ?? 3)))
  const runs = []
  const failures = []
  for (let repetition = 0; repetition < repetitions; repetition += 1) {
    const run = {}
    // Every other time in the opposite order, so that nobody always comes first.
    for (const server of repetition % 2 ? servers.toReversed() : servers) {
      try {
        run[server] = await once(scenario, server, runtimes)
      } catch (error) {
        failures.push({ server, message: error.message })
        console.error(`✖ ${name}, ${server}: ${error.message}`)
      }
    }
    runs.push(run)
  }
  const lines = {}
  for (const line of new Set(runs.flatMap((run) => Object.values(run).flatMap(Object.keys)))) {
    const compared = ratios(scenario.main, runs, line, servers)
    lines[line] = Object.fromEntries(
      servers
        .map((server) => [server, runs.map((run) => run[server]?.[line]).filter(Boolean)])
        .filter(([, figures]) => figures.length > 0)
        .map(([server, figures]) => [server, { figures: summarise(figures), ratios: compared[server] }]),
    )
  }
  const { title, main, columns, chart, per } = scenario
  return { title, main, columns, chart, per, repetitions, lines, failures }
}

function chosen(names, known, what) {
  const unknown = names.filter((name) => !known.includes(name))
  if (unknown.length > 0) throw new Error(`unknown ${what} ${unknown.join(', ')}; there are ${known.join(', ')}`)
  return names
}

await main(async () => {
  const names = chosen(options.scenario?.split(',') ?? Object.keys(SCENARIOS), Object.keys(SCENARIOS), 'scenario')
  chosen(options.server?.split(',') ?? [], Object.keys(SERVERS), 'server')
  await prepare()
  const begun = Date.now()
  const runtimes = {}
  const results = {
    date: new Date().toISOString().slice(0, 10),
    command: ['npm run bench', ...(process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : [])].join(' '),
    quick: options.quick,
    machine: machine(),
    versions: {},
    scenarios: {},
  }
  for (const name of names) {
    results.scenarios[name] = await measure(name, SCENARIOS[name], runtimes)
    console.log(showScenario(results.scenarios[name]))
    results.versions = versions(runtimes)
    results.minutes = Math.round((Date.now() - begun) / 6000) / 10
    // After every scenario: a run that is cut short leaves what it has.
    writeResults(results, options.out ?? import.meta.dirname)
  }
  if (Object.values(results.scenarios).some(({ failures }) => failures.length > 0)) process.exitCode = 1
})
