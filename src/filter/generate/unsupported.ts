// Thrown deep in code generation, where the place in the expression is not known; `generate` adds it.

/** A test that cannot be where it is. */
export class Unsupported extends Error {}
