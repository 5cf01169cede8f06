// The figures of a run: what they are called, how they are summed up, how they compare.

import { REFERENCES } from './servers.mjs'

/** Label, unit and digits of every figure. All but `rate`, `handshakes` and `idle` are better when smaller. */
export const FIGURES = {
  cpu: ['CPU per delivery', 'µs', 2],
  mainCpu: ['of it on the main thread', 'µs', 2],
  rate: ['rate', '/s', 0],
  busy: ['CPU', 'cores', 2],
  p50: ['p50', 'ms', 1],
  p99: ['p99', 'ms', 1],
  max: ['max', 'ms', 1],
  loopP99: ['loop delay p99', 'ms', 1],
  loopMax: ['loop delay max', 'ms', 1],
  rss: ['RSS', 'MiB', 0],
  rssGrowth: ['RSS grew by', 'MiB', 0],
  rssPerConnection: ['RSS per connection', 'B', 0],
  rssPerSubscription: ['RSS per subscription', 'B', 0],
  idleCpu: ['CPU while idle', 'ms/s', 2],
  scrape: ['scrape', 'ms', 2],
  recovery: ['all back after', 's', 2],
  handshakes: ['handshakes', '/s', 0],
  closed: ['closed', '', 0],
  dropped: ['dropped', '', 0],
  publish: ['one publish', 'µs', 1],
  stringify: ['JSON.stringify', 'µs', 1],
  timesStringify: ['ratio', '×', 1],
  idle: ['generator idle', '%', 0],
}

/** Median, minimum and maximum of every figure; `runs` are figures of one server on one line. */
export function summarise(runs) {
  const names = Object.keys(FIGURES).filter((name) => runs.some((run) => Number.isFinite(run[name])))
  return Object.fromEntries(names.map((name) => [name, spread(runs.map((run) => run[name]).filter(Number.isFinite))]))
}

/** The main figure of each repetition by that of a reference in the same repetition. */
export function ratios(main, runs, line, servers) {
  const compare = (server, reference) =>
    spread(
      runs.filter(({ [server]: own, [reference]: other }) => own?.[line] && other?.[line])
        .map(({ [server]: own, [reference]: other }) => own[line][main] / other[line][main])
        .filter(Number.isFinite),
    )
  const references = Object.keys(REFERENCES)
  return Object.fromEntries(
    servers.map((server) => [
      server,
      Object.fromEntries(references.map((reference) => [reference, compare(server, REFERENCES[reference])]).filter(([, ratio]) => ratio)),
    ]),
  )
}

function spread(values) {
  if (values.length === 0) return undefined
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  return { median, min: sorted[0], max: sorted.at(-1), values }
}
