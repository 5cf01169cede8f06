// The list of bills: where each one stands, how many follow it, and the button to follow it.

import { $, element } from './dom.js'

export class BillList {
  #cards = new Map()
  #stages = []
  #onToggle

  constructor(onToggle) {
    this.#onToggle = onToggle
  }

  show(bills, stages) {
    this.#stages = stages
    // After a reconnection the cards stay, and with them the focus.
    if (!bills.every(({ id }) => this.#cards.has(id))) {
      $('#bill-list').replaceChildren(...bills.map((bill) => this.#card(bill)))
      $('#publish-bill').replaceChildren(...bills.map(({ id, title }) => element('option', { value: String(id) }, title)))
    }
    for (const bill of bills) this.#fill(bill)
  }

  follows(ids) {
    for (const [id, card] of this.#cards) {
      const followed = ids.has(id)
      card.dataset.followed = String(followed)
      const button = $('.follow', card)
      button.setAttribute('aria-pressed', String(followed))
      $('span', button).textContent = followed ? 'Following' : 'Follow'
    }
    $('#following').textContent = ids.size === 0 ? 'none followed' : `${ids.size} followed`
  }

  followers(counts) {
    for (const [id, card] of this.#cards) $('.followers', card).textContent = ` · ${counts[id] ?? 0} following`
  }

  changed(id, changes) {
    const card = this.#cards.get(id)
    if (!card) return
    this.#fill({ id, ...changes })
    card.classList.remove('flash')
    void card.offsetWidth // restarts the animation
    card.classList.add('flash')
  }

  #card({ id, number, title, sponsor, summary }) {
    const card = element('li', { class: 'bill', data: { bill: String(id) } },
      element('div', { class: 'bill-head' },
        element('div', {}, element('p', { class: 'bill-number' }, number, element('span', { class: 'followers' })), element('h3', {}, title)),
        element('button', { class: 'button follow', type: 'button', 'aria-label': `Follow ${title}`, onclick: () => this.#onToggle(id) }, element('span', {}, 'Follow')),
      ),
      element('p', { class: 'bill-summary' }, summary),
      element('div', { class: 'stages', role: 'img' }, ...this.#stages.map(() => element('i'))),
      element('p', { class: 'bill-facts' },
        element('span', { class: 'stage' }), element('span', { class: 'comments' }), element('span', { class: 'amendments' }),
      ),
      element('p', { class: 'sr' }, `Sponsored by ${sponsor}`),
    )
    card.addEventListener('animationend', () => card.classList.remove('flash'))
    this.#cards.set(id, card)
    return card
  }

  #fill({ id, stage, comments, amendments, vote }) {
    const card = this.#cards.get(id)
    const reached = this.#stages.indexOf(stage)
    $('.stages', card).setAttribute('aria-label', `Stage ${reached + 1} of ${this.#stages.length}: ${stage}`)
    ;[...$('.stages', card).children].forEach((step, index) => (step.className = index < reached ? 'done' : index === reached ? 'here' : ''))
    $('.stage', card).textContent = vote ? `Voting ${vote.ayes}:${vote.noes}` : stage
    $('.comments', card).textContent = counted(comments, 'comment')
    $('.amendments', card).textContent = counted(amendments, 'amendment')
    card.dataset.voting = String(Boolean(vote))
  }
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
