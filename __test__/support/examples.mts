// The code blocks of the documentation: what each must do, and the programs that are made of them.
//
// A block of TypeScript or JavaScript is compiled under strict settings and run. Without a comment it is a whole program: it starts
// a server, prints the port, delivers to a client, and ends in order on SIGTERM. An HTML comment before the block says otherwise:
//
//     <!-- example: SETUP
//     check -->
//
// SETUP is a file of `__test__/documents/`: the block takes the place of its line `// example`, the check (TypeScript, may be absent)
// that of `// check`. After `example: program` the check runs beside the program, whose port it is given; `example: program in FOLDER`
// runs it in a folder that `FOLDERS` describes. A block that cannot be checked is in the list UNCHECKED of `docs.spec.mts`.

import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import { blocks, type Block } from './markdown.mjs'
import { NEIGHBOURS } from './neighbours.mjs'
import { ROOT } from './tools.mjs'

const execute = promisify(execFile)

export interface Example extends Block {
  page: string
  language: string
  /** Of the files made for it, without an ending. */
  id: string
  setup: string
  /** The folder in which it runs, inside of the workshop. */
  cwd: string
  check: string
  /** Whether it imports a library that is installed on demand. */
  needsNeighbours: boolean
}

const CODE = ['js', 'ts', 'tsx']

/** Applications that a program expects in its folder. */
const FOLDERS: Record<string, Record<string, string>> = {
  'next-application': {
    'package.json': '{ "private": true }',
    'next.config.js': `module.exports = { turbopack: { root: ${JSON.stringify(NEIGHBOURS)} } }`,
    'pages/index.js': "import { createElement } from 'react'\nexport default () => createElement('p', null, 'rendered by next')",
  },
}
/** Installed with the project. */
const PRESENT = /^(node:|carillon$|carillon-client(\/react)?$|express$|fastify$|jsonwebtoken$|pino$|react$|undici$|winston$|ws$|\.)/

export function pages(): string[] {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true }) as string[]
  return ['README.md', 'client/README.md', ...docs.filter((name) => name.endsWith('.md')).map((name) => `docs/${name.replaceAll('\\', '/')}`).sort()]
}

export function examples(page: string, markdown = readFileSync(join(ROOT, page), 'utf8')): Example[] {
  return blocks(markdown).map((block) => {
    const [language = ''] = block.info.split(' ')
    const [, setup = 'program', cwd = '.', check = ''] = /^example: (\S+)(?: in (\S+))?\n?([\s\S]*)$/.exec(block.comment) ?? []
    const imported = [...`${block.text}\n${check}`.matchAll(/(?:\bfrom |\bimport |\bimport\(|\brequire\()'([^']+)'/g)].map(([, name]) => name ?? '')
    return {
      ...block,
      page,
      language,
      id: `${page.replace(/^docs\//, '').replace(/\.md$/, '').replace(/[^a-zA-Z]+/g, '-').toLowerCase()}-${block.line}`,
      setup,
      cwd,
      check,
      needsNeighbours: imported.some((name) => !PRESENT.test(name)),
    }
  })
}

/** Whether the block is compiled: others are read by programs of their own. */
export function isCode({ language, info }: Example): boolean {
  return CODE.includes(language) && info !== 'js call'
}

/** A folder in which the examples can be run, with what the compiler says about each. */
export class Workshop {
  readonly folder: string
  readonly #errors = new Map<string, string[]>()

  private constructor(parent: string) {
    mkdirSync(parent, { recursive: true })
    this.folder = mkdtempSync(join(parent, 'docs-'))
    mkdirSync(join(this.folder, 'node_modules'))
    symlinkSync(ROOT, join(this.folder, 'node_modules/carillon'), 'junction')
    writeFileSync(join(this.folder, 'package.json'), '{ "type": "module" }')
    for (const [name, files] of Object.entries(FOLDERS)) {
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(dirname(join(this.folder, name, path)), { recursive: true })
        writeFileSync(join(this.folder, name, path), text)
      }
    }
    for (const name of ['cert.pem', 'key.pem']) copyFileSync(join(ROOT, '__test__/support/tls', name), join(this.folder, name))
  }

  static async open(found: Example[], { withNeighbours }: { withNeighbours: boolean }): Promise<Workshop> {
    const workshop = new Workshop(withNeighbours ? NEIGHBOURS : join(ROOT, 'target'))
    const files = found.filter(isCode).flatMap((example) => workshop.#write(example))
    await workshop.#compile(files, withNeighbours)
    return workshop
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** What the compiler says about the files of an example. */
  errorsOf(example: Example): string[] {
    return this.#errors.get(example.id) ?? []
  }

  /** The compiled program of an example, or of its check. */
  path(example: Example, part: '' | '.check' = ''): string {
    const inner = relative(ROOT, this.folder)
    return join(this.folder, 'out', inner, `${example.id}${part}.${example.language === 'tsx' ? 'js' : 'mjs'}`)
  }

  #write(example: Example): string[] {
    const ending = example.language === 'tsx' ? 'tsx' : 'mts'
    // Ports that a reader would choose are free ones here.
    const text = example.text.replace(/(\.listen\(|\bport: )\d+/g, '$10')
    if (example.setup !== 'program') return [this.#file(`${example.id}.${ending}`, this.#fill(example.setup, text, example.check))]
    return [this.#file(`${example.id}.${ending}`, text), this.#file(`${example.id}.check.mts`, this.#fill('program', '', example.check))]
  }

  #file(name: string, text: string): string {
    writeFileSync(join(this.folder, name), text)
    return name
  }

  #fill(setup: string, text: string, check: string): string {
    const support = relative(this.folder, join(ROOT, '__test__/support')).replaceAll('\\', '/')
    const template = readFileSync(join(ROOT, '__test__/documents', `${setup}.mts`), 'utf8').replaceAll("'../support/", `'${support}/`)
    // What an example imports by itself, the setup need not.
    const theirs = (line: string, name: string): string => (text.includes(`from '${name}'`) && (setup === 'alone' || name === 'carillon') ? '' : line)
    return template.replace(/^import .* from '([^']+)'\n/gm, theirs).replace(/^\/\/ example$/m, () => text).replace(/^\/\/ check$/m, () => check)
  }

  /** One program of all files; each error belongs to the example whose file it is in. */
  async #compile(files: string[], withNeighbours: boolean): Promise<void> {
    const compilerOptions = {
      // The types of Next want the resolution of bundlers.
      ...(withNeighbours ? { module: 'esnext', moduleResolution: 'bundler' } : { module: 'nodenext' }), target: 'es2023', lib: ['es2023', 'dom', 'dom.iterable'], types: ['node'], jsx: 'react-jsx',
      strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, experimentalDecorators: true, skipLibCheck: true,
      rootDir: ROOT, outDir: 'out', noEmitOnError: false,
    }
    writeFileSync(join(this.folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
    const output = await execute(process.execPath, [tsc, '-p', '.', '--pretty', 'false'], { cwd: this.folder, maxBuffer: 1 << 24 })
      .then(({ stdout }) => stdout, ({ stdout, stderr }: { stdout: string; stderr: string }) => stdout + stderr)
    for (const line of output.split('\n')) {
      const [, name] = /^([^(]+)\(\d+,\d+\): error/.exec(line) ?? []
      if (name === undefined) continue
      const id = basename(name).replace(/(\.check)?\.[a-z]+$/, '')
      this.#errors.set(id, [...(this.#errors.get(id) ?? []), line])
    }
    if (files.length > 0 && this.#errors.size === 0 && /error TS/.test(output)) throw new Error(output)
    mkdirSync(join(this.folder, 'out'), { recursive: true })
    copyFileSync(join(this.folder, 'package.json'), join(this.folder, 'out/package.json'))
  }
}
