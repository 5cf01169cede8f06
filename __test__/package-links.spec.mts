// The package stands alone: every link and picture of what npm packs leads somewhere, from npm's page and from node_modules.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { before, describe, it } from 'node:test'
import { anchors, links } from './support/markdown.mjs'
import { ROOT, npm } from './support/tools.mjs'

interface Manifest {
  homepage: string
  repository: { type: string; url: string }
  bugs: { url: string }
}

const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest
const HOME = 'https://github.com/carillon-ws/carillon'
/** Where files of the repository are seen, as pages and as they are. */
const OWN = [`${HOME}/blob/main/`, 'https://raw.githubusercontent.com/carillon-ws/carillon/main/']

describe('the links of the packed package', () => {
  let packed: string[]

  before(async () => {
    const [report] = JSON.parse(await npm(['pack', '--dry-run', '--json'])) as [{ files: { path: string }[] }]
    packed = report.files.map(({ path }) => path)
  })

  it('name its home, its sources and where to report a fault', () => {
    assert.deepEqual(
      [manifest.homepage, manifest.repository, manifest.bugs],
      [`${HOME}#readme`, { type: 'git', url: `git+${HOME}.git` }, { url: `${HOME}/issues` }],
    )
  })

  it('lead to packed files and their headings, or to files of the repository', () => {
    const broken: string[] = []
    let seen = 0
    for (const file of packed.filter((path) => path.endsWith('.md'))) {
      for (const link of links(readFileSync(join(ROOT, file), 'utf8'))) {
        seen++
        const fault = faultOf(file, link)
        if (fault) broken.push(`${file}: ${link}: ${fault}`)
      }
    }
    assert.deepEqual(broken, [])
    assert.ok(seen > 20, `only ${seen} links were found`)
  })

  it('of other pages lead somewhere', () => {
    const listed = ['ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md', 'bench/README.md', 'client/README.md', 'examples/demo/README.md', 'examples/monitoring/README.md']
    const broken = listed.flatMap((file) => links(readFileSync(join(ROOT, file), 'utf8')).map((link) => ({ file, link })).filter(({ link }) => {
      if (/^[a-z]+:/.test(link)) return faultOf(file, link) !== undefined
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? file : posix.join(dirname(file), path)
      return !existsSync(join(ROOT, target)) || (anchor !== undefined && !anchors(readFileSync(join(ROOT, target), 'utf8')).has(anchor))
    }))
    assert.deepEqual(broken, [])
  })

  it('would be noticed if they were broken', () => {
    assert.equal(faultOf('README.md', 'bench/cpu.svg'), 'not packed')
    assert.equal(faultOf('README.md', '#no-such-heading'), 'no such heading')
    assert.equal(faultOf('README.md', `${OWN[0]}no/such/file.md`), 'not in the repository')
    assert.equal(faultOf('README.md', 'http://example.org'), 'not https')
    assert.equal(faultOf('docs/client.md', '../README.md#quick-start'), undefined)
  })

  function faultOf(file: string, link: string): string | undefined {
    const own = OWN.find((prefix) => link.startsWith(prefix))
    if (own) return existsSync(join(ROOT, link.slice(own.length).replace(/#.*/, ''))) ? undefined : 'not in the repository'
    if (/^[a-z]+:/.test(link)) return link.startsWith('https:') ? undefined : 'not https'
    const [path = '', anchor] = link.split('#')
    const target = path === '' ? file : posix.join(dirname(file), path)
    if (!packed.includes(target)) return 'not packed'
    if (anchor !== undefined && !anchors(readFileSync(join(ROOT, target), 'utf8')).has(anchor)) return 'no such heading'
    return undefined
  }
})
