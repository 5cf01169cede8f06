// The application's hooks: their results are what `await` makes of them, they run in the async context they were given in, and
// whatever they do, it stays with the one request.

import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, it } from 'node:test'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { Child } from './support/child.mjs'
import { TestServer, options } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

type Lookup = NonNullable<WebSocketServiceOptions['lookupUser']>

/** A function that is a thenable, too, as some query builders are. */
function callable(then: (resolve: (value: unknown) => void, reject: (reason: unknown) => void) => unknown): unknown {
  return Object.assign(() => 'a builder', { then })
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

class Foreign<T> extends Promise<T> {}

/** What a hook may return, and whether `await` makes something truthy of it. */
const results: Array<[name: string, admits: boolean, make: () => unknown]> = [
  ['a value', true, () => 1],
  ['a falsy value', false, () => 0],
  ['a function', true, () => () => false],
  ['a promise of a subclass', true, () => Foreign.resolve(true)],
  ['a promise of a subclass for a falsy value', false, () => Foreign.resolve('')],
  ['a callable thenable that resolves to a user', true, () => callable((resolve) => resolve({ id: 1 }))],
  ['a callable thenable that resolves to false', false, () => callable((resolve) => resolve(false))],
  ['a callable thenable that rejects', false, () => callable((_, reject) => reject(new Error('no')))],
  ['a thenable that resolves to a thenable for true', true, () => ({ then: (resolve: (value: unknown) => void) => resolve({ then: (again: (value: unknown) => void) => again(true) }) })],
  ['a thenable that resolves to a thenable for false', false, () => ({ then: (resolve: (value: unknown) => void) => resolve({ then: (again: (value: unknown) => void) => again(false) }) })],
  ['a thenable that resolves to a promise for false', false, () => ({ then: (resolve: (value: unknown) => void) => resolve(Promise.resolve(false)) })],
  ['a promise for a callable thenable for false', false, async () => callable((resolve) => resolve(false))],
  ['a thenable that settles twice, falsy first', false, () => ({ then: (resolve: (value: unknown) => void) => [resolve(null), resolve(true)] })],
  ['a thenable that rejects after it has resolved', true, () => ({ then: (resolve: (value: unknown) => void, reject: (reason: unknown) => void) => [resolve(true), reject(new Error('late'))] })],
  ['a thenable that throws after it has resolved', true, () => ({ then(resolve: (value: unknown) => void) { resolve(true); throw new Error('late') } })],
  ['a thenable that throws', false, () => ({ then() { throw new Error('odd') } })],
  ['a thenable that never settles', false, () => ({ then() {} })],
  ['an object whose "then" cannot be read', false, () => Object.defineProperty({}, 'then', { get() { throw new Error('odd') } })],
  ['an object whose "then" is no function', true, () => ({ then: 1 })],
  ['a proxy of an object', true, () => new Proxy({}, {})],
  ['a proxy of a promise', false, () => new Proxy(Promise.resolve(true), {})],
  ['a proxy that answers every question with a promise', false, () => new Proxy({}, { get: () => () => Promise.resolve(false) })],
  ['a revoked proxy', false, revoked],
]

/** Calls the hook for one handshake. */
async function statusWith(test: import('./support/server.mjs').Scope, lookupUser: Lookup, lookupTimeout: number): Promise<number> {
  const site = await TestServer.open(test, { lookupUser, lookupTimeout })
  return site.status(tokenOf('ann'))
}

describe('the result of lookupUser', () => {
  for (const [name, admits, make] of results) {
    it(`that is ${name} ${admits ? 'lets the user in' : 'refuses the user'}`, async (test) => {
      // A refusal may come from the deadline; an answer must not be lost to it.
      assert.equal(await statusWith(test, make, admits ? 15_000 : 200), admits ? 101 : 401)
    })
  }

  it('means the same when the application has replaced the methods of promises', async (test) => {
    const child = new Child(test, 'replacing')
    const { statuses } = await child.hear('done')
    child.tell('end')
    assert.equal((await child.exit()).code, 0)
    assert.deepEqual(statuses, { yes: 101, no: 401 })
  })

  it('that comes after the deadline is ignored, and its rejection ends nothing', async (test) => {
    const late: Array<() => void> = []
    const lookupUser = (): Promise<boolean> => new Promise((_, reject) => late.push(() => reject(new Error('too late'))))
    const site = await TestServer.open(test, { lookupUser, lookupTimeout: 20 })
    assert.equal(await site.status(tokenOf('ann')), 401)
    for (const reject of late) reject()
    assert.equal(await site.status(tokenOf('ann')), 401)
    assert.equal(site.service.getStats().totalConnections, 0)
  })
})

describe('preferences', () => {
  const loaded: Array<[name: string, make: () => unknown, data: unknown]> = [
    ['a callable thenable', () => callable((resolve) => resolve({ theme: 'dark' })), { theme: 'dark' }],
    ['a thenable for a thenable', () => ({ then: (resolve: (value: unknown) => void) => resolve({ then: (again: (value: unknown) => void) => again({ a: 1 }) }) }), { a: 1 }],
    ['an object with a toJSON', async () => ({ secret: 1, toJSON: () => ({ public: 2 }) }), { public: 2 }],
    ['half of a surrogate pair', () => ({ text: 'a\ud800b' }), { text: 'a\ud800b' }],
    ['null', () => null, null],
  ]
  for (const [name, load, data] of loaded) {
    it(`that load() gives as ${name} reach the client`, async (test) => {
      const site = await TestServer.open(test, { preferences: { load, save: () => {} } })
      const client = await site.connect('ann')
      client.send('get_preferences')
      assert.deepEqual((await client.take('preferences'))['data'], data)
    })
  }

  const unsendable: Array<[name: string, make: () => unknown]> = [
    ['a cycle', () => { const cycle: Record<string, unknown> = {}; return (cycle['self'] = cycle) }],
    ['nothing', () => undefined],
    ['a bigint', () => ({ n: 1n })],
    ['a toJSON that throws', () => ({ toJSON() { throw new Error('odd') } })],
    ['a revoked proxy', revoked],
  ]
  for (const [name, load] of unsendable) {
    it(`that cannot be sent, such as ${name}, are an error and not null`, async (test) => {
      const site = await TestServer.open(test, { preferences: { load, save: () => {} } })
      const client = await site.connect('ann')
      client.send('get_preferences')
      assert.equal((await client.take('error'))['message'], 'Failed to get preferences')
      assert.equal(client.received('preferences').length, 0)
    })
  }

  it('are stored when the callable thenable of save() resolves, and not when it rejects', async (test) => {
    const saved: unknown[] = []
    const save = (_user: string, preferences: Record<string, unknown>): unknown => {
      saved.push(preferences)
      return callable((resolve, reject) => (preferences['ok'] ? resolve(undefined) : reject(new Error('disk full'))))
    }
    const site = await TestServer.open(test, { preferences: { load: () => ({}), save } })
    const client = await site.connect('ann')
    client.send('update_preferences', { preferences: { ok: true } })
    assert.equal((await client.take('preferences_updated'))['data'].ok, true)
    client.send('update_preferences', { preferences: { ok: false } })
    assert.equal((await client.take('error'))['message'], 'Failed to update preferences')
    assert.deepEqual(saved, [{ ok: true }, { ok: false }])
  })

  it('call their hooks on the object that was given', async (test) => {
    const store = {
      kept: { theme: 'dark' } as Record<string, unknown>,
      load(): unknown { return this.kept },
      save(_user: string, preferences: Record<string, unknown>): void { this.kept = preferences },
    }
    const site = await TestServer.open(test, { preferences: store })
    const client = await site.connect('ann')
    client.send('update_preferences', { preferences: { theme: 'light' } })
    await client.take('preferences_updated')
    client.send('get_preferences')
    assert.deepEqual((await client.take('preferences'))['data'], { theme: 'light' })
    assert.deepEqual(store.kept, { theme: 'light' })
  })
})

describe('the async context of a hook', () => {
  it('is the one in which the options were given', async (test) => {
    const context = new AsyncLocalStorage<string>()
    const seen: Array<[hook: string, store: string | undefined]> = []
    const see = (hook: string): boolean => seen.push([hook, context.getStore()]) > 0
    const given: WebSocketServiceOptions = {
      lookupUser: async () => {
        await null
        return see('lookupUser')
      },
      preferences: { load: () => ({ then: (resolve: (value: unknown) => void) => resolve(see('load')) }), save: () => see('save') },
      logger: { info: () => see('logger') },
    }
    const service = context.run('construction', () => new WebSocketService(options(given)))
    const site = await context.run('initialisation', () => TestServer.open(test, { jwtSecret: 'unused, the service below takes its place' }))
    await site.service.shutdown()
    test.after(() => service.shutdown())
    service.initialize(site.http as never)
    const client = await site.connect('ann')
    client.send('get_preferences')
    await client.take('preferences')
    client.send('update_preferences', { preferences: { a: 1 } })
    await client.take('preferences_updated')
    await service.shutdown()
    assert.deepEqual(new Set(seen.map(([hook]) => hook)), new Set(['lookupUser', 'load', 'save', 'logger']))
    for (const [hook, store] of seen) assert.equal(store, 'construction', hook)
  })

  it('is that of configure() for the options it sets', async (test) => {
    const context = new AsyncLocalStorage<string>()
    let seen: string | undefined
    const site = await TestServer.open(test)
    await site.service.shutdown()
    context.run('configuration', () => site.service.configure(options({ lookupUser: () => Boolean((seen = context.getStore())) })))
    site.service.initialize(site.http as never)
    await site.connect('ann')
    assert.equal(seen, 'configuration')
  })
})

describe('hooks that never settle', () => {
  it('leave nothing behind once their deadline has passed', async (test) => {
    const lookupUser = (user: string): unknown => (user === 'ann' ? true : new Promise(() => {}))
    const site = await TestServer.open(test, { lookupUser, lookupTimeout: 500, circuitBreaker: false })
    const statuses = await Promise.all(Array.from({ length: 200 }, (_, index) => site.status(tokenOf(`user-${index}`))))
    assert.ok(statuses.every((status) => status === 401))
    while ((await site.status(tokenOf('ann'))) !== 101);
    assert.deepEqual(site.service.getAllConnectedUsers(), ['ann'])
  })
})
