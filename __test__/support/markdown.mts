// Fenced blocks, tables and links of Markdown files.

export interface Block {
  /** The heading that the block is under, without its marks. */
  heading: string
  /** The info string: language, and further words. */
  info: string
  text: string
}

export function blocks(markdown: string): Block[] {
  const found: Block[] = []
  let heading = ''
  let open: { fence: string; indent: number; info: string; lines: string[] } | undefined
  for (const line of markdown.split('\n')) {
    if (open) {
      if (line.trim() === open.fence) {
        found.push({ heading, info: open.info, text: open.lines.join('\n') })
        open = undefined
      } else open.lines.push(line.slice(open.indent))
      continue
    }
    const fence = /^( *)(```+)(.*)$/.exec(line)
    if (fence) open = { fence: fence[2] ?? '', indent: (fence[1] ?? '').length, info: (fence[3] ?? '').trim(), lines: [] }
    else heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading
  }
  return found
}

export interface Table {
  /** The heading that the table is under, without its marks. */
  heading: string
  columns: string[]
  rows: string[][]
}

/** Tables outside of fenced blocks; the text of cells without the marks of code and emphasis. */
export function tables(markdown: string): Table[] {
  const prose = markdown.replace(/^ *(```+)[\s\S]*?^ *\1$/gm, '')
  const found: Table[] = []
  let heading = ''
  let table: Table | undefined
  for (const line of prose.split('\n')) {
    if (!line.startsWith('|')) {
      table = undefined
      heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading
      continue
    }
    const cells = line.slice(1, line.lastIndexOf('|')).split('|').map((cell) => cell.replace(/[`*]/g, '').trim())
    if (table === undefined) found.push((table = { heading, columns: cells, rows: [] }))
    else if (!cells.every((cell) => /^:?-+:?$/.test(cell))) table.rows.push(cells)
  }
  return found
}

/** Targets of links and pictures, outside of fenced blocks and code. */
export function links(markdown: string): string[] {
  const prose = markdown.replace(/^ *(```+)[\s\S]*?^ *\1$/gm, '').replace(/`[^`\n]*`/g, '`code`')
  return [...prose.matchAll(/\]\(([^)\s]+)(?:\s+"[^"]*")?\)/g)].map(([, target]) => target ?? '')
}

/** The anchors of a file's headings, as GitHub and npm make them. */
export function anchors(markdown: string): Set<string> {
  const prose = markdown.replace(/^ *(```+)[\s\S]*?^ *\1$/gm, '')
  return new Set([...prose.matchAll(/^#+ (.*)$/gm)].map(([, title]) => (title ?? '').toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replace(/\s/g, '-')))
}
