// Every code block of the documentation has a verdict: it is compiled and run, or read by the program it is meant for. How a page
// says what its blocks need: `support/examples.mts`. Examples of the wire: `wire-document.spec.mts`. Tables: `docs-tables.spec.mts`.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Workshop, examples, isCode, pages, type Example } from './support/examples.mjs'
import { ROOT } from './support/tools.mjs'
import { verify } from './support/verdicts.mjs'

/** By page, heading and language: blocks that nothing here can check, and why. */
const UNCHECKED: Record<string, string> = {
  'README.md#Carillon text': 'a picture',
  'docs/guide.md#How it works text': 'a picture',
  'docs/deployment.md#Containers dockerfile': 'no program of the registries reads it but Docker',
  'docs/deployment.md#systemd ini': 'no program of the registries reads it but systemd',
}

/** Blocks with a spec of their own. */
const ELSEWHERE: Record<string, (example: Example) => boolean> = {
  'wire-document.spec': ({ page, info }) => page === 'docs/client.md' && ['json client', 'json service', 'js call'].includes(info),
  'bundlers.spec': ({ page }) => page === 'docs/recipes/bundling.md',
  'recipes.spec': (example) => (isCode(example) && example.needsNeighbours) || example.language === 'yaml',
  'docs-proxies.spec': ({ language }) => ['nginx', 'haproxy', 'caddy'].includes(language),
  'docs-runners.spec': ({ setup }) => ['jest', 'vitest'].includes(setup),
}

/** What is not compiled. */
const READERS: Record<string, (example: Example) => void> = {
  sh: ({ text }) => readsAsShell(text),
  json: ({ text }) => void JSON.parse(text),
  diff: ({ text }) => text.split('\n').forEach((line) => assert.match(line, /^[-+ ]/)),
}

const nameOf = ({ page, heading, language }: Example): string => `${page}#${heading} ${language}`
const found = pages().flatMap((page) => examples(page))
const own = found.filter((example) => !Object.values(ELSEWHERE).some((matches) => matches(example)))

/** Whether something in this file looks at the block. */
function hasVerdict(example: Example): boolean {
  return isCode(example) || example.language in READERS || nameOf(example) in UNCHECKED
}

describe('the code blocks of the documentation', { timeout: 280_000, concurrency: 2 }, () => {
  let workshop: Workshop
  before(async () => {
    workshop = await Workshop.open(own.filter(isCode), { withNeighbours: false })
  })
  after(() => workshop.close())

  it('have a verdict each', () => {
    assert.deepEqual(own.filter((example) => !hasVerdict(example)).map(nameOf), [])
    assert.deepEqual(Object.keys(UNCHECKED).filter((name) => !own.some((example) => nameOf(example) === name)), [], 'listed, but not there')
    assert.ok(own.filter(isCode).length > 30, 'programs were found')
    for (const spec of Object.keys(ELSEWHERE)) assert.ok(existsSync(join(ROOT, `__test__/${spec}.mts`)), spec)
  })

  for (const example of own.filter((candidate) => !(nameOf(candidate) in UNCHECKED) && hasVerdict(candidate))) {
    it(`${example.page}:${example.line} (${example.heading})`, async () => {
      if (isCode(example)) await verify(example, workshop)
      else READERS[example.language]?.(example)
    })
  }
})

describe('a block that is wrong', { timeout: 200_000 }, () => {
  const fence = (info: string, text: string): string => `\`\`\`${info}\n${text}\n\`\`\``
  const page = (text: string): Example => {
    const [example] = examples('docs/broken.md', `## Broken\n\n${text}\n`)
    assert.ok(example)
    return example
  }
  const SERVER = "import { createServer } from 'node:http'\nconst server = createServer((request, response) => response.end()).listen(0, () => console.log(server.address()))"
  const cases: Record<string, Example> = {
    'does not compile': page(`<!-- example: alone -->\n${fence('js', 'const count: number = "three"')}`),
    'calls what does not exist': page(`<!-- example: running -->\n${fence('js', 'service.broadcastBill(42)')}`),
    throws: page(`<!-- example: running -->\n${fence('js', "service.runtimeConfig.set('DEDUPE_WINDOW', -1)")}`),
    'does something else than its check says': page(`<!-- example: running\nassert.equal(service.getConnectionCount('ann'), 2) -->\n${fence('js', 'service.cleanup()')}`),
    'is a program that serves no client': page(fence('js', SERVER)),
  }
  let workshop: Workshop
  before(async () => {
    for (const [index, example] of Object.values(cases).entries()) example.id = `broken-${index}`
    workshop = await Workshop.open(Object.values(cases), { withNeighbours: false })
  })
  after(() => workshop.close())

  for (const [what, example] of Object.entries(cases)) it(`fails: it ${what}`, () => assert.rejects(verify(example, workshop)))

  it('fails: its language is known to no test', () => assert.equal(hasVerdict(page(fence('cobol', 'STOP RUN.'))), false))

  it('fails: its command is none', () => {
    assert.throws(() => readsAsShell('npm run no-such-script'), /no-such-script/)
    assert.throws(() => readsAsShell('node examples/no-such-file.mjs'), /no-such-file/)
    if (process.platform !== 'win32') assert.throws(() => readsAsShell('for'), /syntax/)
  })
})

/** Bash parses it, and the scripts and files of the repository that it names exist. */
function readsAsShell(text: string): void {
  if (process.platform !== 'win32') {
    const { status, stderr } = spawnSync('bash', ['-n'], { input: text, encoding: 'utf8' })
    assert.equal(status, 0, stderr)
  }
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  for (const [, name = ''] of text.matchAll(/npm run ([\w:-]+)/g)) assert.ok(name in scripts, `there is no script ${name}`)
  for (const [, name = ''] of text.matchAll(/(?:^|\s)((?:scripts|examples|bench)\/[\w./-]+)/g)) assert.ok(existsSync(join(ROOT, name)), `there is no ${name}`)
}
