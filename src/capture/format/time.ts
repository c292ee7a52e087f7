// Time stamps as tcpdump prints them: -t, -tt, -ttt, -tttt, -ttttt.
import type { FormatOptions } from './line.js'
import type { TextBuffer } from './text.js'

interface Moment {
  seconds: number
  nanoseconds: number
}

/** Beyond what a `Date` can be, as a damaged file may say: tcpdump's words. */
const NO_TIME = '[Error converting time]'

const two = (value: number): string => String(value).padStart(2, '0')

/** Prints the times of packets in turn: some are relative to the packet before, or to the first. */
export class TimePrinter {
  readonly #style: NonNullable<FormatOptions['time']>
  readonly #digits: number
  #reference: Moment | undefined
  /** The last second printed, and its text: packets come many in a second. */
  #second = NaN
  #secondText = ''

  constructor({ time = 'clock', precision = 'microseconds' }: FormatOptions) {
    this.#style = time
    this.#digits = precision === 'nanoseconds' ? 9 : 6
  }

  /** Adds a time with a space after it; nothing for `none`. */
  print(moment: Moment, text: TextBuffer): void {
    const { seconds, nanoseconds } = moment
    switch (this.#style) {
      case 'none':
        return
      case 'epoch':
        text.number(seconds)
        return this.#fraction(nanoseconds, text)
      case 'clock':
      case 'date':
        text.add(this.#clock(seconds))
        if (this.#secondText === NO_TIME) return text.add(' ')
        return this.#fraction(nanoseconds, text)
      case 'delta':
      case 'since-first': {
        const reference = this.#reference ?? { seconds, nanoseconds }
        if (this.#style === 'delta' || !this.#reference) this.#reference = { seconds, nanoseconds }
        text.add(this.#difference(moment, reference))
        text.add(' ')
      }
    }
  }

  #fraction(nanoseconds: number, text: TextBuffer): void {
    text.add('.')
    // A damaged file may say anything.
    if (nanoseconds >= 1e9) text.add(String(nanoseconds).slice(0, this.#digits))
    else if (this.#digits === 9) text.padded(nanoseconds, 9)
    else text.padded((nanoseconds / 1000) | 0, 6)
    text.add(' ')
  }

  #clock(seconds: number): string {
    if (seconds === this.#second) return this.#secondText
    const time = new Date(seconds * 1000)
    const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
    const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`
    this.#second = seconds
    if (Number.isNaN(time.getTime())) this.#secondText = NO_TIME
    else this.#secondText = this.#style === 'date' ? `${date} ${clock}` : clock
    return this.#secondText
  }

  #difference(moment: Moment, reference: Moment): string {
    // In units of what is printed, so that the difference of what is shown is what is shown.
    const unit = 10 ** (9 - this.#digits)
    const perSecond = 1e9 / unit
    let seconds = moment.seconds - reference.seconds
    let rest = Math.floor(moment.nanoseconds / unit) - Math.floor(reference.nanoseconds / unit)
    const isBefore = seconds < 0 || (seconds === 0 && rest < 0)
    if (isBefore) [seconds, rest] = [-seconds, -rest]
    if (rest < 0) {
      seconds--
      rest += perSecond
    }
    const hours = Math.floor(seconds / 3600)
    const minutes = Math.floor((seconds % 3600) / 60)
    const fraction = String(rest).padStart(this.#digits, '0')
    return `${isBefore ? '-' : ' '}${two(hours)}:${two(minutes)}:${two(seconds % 60)}.${fraction}`
  }
}
