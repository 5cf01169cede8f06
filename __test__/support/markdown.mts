// Fenced blocks, tables and links of Markdown files.

export interface Block {
  /** The heading that the block is under, without its marks. */
  heading: string
  /** The info string: language, and further words. */
  info: string
  text: string
  /** The HTML comment that ends on the line before the block, without its marks; else ''. */
  comment: string
  /** The line of the opening fence, counted from 1. */
  line: number
}

export interface Table {
  heading: string
  columns: string[]
  /** Cells as they are written. */
  rows: string[][]
}

export function blocks(markdown: string): Block[] {
  const found: Block[] = []
  const lines = markdown.split('\n')
  let heading = ''
  let open: { fence: string; indent: number; block: Block; lines: string[] } | undefined
  for (const [index, line] of lines.entries()) {
    if (open) {
      if (line.trim() === open.fence) {
        found.push({ ...open.block, text: open.lines.join('\n') })
        open = undefined
      } else open.lines.push(line.slice(open.indent))
      continue
    }
    const fence = /^( *)(```+)(.*)$/.exec(line)
    if (fence) {
      const block = { heading, info: (fence[3] ?? '').trim(), text: '', comment: commentBefore(lines, index), line: index + 1 }
      open = { fence: fence[2] ?? '', indent: (fence[1] ?? '').length, block, lines: [] }
    } else heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading
  }
  if (open) throw new Error(`the block of line ${open.block.line} has no end`)
  return found
}

function commentBefore(lines: string[], index: number): string {
  if (!lines[index - 1]?.trimEnd().endsWith('-->')) return ''
  let start = index - 1
  while (start > 0 && !lines[start]?.trimStart().startsWith('<!--')) start--
  return lines.slice(start, index).join('\n').trim().replace(/^<!--\s*/, '').replace(/\s*-->$/, '')
}

export function tables(markdown: string): Table[] {
  const found: Table[] = []
  let heading = ''
  let current: Table | undefined
  for (const line of withoutBlocks(markdown).split('\n')) {
    heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading
    if (!/^\s*\|.*\|\s*$/.test(line)) current = undefined
    else if (!current) found.push((current = { heading, columns: cells(line), rows: [] }))
    else if (!/^\s*\|[\s:|-]+\|\s*$/.test(line)) current.rows.push(cells(line))
  }
  return found
}

function cells(line: string): string[] {
  return line.trim().slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim())
}

/** The same with cells without the marks of code and emphasis. */
export function plainTables(markdown: string): Table[] {
  const plain = (cell: string): string => cell.replace(/[`*]/g, '').trim()
  return tables(markdown).map(({ heading, columns, rows }) => ({ heading, columns: columns.map(plain), rows: rows.map((row) => row.map(plain)) }))
}

/** The texts in code font. */
export function codes(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code ?? '')
}

/** Targets of links and pictures, outside of fenced blocks and code. */
export function links(markdown: string): string[] {
  const prose = withoutBlocks(markdown).replace(/`[^`\n]*`/g, '`code`')
  return [...prose.matchAll(/\]\(([^)\s]+)(?:\s+"[^"]*")?\)/g)].map(([, target]) => target ?? '')
}

/** The anchors of a file's headings, as GitHub and npm make them. */
export function anchors(markdown: string): Set<string> {
  const titles = [...withoutBlocks(markdown).matchAll(/^#+ (.*)$/gm)].map(([, title]) => title ?? '')
  return new Set(titles.map((title) => title.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replace(/\s/g, '-')))
}

function withoutBlocks(markdown: string): string {
  return markdown.replace(/^ *(```+)[\s\S]*?^ *\1$/gm, '').replace(/<!--[\s\S]*?-->/g, '')
}
