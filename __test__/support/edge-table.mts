// The tables of docs/edge.md: each cell is the title of a test. A title without a cell fails when it is made, a cell without a test at
// the end of the file that covers the table.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { it } from 'node:test'
import { plainTables } from './markdown.mjs'
import { TRANSPORT } from './server.mjs'
import { ROOT } from './tools.mjs'

export const EDGE_DOCUMENT = `${ROOT}/docs/edge.md`

export class EdgeTable {
  readonly heading: string
  readonly #cells = new Map<string, boolean>()

  /** The table under this heading. */
  constructor(heading: string) {
    this.heading = heading
    const found = plainTables(readFileSync(EDGE_DOCUMENT, 'utf8')).filter((table) => table.heading === heading)
    assert.equal(found.length, 1, `docs/edge.md has one table under "${heading}"`)
    for (const { columns, rows } of found) {
      for (const [row = ''] of rows) for (const column of columns.slice(1)) this.#cells.set(`${row} | ${column}`, false)
    }
  }

  /** The title of the test of a cell. */
  cell(row: string, column: string): string {
    const title = `${row} | ${column}`
    assert.ok(this.#cells.has(title), `docs/edge.md has no cell "${title}" under "${this.heading}"`)
    this.#cells.set(title, true)
    return title
  }

  /** To be called last. */
  complete(): void {
    // Where every socket stays with Node, none is taken over.
    const isPossible = (title: string): boolean => TRANSPORT === 'auto' || !title.endsWith('| sockets taken over')
    const missing = [...this.#cells].filter(([title, isTested]) => !isTested && isPossible(title)).map(([title]) => title)
    it(`each cell under "${this.heading}" has a test`, () => assert.deepEqual(missing, []))
  }
}
