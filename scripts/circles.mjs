// `node scripts/circles.mjs`: finds files of src/ that import each other, directly or through others, and fails if there are any.
//
// An import is a path in a `use` or in code, resolved as Rust does: `crate`, `self`, `super`, names of child modules, and re-exports
// followed to the file that defines the name. A `mod` declaration alone imports nothing. Code for tests alone is passed over.

import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { CommandFailed, ROOT, main } from './run.mjs'

/** @returns {Map<string, string>} the text of each Rust file below `folder`, by its path from `root`. */
export function readSources(root = ROOT, folder = 'src') {
  const names = readdirSync(join(root, folder), { recursive: true }).filter((name) => name.endsWith('.rs'))
  return new Map(names.sort().map((name) => [`${folder}/${name.replaceAll('\\', '/')}`, readFileSync(join(root, folder, name), 'utf8')]))
}

/**
 * @param {Map<string, string>} sources
 * @returns {string[][]} the groups of files that import each other, each sorted.
 */
export function findCircles(sources) {
  return components(importsOf(sources))
}

/**
 * A shortest way from a file of the circle through others back to it.
 * @param {Map<string, string>} sources
 * @param {string[]} circle
 */
export function shortestWay(sources, circle) {
  const imports = importsOf(sources)
  const ways = circle.map((start) => {
    const queue = [[start]]
    const seen = new Set()
    for (const way of queue) {
      for (const next of imports.get(way.at(-1)) ?? []) {
        if (next === start) return [...way, start]
        if (!circle.includes(next) || seen.has(next)) continue
        seen.add(next)
        queue.push([...way, next])
      }
    }
    return []
  })
  return ways.filter((way) => way.length > 0).sort((one, other) => one.length - other.length)[0]
}

/** Which files each file imports, in any configuration. */
function importsOf(sources) {
  const imports = new Map()
  for (const files of configurations(withoutTestFiles(sources))) {
    const crate = readCrate(files)
    for (const [path, { references }] of crate.files) {
      const targets = references.flatMap(({ from, path: segments }) => resolve(crate, from, segments))
      const others = targets.filter((target) => target !== path)
      imports.set(path, new Set([...(imports.get(path) ?? []), ...others]))
    }
  }
  return imports
}

const DECLARATION = /((?:#\[[^\]]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?mod (\w+);/g

/** The `mod` declarations of other files: the attributes, the name, and the path without extension where the file is looked for. */
function declarations(path, text) {
  const own = path.replace(/\.rs$/, '')
  const folder = /\/(?:mod|lib|main)$/.test(own) ? own.slice(0, own.lastIndexOf('/')) : own
  return [...text.matchAll(DECLARATION)].map(([, attributes, name]) => ({ attributes, name, place: `${folder}/${name}` }))
}

function withoutTestFiles(sources) {
  const places = [...sources].flatMap(([path, text]) =>
    declarations(path, text).flatMap(({ attributes, place }) => (isForTests(attributes.replace(/\s/g, '')) ? [place] : [])),
  )
  return new Map([...sources].filter(([path]) => !places.some((place) => path === `${place}.rs` || path.startsWith(`${place}/`))))
}

function isForTests(attribute) {
  return /#\[cfg\([^\]]*\btest\b/.test(attribute) && !/not\(test/.test(attribute)
}

/** Files that stand in for others (`#[path]`) are looked at in a configuration of their own. */
function configurations(sources) {
  const replaced = [...sources].flatMap(([path, text]) =>
    declarations(path, text).flatMap(({ attributes, place }) => {
      const file = attributes.match(/#\[path = "([^"]+)"\]/)?.[1]
      return file ? [{ file: path.slice(0, path.lastIndexOf('/') + 1) + file, place }] : []
    }),
  )
  const usual = new Map([...sources].filter(([path]) => !replaced.some(({ file }) => file === path)))
  const others = replaced.map(({ file, place }) => {
    const rest = [...usual].filter(([path]) => path !== `${place}.rs` && !path.startsWith(`${place}/`))
    return new Map([...rest, [file, { text: sources.get(file), module: place }]])
  })
  return [usual, ...others]
}

/** The modules of the crate, what each brings into scope, and what each file refers to. */
function readCrate(sources) {
  const crate = { modules: new Map(), files: new Map() }
  const declare = (name, path) => {
    const known = crate.modules.get(name)
    if (known) known.files.add(path)
    else crate.modules.set(name, { files: new Set([path]), names: new Map(), globs: [] })
  }
  for (const [path, source] of sources) {
    const { text, module } = typeof source === 'string' ? { text: source, module: path } : source
    const name = moduleName(module)
    declare(name, path)
    const references = []
    crate.files.set(path, { references })
    scan(tokenize(text), name, {
      module: (inner) => declare(inner, path),
      use: (from, { segments, alias, isGlob }) => {
        references.push({ from, path: segments })
        const scope = crate.modules.get(from)
        if (isGlob) scope.globs.push(segments)
        else if (alias !== '_') scope.names.set(alias ?? segments.at(-1), segments)
      },
      path: (from, segments) => references.push({ from, path: segments }),
    })
  }
  return crate
}

/** `src/a/b.rs` and `src/a/b/mod.rs` are `crate::a::b`. */
function moduleName(path) {
  const parts = path.replace(/^src\//, '').replace(/\.rs$/, '').split('/')
  if (['mod', 'lib', 'main'].includes(parts.at(-1))) parts.pop()
  return ['crate', ...parts].join('::')
}

/** Words, `::`, braces and what else matters; comments and literals are left out, and so is code for tests alone. */
function tokenize(text) {
  const pattern = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|b?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\[^\n]{1,10}?|[^'\\])'|'\w+|\w+|::|[{}()[\];,*#!=]/g
  const tokens = [...text.matchAll(pattern)].map(([token]) => token).filter((token) => !/^(?:\/[/*]|b?r?#*["'])/.test(token))
  return withoutTests(tokens)
}

function withoutTests(tokens) {
  const kept = []
  for (let at = 0; at < tokens.length; at++) {
    const start = tokens[at] === '#' && tokens[at + 1] === '[' ? at : -1
    if (start < 0) {
      kept.push(tokens[at])
      continue
    }
    const end = closing(tokens, at + 1)
    at = isForTests(tokens.slice(start, end + 1).join('')) ? itemEnd(tokens, end + 1) : end
  }
  return kept
}

/** Where the bracket that opens at `start` closes. */
function closing(tokens, start) {
  let depth = 0
  for (let at = start; at < tokens.length; at++) {
    if ('{[('.includes(tokens[at])) depth++
    else if ('}])'.includes(tokens[at]) && --depth === 0) return at
  }
  return tokens.length - 1
}

/** The last token of the item that begins at `start`: its semicolon, or the end of its body. */
function itemEnd(tokens, start) {
  const isUse = tokens.slice(start, start + 6).includes('use')
  for (let at = start; at < tokens.length; at++) {
    if (tokens[at] === ';') return at
    if (tokens[at] === '{' && !isUse) return closing(tokens, at)
    if ('{[('.includes(tokens[at])) at = closing(tokens, at)
  }
  return tokens.length - 1
}

const ROOTS = new Set(['crate', 'self', 'super'])

function scan(tokens, module, found) {
  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at]
    if (token === 'mod' && tokens[at + 2] === '{') {
      const end = closing(tokens, at + 2)
      const inner = `${module}::${tokens[at + 1]}`
      found.module(inner)
      scan(tokens.slice(at + 3, end), inner, found)
      at = end
    } else if (token === 'use' && /^[\w{]|^::$/.test(tokens[at + 1] ?? '')) {
      const end = tokens.indexOf(';', at)
      readTree(tokens.slice(at + 1, end), []).forEach((leaf) => found.use(module, leaf))
      at = end
    } else if (/^\w/.test(token) && tokens[at + 1] === '::' && tokens[at - 1] !== '::') {
      const segments = [token]
      while (tokens[at + 1] === '::' && /^\w/.test(tokens[at + 2] ?? '')) {
        segments.push(tokens[at + 2])
        at += 2
      }
      // Paths that begin elsewhere than at a module begin at a name that was brought into scope, and count there.
      if (segments.length > 1 && (ROOTS.has(segments[0]) || /^[a-z]/.test(segments[0]))) found.path(module, segments)
    }
  }
}

/** The leaves of a `use` tree. */
function readTree(tokens, prefix) {
  const segments = [...prefix]
  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at]
    if (token === '::') continue
    if (token === '*') return [{ segments, isGlob: true }]
    if (token === 'as') return [{ segments, alias: tokens[at + 1] }]
    if (token === '{') return split(tokens.slice(at + 1, closing(tokens, at))).flatMap((part) => readTree(part, segments))
    segments.push(token)
  }
  // `use a::{self}` is `use a`.
  if (segments.length > 1 && segments.at(-1) === 'self') segments.pop()
  return [{ segments }]
}

function split(tokens) {
  const parts = [[]]
  for (let at = 0; at < tokens.length; at++) {
    if (tokens[at] === ',') parts.push([])
    else if (tokens[at] === '{') {
      const end = closing(tokens, at)
      parts.at(-1).push(...tokens.slice(at, end + 1))
      at = end
    } else parts.at(-1).push(tokens[at])
  }
  return parts.filter((part) => part.length > 0)
}

/** The files that define what the path names; none if it leads out of the crate. */
function resolve(crate, from, segments, seen = new Set()) {
  const key = `${from} ${segments.join('::')}`
  if (seen.has(key)) return []
  seen.add(key)
  const [first, ...rest] = segments
  if (first === 'crate') return descend(crate, 'crate', rest, seen)
  if (first === 'self') return descend(crate, from, rest, seen)
  if (first === 'super') return resolve(crate, from.slice(0, from.lastIndexOf('::')), ['self', ...rest], seen)
  const scope = crate.modules.get(from)
  if (crate.modules.has(`${from}::${first}`)) return descend(crate, from, segments, seen)
  if (scope?.names.has(first)) return follow(crate, from, first, rest, seen)
  return []
}

function descend(crate, start, segments, seen) {
  let module = start
  for (const [index, segment] of segments.entries()) {
    if (segment === 'super') {
      module = module.slice(0, module.lastIndexOf('::'))
      continue
    }
    if (crate.modules.has(`${module}::${segment}`)) {
      module = `${module}::${segment}`
      continue
    }
    const scope = crate.modules.get(module)
    if (!scope) return []
    if (scope.names.has(segment)) return follow(crate, module, segment, segments.slice(index + 1), seen)
    return [...scope.files, ...scope.globs.flatMap((glob) => resolve(crate, module, [...glob, ...segments.slice(index)], seen))]
  }
  return [...(crate.modules.get(module)?.files ?? [])]
}

/** What a name stands for that `module` has imported. A name of another crate is that module's own. */
function follow(crate, module, name, rest, seen) {
  const scope = crate.modules.get(module)
  const targets = resolve(crate, module, [...scope.names.get(name), ...rest], seen)
  return targets.length > 0 ? targets : [...scope.files]
}

/** Strongly connected components of more than one file (Tarjan). */
function components(imports) {
  const found = []
  const order = new Map()
  const lowest = new Map()
  const stack = []
  const visit = (file) => {
    order.set(file, order.size)
    lowest.set(file, order.get(file))
    stack.push(file)
    for (const next of imports.get(file) ?? []) {
      if (!order.has(next)) {
        visit(next)
        lowest.set(file, Math.min(lowest.get(file), lowest.get(next)))
      } else if (stack.includes(next)) lowest.set(file, Math.min(lowest.get(file), order.get(next)))
    }
    if (lowest.get(file) !== order.get(file)) return
    const group = stack.splice(stack.indexOf(file))
    if (group.length > 1) found.push(group.sort())
  }
  for (const file of imports.keys()) if (!order.has(file)) visit(file)
  return found.sort((one, other) => one.length - other.length)
}

/** Fails if files of src/ import each other. */
export function checkCircles() {
  const sources = readSources()
  const circles = findCircles(sources)
  for (const circle of circles) {
    console.log(`${circle.length} files import each other: ${circle.join(', ')}`)
    console.log(`  ${shortestWay(sources, circle).join(' → ')}`)
  }
  if (circles.length > 0) throw new CommandFailed(`${circles.length} ${circles.length === 1 ? 'circle' : 'circles'} of imports`)
  console.log(`${sources.size} files, no circle`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main(checkCircles)
