// The licences of what is linked into a binary, as one text. From the sources of the crates, so that nothing is fetched.

import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { CommandFailed } from '../run.mjs'
import { linkedCrates } from './crates.mjs'
import { unwindLicence } from './zig.mjs'

const LICENCE_FILE = /^(?:licen[cs]e|copying|notice|unlicense)(?:[-._].*)?$/i
const RULE = '-'.repeat(100)

/** Linked into every binary, though it is no crate of a registry. */
const STANDARD_LIBRARY = {
  name: 'The Rust standard library',
  license: 'MIT OR Apache-2.0',
  repository: 'https://github.com/rust-lang/rust',
  texts: [mit('The Rust Project Contributors')],
}

/** What a binary says of itself if LLVM's unwinder, and not that of the system, is linked into it. */
const UNWINDER = 'libunwind: '

export async function noticesOf(target, binary) {
  const parts = [STANDARD_LIBRARY]
  if (readFileSync(binary).includes(UNWINDER)) parts.push(await unwinder())
  for (const crate of await linkedCrates(target)) parts.push({ ...crate, texts: textsOf(crate) })
  return notices(parts)
}

async function unwinder() {
  const texts = [await unwindLicence()]
  return { name: 'LLVM libunwind', license: 'Apache-2.0 WITH LLVM-exception', repository: 'https://github.com/llvm/llvm-project', texts }
}

/** Each text once, under the names of all that it applies to. */
export function notices(parts) {
  const byText = new Map()
  for (const part of parts) {
    for (const text of part.texts) {
      const key = text.replaceAll(/\s+/g, ' ')
      const { text: known = text, names = [] } = byText.get(key) ?? {}
      byText.set(key, { text: known, names: [...names, nameOf(part)] })
    }
  }
  return [
    'The binary of this package contains the following software.',
    parts.map((part) => `${nameOf(part)}: ${part.license}${part.repository ? `, ${part.repository}` : ''}`).join('\n'),
    ...[...byText.values()].map(({ text, names }) => `${RULE}\n${names.join(', ')}\n${RULE}\n\n${text.trim()}`),
    '',
  ].join('\n\n')
}

function nameOf({ name, version }) {
  return version === undefined ? name : `${name} ${version}`
}

/** The texts that apply: MIT's alone where that may be chosen, else all that the crate has. */
function textsOf(crate) {
  const files = readdirSync(crate.folder).filter((name) => LICENCE_FILE.test(name))
  const mayBeMit = /\bMIT\b/.test(crate.license) && !/\bAND\b/.test(crate.license)
  const chosen = mayBeMit && files.some(isMit) ? files.filter(isMit) : files
  const texts = [...chosen.map((name) => join(crate.folder, name)), ...vendored(crate.folder)].map((path) => readFileSync(path, 'utf8'))
  if (texts.length > 0) return texts
  if (mayBeMit) return [mit(crate.authors.length > 0 ? crate.authors.join(', ') : `The authors of ${crate.name}`)]
  throw new CommandFailed(`${nameOf(crate)} (${crate.license}) has no licence file`)
}

function isMit(file) {
  return /\bmit\b/i.test(file)
}

/** Of code that a crate has taken over. */
function vendored(folder) {
  const parts = join(folder, 'third_party')
  if (!existsSync(parts)) return []
  return readdirSync(parts, { recursive: true }).filter((name) => LICENCE_FILE.test(name.split(/[\\/]/).at(-1))).map((name) => join(parts, name))
}

function mit(holder) {
  return `MIT License

Copyright (c) ${holder}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
"Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR
ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH
THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`
}
