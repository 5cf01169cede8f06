// The check for circles of imports, on small crates and on this one.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { ROOT } from './support/tools.mjs'

const { findCircles, readSources, shortestWay } = (await import(pathToFileURL(join(ROOT, 'scripts/circles.mjs')).href)) as {
  findCircles(sources: Map<string, string>): string[][]
  readSources(root?: string): Map<string, string>
  shortestWay(sources: Map<string, string>, circle: string[]): string[]
}

const crate = (files: Record<string, string>): Map<string, string> =>
  new Map(Object.entries(files).map(([path, text]) => [`src/${path}.rs`, text]))

const circlesOf = (files: Record<string, string>): string[][] => findCircles(crate(files))

const A_AND_B = [['src/a.rs', 'src/b.rs']]
const LIB = 'mod a; mod b;'

describe('circles of imports', () => {
  it('is none where imports go one way', () => {
    assert.deepEqual(circlesOf({ lib: LIB, a: 'use crate::b::Thing;', b: 'pub struct Thing;' }), [])
  })

  for (const [what, path] of Object.entries({
    'a path from the crate': 'use crate::a::Thing;',
    'a path from the parent': 'use super::a::Thing;',
    'the module itself': 'use crate::a;',
    'one of several': 'use std::fmt; use crate::{b::Own, a::{self, Thing as Other}};',
    'everything of a module': 'use crate::a::*;',
    'a public import': 'pub(crate) use crate::a::Thing;',
    'a path in code': 'fn f() -> usize { crate::a::count(1) }',
    'a path in a type': 'struct S<T: crate::a::Bound>(T);',
    'an inline module': 'mod inner { use super::super::a::Thing; }',
    'an attribute before it': '#[allow(unused)]\nuse crate::a::Thing;',
    'code for all but tests': '#[cfg(not(test))]\nuse crate::a::Thing;',
  })) {
    it(`is found through ${what}`, () => {
      assert.deepEqual(circlesOf({ lib: LIB, a: 'use crate::b::Own;', b: path }), A_AND_B)
    })
  }

  for (const [what, text] of Object.entries({
    'a comment': '// use crate::a::Thing;\n/* use crate::a::Thing; */',
    'a string': 'const TEXT: &str = "\\" use crate::a::Thing;"; const RAW: &str = r#"crate::a::count()"#;',
    'a test module': '#[cfg(test)]\nmod tests { use crate::a::Thing; }',
    'an import for tests': '#[cfg(all(test, unix))]\nuse crate::a::{Thing, Other};\nfn after() {}',
    'another crate': 'use other::a::Thing; fn f() { a_function(); }',
    "a lifetime and a character": "fn f<'a>(x: &'a str) -> char { '\"' }",
  })) {
    it(`is none through ${what}`, () => {
      assert.deepEqual(circlesOf({ lib: LIB, a: 'use crate::b::Own;', b: text }), [])
    })
  }

  it('follows a name that a parent exports to the file that defines it', () => {
    const files = { lib: 'mod a;', 'a/mod': 'mod one; mod two; pub use one::Thing;', 'a/one': 'pub struct Thing; use super::two::Other;' }
    assert.deepEqual(circlesOf({ ...files, 'a/two': 'use crate::a::Thing;' }), [['src/a/one.rs', 'src/a/two.rs']])
    assert.deepEqual(circlesOf({ ...files, 'a/two': 'pub struct Other;' }), [])
  })

  it('is found between a parent and its child', () => {
    const parent = 'mod child; use child::Thing; pub struct Own;'
    assert.deepEqual(circlesOf({ lib: 'mod a;', a: parent, 'a/child': 'use super::Own;' }), [['src/a.rs', 'src/a/child.rs']])
    assert.deepEqual(circlesOf({ lib: 'mod a;', a: parent, 'a/child': 'pub struct Thing;' }), [])
  })

  it('is none between a module and its tests in another file', () => {
    const files = { lib: 'mod a;', a: '#[cfg(test)]\nmod tests;\nuse tests::Thing;', 'a/tests': 'use super::*;', 'a/tests/more': 'use super::*;' }
    assert.deepEqual(circlesOf(files), [])
  })

  it('looks at a file that stands in for another as at that module, and not at both at once', () => {
    const files = {
      lib: '#[cfg(unix)]\nmod a;\n#[cfg(not(unix))]\n#[path = "other.rs"]\nmod a;\nmod b;',
      a: 'mod c; use c::Thing;',
      'a/c': 'pub struct Thing;',
      b: 'use crate::a::Thing;',
    }
    assert.deepEqual(circlesOf({ ...files, other: 'pub struct Thing;' }), [])
    assert.deepEqual(circlesOf({ ...files, other: 'use crate::b::Own;' }), [['src/b.rs', 'src/other.rs']])
  })

  it('names every file of each circle, and a shortest way around', () => {
    const sources = crate({
      lib: 'mod a; mod b; mod c; mod d; mod e; mod f;',
      a: 'use crate::b::B; struct A;',
      b: 'use crate::c::C; struct B;',
      c: 'use crate::a::A; use crate::d::D; struct C;',
      d: 'use crate::c::C; struct D;',
      e: 'use crate::f::F; use crate::a::A; struct E;',
      f: 'use crate::e::E; struct F;',
    })
    const circles = findCircles(sources)
    const [first, second] = [['src/e.rs', 'src/f.rs'], ['src/a.rs', 'src/b.rs', 'src/c.rs', 'src/d.rs']]
    assert.deepEqual(circles, [first, second])
    assert.deepEqual(shortestWay(sources, second), ['src/c.rs', 'src/d.rs', 'src/c.rs'])
  })

  it('is found when it is planted into this crate', () => {
    const sources = readSources()
    const isNew = (circle: string[]): boolean => circle.includes('src/transport/frame.rs')
    assert.ok(!findCircles(sources).some(isNew))
    const text = sources.get('src/transport/frame.rs')
    assert.ok(text)
    sources.set('src/transport/frame.rs', `use crate::transport::assembler::Limits;\n${text}`)
    assert.deepEqual(findCircles(sources).find(isNew), ['src/transport/assembler/message.rs', 'src/transport/frame.rs'])
  })
})
