// What libpcap takes and we do not, each with its reason: refused, with an error that says so.

const NOT_SUPPORTED: readonly (readonly [what: RegExp, why: string])[] = [
  [/\bprotochain\b/, 'follows a chain of headers with a jump back, which no kernel takes'],
]

export const isBeyondUs = (expression: string): boolean =>
  NOT_SUPPORTED.some(([what]) => what.test(expression))
