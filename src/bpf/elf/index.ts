// Objects compiled by clang: read, inspected, adjusted, loaded.
export { ElfError } from './error.js'
export type { LinkedProgram } from './link.js'
export { LoadedObject, type LoadObjectOptions } from './load.js'
export { BpfObject, type ObjectGlobal, type ObjectMap, type ObjectProgram } from './object.js'
