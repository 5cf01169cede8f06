// The code blocks that need libraries which are installed on demand: the recipes of frameworks, and YAML.

import assert from 'node:assert/strict'
import { after, before, describe, it, type TestContext } from 'node:test'
import { Workshop, examples, isCode, pages } from './support/examples.mjs'
import { install, neighbour } from './support/neighbours.mjs'
import { MANDATORY } from './support/tools.mjs'
import { verify } from './support/verdicts.mjs'

const found = pages().flatMap((page) => examples(page))
const programs = found.filter((example) => isCode(example) && example.needsNeighbours && !['jest', 'vitest'].includes(example.setup))
const documents = found.filter(({ language }) => language === 'yaml')

describe('recipes', { timeout: 290_000, concurrency: 2 }, () => {
  let missing: string | undefined
  let workshop: Workshop | undefined
  before(async () => {
    missing = await install()
    if (MANDATORY) assert.equal(missing, undefined)
    if (missing === undefined) workshop = await Workshop.open(programs, { withNeighbours: true })
  })
  after(() => workshop?.close())

  const check = (name: string, action: (test: TestContext) => Promise<void>): void =>
    void it(name, async (test) => (missing === undefined ? action(test) : test.skip(missing)))

  it('are there', () => {
    assert.ok(programs.length >= 8, programs.map(({ page }) => page).join(' '))
    assert.ok(documents.length >= 2)
  })

  for (const example of programs) check(`${example.page}:${example.line} (${example.heading})`, () => verify(example, workshop as Workshop))

  for (const { page, line, heading, text } of documents) {
    check(`${page}:${line} (${heading})`, async () => {
      const { parseAllDocuments } = await neighbour('yaml')
      for (const document of parseAllDocuments(text)) assert.deepEqual([document.errors, document.warnings], [[], []])
      assert.ok(parseAllDocuments('a: [').some((document: { errors: unknown[] }) => document.errors.length > 0), 'what is no YAML is found')
    })
  }
})
