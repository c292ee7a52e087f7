// Objects compiled by clang: read, inspected, adjusted, loaded.
export { ElfError } from './error.js'
export type { LinkedProgram } from './link.js'
export type { LoadObjectOptions } from './load.js'
export { LoadedObject } from './loaded.js'
export { BpfObject, type ObjectGlobal, type ObjectMap, type ObjectProgram } from './object.js'
