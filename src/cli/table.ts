// Tables on the terminal: columns as wide as what is in them, two spaces between.

/** Renders rows under upper-case headings. A column whose cells are all empty is left out. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const shown = headings.map((_, i) => i).filter((i) => rows.some((row) => row[i] !== ''))
  const lines = [headings.map((heading) => heading.toUpperCase()), ...rows]
  const widths = headings.map((_, i) => Math.max(...lines.map((line) => line[i].length)))
  return lines
    .map((line) =>
      shown
        .map((i) => line[i].padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
