// What is measured. A scenario starts a server (or several), puts load on it and returns figures, one set per line.
//
// `main` is the figure that is compared with the references, `columns` the ones that are shown; see figures.mjs for their
// meaning. `quick` asks for sizes that show only whether everything works.

const EVERYBODY = 0
const BILL = 1
const BEFORE = ['before', 'before-port']
const ALL = ['carillon', 'carillon-port', ...BEFORE, 'carillon-bridge', 'ws', 'ws-naive', 'socket.io', 'bun', 'uwebsockets', 'tungstenite', 'floor', 'floor-uring']
const without = (...names) => ALL.filter((name) => !names.includes(name))
const only = (...names) => names
const TLS = only('carillon-https', 'carillon-port-tls', 'ws-https', 'bun-tls')
const PLAIN = { main: 'cpu', columns: ['cpu', 'rate', 'p50', 'p99', 'max', 'loopP99', 'loopMax', 'rss'] }

const lockstep = (topic, rounds, burst = 1) => ({ command: 'lockstep', topic, rounds, burst })
const stream = (first, topics, per_second, seconds, more) => ({ command: 'stream', first, topics, per_second, seconds, ...more })
const thousands = (number) => number.toLocaleString('en').replaceAll(',', ' ')

export const SCENARIOS = {
  fanout: {
    title: 'Fan-out: one message to everybody per turn, the next when all have it',
    servers: ALL,
    ...PLAIN,
    async run({ start, quick }) {
      const bench = await start()
      const lines = {}
      let open = 0
      for (const size of quick ? [500, 1000] : [1000, 5000, 9000]) {
        await bench.open(size - open)
        open = size
        await bench.run(lockstep(EVERYBODY, 3))
        lines[`${thousands(size)} connections`] = await bench.measure(lockstep(EVERYBODY, Math.ceil((quick ? 10_000 : 60_000) / size)))
      }
      return lines
    },
  },
  burst: {
    title: 'Burst: 200 messages to everybody in one turn, 1 000 connections',
    servers: ALL,
    ...PLAIN,
    async run({ start, quick }) {
      const bench = await start()
      await bench.open(quick ? 200 : 1000)
      await bench.run(lockstep(EVERYBODY, 1, 50))
      return { burst: await bench.measure(lockstep(EVERYBODY, quick ? 1 : 2, 200)) }
    },
  },
  paced: {
    title: 'Paced: one message to everybody each 50 ms, 1 000 connections',
    servers: without('floor-uring'),
    main: 'cpu',
    columns: ['cpu', 'mainCpu', 'rate', 'p50', 'p99', 'max', 'rss'],
    async run({ start, quick }) {
      // With so little to do, asking how late the loop is would be a tenth of the cost.
      const bench = await start({ env: { BENCH_LOOP: 'off' } })
      await bench.open(quick ? 200 : 1000)
      await bench.run(lockstep(EVERYBODY, 5))
      return { paced: await bench.measure(stream(EVERYBODY, 1, 20, quick ? 1 : 3)) }
    },
  },
  bills: {
    title: 'Bill updates: 10 in one turn to the subscribers of a bill, 5 000 connections',
    servers: only('carillon', 'carillon-bridge', 'ws', 'socket.io', 'bun', 'uwebsockets', 'tungstenite', 'floor'),
    ...PLAIN,
    async run({ start, quick }) {
      const bench = await start()
      await bench.open(quick ? 500 : 5000)
      await bench.run(lockstep(BILL, 1, 10))
      return { bills: await bench.measure(lockstep(BILL, quick ? 2 : 3, 10)) }
    },
  },
  compressed: {
    title: 'Compressed: 4 KiB of text to everybody per turn, 500 connections',
    servers: only('carillon', 'carillon-bridge', 'ws', 'socket.io', 'bun', 'uwebsockets'),
    repetitions: 2,
    ...PLAIN,
    async run({ start, quick }) {
      const lines = {}
      for (const deflate of [true, false]) {
        const bench = await start({ compression: deflate })
        await bench.open(quick ? 100 : 500, { deflate })
        await bench.fill(4096)
        await bench.run(lockstep(EVERYBODY, 5))
        lines[deflate ? 'compressed' : 'not compressed'] = await bench.measure(lockstep(EVERYBODY, quick ? 10 : 40))
      }
      return lines
    },
  },
  idle: {
    title: 'Idle: 9 000 connections, authenticated and subscribed; memory of the last 8 000',
    servers: without('ws-naive', 'floor', 'floor-uring'),
    repetitions: 1,
    main: 'rssPerConnection',
    columns: ['rssPerConnection', 'idleCpu', 'scrape'],
    async run({ start, quick, spec }) {
      const lines = {}
      for (const deflate of spec.deflate ? [false, true] : [false]) {
        const bench = await start({ compression: deflate, env: { BENCH_LOOP: 'off' } })
        const [first, count] = quick ? [200, 800] : [1000, 8000]
        // The first connections pay for what is loaded and allocated once.
        // A JavaScript engine gives garbage's memory back some seconds after it was collected.
        const rest = async () => {
          await bench.settle(1000)
          await bench.usage()
          const cpu = bench.cpuMicros()
          const { seconds } = await bench.settle(quick ? 1000 : 8000)
          const idleCpu = (bench.cpuMicros() - cpu) / 1000 / seconds
          // How long metricsText() takes, of those who have it.
          const { scrape } = await bench.usage()
          return { idleCpu, scrape, rss: bench.rss() }
        }
        await bench.open(first, { deflate })
        const before = await rest()
        await bench.open(count, { deflate })
        const { idleCpu, scrape, rss } = await rest()
        lines[deflate ? 'deflate negotiated' : 'no deflate'] = { rssPerConnection: (rss - before.rss) / count, idleCpu, scrape }
      }
      return lines
    },
  },
  pingpong: {
    title: 'Ping and pong: each of 100 connections sends a ping when its pong has come',
    servers: without('ws-naive', 'floor-uring'),
    per: 'ping',
    ...PLAIN,
    async run({ start, quick }) {
      const bench = await start()
      await bench.open(100)
      await bench.run({ command: 'ping', rounds: 30 })
      return { pings: await bench.measure({ command: 'ping', rounds: quick ? 50 : 300 }, { per: 'pongs' }) }
    },
  },
  handshake: {
    title: 'Handshakes with a token: 2 000 connections, 64 at one time',
    servers: ['carillon-port-unbatched', ...without('floor-uring')],
    main: 'cpu',
    per: 'handshake',
    columns: ['cpu', 'rate', 'loopP99', 'loopMax'],
    async run({ start, quick }) {
      const bench = await start()
      const handshakes = (count) => ({ command: 'open', count, topics_each: 0, in_flight: 64 })
      await bench.run(handshakes(300))
      return { handshakes: await bench.measure(handshakes(quick ? 300 : 2000), { per: 'opened' }) }
    },
  },
  mixed: {
    title: 'Mixed: 2 000 connections of 500 bills, 30 % replaced, 200 publishes per second',
    servers: only('carillon', 'carillon-unbatched', 'carillon-bridge', 'ws', 'socket.io', 'bun', 'uwebsockets', 'tungstenite'),
    repetitions: 2,
    main: 'p99',
    columns: ['p50', 'p99', 'max', 'cpu', 'busy', 'loopP99', 'loopMax', 'rss'],
    async run({ start, quick }) {
      const [connections, seconds] = quick ? [400, 1] : [2000, 4]
      const bench = await start()
      await bench.open(connections, { topics: 4, of: 500 })
      const load = (time) => stream(BILL, 500, 200, time, { churn_per_second: (connections * 0.3) / seconds })
      await bench.run(load(0.5))
      return { mixed: await bench.measure(load(seconds)) }
    },
  },
  slow: {
    title: 'A third does not read: 300 connections, 16 KiB to everybody 100 times per second',
    servers: only('carillon', 'ws', 'socket.io', 'bun', 'uwebsockets', 'tungstenite'),
    repetitions: 1,
    main: 'p99',
    columns: ['p50', 'p99', 'max', 'cpu', 'rssGrowth', 'closed', 'dropped'],
    async run({ start, quick }) {
      const bench = await start()
      const third = quick ? 30 : 100
      await bench.open(2 * third)
      await bench.open(third, { paused: true, receiveBuffer: 32 * 1024 })
      await bench.fill(16 * 1024)
      const before = bench.rss()
      const figures = await bench.measure(stream(EVERYBODY, 1, 100, quick ? 1 : 4))
      const rssGrowth = (bench.rss() - before) / 2 ** 20
      // Those who come back get what their server has kept for them, in order, or have been closed.
      const { closed, lost } = await bench.run({ command: 'resume' }, ['closed', 'lost'])
      const closings = Object.values(closed).reduce((sum, count) => sum + count, 0)
      return { 'the two thirds that read': { ...figures, rssGrowth, closed: closings, dropped: lost } }
    },
  },
  topics: {
    title: 'Growth in topics: 500 connections, each subscribed to as many bills, 100 publishes per second',
    servers: only('carillon', 'ws', 'socket.io', 'bun', 'uwebsockets'),
    repetitions: 1,
    main: 'cpu',
    columns: ['cpu', 'p50', 'p99', 'rssPerSubscription'],
    chart: 'topics per connection',
    async run({ start, quick }) {
      const lines = {}
      for (const topics of quick ? [1, 100] : [1, 10, 100, 1000]) {
        const bench = await start()
        const connections = quick ? 100 : 500
        const before = bench.rss()
        await bench.open(connections, { topics, of: topics })
        await bench.usage()
        const rssPerSubscription = (bench.rss() - before) / connections / topics
        const figures = await bench.measure(stream(BILL, topics, 100, quick ? 0.5 : 1.5))
        lines[thousands(topics)] = { ...figures, rssPerSubscription }
        await bench.finish()
      }
      return lines
    },
  },
  payload: {
    title: 'Growth in bytes: one message to everybody per turn, 500 connections',
    servers: only('carillon', 'ws', 'bun', 'uwebsockets', 'floor'),
    repetitions: 2,
    ...PLAIN,
    chart: 'bytes of data',
    async run({ start, quick }) {
      const bench = await start()
      await bench.open(quick ? 100 : 500)
      const lines = {}
      for (const [bytes, rounds] of [[64, 60], [512, 60], [4096, 60], [65_536, 12]]) {
        await bench.fill(bytes)
        await bench.run(lockstep(EVERYBODY, 2))
        lines[thousands(bytes)] = await bench.measure(lockstep(EVERYBODY, quick ? 5 : rounds))
      }
      return lines
    },
  },
  storm: {
    title: 'Reconnect storm: 9 000 connections dropped at once come back while publishes go on, 5 per second',
    servers: only('carillon', 'carillon-port', 'ws', 'socket.io', 'bun', 'uwebsockets'),
    repetitions: 1,
    main: 'recovery',
    columns: ['recovery', 'handshakes', 'p50', 'p99', 'loopMax', 'rss'],
    async run({ start, quick }) {
      const bench = await start()
      const count = quick ? 1000 : 9000
      await bench.open(count, { inFlight: 400 })
      const { outcome, ...figures } = await bench.measure(stream(EVERYBODY, 1, 5, 2, { drop_after: 1 }))
      const { seconds, latency } = outcome.recovery
      return { storm: { ...figures, recovery: seconds, handshakes: count / seconds, p50: latency.p50, p99: latency.p99 } }
    },
  },
  tls: {
    title: 'TLS: fan-out, burst, ping and pong, 1 000 connections',
    servers: TLS,
    per: 'delivery or pong',
    ...PLAIN,
    columns: ['cpu', 'mainCpu', 'rate', 'p50', 'p99', 'loopP99', 'rss'],
    async run({ start, quick }) {
      const bench = await start()
      const lines = {}
      await bench.open(quick ? 200 : 1000)
      await bench.run(lockstep(EVERYBODY, 3))
      lines['fan-out'] = await bench.measure(lockstep(EVERYBODY, quick ? 10 : 40))
      await bench.run(lockstep(EVERYBODY, 1, 20))
      lines['burst of 100'] = await bench.measure(lockstep(EVERYBODY, quick ? 1 : 3, 100))
      lines['paced'] = await bench.measure(stream(EVERYBODY, 1, 20, quick ? 1 : 3))
      await bench.run({ command: 'ping', rounds: 2 })
      lines['ping and pong'] = await bench.measure({ command: 'ping', rounds: quick ? 5 : 30 }, { per: 'pongs' })
      return lines
    },
  },
  'tls-handshake': {
    title: 'TLS handshakes with a token: 1 000 connections, 32 at one time',
    servers: TLS,
    main: 'cpu',
    per: 'handshake',
    columns: ['cpu', 'mainCpu', 'rate', 'loopP99', 'loopMax'],
    async run({ start, quick }) {
      const lines = {}
      for (const resume of [false, true]) {
        const bench = await start()
        const handshakes = (count) => ({ command: 'open', count, topics_each: 0, in_flight: 32, resume })
        await bench.run(handshakes(200))
        lines[resume ? 'resumed' : 'full'] = await bench.measure(handshakes(quick ? 200 : 1000), { per: 'opened' })
      }
      return lines
    },
  },
  'tls-idle': {
    title: 'TLS: memory of 3 000 idle connections',
    servers: TLS,
    repetitions: 1,
    main: 'rssPerConnection',
    columns: ['rssPerConnection'],
    async run({ start, quick }) {
      const bench = await start({ env: { BENCH_LOOP: 'off' } })
      const [first, count] = quick ? [100, 300] : [500, 3000]
      const rest = async () => {
        await bench.settle(quick ? 1000 : 6000)
        await bench.usage()
        await bench.settle(1000)
        return bench.rss()
      }
      await bench.open(first)
      const before = await rest()
      await bench.open(count)
      return { idle: { rssPerConnection: ((await rest()) - before) / count } }
    },
  },
  cost: {
    title: 'Cost of one publish to everybody on the JavaScript thread, which has a core of its own',
    servers: only('carillon', 'ws', 'ws-naive', 'socket.io', 'bun'),
    repetitions: 1,
    main: 'publish',
    columns: ['publish', 'stringify', 'timesStringify'],
    async run({ start, quick }) {
      const bench = await start({ spread: true })
      const lines = {}
      let open = 0
      for (const [size, calls, rounds] of quick ? [[0, 50, 2], [500, 10, 2]] : [[0, 50, 6], [1000, 20, 4], [9000, 10, 3]]) {
        await bench.open(size - open)
        open = size
        await bench.settle(200)
        const { publish, stringify } = await bench.cost({ calls, rounds })
        // These publishes are not the generator's: it knows them not.
        await bench.settle(500, ['stray'])
        lines[`${thousands(size)} subscribers`] = { publish, stringify, timesStringify: publish / stringify }
      }
      return lines
    },
  },
  loop: {
    title: 'Delay of the event loop during fan-out to 9 000 connections, not pinned to one core',
    servers: only('carillon', 'ws', 'socket.io', 'bun'),
    repetitions: 2,
    main: 'loopP99',
    columns: ['loopP99', 'loopMax', 'p50', 'p99'],
    async run({ start, quick }) {
      const bench = await start({ spread: true })
      await bench.open(quick ? 1000 : 9000)
      await bench.run(lockstep(EVERYBODY, 2))
      return { fanout: await bench.measure(lockstep(EVERYBODY, quick ? 5 : 10)) }
    },
  },
}
