// `npm run bench`: see README.md in this folder.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const [connections = 5000, messages = 40, repetitions = 3] = process.argv.slice(2).map(Number)
const SERVERS = ['carillon', 'ws']
const PAYLOAD_BYTES = 400
const LIMIT_MS = 60_000
const env = { ...process.env, BENCH_SECRET: 'a secret for this run only' }
const here = (path) => fileURLToPath(new URL(path, import.meta.url))

async function ask(child, question) {
  const answer = once(child, 'message')
  child.send(question)
  return (await answer)[0]
}

async function until(condition) {
  const deadline = Date.now() + LIMIT_MS
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('the run takes too long')
    await delay(20)
  }
}

async function measure(name) {
  const server = fork(here(`servers/${name}.mjs`), { env, execArgv: ['--expose-gc'] })
  const [{ port }] = await once(server, 'message')
  const before = await ask(server, { ask: 'usage' })
  const clients = fork(here('client.mjs'), [port, connections], { env })
  await once(clients, 'message')
  await until(async () => (await ask(server, { ask: 'usage' })).subscribed === connections)
  await delay(1500)
  const idle = await ask(server, { ask: 'usage' })
  for (let sent = 1; sent <= messages; sent += 1) {
    server.send({ ask: 'publish', bytes: PAYLOAD_BYTES })
    await until(async () => (await ask(clients, { ask: 'received' })).received >= sent * connections)
  }
  const after = await ask(server, { ask: 'usage' })
  const { received } = await ask(clients, { ask: 'received' })
  if (received !== messages * connections) throw new Error(`${name}: ${received} of ${messages * connections} arrived`)
  const ended = [once(server, 'exit'), once(clients, 'exit')]
  server.disconnect()
  clients.disconnect()
  await Promise.all(ended)
  return {
    cpu: (after.cpuMicros - idle.cpuMicros) / (messages * connections),
    handshake: (idle.cpuMicros - before.cpuMicros) / connections,
    memory: (idle.rss - before.rss) / connections,
  }
}

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]
const results = Object.fromEntries(SERVERS.map((name) => [name, []]))
for (let repetition = 0; repetition < repetitions; repetition += 1) {
  for (const name of SERVERS) results[name].push(await measure(name))
}
const figure = (name, key) => median(results[name].map((result) => result[key]))
const ratio = (key) => (figure('carillon', key) / figure('ws', key)).toFixed(2)

console.log(`${connections} connections, ${messages} messages of ${PAYLOAD_BYTES} bytes, medians of ${repetitions}\n`)
console.log('| | Carillon | ws | ratio |\n| --- | ---: | ---: | ---: |')
for (const [label, key, unit, digits] of [
  ['CPU per delivery', 'cpu', 'µs', 2],
  ['CPU per handshake and subscription', 'handshake', 'µs', 0],
  ['memory per idle connection (RSS)', 'memory', 'B', 0],
]) {
  const cells = SERVERS.map((name) => `${figure(name, key).toFixed(digits)} ${unit}`)
  console.log(`| ${label} | ${cells.join(' | ')} | ${ratio(key)} |`)
}
