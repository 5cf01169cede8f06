// Notifications that ring: they stay a few seconds, and longer under the pointer.

import { $, element, icon } from './dom.js'

const STAYS = 6_000
const AT_MOST = 3

export function toast({ title, message, kind = 'notification' }) {
  const shelf = $('#toasts')
  const node = element('div', { class: 'toast', data: { kind } },
    element('span', { class: 'toast-icon' }, icon(kind)),
    element('div', { class: 'toast-text' }, element('strong', {}, title), element('p', {}, message)),
    element('button', { class: 'close', type: 'button', 'aria-label': 'Dismiss', onclick: () => node.remove() }, '×'),
  )
  let timer = setTimeout(() => node.remove(), STAYS)
  node.addEventListener('pointerenter', () => clearTimeout(timer))
  node.addEventListener('pointerleave', () => (timer = setTimeout(() => node.remove(), STAYS / 2)))
  shelf.append(node)
  while (shelf.children.length > AT_MOST) shelf.firstElementChild.remove()
}
