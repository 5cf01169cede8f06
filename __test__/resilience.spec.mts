// What the service does when the application's hooks fail: tries again where that is safe, then leaves them alone.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { TestServer, withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

/** Rejects as often as configured, then answers. */
function failing(times: number): { lookupUser: () => Promise<boolean>; calls: () => number } {
  let calls = 0
  const lookupUser = async (): Promise<boolean> => {
    calls += 1
    if (calls <= times) throw new Error('the database is away')
    return true
  }
  return { lookupUser, calls: () => calls }
}

describe('retries', () => {
  it('ask lookupUser again when it fails, and let the user in', async (test) => {
    const { lookupUser, calls } = failing(2)
    const site = await TestServer.open(test, { lookupUser })
    await site.connect('ann')
    assert.equal(calls(), 3)
  })

  it('give up after two, with 401', async (test) => {
    const { lookupUser, calls } = failing(Infinity)
    const site = await TestServer.open(test, { lookupUser })
    assert.equal(await site.status(tokenOf('ann')), 401)
    assert.equal(calls(), 3)
  })

  it('stay within the time a look-up has', async (test) => {
    const { lookupUser, calls } = failing(Infinity)
    const site = await TestServer.open(test, { lookupUser, lookupTimeout: 20 })
    assert.equal(await site.status(tokenOf('ann')), 401)
    assert.equal(calls(), 1)
  })

  it('never repeat an answer: false is one', async (test) => {
    let calls = 0
    const site = await TestServer.open(test, { lookupUser: () => ++calls < 0 })
    assert.equal(await site.status(tokenOf('ann')), 401)
    assert.equal(calls, 1)
  })

  it('never save twice', async (test) => {
    let saved = 0
    const save = async (): Promise<void> => {
      saved += 1
      throw new Error('disk full')
    }
    const site = await TestServer.open(test, { preferences: { load: () => ({}), save } })
    const client = await site.connect('ann')
    client.send('update_preferences', { preferences: { a: 1 } })
    assert.equal((await client.take('error'))['message'], 'Failed to update preferences')
    assert.equal(saved, 1)
  })

  it('load preferences again', async (test) => {
    let loads = 0
    const load = async (): Promise<object> => {
      loads += 1
      if (loads === 1) throw new Error('hiccup')
      return { theme: 'dark' }
    }
    const site = await TestServer.open(test, { preferences: { load, save: () => {} } })
    const client = await site.connect('ann')
    client.send('get_preferences')
    assert.deepEqual((await client.take('preferences'))['data'], { theme: 'dark' })
    assert.equal(loads, 2)
  })
})

describe('the circuit breaker', () => {
  it('answers 503 with Retry-After at once when lookupUser has failed for five users in a row', async (test) => {
    let calls = 0
    const lookupUser = (): boolean => {
      calls += 1
      throw new Error('gone')
    }
    // No time for retries: each handshake is one call.
    const site = await TestServer.open(test, { lookupUser, lookupTimeout: 40 })
    for (let count = 0; count < 5; count += 1) assert.equal(await site.status(tokenOf(`user-${count}`)), 401)
    const { response } = await site.requestUpgrade(withToken(tokenOf('ann')))
    assert.equal(response.status, 503)
    assert.match(response.headers['retry-after'] ?? '', /^[1-5]$/)
    assert.equal(calls, 5)
  })

  it('stays closed for answers, however many say no', async (test) => {
    const site = await TestServer.open(test, { lookupUser: () => false })
    for (let count = 0; count < 25; count += 1) assert.equal(await site.status(tokenOf('ann')), 401)
  })

  it('stays closed for the others when the look-up of one user always throws', async (test) => {
    const lookupUser = (user: string): boolean => {
      if (user === 'broken') throw new Error('a row that cannot be read')
      return true
    }
    const site = await TestServer.open(test, { lookupUser, lookupTimeout: 40, runtime: { MAX_CONNECTIONS_PER_USER: 100 } })
    for (let count = 0; count < 30; count += 1) {
      assert.equal(await site.status(tokenOf('broken')), 401)
      if (count % 10 === 9) assert.equal(await site.status(tokenOf(`user-${count}`)), 101)
    }
  })

  it('opens when lookupUser does not answer in time, even for one user', async (test) => {
    const site = await TestServer.open(test, { lookupUser: () => new Promise(() => {}), lookupTimeout: 20 })
    for (let count = 0; count < 5; count += 1) assert.equal(await site.status(tokenOf('ann')), 401)
    assert.equal(await site.status(tokenOf('bob')), 503)
  })

  it('can be switched off', async (test) => {
    let calls = 0
    const lookupUser = (): boolean => {
      calls += 1
      throw new Error('gone')
    }
    const site = await TestServer.open(test, { lookupUser, lookupTimeout: 40, circuitBreaker: false })
    for (let count = 0; count < 12; count += 1) assert.equal(await site.status(tokenOf(`user-${count}`)), 401)
    assert.equal(calls, 12)
    assert.match(site.service.metricsText(), /carillon_circuit_breaker_state\{hook="lookupUser"\} 0/)
  })

  it('opens for one hook alone, and says so to who asks', async (test) => {
    let saves = 0
    const save = (): void => {
      saves += 1
      throw new Error('disk full')
    }
    const site = await TestServer.open(test, { preferences: { load: () => ({ a: 1 }), save } })
    for (let count = 0; count < 6; count += 1) {
      const other = await site.connect(`user-${count}`)
      other.send('update_preferences', { preferences: {} })
      assert.equal((await other.take('error'))['message'], 'Failed to update preferences')
    }
    assert.equal(saves, 5)
    const client = await site.connect('ann')
    client.send('get_preferences')
    assert.deepEqual((await client.take('preferences'))['data'], { a: 1 })
  })
})
