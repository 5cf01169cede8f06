// The tables of the documentation against the lists of the code: options, constants, errors, close codes, metrics, events, calls.

import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { BASE_CONFIG, WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { pages } from './support/examples.mjs'
import { codes, tables, type Table } from './support/markdown.mjs'
import { TestServer, options } from './support/server.mjs'
import { ROOT } from './support/tools.mjs'

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
const DECLARATIONS = read('index.d.ts')
const tablesOf = (page: string, ...headings: string[]): Table[] =>
  tables(read(page)).filter(({ heading }) => headings.includes(heading))
/** What stands in code font in the first column. */
const firsts = (found: Table[]): string[] => found.flatMap(({ rows }) => rows.flatMap(([first = '']) => codes(first)))

function declared(name: string): string {
  const body = new RegExp(`export (?:interface|declare class) ${name} \\{\\n([\\s\\S]*?)\\n\\}`).exec(DECLARATIONS)?.[1]
  assert.ok(body, `index.d.ts declares ${name}`)
  return body
}

describe('docs/configuration.md', () => {
  const OPTION_TABLES = tablesOf('docs/configuration.md', 'Tokens and users', 'Connections', 'Delivery', 'Process')
  /** Each with its comment. */
  const OPTIONS = [...declared('WebSocketServiceOptions').matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n {2}(\w+)\?:|^ {2}(\w+)\?:/gm)].map(
    ([, comment = '', documented, bare]) => ({ name: documented ?? bare ?? '', fallback: /@default ([\s\S]*?)$/.exec(comment.trim())?.[1]?.trim() }),
  )

  it('lists every option, and no other', () => {
    assert.deepEqual(firsts(OPTION_TABLES).sort(), OPTIONS.map(({ name }) => name).sort())
    for (const { name } of OPTIONS) new WebSocketService({ [name]: undefined } as WebSocketServiceOptions)
    assert.throws(() => new WebSocketService({ noSuchOption: undefined } as WebSocketServiceOptions), { code: 'ERR_INVALID_OPTION' })
  })

  it('says the default that the declaration says', () => {
    const said = new Map(OPTION_TABLES.flatMap(({ rows }) => rows.map(([first = '', second = '']) => [codes(first)[0], second.replaceAll('`', '')])))
    const compared = OPTIONS.filter(({ fallback }) => fallback !== undefined && /^['[\d]|^(true|false|max\(|unlimited|2 ×)/.test(fallback))
    assert.ok(compared.length > 20, 'defaults were found')
    const normal = (text = ''): string => text.replace(/ with a secret.*/s, '').trim()
    for (const { name, fallback } of compared) assert.equal(normal(said.get(name)), normal(fallback), name)
  })

  const CONSTANTS = rowsOf('Constants')
  const SETTINGS = rowsOf('Runtime configuration')

  it('lists the constants with their defaults', () => {
    assert.deepEqual(Object.fromEntries(CONSTANTS.map(({ name, fallback }) => [name, fallback])), { ...BASE_CONFIG })
  })

  it('lists the runtime configuration with its defaults', () => {
    assert.deepEqual(Object.fromEntries(SETTINGS.map(({ name, fallback }) => [name, fallback])), { ...new WebSocketService(options()).runtimeConfig.toObject() })
  })

  it('says the defaults of both as index.d.ts does', () => {
    const said = [...`${declared('BaseConfig')}\n${declared('RuntimeConfigValues')}`.matchAll(/@default (\d+) \*\/\n {2}(\w+): number/g)].map(([, value, name]) => [name, Number(value)])
    assert.deepEqual(said, [...CONSTANTS, ...SETTINGS].map(({ name, fallback }) => [name, fallback]))
  })

  // The two thresholds must not contradict each other.
  const COMPANIONS: Record<string, object> = { HIGH_MEMORY_THRESHOLD: { CRITICAL_MEMORY_THRESHOLD: 100 }, CRITICAL_MEMORY_THRESHOLD: { HIGH_MEMORY_THRESHOLD: 1 } }

  for (const { name, low, high } of CONSTANTS) {
    it(`says the bounds of ${name}`, () => {
      const make = (value: number): unknown => new WebSocketService({ base: { ...COMPANIONS[name], [name]: value } })
      for (const value of [low, high]) make(value)
      for (const value of [low - 1, high + 1]) assert.throws(() => make(value), { code: 'ERR_INVALID_OPTION' })
    })
  }

  for (const { name, low, high } of SETTINGS) {
    it(`says the bounds of ${name}`, () => {
      const { runtimeConfig } = new WebSocketService(options())
      const set = (value: number): void => runtimeConfig.set(name as never, value)
      for (const value of [low, high]) set(value)
      for (const value of [low - 1, high + 1]) assert.throws(() => set(value), { code: 'ERR_OUT_OF_RANGE' })
    })
  }

  it('lists the levels of degradation', () => {
    const levels = [...(/type DegradationLevel = (.*)/.exec(DECLARATIONS)?.[1] ?? '').matchAll(/'(\w+)'/g)].map(([, level]) => level)
    const [table] = tables(read('docs/configuration.md')).filter(({ columns }) => columns[0] === 'level')
    assert.deepEqual(['normal', ...firsts(table ? [table] : [])], levels)
  })

  function rowsOf(heading: string): Array<{ name: string; fallback: number; low: number; high: number }> {
    return tablesOf('docs/configuration.md', heading).flatMap(({ rows }) =>
      rows.map(([first = '', fallback = '', bounds = '']) => {
        const [low = NaN, high = NaN] = bounds.split('–').map(Number)
        return { name: codes(first)[0] ?? '', fallback: Number(fallback), low, high }
      }),
    )
  }
})

describe('docs/guide.md', () => {
  it('lists the events', () => {
    const events = [...declared('ServiceEvents').matchAll(/^ {2}(\w+)\(/gm)].map(([, name]) => name ?? '')
    assert.deepEqual(firsts(tablesOf('docs/guide.md', 'Events')).sort(), events.sort())
  })

  it('lists the codes of errors', () => {
    const sources = [...rustSources().map((path) => read(path).replace(/#\[cfg\(test\)\]\s*mod [\s\S]*/, '')), read('index.js')]
    const found = new Set(sources.flatMap((text) => [...text.matchAll(/["'`](ERR_[A-Z_]+|EADDRINUSE|EADDRNOTAVAIL|EACCES|ENOTFOUND)["'`]/g)].map(([, code]) => code ?? '')))
    found.delete('ERR_MODULE_NOT_FOUND')
    assert.deepEqual(firsts(tablesOf('docs/guide.md', 'Errors')).sort(), [...found].sort())
  })

  it('and its neighbours mention every method', () => {
    const methods = [...declared('WebSocketService').matchAll(/^ {2}(?:get )?(\w+)[<(]/gm)].map(([, name]) => name ?? '')
    const text = ['guide', 'monitoring', 'configuration'].map((page) => read(`docs/${page}.md`)).join('\n')
    const missing = [...new Set(methods)].filter((name) => !['constructor', 'get', 'getMaxListeners', 'setMaxListeners'].includes(name) && !text.includes(`\`${name}`) && !text.includes(`.${name}(`))
    assert.deepEqual(missing, [])
  })
})

describe('the calls in tables', () => {
  it('exist', () => {
    const service = new WebSocketService(options()) as unknown as Record<string, unknown>
    const calls = ['docs/guide.md', 'docs/monitoring.md'].flatMap((page) => firsts(tables(read(page)).filter(({ columns }) => columns[0] === 'call')))
    assert.ok(calls.length > 10)
    for (const call of calls) {
      const name = call.replace(/\(.*/, '')
      assert.equal(typeof service[name], call.includes('(') ? 'function' : 'string', call)
    }
  })
})

describe('docs/client.md', () => {
  const source = rustSources().map(read).find((text) => text.includes('pub enum CloseReason')) ?? ''

  it('lists the close codes with their reasons', () => {
    const rows = tablesOf('docs/client.md', 'Close codes').flatMap((table) => table.rows)
    // 1006 is what a client sees where no close frame came.
    assert.deepEqual(rows.filter(([code]) => code !== '1006').map(pair).sort(), closes(1001).sort())
  })

  it('lists the codes of refused handshakes', () => {
    const table = tablesOf('docs/client.md', 'Refused handshakes').filter(({ columns }) => columns[0] === 'code')
    assert.deepEqual(table.flatMap(({ rows }) => rows).map(pair).sort(), closes(4401).sort())
  })

  it('lists the messages of errors', () => {
    const listed = firsts(tablesOf('docs/client.md', 'error')).map((text) => text.replace('…', ''))
    const sources = rustSources().map(read).join('\n')
    assert.ok(listed.length >= 12)
    for (const text of listed) assert.ok(sources.includes(text), text)
  })

  function pair([code = '', reason = '']: string[]): string {
    return `${code} ${codes(reason)[0] ?? ''}`
  }

  /** The different pairs `code reason` of the enum that has this code. */
  function closes(known: number): string[] {
    const body = [...source.matchAll(/\nimpl \w+ \{[\s\S]*?\n\}/g)].map(([text]) => text).find((text) => text.includes(`=> ${known},`)) ?? ''
    const arms = (fn: string): Map<string, string> => {
      const text = new RegExp(`fn ${fn}\\([\\s\\S]*?\\n    \\}`).exec(body)?.[0] ?? ''
      return new Map([...text.matchAll(/((?:Self::\w+[\s|]*)+)=> "?([^",]*)"?,/g)].flatMap(([, left = '', right = '']) => [...left.matchAll(/Self::(\w+)/g)].map(([, variant]) => [variant ?? '', right] as const)))
    }
    const [numbers, texts] = [arms('code'), arms('text')]
    assert.ok(numbers.size > 3 && numbers.size === texts.size, `the enum of ${known} was not understood`)
    // Those of 1008 without a text differ in their cause only.
    return [...new Set([...numbers].map(([variant, code]) => `${code} ${texts.get(variant) ?? ''}`))]
  }
})

describe('metrics', () => {
  it('that are mentioned exist, with their labels', async (test) => {
    const site = await TestServer.open(test, { lookupUser: () => true })
    await site.connect('ann')
    const text = site.service.metricsText()
    let seen = 0
    for (const page of pages()) {
      for (const [whole, name = '', label] of read(page).matchAll(/`(carillon_[a-z_]+)(?:\{(\w+)\})?`/g)) {
        seen += 1
        assert.ok(text.includes(`# TYPE ${name} `), `${page}: ${whole}`)
        if (label !== undefined) assert.ok(new RegExp(`^${name}\\{[^}]*\\b${label}="`, 'm').test(text), `${page}: ${whole}`)
      }
    }
    assert.ok(seen >= 15, `${seen} metrics were found`)
  })
})

describe('figures', () => {
  it('of the README and docs/performance.md are in the results', () => {
    const results = read('bench/RESULTS.md')
    const cells = [...tablesOf('README.md', 'Three figures'), ...tablesOf('docs/performance.md', 'Performance')].flatMap(({ rows }) => rows.flatMap((row) => row.slice(1)))
    const numbers = cells.flatMap((cell) => cell.match(/\d[\d ]*(?:\.\d+)?/g) ?? []).map((number) => number.trim())
    assert.ok(numbers.length > 15)
    for (const number of numbers) assert.ok(results.includes(number), number)
  })
})

describe('client/README.md', () => {
  it('lists the options', () => {
    const source = read('client/src/client.ts')
    const body = /export interface ClientOptions \{\n([\s\S]*?)\n\}/.exec(source)?.[1] ?? ''
    const names = [...body.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name]) => name ?? '')
    const [table] = tables(read('client/README.md')).filter(({ columns }) => columns[0] === 'option')
    assert.deepEqual(firsts(table ? [table] : []).sort(), names.sort())
  })
})

describe('the language', () => {
  /** Metaphors and inversions of earlier texts: terms of the field say the same. */
  const AVOIDED = /\b(whoever|somebody|nobody|everybody|newcomers?|for want of|is told|are told|is to be mended|comes back|turned away|goes on|knocks?|tidy|courier)\b/i

  it('is plain', () => {
    const own = pages().filter((page) => !['docs/edge.md', 'docs/recipes/bundling.md', 'client/README.md'].includes(page))
    const found = own.flatMap((page) => read(page).split('\n').map((line, index) => ({ line, place: `${page}:${index + 1}` }))).filter(({ line }) => AVOIDED.test(line))
    assert.deepEqual(found.map(({ place, line }) => `${place}: ${AVOIDED.exec(line)?.[0]}`), [])
  })

  it('of the README fits one sitting', () => {
    assert.ok(read('README.md').trimEnd().split('\n').length <= 120)
  })
})

function rustSources(): string[] {
  return (readdirSync(join(ROOT, 'src'), { recursive: true }) as string[]).filter((name) => name.endsWith('.rs') && !/tests?(\.rs|[\\/])/.test(name)).map((name) => `src/${name}`)
}
