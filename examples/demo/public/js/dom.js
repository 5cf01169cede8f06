// Building elements without markup in strings: text stays text, whatever its source.

export const $ = (selector, root = document) => root.querySelector(selector)

export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class') node.className = value
    else if (name === 'data') Object.assign(node.dataset, value)
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else if (name in node) node[name] = value
    else node.setAttribute(name, value)
  }
  node.append(...children.filter((child) => child !== undefined && child !== null))
  return node
}

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use')
  use.setAttribute('href', `#i-${name}`)
  svg.setAttribute('aria-hidden', 'true')
  svg.append(use)
  return svg
}

export function initials(name) {
  return name.split(' ').map((word) => word[0]).slice(0, 2).join('')
}

export const time = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
