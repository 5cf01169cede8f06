// The feed of followed bills, newest first. A running division is one entry that counts up in place.

import { $, element, icon, time } from './dom.js'

const KEEPS = 80
const LABELS = {
  new_comment: 'Comment',
  amendment: 'Amendment',
  voting_scheduled: 'Vote scheduled',
  status_change: 'Status',
  vote_tally: 'Division',
  notification: 'Notification',
}

export class Feed {
  #list = $('#feed-list')
  #pauseButton = $('#pause')
  #waiting = []
  #paused = false
  #divisions = new Map()
  #titleOf

  constructor(titleOf) {
    this.#titleOf = titleOf
    this.#pauseButton.addEventListener('click', () => this.#setPaused(!this.#paused))
  }

  clear() {
    this.#list.replaceChildren()
    this.#waiting = []
    this.#divisions.clear()
    this.#setPaused(false)
    this.#showEmpty()
  }

  add(update) {
    if (this.#paused) {
      this.#waiting = [...this.#waiting, update].slice(-KEEPS)
      this.#pauseButton.textContent = `Show ${this.#waiting.length} new`
      return
    }
    if (update.type === 'vote_tally' && this.#count(update)) return
    if (update.type === 'status_change') this.#divisions.delete(update.billId)
    const entry = this.#entry(update)
    this.#list.prepend(entry)
    if (update.type === 'vote_tally') this.#divisions.set(update.billId, entry)
    while (this.#list.children.length > KEEPS) this.#list.lastElementChild.remove()
    this.#showEmpty()
  }

  #count(update) {
    const entry = this.#divisions.get(update.billId)
    if (!entry?.isConnected) return false
    $('.division', entry).replaceWith(division(update.data))
    return true
  }

  #entry({ billId, type, data, timestamp, own }) {
    const at = new Date(timestamp)
    return element('li', { class: 'entry', data: { type, own: String(Boolean(own)) } },
      element('span', { class: 'entry-icon' }, icon(type)),
      element('div', { class: 'entry-body' },
        element('p', { class: 'entry-head' },
          element('strong', {}, this.#titleOf(billId)),
          element('span', { class: 'tag' }, LABELS[type] ?? type),
          element('time', { dateTime: at.toISOString() }, time.format(at)),
        ),
        type === 'vote_tally' ? division(data) : element('p', { class: 'entry-text' }, data.text ?? ''),
        data.author && element('p', { class: 'entry-author' }, `${data.author.name} · ${data.author.role}`),
      ),
    )
  }

  #setPaused(paused) {
    this.#paused = paused
    this.#pauseButton.setAttribute('aria-pressed', String(paused))
    this.#pauseButton.textContent = paused ? 'Paused' : 'Pause'
    if (paused) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const update of waiting) this.add(update)
  }

  #showEmpty() {
    $('#feed-empty').hidden = this.#list.children.length > 0
  }
}

function division({ ayes, noes, total }) {
  const bar = element('div', { class: 'division', role: 'img', 'aria-label': `Ayes ${ayes}, noes ${noes} of ${total}` },
    element('span', { class: 'ayes' }), element('span', { class: 'noes' }),
    element('b', {}, `${ayes} ayes`), element('b', {}, `${noes} noes`),
  )
  bar.style.setProperty('--ayes', `${(100 * ayes) / total}%`)
  bar.style.setProperty('--noes', `${(100 * noes) / total}%`)
  return bar
}
