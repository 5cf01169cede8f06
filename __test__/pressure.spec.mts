// Memory that really fills up: V8's heap on every supported Node, and a container.

import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { Child, type Told } from './support/child.mjs'
import { Client } from './support/client.mjs'
import { Container } from './support/container.mjs'
import { SUPPORTED, nodeBinary } from './support/nodes.mjs'
import { RawPeer, upgradeRequest } from './support/raw.mjs'
import { withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

const MEBIBYTE = 1024 * 1024
/** In MiB: large beside the young generation, up to 64 MiB of which V8 promotes at once. */
const OLD_GENERATION = 512
/** A step of the recovery takes a sixth of this. */
const base = { HEALTH_CHECK_INTERVAL: 60 }
const LIMITED = JSON.stringify({ base: { ...base, HIGH_MEMORY_THRESHOLD: 55, CRITICAL_MEMORY_THRESHOLD: 70 } })

describe('a heap that fills up', () => {
  for (const major of SUPPORTED) {
    it(`is noticed by the default thresholds before V8 gives up, on Node ${major}`, { timeout: 240_000 }, async (test) => {
      const node = await heapTellingNode(major)
      if (node === undefined) return test.skip(`no Node ${major} that tells of its heap`)
      const child = new Child(test, 'pressure', [JSON.stringify({ base })], [`--max-old-space-size=${OLD_GENERATION}`, '--expose-gc'], {}, node)
      await child.hear('listening')
      child.tell('fill-heap', { mebibytesPerSecond: 60, stopAt: 'light' })
      const first = await child.hear('degradation', 60_000)
      const share = (first['oldGeneration'] as number) / (OLD_GENERATION * MEBIBYTE)
      assert.ok(share > 0.8 && share < 0.99, `at ${(share * 100).toFixed(1)} %`)
      child.tell('drain')
      while ((await child.hear('degradation', 60_000))['level'] !== 'normal');
      child.tell('stop')
      const { code, stderr } = await child.exit()
      assert.deepEqual([code, stderr], [0, ''])
    })

    it(`sheds, survives, recovers and loses nothing, on Node ${major}`, { timeout: 240_000 }, async (test) => {
      const node = await heapTellingNode(major)
      if (node === undefined) return test.skip(`no Node ${major} that tells of its heap`)
      const child = new Child(test, 'pressure', [LIMITED], ['--max-old-space-size=128', '--max-semi-space-size=4', '--expose-gc'], {}, node)
      await survives(test, child, 'heap', () => child.tell('fill-heap', { mebibytesPerSecond: 40, stopAt: 'critical' }))
    })
  }
})

it('a container that fills up: sheds, survives, recovers and loses nothing', { timeout: 120_000 }, async (test) => {
  const bytes = 320 * MEBIBYTE
  const container = Container.create(test, bytes)
  if (!container) return test.skip('no control group can be made here')
  const { execPath, execArgv } = container.entrance
  const child = new Child(test, 'pressure', [LIMITED], [...execArgv, '--expose-gc'], {}, execPath)
  await survives(test, child, 'container', () => child.tell('fill-container', { ratio: 0.78, used: container.used, bytes }))
})

/** Fills the child's memory, and lets it go again. */
async function survives(test: TestContext, child: Child, source: string, fill: () => void): Promise<void> {
  const port = (await child.hear('listening'))['port'] as number
  const url = (user: string): string => `ws://127.0.0.1:${port}/ws?token=${tokenOf(user)}`
  const reader = await Client.open(url('reader'))
  test.after(() => reader.socket.terminate())
  await reader.subscribe(1)
  const publish = async (from: number, to: number): Promise<Told> => {
    child.tell('publish', { from, to })
    return child.hear('published')
  }
  assert.equal((await publish(0, 50))['level'], 'normal')

  fill()
  while ((await child.hear('degradation', 60_000))['level'] !== 'critical');
  const late = await RawPeer.connect(port)
  test.after(() => late.destroy())
  void late.write(upgradeRequest(withToken(tokenOf('another'))))
  const { status, headers } = await late.response()
  assert.deepEqual([status, headers['retry-after']], [503, '30'])
  assert.deepEqual(await publish(50, 150), { type: 'published', level: 'critical', source })

  child.tell('drain')
  while ((await child.hear('degradation', 60_000))['level'] !== 'normal');
  assert.equal((await publish(150, 200))['level'], 'normal')
  const another = await Client.open(url('another'))
  test.after(() => another.socket.terminate())
  const updates = await reader.takeMany('bill_update', 200)
  assert.deepEqual(
    updates.map((update) => update['update'].data.number),
    Array.from({ length: 200 }, (_, number) => number),
  )
  const levels = reader.received('system_status').map((status) => status['data'].degradationLevel as number)
  assert.deepEqual(levels.slice(-5), [4, 3, 2, 1, 0])
  child.tell('stop')
  const { code, stderr } = await child.exit()
  assert.deepEqual([code, stderr], [0, ''])
}

/** Node tells of its heap from 20.16 and 22.3 on; those that are fetched are newer. */
async function heapTellingNode(major: number): Promise<string | undefined> {
  const node = await nodeBinary(major)
  const isOwn = node === process.execPath
  return isOwn && typeof (process as { getBuiltinModule?: unknown }).getBuiltinModule !== 'function' ? undefined : node
}
