// What must not happen to the process or to the caller: panics, classes called like functions, arguments of the wrong kind.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import { createContext, runInContext } from 'node:vm'
import { WebSocketService } from 'carillon'
import { Child } from './support/child.mjs'
import { options } from './support/server.mjs'

const require = createRequire(import.meta.url)

/** Whether this build panics where a test asks for it: builds with debug assertions do. */
function canPanic(): boolean {
  const addon = Object.keys(require.cache).find((path) => path.endsWith('.node'))
  assert.ok(addon, 'the addon is loaded')
  return readFileSync(addon).includes('CARILLON_TEST_PANIC')
}

/** Runs the program with a panic at these points and hears what it makes of it. */
async function panicking(test: import('./support/server.mjs').Scope, ...points: string[]): Promise<Record<string, unknown>> {
  // Without backtraces: what does not fit into the pipe at once is lost, since Node makes it non-blocking.
  const child = new Child(test, 'panicking', [], [], { CARILLON_TEST_PANIC: points.join(';'), RUST_BACKTRACE: '0' })
  const told = await child.hear('done')
  child.tell('end')
  const { code, signal, stderr } = await child.exit()
  assert.deepEqual([code, signal], [0, null], stderr)
  for (const point of points) assert.ok(stderr.includes(`the test asks for a panic at "${point}"`), `${point} was reached: ${stderr}`)
  return told
}

describe('a panic', { skip: canPanic() ? false : 'this build has no points to panic at' }, () => {
  it('in a method throws ERR_INTERNAL, and the next call works', async (test) => {
    const { thrown, again } = await panicking(test, 'getStats')
    assert.deepEqual(thrown, { getStats: 'ERR_INTERNAL' })
    assert.equal(again, 'works')
  })

  it('in any method throws ERR_INTERNAL', async (test) => {
    const methods = ['getMetrics', 'getHealthStatus', 'isUserConnected', 'broadcastToAll', 'broadcastBillUpdate', 'sendUserNotification', 'state', 'runtimeConfig.get', 'on', 'configure', 'metricsText']
    const { thrown } = await panicking(test, ...methods)
    assert.deepEqual(thrown, Object.fromEntries(methods.map((method) => [method, 'ERR_INTERNAL'])))
  })

  it('in the constructor throws ERR_INTERNAL', async (test) => {
    const { thrown } = await panicking(test, 'constructor')
    assert.deepEqual(thrown, { constructor: 'ERR_INTERNAL' })
  })

  it('in a shard restarts it', async (test) => {
    const { errors, again } = await panicking(test, 'a shard')
    assert.deepEqual(errors, ['ERR_INTERNAL'])
    assert.equal(again, 'works')
  })

  for (const point of ['a handshake', 'a pending handshake']) {
    it(`in ${point} whose user is being looked up costs that handshake`, async (test) => {
      const { refused, again } = await panicking(test, point)
      assert.equal(refused, 1)
      assert.equal(again, 'works')
    })
  }

  it('in the answer to an upgrade request costs one handshake', async (test) => {
    const { refused, again } = await panicking(test, 'an upgrade request')
    assert.equal(refused, 1)
    assert.equal(again, 'works')
  })

  it('in the upgrade listener costs one handshake', async (test) => {
    const { refused, again } = await panicking(test, 'an upgrade')
    assert.equal(refused, 1)
    assert.equal(again, 'works')
  })

  it('in a delivery costs one event or call', async (test) => {
    const { again } = await panicking(test, 'a delivery', 'deliveries')
    assert.equal(again, 'works')
  })

  it('in the function that settles hooks costs one call', async (test) => {
    const { refused, again } = await panicking(test, 'carillonSettle')
    assert.equal(refused, 1)
    assert.equal(again, 'works')
  })
})

describe('a class called like a function', () => {
  it('is a TypeError and wraps nothing', () => {
    const call = WebSocketService as unknown as (this: unknown, given?: object) => unknown
    const receivers: unknown[] = [undefined, null, globalThis, {}, { WebSocketService }, 1]
    for (const receiver of receivers) {
      assert.throws(() => Reflect.apply(call, receiver, [options()]), { name: 'TypeError', code: 'ERR_CONSTRUCT_CALL_REQUIRED', message: /'new'/ })
    }
    assert.throws(() => (require('carillon') as { WebSocketService: () => unknown }).WebSocketService(), { name: 'TypeError' })
    assert.equal(new WebSocketService(options()).state, 'stopped')
  })

  it('may be extended', () => {
    class Mine extends WebSocketService {
      readonly mine = true
    }
    const mine = new Mine(options())
    assert.ok(mine instanceof WebSocketService && mine.mine && mine.getStats().uniqueUsers === 0)
  })
})

describe('getters', () => {
  const service = new WebSocketService(options())
  const wrong: Array<[method: 'isUserConnected' | 'getConnectionCount' | 'getUserSubscriptions' | 'getBillSubscribers', name: string, values: unknown[]]> = [
    ['isUserConnected', 'userId', [42, true, {}, [], () => {}, 7n, Symbol('s')]],
    ['getConnectionCount', 'userId', [42, true, {}, ['ann'], () => {}, 7n, Symbol('s')]],
    ['getUserSubscriptions', 'userId', [42, false, {}, [], () => {}, 7n, Symbol('s')]],
    ['getBillSubscribers', 'billId', ['42', true, {}, [1], () => {}, 7n, Symbol('s')]],
  ]
  for (const [method, name, values] of wrong) {
    it(`${method}() refuses arguments of the wrong kind`, () => {
      for (const value of values) {
        assert.throws(() => service[method](value as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: new RegExp(`"${name}"`) }, typeof value)
      }
    })
  }

  it('answer for no user and for an unknown one alike', () => {
    for (const user of [undefined, null, '', 'nobody'] as never[]) {
      assert.deepEqual([service.isUserConnected(user), service.getConnectionCount(user), service.getUserSubscriptions(user)], [false, 0, []])
    }
    for (const bill of [undefined, null, 0, -1, 1.5, NaN, Infinity, 2 ** 53, 4711] as never[]) assert.deepEqual(service.getBillSubscribers(bill), [])
  })
})

describe('an error in another realm', () => {
  it('has the name and the code by which it is recognised, since its class is the main realm\'s', () => {
    const realm = createContext({ service: new WebSocketService(options()), WebSocketService })
    const caught = (code: string): unknown =>
      runInContext(`try { ${code} } catch (error) { ({ name: error.name, code: error.code, isTypeError: error instanceof TypeError }) }`, realm)
    const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
    assert.deepEqual(plain(caught('service.isUserConnected(42)')), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', isTypeError: false })
    assert.deepEqual(plain(caught('new WebSocketService({ pathh: 1 })')), { name: 'TypeError', code: 'ERR_INVALID_OPTION', isTypeError: false })
    assert.deepEqual(plain(caught("service.runtimeConfig.set('MESSAGE_BATCH_SIZE', -1)")), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', isTypeError: false })
    assert.deepEqual(plain(caught('new WebSocketService().initialize({ on() {} })')), { name: 'Error', code: 'ERR_NO_JWT_SECRET', isTypeError: false })
  })
})

describe('a call during which the application is asked', () => {
  it('may be re-entered', (test) => {
    const service = new WebSocketService()
    const { memoryUsage } = process
    const secret = process.env['JWT_SECRET']
    test.after(() => {
      process.memoryUsage = memoryUsage
      if (secret === undefined) delete process.env['JWT_SECRET']
      else process.env['JWT_SECRET'] = secret
    })
    let depth = 0
    process.memoryUsage = Object.assign((): NodeJS.MemoryUsage => {
      depth += 1
      if (depth === 1) {
        service.configure(options())
        assert.equal(service.getHealthStatus().status, 'healthy')
        assert.equal(service.forceMemoryAnalysis().warnings.length, 0)
      }
      return memoryUsage()
    }, { rss: memoryUsage.rss })
    assert.ok(service.forceMemoryAnalysis())
    depth = 0
    assert.ok(service.getHealthStatus())
    depth = 0
    const reentrant = { get update() { service.configure(options()); service.on('error', () => {}); return 1 } }
    service.broadcastToAll({ type: 'a', data: reentrant })
    service.configure(Object.defineProperty({ ...options() }, 'path', { enumerable: true, get: () => { service.configure(options()); return '/ws' } }))
    const runtime = service.runtimeConfig
    assert.equal(service.runtimeConfig, runtime)
    assert.equal(service.listenerCount('error'), 1)
  })
})
