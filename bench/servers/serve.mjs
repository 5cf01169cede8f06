// What every server under test has in common: it listens, answers questions about itself, and publishes when told.

export function serve(server, { count, subscribed, publish }) {
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
  process.on('message', ({ ask, bytes }) => {
    if (ask === 'usage') {
      globalThis.gc?.()
      const { user, system } = process.cpuUsage()
      process.send({ cpuMicros: user + system, rss: process.memoryUsage.rss(), connections: count(), subscribed: subscribed() })
    }
    if (ask === 'publish') publish('x'.repeat(bytes))
  })
  process.on('disconnect', () => process.exit())
}
