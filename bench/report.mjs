// Results for people: RESULTS.md with a table per scenario, and charts; results.json holds every value.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { bars, curves } from './chart.mjs'
import { FIGURES } from './figures.mjs'
import { REFERENCES, SERVERS } from './servers.mjs'

const median = (figure) => figure?.median
const format = (value, digits) => value.toFixed(digits).replace(/\B(?=(\d{3})+(?!\d))/g, ' ')

function cell(figure, name) {
  if (!figure) return '–'
  const [, unit, digits] = FIGURES[name]
  const middle = `${format(figure.median, digits)} ${unit}`.trim()
  return figure.values.length > 1 ? `${middle} (${format(figure.min, digits)}–${format(figure.max, digits)})` : middle
}

const row = (cells) => `| ${cells.join(' | ')} |`

function table(scenario, servers) {
  const columns = scenario.columns.filter((name) => Object.values(servers).some(({ figures }) => figures[name]))
  const references = Object.keys(REFERENCES).filter((reference) => Object.values(servers).some(({ ratios }) => ratios[reference]))
  const heads = columns.map((name) => (name === 'cpu' ? `CPU per ${scenario.per ?? 'delivery'}` : FIGURES[name][0]))
  const comparisons = references.map((reference) => `× ${reference}`)
  const lines = Object.entries(servers).map(([server, { figures, ratios }]) =>
    row([
      SERVERS[server].label,
      ...columns.map((name) => cell(figures[name], name)),
      ...references.map((reference) => (ratios[reference] ? format(ratios[reference].median, 2) : '–')),
      figures.idle ? `${format(figures.idle.min, 0)} %` : '–',
    ]),
  )
  const head = row(['', ...heads, ...comparisons, 'generator idle'])
  return [head, `| --- |${' ---: |'.repeat(heads.length + comparisons.length + 1)}`, ...lines].join('\n')
}

export function showScenario(scenario) {
  const parts = [`## ${scenario.title}\n`]
  for (const [line, servers] of Object.entries(scenario.lines)) {
    if (Object.keys(scenario.lines).length > 1) parts.push(`**${line}**\n`)
    parts.push(`${table(scenario, servers)}\n`)
  }
  for (const { server, message } of scenario.failures) parts.push(`✖ ${SERVERS[server].label} failed: ${message}\n`)
  return parts.join('\n')
}

export function writeResults(results, folder) {
  mkdirSync(folder, { recursive: true })
  const charts = draw(results)
  for (const [name, svg] of Object.entries(charts)) writeFileSync(path.join(folder, name), svg)
  writeFileSync(path.join(folder, 'results.json'), `${json(results)}\n`)
  writeFileSync(path.join(folder, 'RESULTS.md'), document(results, Object.keys(charts)))
}

/** Four digits are more than any figure is worth; lists of numbers stay on their line. */
function json(results) {
  const rounded = (key, value) => (typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value)
  return JSON.stringify(results, rounded, 1).replace(/\[\s+([-\d.e,\s]+?)\s+\]/g, (list, numbers) => `[${numbers.replace(/\s+/g, ' ')}]`)
}

function document(results, charts) {
  const { machine, versions } = results
  const peers = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
  return [
    '# Results\n',
    `\`${results.command}\`, ${results.date}, ${results.minutes} minutes.`,
    `${machine.cpu}, ${machine.cores} cores, ${machine.memory}, ${machine.kernel}; ${machine.pinned}; load before the run ${machine.loadBefore.toFixed(2)}.`,
    `${peers.join(', ')}.\n`,
    ...(results.quick ? ['**A quick run: it shows that everything works, its figures mean little.**\n'] : []),
    'Medians of the repetitions, with minimum and maximum in parentheses. CPU is user and system time of all threads of the',
    `server. “× ws” and “× floor” compare the main figure (the first column) with that server in the same repetition. Every`,
    'message was counted at every connection. “Generator idle” is the least share of a measurement in which the generator had',
    'nothing to do. README.md in this folder says what each server does.\n',
    ...charts.map((name) => `![${name.replace('.svg', '')}](${name})\n`),
    ...Object.values(results.scenarios).map(showScenario),
    // What somebody has made of the figures of the last full run.
    readFileSync(new URL('READING.md', import.meta.url), 'utf8'),
  ].join('\n')
}

function draw({ scenarios }) {
  const charts = {}
  const cpu = ['fanout', 'burst', 'paced', 'bills', 'compressed', 'pingpong'].flatMap((name) =>
    Object.entries(scenarios[name]?.lines ?? {}).map(([line, servers]) => [`${name}: ${line}`, medians(servers, 'cpu')]),
  )
  if (cpu.length > 0) charts['cpu.svg'] = bars('CPU of the server per message, µs', cpu, 1)
  const memory = Object.entries(scenarios.idle?.lines ?? {}).map(([line, servers]) => [line, medians(servers, 'rssPerConnection')])
  if (memory.length > 0) charts['memory.svg'] = bars('Resident memory per idle connection, bytes', memory, 0)
  for (const [name, { lines, chart }] of Object.entries(scenarios)) {
    if (chart && Object.keys(lines).length > 1) charts[`${name}.svg`] = curves(`CPU per delivery, µs, by ${chart}`, series(lines, 'cpu'))
  }
  const sizes = scenarios.fanout?.lines ?? {}
  if (Object.keys(sizes).length > 1) charts['connections.svg'] = curves('CPU per delivery, µs, by connections', series(sizes, 'cpu'))
  return charts
}

const medians = (servers, name) =>
  Object.entries(servers).map(([server, { figures }]) => [SERVERS[server].label, median(figures[name])]).filter(([, value]) => value !== undefined)

/** One curve per server, a point per line. */
function series(lines, name) {
  const servers = [...new Set(Object.values(lines).flatMap(Object.keys))]
  return servers.map((server) => [
    SERVERS[server].label,
    Object.entries(lines).map(([line, { [server]: own }]) => [line.replace(' connections', ''), median(own?.figures[name])]).filter(([, value]) => value !== undefined),
  ])
}
